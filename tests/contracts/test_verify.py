"""The checker checked: a whole store passes, and each way to break one is found, named and counted."""

from __future__ import annotations

import base64
import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.ports import Principal
from tests.tips_made import tips
from tipline.canaries import Scanner, forms
from tipline.commands.verify import check_store
from tipline.settings import load_settings
from tipline.store import Store, now_ms
from tipline.verify import BadLedger, Report, read_ledger

PHONE = "13800138127"
MINE = "wechat:xiliangwa-3"


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which tips were decided and stations worked, closed again."""
    from tipline.serve import Embedded

    data = tmp_path_factory.mktemp("verify") / "data"
    embedded = Embedded(Store(load_settings({}, {"data": str(data)})))
    texts = [tip.text for tip in tips(40)]
    for number, text in enumerate(texts):
        submission = {
            "text": f"{text} {PHONE}" if number == 3 else text,
            "source": MINE,
            "message_id": f"m{number}",
            "reporter": {"id": f"v{number % 7}", "phone": PHONE},
        }
        admitted = embedded.door.admit(submission, Principal("t", "intake", MINE, None, "anping"), now_ms())
        embedded.store.intake.accept([admitted])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sinks.sink.KEPT", 1)  # No incident here is large.
        _decide(embedded)
        _work(embedded)
        _decide(embedded)
    embedded.stop()
    return data


def _decide(embedded: Any) -> None:
    for runtime in embedded.runtimes:
        while runtime.run_once():
            pass


def _work(embedded: Any) -> None:
    """Every station claims two, acknowledges one and resolves it."""
    from sinks.audit import append
    from sinks.database import writing
    from stations.desk import Desk

    desk = Desk(embedded.store.engine, embedded.counties, embedded.metrics)
    officer = Principal("officer", "county", None, None, "anping")
    for station in embedded.counties["anping"].stations:
        for item in desk.claim(officer, station, limit=2, lease_s=600, now=now_ms())[:1]:
            lease = f'"{item["lease"]["token"]}"'
            taken = desk.move(officer, item["id"], "acknowledge", None, if_match=lease, now=now_ms())
            body = {"outcome": "settled", "text": "done"}
            desk.move(officer, item["id"], "resolve", body, if_match=f'"{taken["revision"]}"', now=now_ms())
    with writing(embedded.store.engine) as connection:
        for number in range(3):
            append(connection, at=now_ms(), actor="test", action="looked", subject=str(number))


@pytest.fixture
def data(worked: Path, tmp_path: Path) -> Path:
    """A copy of the store that a test may break."""
    return Path(shutil.copytree(worked, tmp_path / "data"))


@pytest.fixture
def check(data: Path) -> Iterator[Callable[..., Report]]:
    """Runs the checker on the copy; without the replay unless it is asked for."""
    opened: list[Store] = []

    def run(**options: Any) -> Report:
        store = Store(load_settings({}, {"data": str(data)}), create=False)
        opened.append(store)
        return check_store(store, **{"replay": False, **options})

    yield run
    for store in opened:
        store.close()


def test_a_whole_store_passes_every_check(check: Callable[..., Report], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text(PHONE)
    report = check(replay=True, canary=canary)
    assert report.findings == ()
    assert report.facts["tips"] == report.facts["decided"] == 40
    assert report.facts["assignments"] > 5 and report.facts["events"] > report.facts["assignments"]
    assert report.facts["replayed"] >= 42 and report.facts["audit_entries"] == 3


#: What is broken, by which statement, in which file -> the check that must notice.
BREAKAGES = {
    "a decision is lost": ("work", "DELETE FROM decisions WHERE tip_id = (SELECT min(tip_id) FROM decisions)", "accepted"),
    "a revision is lost": ("work", "UPDATE decisions SET revision = 9 WHERE seq = (SELECT max(seq) FROM decisions WHERE tip_id IS NOT NULL)", "revisions"),
    "the log has a gap": ("work", "UPDATE decisions SET seq = seq + 1000 WHERE seq = (SELECT max(seq) FROM decisions)", "revisions"),
    "the table is behind": ("work", "UPDATE incident_tips SET revision = 0 WHERE tip_id = (SELECT min(tip_id) FROM incident_tips)", "revisions"),
    "a tip is lost": ("intake", "DELETE FROM tips WHERE position = (SELECT max(position) FROM tips WHERE type = 'tip')", "phantoms"),
    "an incident is lost": ("work", "DELETE FROM incidents WHERE incident_id = (SELECT min(incident_id) FROM incidents)", "phantoms"),
    "a sum is off": ("work", "UPDATE incident_sums SET certainty = certainty + 1 WHERE rowid = (SELECT min(rowid) FROM incident_sums)", "sums"),
    "a sum is lost": ("work", "DELETE FROM incident_sums WHERE rowid = (SELECT max(rowid) FROM incident_sums WHERE incident_id IN (SELECT incident_id FROM incident_sums GROUP BY incident_id HAVING count(*) > 1))", "sums"),
    "an incident counts a tip too many": ("work", "UPDATE incidents SET tips = tips + 1 WHERE incident_id = (SELECT min(incident_id) FROM incidents)", "sums"),
    "an assignment is lost": ("work", "DELETE FROM assignments WHERE id = (SELECT min(id) FROM assignments)", "assignments"),
    "a status jumps": ("work", "UPDATE assignments SET status = 'in_progress' WHERE id = (SELECT id FROM assignments WHERE status = 'resolved' LIMIT 1)", "moves"),
    "an event is lost": ("work", "DELETE FROM assignment_events WHERE kind = 'acknowledged'", "moves"),
    "an event is forged": ("work", "UPDATE assignment_events SET kind = 'started' WHERE kind = 'resolved'", "moves"),
    "an event is unknown": ("work", "UPDATE assignment_events SET kind = 'vanished' WHERE kind = 'resolved'", "moves"),
    "a stream has a gap": ("work", "DELETE FROM station_events WHERE rowid = (SELECT min(rowid) FROM station_events)", "streams"),
    "a figure is off": ("work", "UPDATE statistics SET tips = tips + 1 WHERE rowid = (SELECT min(rowid) FROM statistics)", "statistics"),
    "the trail is edited": ("work", "UPDATE audit SET subject = 'x' WHERE seq = 2", "audit"),
    "the trail has a gap": ("work", "DELETE FROM audit WHERE seq = 2", "audit"),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKAGES)
def test_each_breakage_is_found(what: str, data: Path, check: Callable[..., Report]) -> None:
    file, statement, expected = BREAKAGES[what]
    with sqlite3.connect(data / f"{file}.db") as connection:
        assert connection.execute(statement).rowcount >= 1
    connection.close()
    report = check()
    found = [finding for finding in report.findings if finding.check == expected]
    assert found and all(finding.count >= 1 and finding.examples for finding in found), report.findings


def test_a_replay_finds_a_decision_that_was_changed(data: Path, check: Callable[..., Report]) -> None:
    with sqlite3.connect(data / "work.db") as connection:
        (value,) = connection.execute(
            "SELECT value FROM decisions WHERE kind = 'decision' ORDER BY seq LIMIT 1"
        ).fetchone()
        changed = value.replace(b'"link":"new"', b'"link":"suggested"')
        assert changed != value
        connection.execute("UPDATE decisions SET value = ? WHERE value = ?", (changed, value))
    connection.close()
    (finding,) = [f for f in check(replay=True).findings if f.check == "replay"]
    assert finding.examples[0].endswith("#1: link")


def test_lag_is_a_finding_unless_allowed(data: Path, check: Callable[..., Report]) -> None:
    from producers.admission import admit
    from tipline.store import entropy

    store = Store(load_settings({}, {"data": str(data)}))
    principal = Principal("t", "intake", MINE, None, "anping")
    late = admit(
        {"text": "路灯坏了", "source": MINE, "message_id": "late"},
        principal,
        "anping",
        now_ms(),
        store.keyring,
        entropy,
    )
    store.intake.accept([late])
    store.close()
    assert [f.check for f in check().findings] == ["accepted"]
    report = check(allow_lag=True)
    assert report.ok and report.facts["lag"] == 1


def test_the_ledger_finds_what_was_lost_doubled_and_kept_against_the_word(
    check: Callable[..., Report], tmp_path: Path
) -> None:
    def said(*entries: dict[str, Any]) -> Report:
        path = tmp_path / "ledger"
        path.write_bytes(b"".join(msgspec.json.encode({"source": MINE, **entry}) + b"\n" for entry in entries))
        return check(ledger=path)

    from schemas.records import tip_id_of

    first = tip_id_of(MINE, "m0")
    honest = [
        {"outcome": "unknown", "message_id": "m0"},
        {"outcome": "ok", "message_id": "m0", "tip_id": first},
        {"outcome": "ok", "message_id": "m0", "tip_id": first},
        {"outcome": "refused", "message_id": "never"},
        {"outcome": "unknown", "message_id": "nobody knows"},
    ]
    assert said(*honest).ok
    assert [f.what for f in said({"outcome": "ok", "message_id": "gone"}).findings] == [
        "answered 202 and its (source, message_id) is not in the log"
    ]
    assert (
        said({"outcome": "ok", "tip_id": "00000000-0000-0000-0000-000000000000"}).findings[0].what
        == "answered 202 and not in the log"
    )
    assert (
        said({"outcome": "refused", "message_id": "m1"}).findings[0].what == "refused to the caller and yet in the log"
    )
    two = [
        {"outcome": "ok", "message_id": "m0", "tip_id": first},
        {"outcome": "ok", "message_id": "m0", "tip_id": tip_id_of(MINE, "m1")},
    ]
    assert said(*two).findings[0].what == "one message was answered with several tip_ids"


def test_a_ledger_that_was_cut_off_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b'{"outcome": "ok", "message_id": "1"}\n{"outcome": "o')
    assert [entry.message_id for entry in read_ledger(path)] == ["1"]
    path.write_bytes(b'{"outcome": "maybe"}\n{"outcome": "ok"}\n')
    with pytest.raises(BadLedger, match=":1:"):
        read_ledger(path)


HIDDEN: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "utf-16-le": lambda word: word.encode("utf-16-le"),
    "utf-16-be": lambda word: word.encode("utf-16-be"),
    "hex": lambda word: word.encode().hex().encode(),
    "HEX": lambda word: word.encode().hex().upper().encode(),
    "base64+0": lambda word: base64.b64encode(word.encode()),
    "base64+1": lambda word: base64.b64encode(b"x" + word.encode()),
    "base64+2": lambda word: base64.b64encode(b"xy" + word.encode()),
    "sha256": lambda word: hashlib.sha256(word.encode()).digest(),
    "sha256-hex": lambda word: hashlib.sha256(word.encode()).hexdigest().encode(),
    "json": lambda word: word.encode("ascii", "backslashreplace"),
}


@pytest.mark.parametrize("form", HIDDEN)
@pytest.mark.parametrize("word", [PHONE, "王秘密先生"])
def test_a_canary_is_seen_in_every_form_and_place(word: str, form: str, tmp_path: Path) -> None:
    if form == "json" and word.isascii():
        return
    (tmp_path / "deep").mkdir()
    noise = bytes(range(256)) * 40
    (tmp_path / "deep" / "work.db-wal").write_bytes(noise + HIDDEN[form](word) + noise)
    seen, size = Scanner(["another canary", word]).scan(tmp_path)
    assert form in {s.form for s in seen}
    assert {(s.canary, s.file) for s in seen} == {(2, "deep/work.db-wal")}
    assert size == 2 * len(noise) + len(HIDDEN[form](word)) and min(s.offset for s in seen) >= len(noise)


def test_a_canary_across_two_pieces_of_a_file_is_seen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tipline.canaries._CHUNK", 64)
    for before in range(50, 70):
        (tmp_path / "file").write_bytes(b"." * before + PHONE.encode() + b"." * 100)
        seen, _ = Scanner([PHONE]).scan(tmp_path)
        assert [(s.form, s.offset) for s in seen] == [("utf-8", before)]


def test_canaries_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="canary 2"):
        Scanner(["13800138000", "abc"])
    assert all(len(needle) >= 4 for needle in forms("abcd").values())
