"""The embedded log of tips: one record a key, durable on return, whole after a full disk and after a kill."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from schemas.codec import decode_input, encode
from schemas.errors import BadRecord, Unavailable
from schemas.records import Closure, Tip
from sinks import failpoints
from streams.embedded.intake import MIGRATIONS, BadStore, SqliteIntake
from streams.ports import Admitted, Sealed
from tests.conftest import missing

_numbers = itertools.count(1)


def tip(name: str, text: str = "x", county: str = "anping", seals: int = 0) -> Admitted:
    """An admitted tip; the same name is the same (source, message_id)."""
    record = Tip(
        county=county,
        tip_id=f"tip-{name}",
        source="bot:a",
        channel="bot",
        text=text,
        received_at="2026-01-31T00:00:00Z",
        message_id=name,
    )
    identities = tuple(Sealed(f"[phone:{n:08x}]", "phone", "k-1", b"w", b"n", b"c") for n in range(seals))
    return Admitted(record, text.encode(), f"R-{name}", identities)


def fresh(text: str = "x") -> Admitted:
    return tip(f"n{next(_numbers)}", text)


def closure(key: str) -> bytes:
    return encode(Closure(county="anping", closure_id=key, incident_id="i", closed=True, at="2026-01-31T00:00:00Z"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "intake.db"


@pytest.fixture
def intake(path: Path) -> Iterator[SqliteIntake]:
    log = SqliteIntake(path)
    yield log
    log.close()


def outcomes(log: SqliteIntake, *admitted: Admitted) -> list[str]:
    return [one.outcome for one in log.accept(admitted)]


def test_accepts_once(intake: SqliteIntake) -> None:
    first = intake.accept([tip("a", seals=2)])
    assert [(one.tip_id, one.receipt, one.outcome) for one in first] == [("tip-a", "R-a", "accepted")]
    assert outcomes(intake, tip("a", seals=2)) == ["redelivered"]
    assert outcomes(intake, tip("a", "other words")) == ["conflict"]
    (row,) = intake.read("anping", 0, 10)
    assert (row.position, row.key) == (1, "tip-a")
    assert decode_input(row.value) == tip("a").tip
    assert len(intake.identities("tip-a")) == 2


def test_one_key_twice_in_one_batch(intake: SqliteIntake) -> None:
    assert outcomes(intake, tip("a"), tip("a"), tip("a", "y"), tip("b")) == [
        "accepted",
        "redelivered",
        "conflict",
        "accepted",
    ]
    assert intake.end("anping") == 2


def test_the_same_message_under_another_id_is_known(intake: SqliteIntake) -> None:
    """Should the way ids are made ever change, a redelivery still gets its first id."""
    intake.accept([tip("a")])
    other = tip("a")
    renamed = msgspec.structs.replace(other, tip=msgspec.structs.replace(other.tip, tip_id="tip-new"))
    assert [(one.tip_id, one.outcome) for one in intake.accept([renamed])] == [("tip-a", "redelivered")]


def test_nothing_to_accept(intake: SqliteIntake) -> None:
    assert intake.accept([]) == []
    assert intake.end("anping") == 0


def test_positions_have_no_gaps_and_counties_are_apart(intake: SqliteIntake) -> None:
    intake.accept([tip("a"), tip("b", county="raoyang"), tip("a"), tip("c")])
    assert intake.append("anping", "c1", closure("c1")) == 4
    assert intake.append("anping", "c1", closure("c1")) is None
    assert [row.position for row in intake.read("anping", 0, 10)] == [1, 3, 4]
    assert [row.position for row in intake.read("anping", 1, 1)] == [3]
    assert [row.position for row in intake.read("raoyang", 0, 10)] == [2]
    assert (intake.end("anping"), intake.end("raoyang"), intake.end("nowhere")) == (4, 2, 0)
    assert intake.counties() == ["anping", "raoyang"]


def test_look_ups(intake: SqliteIntake) -> None:
    intake.accept([tip("a")])
    value = intake.lookup("tip-a")
    assert value is not None and decode_input(value) == tip("a").tip
    intake.append("anping", "c1", closure("c1"))
    assert intake.lookup("c1") is None
    assert (intake.by_receipt("R-a"), intake.by_receipt("R-x")) == ("tip-a", None)
    with pytest.raises(BadRecord):
        intake.append("anping", "c2", b"{}")


def test_group_commit_from_16_threads(path: Path) -> None:
    """Every caller gets the answers to its own records; redeliveries race as well; commits are fewer than callers."""
    intake = SqliteIntake(path)
    commits: list[str] = []
    intake._write.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    start = threading.Barrier(16)

    def caller(number: int) -> list[str]:
        start.wait()
        found = []
        for step in range(60):
            own, shared = tip(f"{number}-{step}"), tip(f"shared-{step}")
            answers = intake.accept([own, shared])
            assert [one.tip_id for one in answers] == [own.tip.tip_id, shared.tip.tip_id]
            assert answers[0].outcome == "accepted"
            found.append(answers[1].outcome)
        return found

    with ThreadPoolExecutor(16) as pool:
        shared = Counter(outcome for found in pool.map(caller, range(16)) for outcome in found)
    assert shared == {"accepted": 60, "redelivered": 15 * 60}
    assert [row.position for row in intake.read("anping", 0, 5000)] == list(range(1, 17 * 60 + 1))
    assert len(commits) < 16 * 60
    intake.close()


def test_durable_settings(intake: SqliteIntake, path: Path) -> None:
    assert intake._write.execute("PRAGMA synchronous").fetchone() == (2,)
    assert intake._write.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    intake.accept([fresh()])
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_full_disk_and_recovery(path: Path) -> None:
    intake = SqliteIntake(path, max_bytes=200_000)
    stored = []
    with pytest.raises(Unavailable) as caught:
        while True:
            one = fresh("x" * 2000)
            intake.accept([one])
            stored.append(one.tip.tip_id)
    assert caught.value.retry_after > 0
    assert "FULL" in str(caught.value)
    assert 20 < len(stored) < 100
    with pytest.raises(Unavailable):  # a batch leaves nothing half written
        intake.accept([fresh("y" * 2000) for _ in range(10)])
    assert [row.key for row in intake.read("anping", 0, 1000)] == stored
    intake.limit_bytes(None)
    again = fresh("x" * 2000)
    assert outcomes(intake, again) == ["accepted"]
    assert [row.key for row in intake.read("anping", 0, 1000)] == [*stored, again.tip.tip_id]
    assert intake._write.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    intake.close()


def test_full_disk_under_many_callers(path: Path) -> None:
    """Each caller is told the truth: what was answered `accepted` is there, what was refused is not."""
    intake = SqliteIntake(path, max_bytes=150_000)

    def caller(number: int) -> list[str]:
        kept = []
        for step in range(20):
            one = tip(f"{number}-{step}", "x" * 1500)
            try:
                intake.accept([one])
            except Unavailable:
                continue
            kept.append(one.tip.tip_id)
        return kept

    with ThreadPoolExecutor(8) as pool:
        kept = [key for found in pool.map(caller, range(8)) for key in found]
    assert 0 < len(kept) < 160
    assert sorted(row.key for row in intake.read("anping", 0, 1000)) == sorted(kept)
    intake.close()


def test_a_locked_file_is_unavailable_and_comes_back(path: Path) -> None:
    intake = SqliteIntake(path, busy_ms=1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        intake.accept([tip("a")])
    other.execute("ROLLBACK")
    other.close()
    assert outcomes(intake, tip("a")) == ["accepted"]
    intake.close()


def test_a_record_that_cannot_be_stored_takes_no_other_with_it(intake: SqliteIntake) -> None:
    bad = msgspec.structs.replace(fresh(), digest=object())  # type: ignore[arg-type]
    good = fresh()
    intake._lock.acquire()  # both wait, so that they come into one group
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(intake.accept, [bad])
        while intake._waiting < 1:
            pass
        second = pool.submit(intake.accept, [good])
        while intake._waiting < 2:
            pass
        intake._lock.release()
        with pytest.raises(sqlite3.Error):
            first.result()
        assert second.result()[0].outcome == "accepted"
    assert [row.key for row in intake.read("anping", 0, 10)] == [good.tip.tip_id]


def test_the_queue_is_bounded(path: Path) -> None:
    intake = SqliteIntake(path, max_pending=3)
    with pytest.raises(Unavailable):
        intake.accept([fresh() for _ in range(4)])
    assert outcomes(intake, *[fresh() for _ in range(3)]) == ["accepted"] * 3
    intake.close()
    with pytest.raises(Unavailable):
        intake.accept([fresh()])
    with pytest.raises(Unavailable):
        intake.end("anping")


def test_two_open_one_file(intake: SqliteIntake, path: Path) -> None:
    other = SqliteIntake(path)
    assert outcomes(other, tip("a")) == ["accepted"]
    assert outcomes(intake, tip("a"), tip("b")) == ["redelivered", "accepted"]
    assert other.append("anping", "c", closure("c")) == 3
    assert [row.position for row in intake.read("anping", 0, 9)] == [1, 2, 3]
    other.close()


def test_waiting_for_records(intake: SqliteIntake) -> None:
    assert intake.wait(0, timeout=0) == 0
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(intake.wait, 0, 60)
        intake.accept([fresh()])
        assert waiter.result() == 1
        assert intake.wait(0) == 1
        waiter = pool.submit(intake.wait, 1, 60)
        intake.append("anping", "c", closure("c"))
        assert waiter.result() == 2
        waiter = pool.submit(intake.wait, 2, 60)
        while not intake._grown._waiters:  # type: ignore[attr-defined]
            pass
        intake.wake()
        assert waiter.result() == 2


def test_erasing(intake: SqliteIntake, path: Path) -> None:
    secret = Sealed("[phone:1]", "phone", "k-1", b"wrapped-canary", b"nonce-canary", b"cipher-canary")
    intake.accept([msgspec.structs.replace(tip("a"), identities=(secret,)), tip("b", seals=1)])
    assert intake.tips_with("[phone:1]") == ["tip-a"]
    assert intake.sealed_otherwise("k-2", 9) == ["tip-a", "tip-b"]
    assert any(b"cipher-canary" in file.read_bytes() for file in path.parent.iterdir())
    assert intake.erase("tip-a") == 1
    assert intake.identities("tip-a") == []
    assert not any(b"canary" in file.read_bytes() for file in path.parent.iterdir())
    assert intake.lookup("tip-a") is not None
    intake.reseal("tip-b", [msgspec.structs.replace(one, key_id="k-2") for one in intake.identities("tip-b")])
    assert intake.sealed_otherwise("k-2", 9) == []
    assert intake.erase("tip-a") == 0


def test_a_later_version_is_refused(path: Path) -> None:
    SqliteIntake(path).close()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(BadStore, match="later version"):
        SqliteIntake(path)


def test_no_file_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing/intake\.db"):
        SqliteIntake(tmp_path / "missing" / "intake.db")


_CHILD = textwrap.dedent(
    """
    import sys, threading
    from pathlib import Path
    from schemas.records import Tip
    from sinks import failpoints
    from streams.embedded.intake import SqliteIntake
    from streams.ports import Admitted

    def tip(name):
        record = Tip(county="anping", tip_id=name, source="bot:a", channel="bot", text="x",
                     received_at="2026-01-31T00:00:00Z", message_id=name)
        return Admitted(record, b"d", name)

    def caller(intake, number):
        for step in range(1_000_000):
            name = f"{number}-{step}"
            intake.accept([tip(name)])
            sys.stdout.write(name + "\\n")
            sys.stdout.flush()

    intake = SqliteIntake(Path(sys.argv[1]))
    if sys.argv[2]:
        failpoints.arm(sys.argv[2])
    for number in range(4):
        threading.Thread(target=caller, args=(intake, number)).start()
    """
)


def start_child(path: Path, failpoint: str = "") -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path), failpoint],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def check_after_death(path: Path, told: list[str]) -> None:
    intake = SqliteIntake(path)
    rows = intake.read("anping", 0, 10**6)
    keys = [row.key for row in rows]
    assert set(told) <= set(keys), "what was answered is there"
    assert len(set(keys)) == len(keys)
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    assert outcomes(intake, fresh()) == ["accepted"]
    assert intake._write.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    intake.close()


@pytest.mark.parametrize("name", ["accept.before_begin", "accept.before_commit", "accept.after_commit"])
@pytest.mark.parametrize("turn", [1, 7])
def test_death_at_every_step(path: Path, name: str, turn: int) -> None:
    child = start_child(path, f"{name}:{turn}")
    told, _ = child.communicate()
    assert child.returncode == failpoints.EXIT_STATUS
    check_after_death(path, told.split("\n")[:-1])


def test_kill_under_load(path: Path) -> None:
    child = start_child(path)
    assert child.stdout is not None
    told = [child.stdout.readline().strip() for _ in range(200)]
    child.kill()
    rest, _ = child.communicate()
    check_after_death(path, told + rest.split("\n")[:-1])


def test_every_accept_reaches_the_disk(path: Path, tmp_path: Path) -> None:
    """kill -9 does not show it: the page cache survives. So count the syncs of a child that accepts 50 tips one by
    one."""
    if shutil.which("strace") is None:
        missing("strace")
    trace = tmp_path / "trace"
    code = _CHILD.partition("def caller")[0] + (
        "intake = SqliteIntake(Path(sys.argv[1]))\nfor n in range(50):\n    intake.accept([tip(str(n))])\n"
    )
    command = ["strace", "-f", "-e", "trace=fdatasync,fsync", "-o", str(trace), sys.executable, "-c", code, str(path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, check=False
    )
    if done.returncode and not path.exists():
        missing("the right to trace with strace")
    assert trace.read_text().count("sync(") >= 50


def test_failpoints_are_named() -> None:
    for where in ("nowhere", "accept.before_begin:x", ""):
        with pytest.raises(ValueError, match="failpoint"):
            failpoints.arm(where)
    failpoints.arm("accept.before_begin:5")
    failpoints.reach("accept.before_commit")
    failpoints.disarm()
    failpoints.reach("accept.before_begin")
