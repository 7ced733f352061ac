"""A backup taken under load, restored elsewhere: whole by `verify`, with everything that was accepted before it began."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from producers.keyring import Keyring, read_keyring, write_keyring
from tests.crowd import CLIENTS, Crowd, checked, settle, tip
from tipline.backup import MANIFEST, BadBackup, backup, read_manifest, restore
from tipline.commands.backup import backup as backup_command
from tipline.commands.backup import restore as restore_command
from tipline.commands.doctor import doctor as doctor_command
from tipline.commands.webhook import webhook as webhook_command
from tipline.keymark import OtherKeys
from tipline.serve import Embedded
from tipline.settings import load_settings
from tipline.store import Store, now_ms
from tipline.testing import Client, Ledger, Sender, Served, make_token


def made(data: Path, target: Path, keys: bool = True) -> Path:
    backup(data, target, now=now_ms(), version="test", keys=data / "keys.json" if keys else None)
    return target


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a few tips, at rest."""
    folder = tmp_path_factory.mktemp("backup")
    with Served(folder / "data") as served, Client(served, make_token(folder / "data", "intake")) as client:
        sender = Sender(client, Ledger(folder / "ledger.ndjson"))
        for number in range(5):
            sender.post(tip(number, "wechat:a"))
        settle(served)
    return folder / "data"


def test_a_backup_under_load_holds_what_was_accepted_before_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with Served(tmp_path / "data", {"TIPLINE_RATE": "100000"}) as served:
        crowd = Crowd(served, tmp_path, stations=True)
        crowd.wait_for(60)
        shutil.copy(crowd.ledger.path, tmp_path / "before.ndjson")
        known = crowd.accepted
        made(served.data, tmp_path / "backup")
        crowd.wait_for(CLIENTS)  # writers were not held up
        crowd.finish()
    restore(tmp_path / "backup", tmp_path / "restored")
    report = checked(tmp_path / "restored", tmp_path / "before.ndjson", allow_lag=True)
    assert report.facts["tips"] >= known >= 60
    with Served(tmp_path / "restored") as again:
        settle(again)
    checked(tmp_path / "restored", tmp_path / "before.ndjson")


def test_the_keys_stay_out_unless_asked_for(store: Path, tmp_path: Path) -> None:
    run = CliRunner()
    done = run.invoke(backup_command, [str(tmp_path / "plain"), "--data", str(store)])
    assert done.exit_code == 0 and "without the keys" in done.output, done.output
    assert not (tmp_path / "plain" / "keys.json").exists()
    assert b"wrap" not in (tmp_path / "plain" / MANIFEST).read_bytes()
    told = run.invoke(restore_command, [str(tmp_path / "plain"), "--data", str(tmp_path / "a"), "--without-verify"])
    assert told.exit_code == 0 and "put keys.json there" in told.output
    keys = ["--keys", str(store / "keys.json")]
    whole = run.invoke(restore_command, [str(tmp_path / "plain"), "--data", str(tmp_path / "b"), *keys])
    assert whole.exit_code == 0 and "FAIL" not in whole.output, whole.output
    assert (tmp_path / "b" / "keys.json").stat().st_mode & 0o777 == 0o600
    with_keys = run.invoke(backup_command, [str(tmp_path / "full"), "--data", str(store), "--with-keys"])
    assert (
        with_keys.exit_code == 0
        and (tmp_path / "full" / "keys.json").read_bytes() == (store / "keys.json").read_bytes()
    )


def test_webhooks_come_along_with_their_secrets_sealed(store: Path, tmp_path: Path) -> None:
    run, data = CliRunner(), tmp_path / "data"
    shutil.copytree(store, data)
    added = run.invoke(webhook_command, ["add", "standard", "partner:power", "--data", str(data)])
    assert added.exit_code == 0, added.output
    restore(made(data, tmp_path / "backup"), tmp_path / "restored")
    listed = run.invoke(webhook_command, ["list", "--data", str(tmp_path / "restored")])
    assert listed.exit_code == 0 and "partner:power" in listed.output, listed.output
    assert (tmp_path / "restored" / "webhooks.json").stat().st_mode & 0o777 == 0o600


def test_nothing_is_ever_overwritten(store: Path, tmp_path: Path) -> None:
    whole = made(store, tmp_path / "backup")
    for taken in (whole, store):
        with pytest.raises(BadBackup, match="not empty"):
            made(store, taken)
        with pytest.raises(BadBackup, match="not empty"):
            restore(whole, taken)
    (tmp_path / "empty").mkdir()
    restore(whole, tmp_path / "empty")
    assert (tmp_path / "empty" / "intake.db").exists()


def damage_a_byte(path: Path) -> None:
    data = bytearray((path / "work.db").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "work.db").write_bytes(data)


def escape(path: Path) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"]["../outside"] = {"sha256": "0" * 64, "bytes": 0}
    (path / MANIFEST).write_text(json.dumps(manifest))


def age(path: Path) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte changed": (damage_a_byte, "damaged"),
    "a file missing": (lambda path: (path / "intake.db").unlink(), "missing"),
    "no manifest": (lambda path: (path / MANIFEST).unlink(), "no backup of ours"),
    "a manifest cut off": (lambda path: (path / MANIFEST).write_text("{"), "no backup of ours"),
    "a manifest that points outside": (escape, "not whole"),
    "a later format": (age, "later tipline"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_backup_is_not_restored(harm: str, store: Path, tmp_path: Path) -> None:
    work, words = HARMS[harm]
    whole = made(store, tmp_path / "backup")
    assert read_manifest(whole).with_keys
    work(whole)
    with pytest.raises(BadBackup, match=words):
        restore(whole, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]


def forge(path: Path) -> None:
    """A backup whose hashes are right and whose log is none."""
    (path / "intake.db").write_text("minutes of the meeting\n" * 100, "utf-8")
    manifest = json.loads((path / MANIFEST).read_text())
    data = (path / "intake.db").read_bytes()
    manifest["files"]["intake.db"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (path / MANIFEST).write_text(json.dumps(manifest))


def forget_a_decision(path: Path) -> None:
    """A backup whose hashes are right and whose tables lack a row."""
    with closing(sqlite3.connect(path / "work.db")) as work, work:
        work.execute("DELETE FROM statistics")
    manifest = json.loads((path / MANIFEST).read_text())
    data = (path / "work.db").read_bytes()
    manifest["files"]["work.db"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (path / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize(("harm", "code"), [(forge, (65, 69)), (forget_a_decision, (1,))])
def test_a_restore_that_fails_leaves_nothing(
    harm: Callable[[Path], None], code: tuple[int, ...], keys: bool, store: Path, tmp_path: Path
) -> None:
    harm(made(store, tmp_path / "backup", keys=keys))
    arguments = ["restore", str(tmp_path / "backup"), "--data", str(tmp_path / "far" / "away")]
    command = [sys.executable, "-m", "tipline", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in code and "Traceback" not in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    if code == (1,):
        assert "FAIL" in done.stdout and "--without-verify" in done.stderr
        assert subprocess.run([*command, "--without-verify"], capture_output=True, timeout=60, check=False).returncode == 0
        assert (tmp_path / "far" / "away" / "work.db").exists()


def test_a_restore_that_is_ended_leaves_nothing(store: Path, tmp_path: Path) -> None:
    whole = made(store, tmp_path / "backup")
    steps: list[int] = []

    def progress() -> None:
        steps.append(1)
        if len(steps) == 2:  # all is copied, and not yet in its place
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        restore(whole, tmp_path / "far" / "restored", progress=progress)
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]


@pytest.mark.parametrize("inside", ["backup", "models/2026/backup", "link/backup"])
def test_a_backup_does_not_lie_in_the_store(inside: str, store: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store)
    before = sorted(store.rglob("*"))
    with pytest.raises(BadBackup, match="Name one outside"):
        made(store, (tmp_path if inside.startswith("link") else store) / inside)
    assert sorted(store.rglob("*")) == before


def test_what_is_no_store_is_not_backed_up(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(BadBackup, match="holds no store"):
        made(tmp_path / "data", tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store at rest with an identity in it."""
    folder = tmp_path_factory.mktemp("sealed")
    with Served(folder / "data") as served, Client(served, make_token(folder / "data", "intake")) as client:
        body = {"source": "wechat:a", "message_id": "m-1", "text": "马店村口路灯不亮，电话13812345678"}
        assert client.send("/v1/tips", body).status == 202
        settle(served)
    return folder / "data"


def without_mark(data: Path) -> None:
    """As a store was before there were marks."""
    with closing(sqlite3.connect(data / "work.db")) as work, work:
        assert work.execute("DELETE FROM positions WHERE consumer = 'keyring'").rowcount == 1


def other_keys(path: Path) -> Path:
    write_keyring(path, Keyring.create(os.urandom))
    return path


def keyring_finding(data: Path) -> tuple[int, str]:
    done = CliRunner().invoke(doctor_command, ["--data", str(data)])
    return done.exit_code, next(line for line in done.output.splitlines() if " keys " in line)


@pytest.mark.parametrize("marked", [True, False])
def test_other_keys_are_refused_wherever_they_are_given(marked: bool, sealed: Path, tmp_path: Path) -> None:
    shutil.copytree(sealed, tmp_path / "data")
    if not marked:
        without_mark(tmp_path / "data")
    made(tmp_path / "data", tmp_path / "backup", keys=False)
    wrong = other_keys(tmp_path / "wrong.json")
    with pytest.raises(OtherKeys, match="not the keys"):
        restore(tmp_path / "backup", tmp_path / "restored", keys=wrong)
    assert not (tmp_path / "restored").exists()
    restore(tmp_path / "backup", tmp_path / "restored", keys=sealed / "keys.json")
    assert keyring_finding(tmp_path / "restored")[0] == 0
    shutil.copy(wrong, tmp_path / "restored" / "keys.json")
    code, line = keyring_finding(tmp_path / "restored")
    assert code == 1 and line.startswith("fail") and "not the keys" in line
    store = Store(load_settings({}, {"data": str(tmp_path / "restored")}))
    with pytest.raises(OtherKeys, match="not the keys") as refused:
        Embedded(store)
    store.close()
    assert refused.value.exit_code == 69


def test_rotated_keys_are_the_stores_and_a_copy_from_before_is_not(sealed: Path, tmp_path: Path) -> None:
    shutil.copytree(sealed, tmp_path / "data")
    old = read_keyring(sealed / "keys.json")
    write_keyring(tmp_path / "data" / "keys.json", old.rotate(os.urandom), replace=True)
    with Served(tmp_path / "data") as served, Client(served, make_token(served.data, "intake")) as client:
        body = {"source": "wechat:a", "message_id": "m-2", "text": "马店村口井盖丢了，电话13812345679"}
        assert client.send("/v1/tips", body).status == 202
        settle(served)
    made(tmp_path / "data", tmp_path / "backup", keys=False)
    with pytest.raises(OtherKeys, match="rotation"):
        restore(tmp_path / "backup", tmp_path / "restored", keys=sealed / "keys.json")
    restore(tmp_path / "backup", tmp_path / "restored", keys=tmp_path / "data" / "keys.json")


def test_an_older_store_takes_the_mark_of_its_own_keys(sealed: Path, tmp_path: Path) -> None:
    shutil.copytree(sealed, tmp_path / "data")
    without_mark(tmp_path / "data")
    with Served(tmp_path / "data"):
        pass
    without_mark(tmp_path / "data")
