"""`tipline demo`: a day in Anping, through the real service, checked by itself."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from tipline.demo.run import Access, Demo, Result, Steps


@click.command("demo")
@click.option("--serve", "stay", is_flag=True, help="Stay up afterwards, and print URLs and tokens.")
@click.option("--keep", metavar="DIR", help="Where the data stays; default: a directory that is removed at the end.")
@click.option(
    "--report",
    metavar="FILE",
    default="report.html",
    show_default=True,
    help="The page to write.",
)
def demo(stay: bool, keep: str | None, report: str) -> None:
    """Plays a day in Anping: hundreds of tips through the real HTTP door, a SIGKILL in the middle, stations at work. Then
    checks the outcome and writes a page about the day. Loopback only, on a free port. Exit 0 only when all holds.

    Example: tipline demo --report report.html
    """
    # Ended by SIGTERM it ends its service too, as it does by Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _folder(keep) as folder, _shown() as steps:
        from tipline.demo.run import everything

        result = everything(folder, steps, lambda demo, result: _after(demo, result, Path(report), stay, steps))
    sys.exit(1 if result.faults else 0)


@contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="tipline-demo-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    folder = Path(keep)
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"--keep {folder}: is not empty; name a new directory")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def _after(demo: Demo, result: Result, page: Path, stay: bool, steps: Steps) -> None:
    from tipline.demo.report import render

    page.write_text(render(result), "utf-8")
    steps.finish()
    _print(result, page)
    if stay:
        _stay(demo.serve_again())


#: What each role's token opens in the pages.
_PAGES = {
    "station": "a police station's queue of the day",
    "county": "all stations; any station's queue",
    "hotline": "the desk for calls",
    "statistician": "figures, charts and downloads",
    "ops": "how the parts are; dead letters",
    "admin": "everything",
    "intake": "no page: for programs that send tips",
}


def _stay(access: Access) -> None:
    """Prints how to reach the service and waits for Ctrl-C."""
    import threading

    click.echo(
        f"\ntipline is up at {access.url} with the day's data and {len(access.now)} tips of this hour; Ctrl-C ends it"
    )
    click.echo(f"  {access.url}/      report something, as anybody may; no log-in")
    click.echo(f"  {access.url}/docs  the API")
    click.echo(f"\nlog in at {access.url}/login with a token, into its second field; it leads to the page of its role:")
    for role, token in access.tokens.items():
        click.echo(f"  {role:24} {_PAGES.get(role.partition(' ')[0], ''):42} {token}")
    click.echo(
        f"\ntype this at {access.url}/desk, as if somebody called: the desk knows it already\n  {access.now[0].text}"
    )
    token = access.tokens["intake (web:public)"]
    click.echo(
        f"\ntry:\n  curl -s {access.url}/v1/tips -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' "
        '-d \'{"text": "大邵村东头柴火垛着了，离房子就十来米，快来人"}\''
    )
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("\nended")


def _print(result: Result, page: Path) -> None:
    from rich.console import Console

    console = Console()
    console.print(_table(result))
    for fault in result.faults:
        click.echo(f"NOT SO: {fault}", err=True)
    well = "all of it holds" if not result.faults else f"{len(result.faults)} thing(s) do not hold"
    click.echo(f"{well}; {result.figures.seconds:.0f} s. The day as a page: {page}")


def _table(result: Result) -> Table:
    from rich.table import Table

    table = Table(title="安平县的一天 · a day in Anping", show_header=False, title_justify="left", min_width=60)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for section in _lines(result):
        for name, words in section:
            table.add_row(name, words)
        table.add_section()
    return table


def _lines(result: Result) -> list[list[tuple[str, str]]]:
    from tipline.demo.traffic import percentile

    figures, decided, queue = result.figures, result.seen.decided.values(), result.seen.queue.values()
    incidents = {d["incident_id"] for d in decided}

    def spread(seconds: tuple[float, ...]) -> str:
        return ", ".join(f"p{p:.0f} {percentile(seconds, p / 100) * 1000:.0f} ms" for p in (50, 95, 99))

    held = sum(outcome.ok for outcome in result.outcomes)
    return [
        [
            ("accepted", f"{figures.accepted} of {figures.sent}"),
            ("refused", f"{figures.refused} malformed or forbidden, {figures.conflicts} changed under a known id"),
            ("redelivered", f"{figures.redelivered}, each the same answer, nothing new"),
            ("unknown", f"{figures.unknown} answers never came (SIGKILL); asked again until there was one"),
        ],
        [
            ("incidents", f"{len(incidents)} from {len(decided)} tips"),
            ("category", _counts(d["category"] for d in decided)),
            ("link", _counts(d["link"] for d in decided)),
            ("station", _counts((item["station"] for item in queue), 10)),
            ("stations did", _counts(figures.moves)),
        ],
        [
            ("202 after", spread(figures.accept_seconds)),
            ("on a queue after", f"{spread(figures.queue_seconds)} (counted from the 202)"),
            ("the kill", f"back after {figures.restart_seconds:.1f} s; {_across(figures.across_seconds)}"),
        ],
        [
            ("lost", str(result.lost)),
            ("doubled", str(result.doubled)),
            ("verify", f"{len(result.report.checks)} checks, {len(result.report.findings)} findings"),
            ("examples", f"{held} of {len(result.outcomes)} as expected"),
        ],
    ]


def _across(seconds: tuple[float, ...]) -> str:
    if not seconds:
        return "no tip waited for it"
    return f"{len(seconds)} accepted tips waited for it, at most {max(seconds):.1f} s"


def _counts(found: Iterator[str] | dict[str, int], most: int | None = None) -> str:
    counts: Counter[str] = Counter(found)
    words = [f"{name} {n}" for name, n in counts.most_common(most)]
    rest = counts.total() - sum(n for _, n in counts.most_common(most))
    return ", ".join(words) + (f", and {rest} at {len(counts) - len(words)} others" if rest else "")


@contextmanager
def _shown() -> Iterator[Steps]:
    """A progress bar on a terminal; lines elsewhere."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _bars(progress)


def _plain() -> Steps:
    from tipline.demo.run import Steps

    class Lines(Steps):
        def step(self, title: str, total: int | None = None) -> None:
            click.echo(title, err=True)

        def say(self, words: str) -> None:
            click.echo(f"  {words}", err=True)

    return Lines()


def _bars(progress: Progress) -> Steps:
    from tipline.demo.run import Steps

    class Bars(Steps):
        def __init__(self) -> None:
            self._task: TaskID | None = None

        def step(self, title: str, total: int | None = None) -> None:
            self.finish_step()
            self._task = progress.add_task(title, total=total or 1)

        def finish_step(self) -> None:
            if self._task is not None:
                task = progress.tasks[-1]
                progress.update(self._task, completed=task.total)

        def advance(self) -> None:
            if self._task is not None:
                progress.advance(self._task)

        def reach(self, done: int) -> None:
            if self._task is not None:
                progress.update(self._task, completed=done)

        def say(self, words: str) -> None:
            progress.console.print(f"  {words}")

        def finish(self) -> None:
            self.finish_step()
            progress.stop()

    return Bars()
