"""The command line. Every command is imported when it is called, so that `tipline --help` answers at once."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

#: Exit codes, pinned in docs/contracts.md.
OK, PROBLEMS, USAGE, BAD_DATA, MISSING, LATER = 0, 1, 2, 65, 69, 75

#: Name -> (module, attribute, one line for `--help`).
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("tipline.commands.serve", "serve", "Run everything in one process."),
    "submit": ("tipline.commands.submit", "submit", "Send submissions from a file over HTTP, a receipt a row."),
    "process": ("tipline.commands.process", "process", "Decide a file offline: a decision a line, nothing stored."),
    "explain": ("tipline.commands.explain", "explain", "Show a tip's decision with every reason."),
    "stats": ("tipline.commands.stats", "stats", "Count tips and incidents."),
    "county": ("tipline.commands.county", "county", "Check, show and apply a county directory."),
    "routes": ("tipline.commands.county", "routes", "Try the routing tree."),
    "token": ("tipline.commands.token", "token", "Create, list and revoke access tokens."),
    "user": ("tipline.commands.user", "user", "Create, list and disable users of the pages."),
    "webhook": ("tipline.commands.webhook", "webhook", "Let senders call us: Standard Webhooks, Telegram, WeCom."),
    "keys": ("tipline.commands.keys", "keys", "Make and rotate the keys that seal identities."),
    "dead-letters": (
        "tipline.commands.dead_letters",
        "dead_letters",
        "List, show, replay and discard what could not be processed.",
    ),
    "evaluate": ("tipline.commands.evaluate", "evaluate", "Score classification or grouping on labelled texts."),
    "export": ("tipline.commands.export", "export", "What stations corrected, as labelled texts."),
    "audit": ("tipline.commands.audit", "audit", "List who saw or changed what, and when."),
    "reveal": ("tipline.commands.identity", "reveal", "Open the sealed identities of a tip; audited."),
    "erase": ("tipline.commands.identity", "erase", "Destroy sealed identities with their keys; audited."),
    "demo": ("tipline.commands.demo", "demo", "A day in Anping, sent, killed, worked and checked; writes report.html."),
    "verify": ("tipline.commands.verify", "verify", "Check a store: nothing lost, nothing doubled, figures recounted."),
    "backup": ("tipline.commands.backup", "backup", "Copy a store at work."),
    "restore": ("tipline.commands.backup", "restore", "Make a store from a backup."),
    "gateway": ("tipline.commands.gateway", "gateway", "Distributed: the whole HTTP side."),
    "worker": ("tipline.commands.worker", "worker", "Distributed: decide; as many as wanted."),
    "sink": ("tipline.commands.sink", "sink", "Distributed: decisions into the database."),
    "topics": ("tipline.commands.topics", "topics", "Distributed: create Kafka's topics."),
    "consume": ("tipline.commands.consume", "consume", "Distributed: follow a station's queue topic."),
    "doctor": ("tipline.commands.doctor", "doctor", "Check this installation, each finding with a hint."),
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    # click would end a broken pipe with 1, which means that something was found.

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **extra)  # prints what --help and --version say
        except BrokenPipeError:
            raise click.exceptions.Exit(_nobody_reads()) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(_nobody_reads()) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, _, help_) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            ctx.fail(f"no such command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("tipline"), prog_name="tipline")
def root() -> None:
    """tipline takes tips, groups the reports of one incident, classifies and locates it, and puts it in the queue of
    the station that must act.

    Example: tipline serve --data ./data
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: turns our errors into one clear line and the pinned exit code."""
    from schemas.errors import TiplineError

    try:
        code = root.main(args=list(argv) if argv is not None else None, prog_name="tipline", standalone_mode=False)
    except click.exceptions.Exit as leave:
        code = leave.exit_code
    except click.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except TiplineError as error:
        click.echo(words_of(error), err=True)
        code = error.exit_code
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room and try again" if full else "name another place, or mend this one"
        click.echo(f"tipline: {error.filename or 'file'}: {error.strerror or error}: {hint}", err=True)
        code = LATER if full else MISSING
    except SystemExit as leave:
        code = leave.code
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _nobody_reads()
    sys.exit(code if isinstance(code, int) else OK)


def _nobody_reads() -> int:
    """The reader of our output has left (`| head`): ends as programs do that the signal ends, and without a word. What is
    still to be written, also by the interpreter at its end, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    return 128 + signal.SIGPIPE


def words_of(error: Exception) -> str:
    """One of our errors as the command line says it: a county's mistakes a line each, else one line with its details."""
    from schemas.errors import BadCounty, Rejected

    if isinstance(error, BadCounty):
        return str(error)
    details = [one.detail for one in error.mistakes] if isinstance(error, Rejected) else []
    return ". ".join([f"tipline: {error}", *details])
