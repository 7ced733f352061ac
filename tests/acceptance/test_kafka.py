"""The distributed installation on the real parts: the very commands as processes, a real broker, a real PostgreSQL."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.records import Change, Decision, Tip, public
from schemas.times import format_time, parse_offset
from schemas.validation import mistakes
from sinks.database import migrate, open_database
from sinks.dead_letters import DeadLetter, dead_letter_id, keep
from streams.distributed import topics as kafka_topics
from streams.distributed.envelope import of_input
from streams.embedded.offline import Offline
from streams.embedded.runtime import BadInput, Runtime
from streams.pipeline import Fold
from tests.acceptance.lab import Child, KafkaLog, Lab, wipe
from tests.contracts.test_distributed import POISON
from tests.kafka_fixtures import Broker
from tests.tips_made import tips
from tipline.county import county_digest, load_county
from tipline.metrics import PrometheusMetrics
from tipline.model import load_model
from tipline.verify import Replay, first_changes, verify

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("database_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True),
]

ROOT = Path(__file__).parents[2]
BUNDLE = load_county(ROOT / "examples" / "anping")


@pytest.fixture
def lab(kafka_broker: Broker, database_url: str, tmp_path: Path) -> Iterator[Lab]:
    if kafka_broker.pid is None:
        kafka_broker.start()
    wipe(kafka_broker)
    made = Lab(kafka_broker, database_url, tmp_path)
    try:
        made.topics()
        yield made
    finally:
        made.end()


def checked(lab: Lab, county: str = "anping") -> None:
    """Everything that `tipline verify` checks, over Kafka's `tips` and PostgreSQL's tables."""
    engine, log = open_database(lab.database), KafkaLog(lab.servers)
    try:

        def make(name: str, recall: Callable[[str], Decision | None]) -> Fold:
            bundle = first_changes(log, name)["county"].bundle  # type: ignore[arg-type]
            assert bundle is not None
            return Fold(bundle, load_model(), recall)

        report = verify(engine, log, offsets={county: parse_offset(BUNDLE["county"]["utc_offset"])}, replay=Replay(make), allow_lag=True)
        assert report.ok, report.findings
    finally:
        engine.dispose()


# --- the same everywhere ---------------------------------------------------------------------------------------------------

#: What the tables must agree in. Times at which a sink wrote, and what follows from them, are its own.
TABLES = {
    "incidents": "*",
    "incident_tips": "*",
    "assignments": "*",
    "assignment_cc": "*",
    "statistics": "*",
    "decisions": "county, seq, tip_id, revision, position, kind, incident_id, change_key, value",
    "station_events": "*",
    "assignment_events": "assignment_id, number, incident_id, county, at, kind, actor, station, from_station, reason, data, state",
}


def _tables(lab: Lab) -> dict[str, set[tuple[Any, ...]]]:
    return {name: {_plain(row) for row in lab.rows(f"SELECT {columns} FROM {name}")} for name, columns in TABLES.items()}


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(bytes(v) if isinstance(v, memoryview) else int(v) if isinstance(v, bool) else v for v in row)


def _embedded(lab: Lab, folder: Path) -> dict[str, set[tuple[Any, ...]]]:
    """The same log of tips through the embedded runtime."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'work.db'}"
    engine = open_database(url)
    migrate(engine)
    log = KafkaLog(lab.servers)
    model = load_model()
    runtime = Runtime("anping", log, engine, lambda recall: Fold(BUNDLE, model, recall), _dead_letter, lambda: 0, PrometheusMetrics())  # type: ignore[arg-type]
    while runtime.run_once():
        pass
    engine.dispose()
    return _tables(Lab(lab.broker, url, folder))


def _dead_letter(connection: Any, county: str, bad: BadInput, now: int) -> None:
    at = bad.row.position
    letter = DeadLetter(
        id=dead_letter_id("tips", county, at), county=county, reason=bad.reason, detail=bad.detail, topic="tips", part=county, position=at, record_id=None, sealed=b"", at=now
    )
    keep(connection, [letter])


def _poisoned(good: int, poison: int) -> list[Tip | bytes]:
    draw = random.Random(9)
    records: list[Tip | bytes] = list(tips(good))
    for number, place in enumerate(sorted(draw.sample(range(good), poison), reverse=True)):
        records.insert(place, POISON[number % len(POISON)])
    return records


def _same_everywhere(lab: Lab, tmp_path: Path, good: int, poison: int) -> None:
    records = _poisoned(good, poison)
    lab.produce(records)
    lab.sink()
    lab.worker()
    lab.wait_for_tips(good, timeout=60 + good / 50)
    lab.wait_for("SELECT count(*) FROM dead_letters", poison)
    first = 3  # the county and the model stand at 1 and 2
    places = {row[0] for row in lab.rows("SELECT position FROM dead_letters WHERE status = 'kept'")}
    assert places == {first + i for i, record in enumerate(records) if isinstance(record, bytes)}
    offline = Offline(BUNDLE, load_model())
    offline.decide(record for record in records if isinstance(record, Tip))
    latest = lab.decided()
    assert {t: public(d) for t, d in latest.items()} == {t: public(d) for t, d in offline.latest.items()}
    here, there = _tables(lab), _embedded(lab, tmp_path / "embedded")
    for name in TABLES:
        assert here[name] == there[name], name
    checked(lab)


def test_the_same_log_gives_the_same_decisions_and_tables_everywhere(lab: Lab, tmp_path: Path) -> None:
    _same_everywhere(lab, tmp_path, 300, 36)
    # Stations that ask for it have their queue on Kafka.
    documents = [json.loads(line) for line in lab.run("consume", "--station", "police-anping", "--wait", "2").splitlines()]
    assert documents
    assert all(mistakes("assignment", document) == [] for document in documents)
    assert len(documents) == lab.rows("SELECT count(*) FROM station_events WHERE station = 'police-anping'")[0][0]
    events, relayed = lab.rows("SELECT count(*), count(relayed_at) FROM assignment_events")[0]
    assert events == relayed > 0
    # Dead letters are opened with the keys of the installation.
    lab.token()  # makes the gateway's directory
    letter = json.loads(lab.run("dead-letters", "list", "--json", name="gateway"))[0]
    assert letter["reason"] in lab.run("dead-letters", "show", letter["id"], name="gateway")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_thousand_tips_give_the_same_everywhere(lab: Lab, tmp_path: Path) -> None:
    _same_everywhere(lab, tmp_path, 5000, 60)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_thousand_poison_messages_among_a_hundred_thousand(lab: Lab, tmp_path: Path) -> None:
    _same_everywhere(lab, tmp_path, 100_000, 1000)


# --- kills -------------------------------------------------------------------------------------------------------------------


class Clients:
    """Post tips until told to stop. What was accepted, they keep; what they do not know, they send again."""

    def __init__(self, lab: Lab, url: Callable[[], str], threads: int = 2) -> None:
        self._lab = lab
        self._url = url
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._told = list(tips(4000, salt="posted"))
        self.accepted: dict[str, str] = {}
        self.refused: list[Any] = []
        self.slowest = 0.0
        self._threads = [threading.Thread(target=self._post, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _post(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            tip = self._told[number % len(self._told)]
            submission = {"text": tip.text, "source": "hotline:made", "message_id": str(number), "reported_at": tip.reported_at}
            # The outcome of a post that was cut off is not known: the same is sent until it is.
            while True:
                began = time.monotonic()
                try:
                    status, body = self._lab.post(self._url(), submission)
                except OSError:
                    time.sleep(0.05)
                    continue
                if status == 202:
                    self.accepted[str(number)] = body["tip_id"]
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    break
                self.refused.append((status, body))
                time.sleep(0.1)
            time.sleep(0.01)

    def end(self) -> dict[str, str]:
        """Stops them -> message id -> tip id of what was accepted."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        return self.accepted


class Running:
    """All commands of an installation, each killed and started again at will."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.token()
        self.gateway, self.url = lab.gateway()
        self.parts: dict[str, Child] = {"worker-1": lab.worker("worker-1"), "sink": lab.sink()}

    def kill(self, victim: str, away_s: float = 0.0) -> None:
        """SIGKILL, and up again after `away_s`."""
        lab = self.lab
        if victim == "broker":
            lab.broker.kill()
            time.sleep(away_s)
            lab.broker.start()
            self.revive()
        elif victim == "gateway":
            self.gateway.kill()
            port = self.url.rsplit(":", 1)[1]
            self.gateway = lab.start("gateway", "--port", port, name="gateway")
            self.gateway.wait_for("ready at")
        else:
            self.parts[victim].kill()
            self.parts[victim] = self._start(victim)

    def revive(self) -> None:
        """What ended by itself is started again, as its supervisor would."""
        for name, child in self.parts.items():
            if child.process.poll() is not None:
                self.parts[name] = self._start(name)

    def _start(self, name: str) -> Child:
        return self.lab.sink() if name == "sink" else self.lab.worker(name)


def _kill_and_count(lab: Lab, victims: list[tuple[str, float]]) -> None:
    running = Running(lab)
    clients = Clients(lab, lambda: running.url)
    draw = random.Random(11)
    for victim, away_s in victims:
        before = len(clients.accepted)
        while len(clients.accepted) < before + 10:  # a kill counts only amid traffic
            running.revive()
            time.sleep(0.05)
        time.sleep(draw.random() * 0.3)
        before = len(clients.accepted)
        running.kill(victim, away_s)
        assert len(clients.accepted) >= before + 5 * away_s  # a broker that is away refuses no tip
    accepted = clients.end()
    assert clients.refused == []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and lab.rows("SELECT count(*) FROM incident_tips")[0][0] < len(accepted):
        running.revive()
        time.sleep(0.3)
    lab.wait_for_tips(len(accepted), timeout=5)
    known = {row[0] for row in lab.rows("SELECT tip_id FROM incident_tips")}
    assert known == set(accepted.values())  # none lost, none made up
    doubled = lab.rows("SELECT incident_id FROM assignments GROUP BY incident_id HAVING count(*) > 1")
    assert doubled == []
    assert {row[0] for row in lab.rows("SELECT tip_id FROM accepted")} == known
    checked(lab)


def test_killing_any_part_under_load_loses_nothing_and_doubles_nothing(lab: Lab) -> None:
    _kill_and_count(lab, [("worker-1", 0), ("sink", 0), ("gateway", 0), ("broker", 10), ("worker-1", 0), ("sink", 0)])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killing_any_part_thirty_times_with_a_broker_away_for_a_minute(lab: Lab) -> None:
    victims = ["worker-1", "sink", "gateway", "broker", "worker-1"] * 6
    _kill_and_count(lab, [(victim, 60 if turn == 8 else 0) for turn, victim in enumerate(victims)])


# --- faults of ours, and of others --------------------------------------------------------------------------------------

#: A worker whose fold raises after it has touched its state: at these positions, so many times each.
FAILING = """
import json, os
from tipline import cli, distributed
made = distributed.fold_maker
left = {int(k): v for k, v in json.loads(os.environ["FAILING"]).items()}
def fold_maker(store, bundle):
    make = made(store, bundle)
    def failing(recall):
        fold = make(recall)
        one = fold._one
        def wrapped(position, record):
            outputs = one(position, record)
            if left.get(position, 0) > 0:
                left[position] -= 1
                raise RuntimeError("made to fail")
            return outputs
        fold._one = wrapped
        return fold
    return failing
distributed.fold_maker = fold_maker
cli.COMMANDS["worker"] = ("tipline.commands.worker", "worker", "")
cli.main()
"""


def _failing_worker(lab: Lab, failing: dict[int, int]) -> Child:
    lab.environ["FAILING"] = json.dumps(failing)
    return lab.worker("worker-1", code=FAILING)


def test_a_fold_that_raises_in_the_middle_of_a_batch_loses_nothing(lab: Lab) -> None:
    lab.produce(tips(200))
    lab.sink()
    worker = _failing_worker(lab, {60: 1, **dict.fromkeys(range(150, 160), 1)})
    lab.wait_for_tips(200)
    assert lab.rows("SELECT count(*) FROM dead_letters") == [(0,)]
    assert worker.stop() == 0
    assert lab.repeats() == 0
    # For ever: the worker ends loudly, and nothing of it is lost either.
    lab.produce(tips(200, salt="second"))
    worker = lab.start("worker", "--name", "worker-1", name="worker-1", code=FAILING.replace("left.get(position, 0) > 0", "position > 210"))
    assert worker.process.wait(60) == 70
    assert "fault of the program" in worker.tail()
    lab.worker("worker-1")
    lab.wait_for_tips(400)
    offline = Offline(BUNDLE, load_model())
    offline.decide([*tips(200), *tips(200, salt="second")])
    assert {t: public(d) for t, d in lab.decided().items()} == {t: public(d) for t, d in offline.latest.items()}


# --- coming and going ------------------------------------------------------------------------------------------------------


def _counties(lab: Lab, names: list[str]) -> None:
    """Further counties, like Anping but for their id."""
    first = {}
    for name in names:
        bundle = {**BUNDLE, "county": {**BUNDLE["county"], "id": name}}
        change = Change(county=name, change_id="first", what="county", digest=county_digest(bundle), at=format_time(0), bundle=bundle)
        first[name] = [of_input(change)]
    kafka_topics.create(lab.servers, first, [])


def test_workers_come_and_go_under_load_and_sigterm_repeats_nothing(lab: Lab) -> None:
    names = ["anping", "north", "south"]
    _counties(lab, names[1:])
    lab.sink()
    workers = [lab.worker("worker-1")]
    told: list[str] = []

    def load() -> None:
        told.append(f"turn-{len(told)}-")
        for name in names:
            lab.produce(tips(80, name, salt=told[-1]), name)

    load()
    workers += [lab.start("worker", "--name", name, name=name) for name in ("worker-2", "worker-3")]
    for worker in workers[1:]:
        worker.wait_for("is ready")
    load()
    time.sleep(0.5)
    for worker in (workers.pop(), workers.pop()):
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 10
        load()
    lab.wait_for_tips(len(told) * 80 * len(names))
    for name in names:
        offline = Offline({**BUNDLE, "county": {**BUNDLE["county"], "id": name}}, load_model())
        offline.decide([tip for salt in told for tip in tips(80, name, salt=salt)])
        assert {t: public(d) for t, d in lab.decided(name).items()} == {t: public(d) for t, d in offline.latest.items()}
        assert lab.repeats(name) == 0
    sink = next(child for child in lab.children if child.name == "sink")
    assert (workers[0].stop(), sink.stop()) == (0, 0)


def test_a_gateway_ends_in_good_order_and_its_spool_goes_on(lab: Lab) -> None:
    lab.token()
    gateway, url = lab.gateway()
    lab.broker.kill()
    answers = [lab.post(url, {"text": f"西两洼村口第{n}根电线杆歪了", "source": "wechat:a", "message_id": str(n)}) for n in range(5)]
    assert [status for status, _ in answers] == [202] * 5
    assert gateway.stop() == 0
    lab.broker.start()
    gateway, url = lab.gateway()
    lab.sink()
    lab.worker()
    lab.wait_for_tips(5)
    other, there = lab.gateway("gateway-2")
    again = [lab.post(there, {"text": f"西两洼村口第{n}根电线杆歪了", "source": "wechat:a", "message_id": str(n)}) for n in range(5)]
    assert again == answers  # the same ids and receipts, whichever gateway is asked
    time.sleep(1)
    assert len(lab.decided()) == 5
    assert (gateway.stop(), other.stop()) == (0, 0)


# --- refusals ----------------------------------------------------------------------------------------------------------------

NOWHERE = "127.0.0.1:1"
REFUSED: list[tuple[list[str], dict[str, str], str]] = [
    (["worker"], {"TIPLINE_LOG": f"kafka://{NOWHERE}"}, NOWHERE),
    (["topics", "create"], {"TIPLINE_LOG": f"kafka://{NOWHERE}"}, "check that it runs"),
    (["worker"], {"TIPLINE_LOG": ""}, "TIPLINE_LOG"),
    (["sink"], {"TIPLINE_LOG": "nonsense"}, "kafka://HOST:9092"),
    (["sink"], {"TIPLINE_DATABASE": f"postgresql+psycopg://tipline:geheim@{NOWHERE}/tipline"}, "TIPLINE_DATABASE"),
    (["gateway"], {"TIPLINE_DATABASE": f"postgresql+psycopg://tipline:geheim@{NOWHERE}/tipline"}, NOWHERE),
]


def test_what_is_missing_or_wrong_is_said_with_its_address(lab: Lab, tmp_path: Path) -> None:
    lab.sink()  # whose keys the database knows from then on
    given = dict(lab.environ)
    started = []
    for number, (arguments, environ, says) in enumerate(REFUSED):
        lab.environ = {**given, **environ}
        started.append((lab.start(*arguments, name=f"refused-{number}"), says))
    lab.environ = {**given, "TIPLINE_KEYS": str(tmp_path / "others.json")}
    started.append((lab.start("gateway", "--port", "0", name="other-keys"), "TIPLINE_KEYS"))
    lab.environ = given
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "examples" / "anping", elsewhere)
    for path in elsewhere.iterdir():
        path.write_text(re.sub(r"\banping\b", "elsewhere", path.read_text("utf-8")), "utf-8")
    started.append((lab.start("gateway", "--port", "0", "--county", str(elsewhere), name="no-partition"), "topics create"))
    for child, says in started:
        assert child.process.wait(40) in (65, 69), child.tail()
        said = child.tail()
        assert says in said
        assert "Traceback" not in said
        assert "geheim" not in said
