"""The embedded runtime: the same decisions as the offline run, whatever the batches, crashes and poison between."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, select

from producers.admission import admit
from producers.keyring import Keyring
from schemas.codec import decode_input, decode_output, encode
from schemas.errors import Unavailable
from schemas.records import Closure, Correction, Decision, Tip, public
from sinks.database import migrate, open_database, reading
from sinks.dead_letters import DeadLetter, dead_letter_id, keep, listed
from sinks.tables import decisions
from streams.embedded.intake import SqliteIntake
from streams.embedded.offline import Offline
from streams.embedded.runtime import BadInput, Breaker, Broken, Runtime
from streams.pipeline import Fold
from streams.ports import MetricName, Principal, Row
from tipline.county import find_county, load_county
from tipline.model import load_model

NOW = 1_760_000_000_000
TEXTS = Path(__file__).parents[1] / "quality" / "group-a.jsonl"


class Silent:
    """Metrics that go nowhere."""

    def count(self, name: MetricName, amount: float = 1, **labels: str) -> None: ...
    def observe(self, name: MetricName, value: float, **labels: str) -> None: ...
    def gauge(self, name: MetricName, value: float, **labels: str) -> None: ...


def submissions() -> list[dict[str, Any]]:
    channels = {"wechat": "volunteer"}
    made = []
    for line in TEXTS.read_text("utf-8").splitlines():
        one = json.loads(line)
        place = {
            k: v for k, v in (("text", one["place_text"]), ("lat", one["lat"]), ("lon", one["lon"])) if v is not None
        }
        made.append(
            {
                "message_id": one["id"], "source": "wechat:test", "channel": channels.get(one["channel"], one["channel"]), "text": one["text"],
                "reported_at": one["ts"], "reporter": {"id": one["reporter_id"]}, **({"place": place} if place else {}),
            }
        )  # fmt: skip
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[SqliteIntake, Engine]]:
    intake = SqliteIntake(tmp_path / "intake.db")
    engine = open_database(f"sqlite:///{tmp_path / 'work.db'}")
    migrate(engine)
    yield intake, engine
    intake.close()
    engine.dispose()


@pytest.fixture(scope="module")
def bundle() -> dict[str, Any]:
    return load_county(find_county("anping"))


def made_runtime(
    store: tuple[SqliteIntake, Engine], bundle: dict[str, Any], fold: Callable[..., Fold] = Fold
) -> Runtime:
    intake, engine = store

    def dead_letter(connection: Any, county: str, bad: BadInput, now: int) -> None:
        identity = dead_letter_id("tips", county, bad.row.position)
        letter = DeadLetter(
            id=identity,
            county=county,
            reason=bad.reason,
            detail=bad.detail,
            topic="tips",
            part=county,
            position=bad.row.position,
            record_id=bad.row.key,
            sealed=b"sealed",
            at=now,
        )
        keep(connection, [letter])

    return Runtime(
        "anping", intake, engine, lambda recall: fold(bundle, load_model(), recall), dead_letter, lambda: NOW, Silent()
    )


def accept_all(intake: SqliteIntake, made: list[dict[str, Any]]) -> None:
    ring = Keyring.create(lambda n: b"k" * n)
    principal = Principal("t", "intake")
    intake.accept([admit(one, principal, "anping", NOW, ring, lambda n: b"r" * n) for one in made])


def stored(engine: Engine) -> dict[str, dict[str, Any]]:
    """The latest decision of each tip as consumers see it."""
    latest: dict[str, Decision] = {}
    with reading(engine) as connection:
        for value in connection.execute(
            select(decisions.c.value).order_by(decisions.c.county, decisions.c.seq)
        ).scalars():
            output = decode_output(value)
            if isinstance(output, Decision):
                latest[output.tip_id] = output
    return {tip_id: public(decision) for tip_id, decision in latest.items()}


def offline(intake: SqliteIntake, bundle: dict[str, Any]) -> dict[str, dict[str, Any]]:
    from schemas.codec import decode_input

    run = Offline(bundle, load_model())
    run.decide(record for row in intake.read("anping", 0, 10_000) if isinstance(record := decode_input(row.value), Tip))
    return {tip_id: public(decision) for tip_id, decision in run.latest.items()}


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_decisions_do_not_depend_on_batches(
    store: tuple[SqliteIntake, Engine], bundle: dict[str, Any], batch: int
) -> None:
    accept_all(store[0], submissions())
    runtime = made_runtime(store, bundle)
    while runtime.run_once(batch):
        pass
    assert stored(store[1]) == offline(store[0], bundle)


def test_a_restart_between_any_two_batches_changes_nothing(
    store: tuple[SqliteIntake, Engine], bundle: dict[str, Any]
) -> None:
    accept_all(store[0], submissions())
    while made_runtime(store, bundle).run_once(9):
        pass  # Every batch by a runtime that was just rebuilt from the decisions.
    assert stored(store[1]) == offline(store[0], bundle)


def test_a_batch_that_was_not_committed_is_decided_again_alike(
    store: tuple[SqliteIntake, Engine], bundle: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_all(store[0], submissions())
    runtime = made_runtime(store, bundle)
    runtime.run_once(40)

    def away(*_: object, **__: object) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("streams.embedded.runtime.apply_outputs", away)
        with pytest.raises(Unavailable):
            runtime.run_once(40)
    while runtime.run_once(40):
        pass
    assert stored(store[1]) == offline(store[0], bundle)


def test_poison_is_put_aside_with_reason_and_position_and_stops_nothing(
    store: tuple[SqliteIntake, Engine], bundle: dict[str, Any]
) -> None:
    intake, engine = store
    accept_all(intake, submissions()[:5])
    poison = [b"", b"\xff\xfe", b"[]", b'{"type":"tip"}', b'{"type":"rumour"}', b"null"]
    rows = intake.read("anping", 0, 10)
    stray = next(r for row in rows if isinstance(r := decode_input(row.value), Tip))
    poison.append(encode(msgspec.structs.replace(stray, tip_id=str(uuid.UUID(int=7)), county="elsewhere")))
    mixed = [*rows[:2], *(Row(100 + i, f"p{i}", value) for i, value in enumerate(poison))]

    class Log:
        def read(self, county: str, after: int, limit: int) -> list[Row]:
            return [row for row in mixed if row.position > after][:limit]

        def append(self, county: str, key: str, value: bytes) -> int | None:
            return None

        def end(self, county: str) -> int:
            return mixed[-1].position

    runtime = made_runtime((Log(), engine), bundle)  # type: ignore[arg-type]
    assert runtime.run_once() == len(mixed)
    assert runtime.run_once() == 0
    with reading(engine) as connection:
        letters = {letter.position: letter.reason for letter in listed(connection)}
    assert letters == {
        100: "undecodable",
        101: "undecodable",
        102: "invalid",
        103: "invalid",
        104: "unknown_type",
        105: "invalid",
        106: "invalid",  # a record of another county
    }
    assert len(stored(engine)) == 2


class Raising(Fold):
    """A fold with a bug: it raises on tips whose text says so."""

    def _tip(self, position: int, tip: Tip) -> Any:
        if "boom" in tip.text:
            raise ZeroDivisionError
        return super()._tip(position, tip)


def test_a_record_on_which_our_code_fails_is_put_aside_and_the_rest_is_decided(
    store: tuple[SqliteIntake, Engine], bundle: dict[str, Any]
) -> None:
    made = submissions()
    for i in (3, 50, 51, 90):
        made[i]["text"] = f"boom {i}"
    accept_all(store[0], made)
    runtime = made_runtime(store, bundle, Raising)
    while runtime.run_once(64):
        pass
    with reading(store[1]) as connection:
        letters = listed(connection)
    assert [letter.reason for letter in letters] == ["fold_failed"] * 4
    assert {letter.detail for letter in letters} == {"ZeroDivisionError"}
    good = Offline(bundle, load_model())
    from schemas.codec import decode_input

    good.decide(
        r
        for row in store[0].read("anping", 0, 10_000)
        if isinstance(r := decode_input(row.value), Tip) and "boom" not in r.text
    )
    assert {k: v["incident_id"] for k, v in stored(store[1]).items()} == {
        k: v.incident_id for k, v in good.latest.items()
    }


def test_a_broken_program_stops_instead_of_draining_the_log(
    store: tuple[SqliteIntake, Engine], bundle: dict[str, Any]
) -> None:
    made = submissions()
    for one in made[20:]:
        one["text"] = "boom " + one["text"]
    accept_all(store[0], made)
    runtime = made_runtime(store, bundle, Raising)
    with pytest.raises(Broken, match="fault of the program"):
        while runtime.run_once(500):
            pass
    with reading(store[1]) as connection:
        assert listed(connection) == []  # Nothing of the batch was committed.


def test_the_breaker_opens_at_a_hundred_in_a_row_or_over_five_percent() -> None:
    steady = Breaker()
    with pytest.raises(Broken):
        for i in range(3000):
            steady.record(i % 15 == 0)  # 6.7 %
    patient = Breaker()
    for i in range(3000):
        patient.record(i % 25 == 24)  # 4 %
    row = Breaker(share=1.1)
    with pytest.raises(Broken):
        for _ in range(100):
            row.record(True)


def test_corrections_closures_and_their_repeats(store: tuple[SqliteIntake, Engine], bundle: dict[str, Any]) -> None:
    intake, engine = store
    accept_all(intake, submissions()[:30])
    runtime = made_runtime(store, bundle)
    while runtime.run_once():
        pass
    first, second = list({d["incident_id"]: d for d in stored(engine).values()}.values())[:2]
    merge = Correction(
        county="anping",
        correction_id="c1",
        action="merge",
        incident_id=second["incident_id"],
        into=first["incident_id"],
        reason="same",
        by="station",
        at="2025-11-04T10:00:00+08:00",
    )
    closure = Closure(
        county="anping", closure_id="x1", incident_id=first["incident_id"], closed=True, at="2025-11-04T11:00:00+08:00"
    )
    for key, record in (("c1", merge), ("x1", closure)):
        assert intake.append("anping", key, encode(record)) is not None
        assert intake.append("anping", key, encode(record)) is None
    while runtime.run_once():
        pass
    after = stored(engine)
    assert after[second["tip_id"]]["incident_id"] == first["incident_id"]
    assert after[second["tip_id"]]["cause"] == "merge"
    rebuilt = made_runtime(store, bundle)
    assert rebuilt.run_once() == 0
    incident = rebuilt.fold.groups.resolve(second["incident_id"])
    assert incident is not None and incident.id == first["incident_id"] and incident.closed_at is not None
