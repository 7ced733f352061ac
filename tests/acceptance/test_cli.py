"""The command line: help with examples, pinned exit codes, errors that say what, where and how to mend it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from schemas.times import parse_time
from sinks import audit
from sinks.database import reading, writing
from tipline.cli import COMMANDS, root
from tipline.settings import load_settings
from tipline.store import Store

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


def test_help_imports_nothing_heavy() -> None:
    """What keeps `tipline --help` under half a second, told without a watch."""
    code = "import sys\nfrom tipline.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {"sqlalchemy", "numpy", "starlette", "uvicorn", "yaml", "jsonschema", "rich", "shapely", "cryptography"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sevre"], 2, "did you mean 'serve'"),
        (["serve", "--nonsense"], 2, "--nonsense"),
        (["token", "create", "--role", "king"], 2, "king"),
        (["token", "create", "--role", "station"], 2, "station"),
        (["token", "create", "--role", "station", "--station", "police-xilangwa"], 2, "police-xiliangwa"),
        (["token", "create", "--role", "intake", "--source", "Bad Source"], 2, "wechat:xiliangwa-3"),
        (["token", "create", "--role", "intake", "--source", "hotline:13812345678"], 2, "a mobile number"),
        (["webhook", "add", "standard", "partner:13812345678"], 2, "a mobile number"),
        (["explain", "00000000-0000-0000-0000-000000000000", "--data", "nowhere"], 69, "nowhere"),
        (["submit", "/dev/null", "--url", "http://127.0.0.1:9"], 2, "TIPLINE_TOKEN"),
        (["process", "missing.ndjson", "--out", "-"], 2, "missing.ndjson"),
        (["process", "/dev/null", "--out", "no/such/place"], 69, "no/such/place"),
        (["process", "/dev/null", "--out", "-", "--county", "atlantis"], 65, "atlantis"),
        (["process", "/dev/null", "--out", "-", "--format", "csv"], 65, "the file is empty"),
        (["submit", "/dev/null", "--url", "ftp://x", "--token", "t"], 2, "http://127.0.0.1:8080"),
        (["serve", "--port", "99999"], 2, "65535"),
        (["stats", "--data", ".", "--from", "yesterday"], 2, "2026-10-20T08:00:00+08:00"),
        (["routes", "test", "x", "--at", "noon"], 2, "2026-10-20T08:00:00+08:00"),
        (["county", "check", "atlantis"], 2, "atlantis"),
    ],
)
def test_errors_say_what_where_and_how_with_the_pinned_code(make_serving: Callable[..., Any], arguments: list[str], code: int, said: str) -> None:
    done = make_serving(start=False).cli(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "explain 00000000-0000-0000-0000-000000000000", "stats", "token list", "token revoke 00", "user list", "user disable x",
        "dead-letters list", "audit list", "export --labels --out -", "webhook list", "webhook remove standard x", "keys rotate", "verify",
        "backup copy", "reveal x --reason y", "erase --tip x --reason y", f"county apply {ROOT / 'examples' / 'anping'}",
    ],
)  # fmt: skip
def test_what_only_reads_or_changes_a_store_makes_none(make_serving: Callable[..., Any], tmp_path: Path, command: str) -> None:
    (tmp_path / "empty").mkdir()
    done = make_serving(start=False).cli(*command.split(), "--data", str(tmp_path / "empty"))
    assert done.returncode == 69 and "holds no store" in done.stderr, done.stderr
    assert list((tmp_path / "empty").iterdir()) == []


def test_doctor_makes_no_store(make_serving: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = make_serving(start=False).cli("doctor", "--data", str(tmp_path / "empty"))
    assert done.returncode == 0 and "holds no store yet" in done.stdout, done.stdout
    assert list((tmp_path / "empty").iterdir()) == []


def test_doctor_misses_a_directory_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = CliRunner().invoke(root, ["doctor", "--data", "nowhere"], env={"TIPLINE_DATA": None})
    assert named.exit_code == 1 and "nowhere: there is no such data directory" in named.output
    fresh = CliRunner().invoke(root, ["doctor"], env={"TIPLINE_DATA": None})
    assert fresh.exit_code == 0 and "warn  store" in fresh.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["doctor", "serve --port 0", "stats", "token create --role ops", "backup copy", "keys init"])
def test_a_file_where_the_store_should_be_is_told(make_serving: Callable[..., Any], tmp_path: Path, command: str) -> None:
    service = make_serving(start=False)
    service.token("ops")
    (tmp_path / "notes.txt").write_text("minutes of the meeting", "utf-8")
    named = service.cli(*command.split(), "--data", str(tmp_path / "notes.txt"))
    said = named.stdout + named.stderr
    assert named.returncode == (1 if command == "doctor" else 69), said
    assert f"{tmp_path / 'notes.txt'}: is a file, and a store is a directory" in said and "Name the store's directory" in said, said
    inside = service.cli(*command.split(), "--data", str(service.data / "work.db"))
    assert f"--data {service.data}" in inside.stdout + inside.stderr


@pytest.mark.parametrize(
    "command",
    ["audit list", "token list", "county show --json", "stats --json", "doctor", "routes test 大邵村着火", "--help", "token --help"],
)
def test_a_reader_that_leaves_ends_it_without_a_word(make_serving: Callable[..., Any], command: str) -> None:
    service = make_serving(start=False)
    service.token("ops")
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    try:
        words = [sys.executable, "-m", "tipline", *command.split()]
        done = subprocess.run(words, env=service.environ, stdout=writing_end, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    finally:
        os.close(writing_end)
    assert (done.returncode, done.stderr) == (141, ""), done


def test_a_token_before_the_first_start_makes_the_store_and_can_be_listed(make_serving: Callable[..., Any]) -> None:
    service = make_serving(start=False)
    service.token("ops")
    assert " ops " in service.cli("token", "list").stdout
    assert service.cli("webhook", "list").returncode == 0
    assert not (service.data / "keys.json").exists()


def test_an_unknown_setting_is_an_error_that_suggests_the_right_one(make_serving: Callable[..., Any]) -> None:
    done = make_serving({"TIPLINE_PROT": "1"}, start=False).cli("doctor")
    assert done.returncode == 2 and "TIPLINE_PORT" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TIPLINE_PORT", "99999", "65535"),
        ("TIPLINE_PORT", "eighty", "TIPLINE_PORT"),
        ("TIPLINE_LOG_LEVEL", "loud", "warning"),
        ("TIPLINE_RATE", "0", "TIPLINE_RATE"),
        ("TIPLINE_DATABASE", "mysql://tipline:hidden@localhost/tipline", "postgresql+psycopg://"),
        ("TIPLINE_CONFIG", "nowhere.toml", "nowhere.toml"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(make_serving: Callable[..., Any], name: str, value: str, said: str) -> None:
    done = make_serving({name: value}, start=False).cli("token", "create", "--role", "ops")
    assert done.returncode == 2 and name in done.stderr and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "hidden" not in done.stderr


def test_variables_win_over_the_file_and_options_over_both(make_serving: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "tipline.toml").write_text(f'data = "{tmp_path / "by-file"}"\nport = 1\n', "utf-8")
    service = make_serving({"TIPLINE_CONFIG": str(tmp_path / "tipline.toml")}, start=False)
    del service.environ["TIPLINE_DATA"]
    create = ("token", "create", "--role", "ops")
    assert service.cli(*create).returncode == 0 and (tmp_path / "by-file" / "work.db").exists()
    service.environ["TIPLINE_DATA"] = str(tmp_path / "by-variable")
    assert service.cli(*create).returncode == 0 and (tmp_path / "by-variable" / "work.db").exists()
    assert service.cli(*create, "--data", str(tmp_path / "by-option")).returncode == 0 and (tmp_path / "by-option" / "work.db").exists()


def test_a_token_for_tips_names_its_county_where_there_are_several(make_serving: Callable[..., Any], tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "examples" / "anping", other)
    for path in other.iterdir():
        text = path.read_text("utf-8").replace("[anping", "[elsewhere").replace(" anping/", " elsewhere/").replace('"anping', '"elsewhere')
        path.write_text(text.replace("id: anping\nnames: {zh: 安平县", "id: elsewhere\nnames: {zh: 饶阳县"), "utf-8")
    both = ("--county", str(ROOT / "examples" / "anping"), "--county", str(other))
    service = make_serving(start=False)
    create = ("token", "create", "--role", "intake", "--source", "wechat:a", *both)
    refused = service.cli(*create)
    assert refused.returncode == 2 and "anping, elsewhere" in refused.stderr, refused.stderr
    assert service.cli(*create, "--home", "elsewher").returncode == 2
    assert service.cli(*create, "--home", "elsewhere").stdout.startswith("tl_")
    listed = json.loads(service.cli("token", "list", "--json").stdout)
    assert [one["county"] for one in listed] == ["elsewhere"]


#: Commands that talk to a server or to Kafka instead of the store, and the demo, which makes its own.
ELSEWHERE = {"submit", "demo", "gateway", "worker", "sink", "topics", "consume"}


@pytest.mark.parametrize("path", sorted(p for p in ALL if p[0] not in ELSEWHERE), ids=" ".join)
def test_every_local_command_takes_data_and_county(path: tuple[str, ...]) -> None:
    assert {"data", "county"} <= {option.name for option in ALL[path].params}


def test_a_store_is_served_once(serving: Any) -> None:
    done = serving.cli("serve", "--port", "0")
    assert done.returncode == 69 and f"process {serving.process.pid}" in done.stderr
    assert serving.call("GET", "/readyz").status == 200
    serving.kill()
    serving.start()


def test_serve_is_not_what_a_distributed_installation_starts(make_serving: Callable[..., Any]) -> None:
    done = make_serving({"TIPLINE_LOG": "kafka://localhost:9092"}, start=False).cli("serve", "--port", "0")
    assert done.returncode == 2 and "tipline gateway" in done.stderr


def test_a_port_in_use_is_told(serving: Any, tmp_path: Path) -> None:
    port = serving.url.rpartition(":")[2]
    done = serving.cli("serve", "--data", str(tmp_path / "other"), "--port", port)
    assert done.returncode == 69 and f":{port} (Address already in use)" in done.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["intake.db", "work.db"])
def test_files_that_are_no_store_of_ours_stop_the_start(make_serving: Callable[..., Any], name: str) -> None:
    service = make_serving(start=False)
    service.data.mkdir()
    (service.data / name).write_text("minutes of the meeting\n" * 100, "utf-8")
    done = service.cli("serve", "--port", "0")
    assert done.returncode == 65 and name in done.stderr and "Traceback" not in done.stderr
    assert (service.data / name).read_text("utf-8").startswith("minutes")


def test_lost_keys_stop_the_start_and_none_are_made_anew(serving: Any) -> None:
    token = serving.token("intake", "--source", "wechat:a")
    assert serving.call("POST", "/v1/tips", token, {"text": "马店村口路灯不亮"}).status == 202
    serving.stop()
    (serving.data / "keys.json").unlink()
    done = serving.cli("serve", "--port", "0")
    assert done.returncode == 69 and "keys.json" in done.stderr
    assert not (serving.data / "keys.json").exists()


def test_what_is_stored_is_for_its_owner_alone(serving: Any) -> None:
    token = serving.token("intake", "--source", "wechat:a")
    assert serving.call("POST", "/v1/tips", token, {"text": "马店村口路灯不亮"}).status == 202
    assert serving.data.stat().st_mode & 0o077 == 0
    assert [path.name for path in serving.data.iterdir() if path.is_file() and path.stat().st_mode & 0o077] == []


def test_the_first_line_is_for_programs_and_the_rest_helps_a_newcomer(make_serving: Callable[..., Any]) -> None:
    service = make_serving()
    assert service.process is not None and service.process.stdout is not None
    rest = "".join(service.process.stdout.readline() for _ in range(3))
    assert service.url in rest and "tipline token create" in rest and "anping" in rest


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


@pytest.mark.parametrize(("content", "format_"), [('{"text": "村口路灯不亮"}\n', "ndjson"), ("text\n村口路灯不亮\n", "csv")])
def test_what_cannot_be_sought_is_read_like_standard_input(make_serving: Callable[..., Any], content: str, format_: str) -> None:
    """What `tipline process <(...)` hands over."""
    reading_end, writing_end = os.pipe()
    os.write(writing_end, content.encode())
    os.close(writing_end)
    arguments = ["process", f"/dev/fd/{reading_end}", "--out", "-", "--format", format_]
    environ = make_serving(start=False).environ
    done = subprocess.run([sys.executable, "-m", "tipline", *arguments], env=environ, pass_fds=[reading_end], capture_output=True, text=True, timeout=60, check=False)
    os.close(reading_end)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["category"] == "safety_hazard"


def test_a_file_in_another_encoding_is_told_row_by_row(make_serving: Callable[..., Any], tmp_path: Path) -> None:
    rows = [b"message_id,text", "1,马店村井盖丢了".encode(), "2,马店村井盖丢了".encode("gbk"), "3,大邵村路灯不亮".encode()]
    (tmp_path / "in.csv").write_bytes(b"\n".join(rows) + b"\n")
    (tmp_path / "head.csv").write_bytes("text,标题\nx,y\n".encode("gbk"))
    service = make_serving(start=False)
    done = service.cli("process", str(tmp_path / "in.csv"), "--out", "-")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1 and (first["message_id"], third["message_id"]) == ("1", "3")
    assert second["line"] == 3 and "UTF-8" in second["error"]["errors"][0]["detail"]
    head = service.cli("process", str(tmp_path / "head.csv"), "--out", "-")
    assert head.returncode == 65 and "iconv" in head.stderr and "Traceback" not in head.stderr


def test_doctor_finds_a_readable_keyring(make_serving: Callable[..., Any]) -> None:
    service = make_serving(start=False)
    assert service.cli("keys", "init").returncode == 0
    well = service.cli("doctor", "--json")
    assert well.returncode == 0 and {f["level"] for f in json.loads(well.stdout)} <= {"ok", "warn"}
    (service.data / "keys.json").chmod(0o644)
    ill = service.cli("doctor")
    assert ill.returncode == 1 and "chmod 600" in ill.stdout


def test_who_is_let_in_and_shut_out_is_written_to_the_audit(tmp_path: Path) -> None:
    data, password = ["--data", str(tmp_path / "data")], "a long password\n"

    def run(*arguments: str, given: str | None = None) -> str:
        done = CliRunner().invoke(root, [*arguments, *data], input=given)
        assert done.exit_code == 0, done.output
        return done.output.strip()

    identity = run("token", "create", "--role", "admin").split("_")[1]
    run("token", "revoke", identity)
    run("user", "create", "boss", "--role", "admin", given=password)
    run("user", "password", "boss", given=password)
    run("user", "disable", "boss")
    run("user", "enable", "boss")
    with reading(Store(load_settings({}, {"data": str(tmp_path / "data")})).engine) as connection:
        assert [(row.action, row.subject) for row in audit.listed(connection)] == [
            ("token.create", identity),
            ("token.revoke", identity),
            *((f"user.{action}", "boss") for action in ("create", "password", "disable", "enable")),
        ]
        assert audit.verify(connection) is None


def test_a_county_put_in_force_is_written_to_the_audit(tmp_path: Path) -> None:
    county, data = tmp_path / "county", ["--data", str(tmp_path / "data")]
    shutil.copytree(ROOT / "examples" / "anping", county)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(root, [*arguments, *data])
        assert done.exit_code == 0, done.output
        return done.output.strip()

    run("token", "create", "--role", "admin")
    assert run("county", "apply", str(county)) == "in force from position 1"
    assert run("county", "apply", str(county)) == "already in force"
    digest = run("county", "check", str(county)).splitlines()[-1].split()[1].rstrip(",")
    (entry,) = [one for one in json.loads(run("audit", "list", "--json")) if one["action"] == "county.apply"]
    assert (entry["actor"], entry["subject"], entry["detail"]) == ("cli", "anping", {"digest": digest, "position": 1})


def test_lists_stand_in_columns_whatever_the_names(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data")]
    names = ["wangjun", "王军", "安平县平安建设办公室值班人员一号二号三号"]
    for name in names:
        made = CliRunner().invoke(root, ["user", "create", name, "--role", "admin", *data], input="a long password\n")
        assert made.exit_code == 0, made.output
    lines = CliRunner().invoke(root, ["user", "list", *data]).output.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(names)
    assert len({cell_len(line[: line.index("admin")]) for line in lines}) == 1
    for source in ("wechat:a", "wechat:" + "long-" * 10 + "b"):
        CliRunner().invoke(root, ["token", "create", "--role", "intake", "--source", source, *data])
    lines = CliRunner().invoke(root, ["token", "list", *data]).output.splitlines()
    assert len(lines) == 2 and len({line.index("valid") for line in lines}) == 1


def test_the_audit_is_listed_the_newest_last_and_holds_no_number(tmp_path: Path) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(root, [*arguments, "--data", str(tmp_path / "data")])
        assert done.exit_code == code, done.output
        return done.output.strip()

    identity = run("token", "create", "--role", "ops").split("_")[1]
    run("reveal", "no-such-tip", "--reason", "回电 13800138000，已约好", code=1)
    lines = run("audit", "list").splitlines()
    assert [line.split("  ")[1:4] for line in lines] == [["cli", "token.create", identity], ["cli", "identity.reveal", "no-such-tip"]]
    assert "已约好" in lines[1] and "13800138000" not in lines[1]
    (last,) = json.loads(run("audit", "list", "--limit", "1", "--json"))
    assert (last["seq"], last["actor"], last["action"], last["subject"]) == (2, "cli", "identity.reveal", "no-such-tip")
    assert last["detail"].keys() == {"reason"}
    assert run("audit", "list", "--since", "2999-01-01T00:00:00+08:00") == "no entries"
    assert len(run("audit", "list", "--since", last["at"]).splitlines()) >= 1
    assert "2026-10-20T08:00:00+08:00" in run("audit", "list", "--since", "noon", code=2)


def test_times_are_the_countys_and_a_date_is_its_midnight_there(tmp_path: Path) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(root, [*arguments, "--data", str(tmp_path / "data")])
        assert done.exit_code == code, done.output
        return done.output.strip()

    run("token", "create", "--role", "ops", "--days", "1")
    store = Store(load_settings({}, {"data": str(tmp_path / "data")}))
    for hour, subject in ((15, "the-day-before"), (16, "at-midnight")):  # in UTC; midnight of the 28th is at 16:00
        with writing(store.engine) as connection:
            at = parse_time(f"2999-11-27T{hour}:00:00Z")
            audit.append(connection, at=at, actor="cli", action="token.revoke", subject=subject)
    (line,) = run("audit", "list", "--since", "2999-11-28").splitlines()
    assert line.startswith("2999-11-28T00:00:00+08:00  cli  token.revoke  at-midnight")
    (entry,) = json.loads(run("audit", "list", "--since", "2999-11-28", "--json"))
    assert entry["at"] == "2999-11-28T00:00:00+08:00"
    assert "2026-10-20" in run("audit", "list", "--since", "2026-13-01", code=2)
    assert "+08:00" in run("token", "list")
    assert json.loads(run("stats", "--from", "2026-11-28", "--to", "2026-11-29", "--json")) == {"rows": []}
