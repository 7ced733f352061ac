"""The command line: help with examples, pinned exit codes, errors that say what, where and how to mend it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tipline.cli import COMMANDS, root

ROOT = Path(__file__).parents[2]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(root))


@pytest.mark.parametrize("path", sorted(ALL), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.help, path
    example = " ".join(command.help.split()).partition("Example: ")[2]
    assert f"tipline {' '.join(path)}" in example, path
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help or isinstance(option.type, click.Choice), (path, option.name)


def test_help_names_every_command(make_serving: Callable[..., Any]) -> None:
    done = make_serving(start=False).cli("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sevre"], 2, "did you mean 'serve'"),
        (["serve", "--nonsense"], 2, "--nonsense"),
        (["token", "create", "--role", "king"], 2, "king"),
        (["token", "create", "--role", "station"], 2, "station"),
        (["token", "create", "--role", "station", "--station", "police-xilangwa"], 2, "police-xiliangwa"),
        (["token", "create", "--role", "intake", "--source", "Bad Source"], 2, "wechat:xiliangwa-3"),
        (["explain", "00000000-0000-0000-0000-000000000000", "--data", "nowhere"], 69, "nowhere"),
        (["submit", "/dev/null", "--url", "http://127.0.0.1:9"], 2, "TIPLINE_TOKEN"),
        (["process", "missing.ndjson", "--out", "-"], 2, "missing.ndjson"),
    ],
)
def test_errors_say_what_where_and_how_with_the_pinned_code(make_serving: Callable[..., Any], arguments: list[str], code: int, said: str) -> None:
    done = make_serving(start=False).cli(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_is_an_error_that_suggests_the_right_one(make_serving: Callable[..., Any]) -> None:
    done = make_serving({"TIPLINE_PROT": "1"}, start=False).cli("doctor")
    assert done.returncode == 69 and "TIPLINE_PORT" in done.stderr


def test_the_service_being_away_is_try_later(make_serving: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "one.ndjson").write_text('{"text": "有人打架"}\n', "utf-8")
    done = make_serving(start=False).cli("submit", str(tmp_path / "one.ndjson"), "--url", "http://127.0.0.1:9", "--token", "x", "--patience", "0")
    assert done.returncode == 75 and "127.0.0.1:9" in done.stderr


def test_a_broken_county_stops_the_start_with_all_its_mistakes(make_serving: Callable[..., Any], tmp_path: Path) -> None:
    county = tmp_path / "county"
    shutil.copytree(ROOT / "examples" / "anping", county)
    routes = (county / "routes.yaml").read_text("utf-8").replace("station: county-triage", "station: county-triag", 1)
    (county / "routes.yaml").write_text(routes, "utf-8")
    sources = (county / "sources.yaml").read_text("utf-8").replace("area: anping/", "area: anping/no-", 1)
    (county / "sources.yaml").write_text(sources, "utf-8")
    service = make_serving({"TIPLINE_COUNTY": str(county)}, start=False)
    done = service.cli("serve", "--port", "0")
    assert done.returncode == 65
    assert "routes.yaml:" in done.stderr and "sources.yaml:" in done.stderr
    checked = service.cli("county", "check", str(county), "--json")
    assert checked.returncode == 1 and len(json.loads(checked.stdout)["mistakes"]) >= 2


def test_process_answers_each_line_and_exits_1_for_bad_ones(make_serving: Callable[..., Any], tmp_path: Path) -> None:
    rows = ['{"text": "东头着火了"}', "[]", '{"text": "东头着火了", "extra": 1}', '{"text": "收到", "message_id": "m"}', '{"text": "别的", "message_id": "m"}']
    (tmp_path / "in.ndjson").write_text("\n".join(rows) + "\n", "utf-8")
    done = make_serving(start=False).cli("process", str(tmp_path / "in.ndjson"), "--out", "-")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and len(answers) == 5
    assert answers[0]["category"] == "safety_hazard" and answers[0]["received_at"].startswith("1970-01-01")
    assert [a.get("line") for a in answers] == [None, 2, 3, None, 5]
    assert answers[4]["message_id"] == "m" and answers[4]["error"]["errors"][0]["pointer"] == "/message_id"


def test_csv_is_read_like_ndjson(make_serving: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("message_id,text,place.text,reporter.id\nc1,村口路灯不亮,大邵村,7\nc2,,大邵村,8\n", "utf-8-sig")
    done = make_serving(start=False).cli("process", str(tmp_path / "in.csv"), "--out", "-")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["area"] == "anping/xiliangwa/dashaocun" and second["line"] == 3
    assert done.returncode == 1


def test_doctor_finds_a_readable_keyring(make_serving: Callable[..., Any]) -> None:
    service = make_serving(start=False)
    assert service.cli("keys", "init").returncode == 0
    well = service.cli("doctor", "--json")
    assert well.returncode == 0 and {f["level"] for f in json.loads(well.stdout)} <= {"ok", "warn"}
    (service.data / "keys.json").chmod(0o644)
    ill = service.cli("doctor")
    assert ill.returncode == 1 and "chmod 600" in ill.stdout
