"""Docs that run: what README and docs show is what happens.

How a fenced block is read, by its language:

- `sh`      run, all of one page in order and in one shell, in an empty directory with `.venv` and `examples` in place.
            Port 8080 stands for a free one. `make` targets must exist and are not run.
- `console` lines that begin with `$ ` are run in that same shell; what stands below is how the output must look, where
            `…` (or `...`) stands for anything.
- `python`  run in that directory after the page's shell blocks.
- `json`    must parse; after a line `<!-- schema: submission -->` it must also be valid by that schema.
- `yaml`, `toml`  must parse.
- `text`    is only shown: output, pictures, what is run elsewhere.

A block after a line `<!-- not run: why -->` is left alone. Commands, options, settings, metrics and links that a page
names must exist, also outside of blocks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import pytest
import yaml

from schemas.validation import schema
from streams.ports import METRICS
from tests.ports import free_port
from tipline.cli import root
from tipline.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("deploy/**/*.md")]
]
RUN = ("sh", "console", "python", "json", "yaml", "toml")
SHOWN = ("text",)
SECONDS = 100

_FENCE = re.compile(r"^(?:<!-- (?P<mark>[^>]*?) -->\n)?```(?P<lang>[\w-]*)\n(?P<body>.*?)^```$", re.M | re.S)
_MARK = "::block "


class Block(NamedTuple):
    """A fenced block: its page, the line of its first line, its language, the mark above it."""

    page: str
    line: int
    lang: str
    mark: str
    body: str


def blocks(page: str) -> list[Block]:
    text = ROOT.joinpath(page).read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("body")) + 1
        found.append(Block(page, line, match["lang"], match["mark"] or "", match["body"]))
    return found


ALL = [block for page in PAGES for block in blocks(page)]


def test_every_block_says_what_it_is() -> None:
    assert ALL
    strange = [f"{b.page}:{b.line}: ```{b.lang}" for b in ALL if b.lang not in (*RUN, *SHOWN)]
    assert not strange, f"use one of {', '.join((*RUN, *SHOWN))}, or say `<!-- not run: why -->`: {strange}"
    marks = [
        f"{b.page}:{b.line}: {b.mark}"
        for b in ALL
        if b.mark and not re.fullmatch(r"not run: .{3,}|schema: \w+", b.mark)
    ]
    assert not marks, marks


def running(page: str) -> list[Block]:
    return [b for b in blocks(page) if b.lang in ("sh", "console", "python") and not b.mark.startswith("not run")]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty directory as a newcomer's clone after `make setup`, as far as the pages use it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "Makefile", tmp_path / "Makefile")
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if running(page)])
def test_the_commands_of_a_page_run(page: str, place: Path) -> None:
    shell = [b for b in running(page) if b.lang != "python"]
    output = Shell(place).run([(str(n), script(b)) for n, b in enumerate(shell)])
    for number, block in enumerate(shell):
        if block.lang == "console":
            for command, expected in steps(block):
                assert matches(expected, output[str(number)]), f"{page}:{block.line}: {command}\n{output[str(number)]}"
    for block in running(page):
        if block.lang == "python":
            done = subprocess.run(
                [sys.executable, "-c", block.body],
                cwd=place,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert done.returncode == 0, f"{page}:{block.line}\n{done.stderr}"


class Shell:
    """One shell for a page; whatever it started is ended with it."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._port = str(free_port())

    def run(self, scripts: list[tuple[str, str]]) -> dict[str, str]:
        """Output by block. Fails at the first command that fails."""
        lines = ["set -euo pipefail", *(f"echo {_MARK}{name}\n{text}" for name, text in scripts), f"echo {_MARK}end"]
        whole = "\n".join(lines).replace("8080", self._port)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TIPLINE_")}
        log = self._place / "output.log"
        with log.open("wb") as file:
            # A file, not a pipe: what runs on in the background would keep a pipe open.
            shell = subprocess.Popen(
                ["bash", "-c", whole],
                cwd=self._place,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )
            try:
                status = shell.wait(SECONDS)
            except subprocess.TimeoutExpired:
                status = -1
            finally:
                self._end(shell)
        said = log.read_text("utf-8", "replace")
        assert status == 0, f"exit {status} in block {said.count(_MARK) - 1}\n{said[-3000:]}"
        parts = re.split(rf"^{_MARK}(\w+)$\n?", said, flags=re.M)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    @staticmethod
    def _end(shell: subprocess.Popen[bytes]) -> None:
        """Ends the session that the shell began: the service in its background."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(shell.pid, number)
                shell.wait(5)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def script(block: Block) -> str:
    text = block.body if block.lang == "sh" else "\n".join(command for command, _ in steps(block))
    return re.sub(r"^(\s*)make (\S+)(.*)$", r"\1make -n \2 >/dev/null", text, flags=re.M)


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """Commands of a console block, each with the output that is shown below it."""
    command, shown = "", list[str]()
    for line in block.body.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(shown)
            command, shown = line[2:], []
        else:
            shown.append(line)
    if command:
        yield command, "\n".join(shown)


def matches(expected: str, output: str) -> bool:
    """Whether the lines stand in the output one after the other."""
    pattern = re.escape(expected.strip()).replace("…", ".*?").replace(re.escape("..."), ".*?")
    return re.search(pattern, output, re.S) is not None


@pytest.mark.parametrize(
    "block", [b for b in ALL if b.lang in ("json", "yaml", "toml")], ids=lambda b: f"{b.page}:{b.line}"
)
def test_documents_parse_and_are_valid(block: Block) -> None:
    if block.lang == "toml":
        tomllib.loads(block.body)
        return
    document = json.loads(block.body) if block.lang == "json" else yaml.safe_load(block.body)
    if block.mark.startswith("schema: "):
        from jsonschema import Draft202012Validator

        Draft202012Validator(schema(block.mark.removeprefix("schema: "))).validate(document)


# --- what the pages name ------------------------------------------------------------------------------------------------

SPAN = re.compile(r"`([^`\n]+)`")
#: Named in the design, not commands of ours in code spans.
PROSE = ("CHANGELOG.md",)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in PROSE])
def test_commands_and_options_exist(page: str) -> None:
    text = ROOT.joinpath(page).read_text("utf-8")
    shown = [span for span in SPAN.findall(text) if re.match(r"(\.venv/bin/)?tipline [a-z]", span)]
    shown += [
        line.strip()
        for b in blocks(page)
        if b.lang in ("sh", "console")
        for line in b.body.splitlines()
        if re.match(r"(\$ )?(\.venv/bin/)?tipline [a-z]", line.strip())
    ]
    wrong = [fault for command in shown for fault in unknown(command)]
    assert not wrong, f"{page}: {wrong}"


def unknown(line: str) -> Iterator[str]:
    """What a command line names that does not exist. Several commands may be named: `tipline serve submit process`."""
    words = re.split(r"[\s|;&]+", line.split("tipline ", 1)[1])
    if len([word for word in words if word in root.list_commands(click.Context(root))]) > 2:
        return  # a list of commands, not a call
    command: click.Command | None = root
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        context = click.Context(command)
        try:
            command = command.get_command(context, words[0])
        except (ImportError, AttributeError) as error:
            yield f"{line!r}: {error}"
            return
        if command is None:
            yield f"{line!r}: no command {words[0]!r}"
            return
        words = words[1:]
    known = (
        {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        if command
        else set()
    )
    for word in words:
        option = word.split("=")[0].strip("[]()`,.:")
        if re.fullmatch(r"--[a-z][a-z-]*", option) and option not in {*known, "--help", "--version"}:
            yield f"{line!r}: no option {option}"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in PROSE])
def test_settings_exist(page: str) -> None:
    from tipline.settings import _ELSEWHERE

    text = ROOT.joinpath(page).read_text("utf-8")
    known = {f"TIPLINE_{name.upper()}" for name in Settings.__struct_fields__} | _ELSEWHERE
    assert set(re.findall(r"\bTIPLINE_[A-Z_]*[A-Z]\b", text)) <= known


def test_the_table_of_settings_is_whole() -> None:
    from tipline.settings import _ELSEWHERE

    section = ROOT.joinpath("docs/operations.md").read_text("utf-8").partition("\n## Settings\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(TIPLINE_\w+)` \| `?([^|`]+)`? \|", section, re.M)
    defaults = [(f"TIPLINE_{field.name.upper()}", field.default) for field in msgspec.structs.fields(Settings)]
    assert rows == [(name, f"{value:g}" if isinstance(value, float) else str(value) or "-") for name, value in defaults]
    assert set(re.findall(r"\bTIPLINE_[A-Z_]*[A-Z]\b", section)) - {name for name, _ in rows} == _ELSEWHERE


def test_the_columns_of_a_csv_file_are_those_that_are_read() -> None:
    from producers.parsing import _COLUMNS

    text = ROOT.joinpath("docs/contracts.md").read_text("utf-8")
    told = text.partition("first row names the columns")[2].partition("those that are wanted")[0]
    assert set(re.findall(r"`([a-z_.]+)`", told)) == _COLUMNS


def test_metrics_are_those_of_the_catalogue() -> None:
    text = ROOT.joinpath("docs/operations.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(tipline_\w+)` \| (\w+) \|", text, re.M))
    assert rows == {name: info.kind for name, info in METRICS.items()}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = ROOT.joinpath(page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert ROOT.joinpath(page).parent.joinpath(target).exists(), f"{page} -> {target}"


def test_the_command_reference_is_the_commands_own_help() -> None:
    page = ROOT.joinpath("docs/cli.md").read_text("utf-8")
    # In a process of its own: whoever calls the command line in this one changes what its help says.
    made = subprocess.run([sys.executable, "-m", "tipline.clidoc"], capture_output=True, text=True, check=True).stdout
    assert page == made, "make it anew: .venv/bin/python -m tipline.clidoc > docs/cli.md"


def test_the_readmes_are_twins() -> None:
    """The Chinese page shows the same commands, in the same order, as the English one."""
    english, chinese = (
        [re.sub(r"#.*", "", b.body).split() for b in blocks(name) if b.lang in RUN]
        for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese
