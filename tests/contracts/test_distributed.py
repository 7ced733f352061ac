"""The distributed room without Kafka: outputs put together again, deciding through failures, the spool, the descriptions."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from schemas.codec import encode
from schemas.errors import BadRecord, Unavailable
from schemas.records import Change, Closure, Correction, Decision, Output, Tip
from schemas.topics import TOPICS
from sinks.database import open_database, reading
from sinks.identities import DatabaseIdentities
from streams.breaker import Breaker, Broken
from streams.distributed.decider import Bad, Decided, Decider
from streams.distributed.envelope import Assembler, Group, Sendable, headers, is_ours, of_input
from streams.distributed.relay import LOG, Positions, Relay, RelayPlan, Spool
from streams.distributed.topics import BadAddress, BadTopics, Layout, servers_of
from streams.embedded.intake import SqliteIntake
from streams.embedded.offline import Offline
from streams.pipeline import Fold, analyse
from streams.ports import Admitted, Row, Sealed
from tests.tips_made import tips
from tipline.county import load_county
from tipline.metrics import PrometheusMetrics
from tipline.model import load_model

ROOT = Path(__file__).parents[2]
BUNDLE = load_county(ROOT / "examples" / "anping")


def _decider(make: Any = None) -> Decider:
    return Decider("anping", make or (lambda recall: Fold(BUNDLE, load_model(), recall)), Breaker())


def _rows(records: Sequence[Tip | Correction | Closure | Change | bytes]) -> list[Row]:
    return [Row(n, "anping", r if isinstance(r, bytes) else encode(r)) for n, r in enumerate(records, start=1)]


def _groups(sendables: Sequence[Sendable], assembler: Assembler | None = None) -> list[Group]:
    assembler = assembler or Assembler()
    found = (assembler.feed(n, value, head) for n, (_, value, head) in enumerate(sendables))
    return [group for group in found if group is not None]


def _drive(decider: Decider, rows: Sequence[Row], log: list[Sendable], batch: int = 50) -> list[Bad]:
    """As the worker does it: outputs into the log, a spoilt state rebuilt from it."""
    bad: list[Bad] = []
    for begin in range(0, len(rows), batch):
        left: Sequence[Row] = rows[begin : begin + batch]
        while left:
            decided = decider.decide(left)
            log += decided.sendables
            bad += decided.bad
            if decided.rebuild:
                decider.begin_anew(careful=True)
                decider.restore(_groups(log))
            left = decided.left
    return bad


def _latest(log: Sequence[Sendable]) -> dict[str, bytes]:
    return {
        output.tip_id: value
        for group in _groups(log)
        for output, value in zip(group.outputs, group.values, strict=True)
        if isinstance(output, Decision)
    }


# --- outputs put together again --------------------------------------------------------------------------------------------


def _told(count: int) -> list[list[Sendable]]:
    """The outputs of `count` records, a list each."""
    decider, made = _decider(), []
    for row in _rows(list(tips(count))):
        made.append(decider.decide([row]).sendables)
    return made


def test_outputs_of_a_record_are_taken_together_or_not_at_all() -> None:
    records = next(group for group in [_told(40)] if any(len(g) > 2 for g in group))
    index = next(i for i, group in enumerate(records) if len(group) > 2)
    whole = [s for group in records for s in group]
    assert [g.position for g in _groups(whole)] == list(range(1, 41))
    before = [s for group in records[:index] for s in group]
    cut = [*before, *records[index][:-1]]
    assembler = Assembler()
    assert [g.position for g in _groups(cut, assembler)] == list(range(1, index + 1))
    assert assembler.open_since() == len(before)
    # Written again as a whole by the next worker: taken once.
    again = _groups([*cut, *records[index], *records[index], *[s for g in records[index + 1 :] for s in g]])
    assert [g.position for g in again] == list(range(1, 41))
    assert [len(g.outputs) for g in again] == [len(g) for g in records]


def test_two_workers_that_write_at_once_give_each_record_once() -> None:
    records = _told(30)
    flat = [s for group in records for s in group]
    draw = random.Random(5)
    for _ in range(20):
        begin = draw.randrange(len(records))
        other = [s for group in records[begin:] for s in group]
        mixed, left, right = [s for group in records[:begin] for s in group], flat[sum(map(len, records[:begin])) :], other
        while left or right:
            side = left if left and (not right or draw.random() < 0.5) else right
            mixed.append(side.pop(0))
        groups = _groups(mixed)
        assert [g.position for g in groups] == list(range(1, 31))
        assert [v for g in groups for v in g.values] == [value for _, value, _ in flat]


def test_an_output_without_its_part_is_refused() -> None:
    key, value, _ = _told(1)[0][0]
    for wrong in ([], [("ce_part", b"0/1")], [("ce_part", b"2/1")], [("ce_part", b"x")]):
        with pytest.raises(BadRecord, match="ce_part"):
            Assembler().feed(0, value, wrong)
    with pytest.raises(BadRecord):
        Assembler().feed(0, b"\xff", [("ce_part", b"1/1")])
    assert key == b"anping"


def test_attributes_are_cloudevents() -> None:
    tip = next(iter(tips(1)))
    key, value, head = of_input(tip)
    found = dict(head)
    assert (key, json.loads(value)["tip_id"]) == (b"anping", tip.tip_id)
    assert found["ce_specversion"] == b"1.0"
    assert found["ce_type"] == b"tipline.tip.v1"
    assert found["ce_id"].decode() == tip.tip_id
    assert found["ce_source"] == b"/tipline/anping"
    assert found["ce_time"].decode() == tip.received_at
    assert is_ours(head) and not is_ours([("ce_type", b"other")])
    assert headers("x", "1", "c")[-1] == ("content-type", b"application/json")


# --- deciding --------------------------------------------------------------------------------------------------------------


def _offline(count: int) -> dict[str, bytes]:
    offline = Offline(BUNDLE, load_model())
    offline.decide(tips(count))
    return {tip_id: encode(decision) for tip_id, decision in offline.latest.items()}


@pytest.mark.parametrize("cuts", [1, 7])
def test_a_rebuilt_state_goes_on_alike(cuts: int) -> None:
    rows = _rows(list(tips(420)))
    draw = random.Random(cuts)
    log: list[Sendable] = []
    begin = 0
    for end in [*sorted(draw.sample(range(1, 420), cuts)), 420]:
        decider = _decider()
        decider.restore(_groups(log))
        _drive(decider, rows[begin:end], log)
        # What was written last may be cut off, and the input is read again from further back.
        log = log[: len(log) - draw.randrange(3)] if end < 420 else log
        begin = max(0, end - draw.randrange(1, 60)) if end < 420 else end
    assert _latest(log) == _offline(420)


class _Failing:
    """Folds that raise at some positions, as often as told."""

    def __init__(self, positions: dict[int, int]) -> None:
        self.left = positions

    def __call__(self, recall: Any) -> Fold:
        fold, outer = Fold(BUNDLE, load_model(), recall), self
        one = fold._one

        def failing(position: int, record: Any) -> list[Output]:
            if outer.left.get(position, 0) > 0:
                outer.left[position] -= 1
                one(position, record)  # the state is touched, and then
                raise RuntimeError("made to fail")
            return one(position, record)

        fold._one = failing  # type: ignore[method-assign]
        return fold


@pytest.mark.parametrize("times", [{77: 1}, {n: 1 for n in range(30, 40)}, {5: 1, 6: 1, 300: 1}])
def test_a_fold_that_raises_now_and_then_loses_nothing(times: dict[int, int]) -> None:
    log: list[Sendable] = []
    assert _drive(_decider(_Failing(dict(times))), _rows(list(tips(320))), log) == []
    assert _latest(log) == _offline(320)


def test_a_failure_before_the_state_is_reached_rebuilds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list(tips(120))
    cursed = told[60].tip_id

    def failing(county: Any, model: Any, tip: Tip) -> Any:
        if tip.tip_id == cursed:
            raise RuntimeError("made to fail")
        return analyse(county, model, tip)

    monkeypatch.setattr("streams.pipeline.analyse", failing)
    monkeypatch.setattr("streams.distributed.decider.analyse", failing)
    decided = _decider().decide(_rows(told))
    assert (decided.rebuild, list(decided.left)) == (False, [])
    assert [one.row.position for one in decided.bad] == [61]
    assert len({d.tip_id for d in decided.decisions}) == 119


def test_code_that_fails_on_every_record_ends_the_worker() -> None:
    log: list[Sendable] = []
    with pytest.raises(Broken):
        _drive(_decider(_Failing({n: 10**6 for n in range(20, 400)})), _rows(list(tips(320))), log)
    assert len(_latest(log)) == 19


POISON = [
    b"",
    b"\xff\xfe\x00",
    b"not json",
    b"null",
    b"[]",
    b"{}",
    b'{"type":"tip"}',
    b'{"type":"later","county":"anping"}',
    b'{"type":"tip","county":1}',
    encode(msgspec.structs.replace(next(iter(tips(1))), county="elsewhere")),
    b'{"type":"tip","county":"anping","tip_id":"x","source":"s","channel":"carrier-pigeon","text":"t","received_at":"2026-01-01T00:00:00Z"}',
    b"[" * 5000,
]


def test_memory_is_bounded_by_what_the_fold_remembers() -> None:
    decider = _decider()
    _drive(decider, _rows(list(tips(100))), [])
    kept = set(list(decider.fold.groups.tips)[:10])
    decider.memory.forget_all_but(kept)
    assert len(decider.memory) == 10
    assert all(decider.memory.recall(tip_id) for tip_id in kept)


# --- partitions and addresses ----------------------------------------------------------------------------------------------


def test_addresses() -> None:
    assert servers_of("kafka://a:9092,b:9093") == ["a:9092", "b:9093"]
    for wrong in ("", "a:9092", "kafka://", "kafka://a", "http://a:1", "kafka://a:99999"):
        with pytest.raises(BadAddress, match="kafka://HOST:9092"):
            servers_of(wrong)


def test_a_county_without_a_partition_is_refused_with_the_way_out() -> None:
    layout = Layout({"anping": 0})
    assert layout.partition("anping") == 0
    with pytest.raises(BadTopics, match="tipline topics create"):
        layout.partition("elsewhere")


# --- the spool and its relay ---------------------------------------------------------------------------------------------


class _Broker:
    """Takes records, or is away."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.away = False

    def send(self, topic: str, partition: int, records: Sequence[Sendable]) -> list[int]:
        if self.away:
            raise Unavailable("away")
        self.taken += [value for _, value, _ in records]
        return list(range(len(records)))


@pytest.fixture
def spooling(tmp_path: Path, database_url: str) -> Iterator[tuple[SqliteIntake, Spool, Relay, _Broker, str]]:
    intake = SqliteIntake(tmp_path / "intake.db")
    engine, positions, broker = open_database(database_url), Positions(tmp_path / "relay.db"), _Broker()
    spool = Spool(intake, positions, engine, 10)
    plan = RelayPlan(
        log=intake, spool=spool, positions=positions, publisher=broker, partition_of=lambda _: 0, engine=engine, receipt_of=lambda t: f"R-{t}", metrics=PrometheusMetrics()
    )  # type: ignore[arg-type]
    yield intake, spool, Relay(plan), broker, database_url
    positions.close()
    intake.close()
    engine.dispose()


def _admitted(count: int, salt: str = "") -> list[Admitted]:
    return [Admitted(tip=tip, digest=b"d", receipt=f"R-{tip.tip_id}") for tip in tips(count, salt=salt)]


def test_a_broker_that_is_away_refuses_nothing_until_the_cap(spooling: Any) -> None:
    intake, spool, relay, broker, _ = spooling
    broker.away = True
    spool.accept(_admitted(8))
    with pytest.raises(Unavailable):
        relay.carry_to_log()
    assert spool.waiting == 8
    with pytest.raises(Unavailable, match="full") as refused:
        spool.accept(_admitted(5, "more"))
    assert refused.value.retry_after > 0
    assert [a.outcome for a in spool.accept(_admitted(8))] == ["redelivered"] * 8  # which takes no room
    assert spool.waiting == 8
    broker.away = False
    assert relay.carry_to_log() == 8
    assert (spool.waiting, len(broker.taken)) == (0, 8)
    spool.accept(_admitted(5, "more"))
    assert relay.carry_to_log() == 5
    assert relay.carry_to_log() == 0
    assert broker.taken == [row.value for row in intake.read("anping", 0, 100)]


def test_another_gateway_answers_from_the_database(spooling: Any, tmp_path: Path) -> None:
    _, spool, relay, _, url = spooling
    admitted = _admitted(3)
    spool.accept(admitted)
    assert relay.carry_to_store() == 3
    assert relay.carry_to_store() == 0
    engine = open_database(url)
    other = SqliteIntake(tmp_path / "other.db")
    there = Spool(other, Positions(tmp_path / "other-relay.db"), engine, 10)
    tip_id = admitted[1].tip.tip_id
    assert there.by_receipt(f"R-{tip_id}") == tip_id
    assert there.lookup(tip_id) == encode(admitted[1].tip)
    assert there.by_receipt("R-unknown") is None
    other.close()
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM accepted").scalar() == 3
    engine.dispose()


def test_identities_leave_the_spool_when_the_database_has_them(spooling: Any) -> None:
    intake, _, relay, _, url = spooling
    sealed = Sealed("v-7f3a9c21", "reporter", "k1", b"w", b"n", b"c")
    known, waiting = (msgspec.structs.replace(one, identities=(sealed,)) for one in _admitted(2))
    intake.accept([known])
    assert relay.carry_to_store() == 1
    intake.accept([waiting])
    assert relay.erase_carried() == 1
    assert relay.erase_carried() == 0
    assert [intake.identities(one.tip.tip_id) for one in (known, waiting)] == [[], [sealed]]
    engine = open_database(url)
    home = DatabaseIdentities(engine)
    assert home.identities(known.tip.tip_id) == [sealed]
    assert home.tips_with(sealed.token) == [known.tip.tip_id]
    assert (home.erase(known.tip.tip_id), home.erase(known.tip.tip_id)) == (1, 0)
    assert home.identities(known.tip.tip_id) == []
    engine.dispose()


def test_what_waited_before_a_restart_counts_towards_the_cap(spooling: Any, tmp_path: Path) -> None:
    intake, spool, relay, _, url = spooling
    spool.accept(_admitted(6))
    engine = open_database(url)
    positions = Positions(tmp_path / "relay.db")
    assert Spool(intake, positions, engine, 10).waiting == 6
    relay.carry_to_log()
    assert positions.get(LOG, "anping") == 6
    assert Spool(intake, positions, engine, 10).waiting == 0
    engine.dispose()


def test_the_relay_goes_on_by_itself(spooling: Any) -> None:
    _, spool, relay, broker, _ = spooling
    broker.away = True
    stop = threading.Event()
    thread = threading.Thread(target=relay.run_log, args=(stop,))
    thread.start()
    spool.accept(_admitted(4))
    stop.wait(0.3)
    broker.away = False
    for _ in range(50):
        if len(broker.taken) == 4:
            break
        stop.wait(0.1)
    stop.set()
    thread.join(5)
    assert len(broker.taken) == 4


# --- descriptions ------------------------------------------------------------------------------------------------------------


def test_the_topics_are_those_of_the_description() -> None:
    document = yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text("utf-8"))
    assert document["asyncapi"].startswith("3.")
    channels = {channel["address"]: channel for channel in document["channels"].values()}
    assert set(channels) == {topic.name for topic in TOPICS} | {"queue.{station}"}
    for topic in TOPICS:
        channel = channels[topic.name]
        messages = {ref["$ref"].rsplit("/", 1)[-1] for ref in channel["messages"].values()}
        assert messages == set(topic.carries), topic.name
        config = channel["bindings"]["kafka"]["topicConfiguration"]
        assert config["retention.ms"] == topic.retention_ms
    for name, message in document["components"]["messages"].items():
        assert message["headers"] == {"$ref": "#/components/schemas/cloudevents"}
        reference = message["payload"].get("$ref", "")
        if reference.startswith("json/"):
            assert (ROOT / "schemas" / reference).exists(), name


def test_decided_has_lists_of_its_own() -> None:
    assert Decided().bad is not Decided().bad
