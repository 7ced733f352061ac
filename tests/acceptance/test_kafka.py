"""The distributed installation on the real parts: the very commands as processes, a real broker, a real PostgreSQL."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from schemas.records import Change, Decision, Tip, public
from schemas.times import format_time, parse_offset
from schemas.validation import mistakes
from sinks.database import open_database
from streams.distributed import topics as kafka_topics
from streams.distributed.envelope import of_input
from streams.embedded.offline import Offline
from streams.pipeline import Fold
from tests.acceptance.lab import COMPOSE, Child, KafkaLog, Lab, wipe
from tests.contracts.homes import Embedded, Rows, rows_of
from tests.contracts.test_pipeline import POISON
from tests.kafka_fixtures import Broker
from tests.pages_made import Browser
from tests.tips_made import tips
from tests.waiting import until
from tipline.county import county_digest, load_county
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

def _tables(lab: Lab) -> Rows:
    engine = open_database(lab.database)
    try:
        return rows_of(engine, "anping")
    finally:
        engine.dispose()


def _poisoned(good: int, poison: int) -> list[Tip | bytes]:
    draw = random.Random(9)
    records: list[Tip | bytes] = list(tips(good))
    for number, place in enumerate(sorted(draw.sample(range(good), poison), reverse=True)):
        records.insert(place, POISON[number % len(POISON)][0])
    return records


def _same_everywhere(lab: Lab, tmp_path: Path, good: int, poison: int) -> None:
    records = _poisoned(good, poison)
    lab.produce(records)
    lab.wait_for_tips(good, timeout=60 + good / 50)
    lab.wait_for("SELECT count(*) FROM dead_letters", poison)
    first = 3  # the county and the model stand at 1 and 2
    letters = {position: (reason, detail, topic, bool(sealed)) for position, reason, detail, topic, sealed in lab.rows("SELECT position, reason, detail, topic, sealed FROM dead_letters")}
    assert set(letters) == {first + i for i, record in enumerate(records) if isinstance(record, bytes)}
    assert all(topic == "tips" and detail and sealed for _, detail, topic, sealed in letters.values())
    assert {reason for reason, *_ in letters.values()} == {"undecodable", "unknown_type", "invalid"}
    offline = Offline(BUNDLE, load_model())
    offline.decide(record for record in records if isinstance(record, Tip))
    latest = lab.decided()
    assert {t: public(d) for t, d in latest.items()} == {t: public(d) for t, d in offline.latest.items()}
    embedded = Embedded(tmp_path / "embedded", "anping", tmp_path / "flag", log=KafkaLog(lab.servers))
    embedded.settle()
    there = rows_of(embedded.store.engine, "anping")
    embedded.close()
    for name, rows in _tables(lab).items():
        assert rows == there[name], name
    checked(lab)


def test_the_services_of_the_compose_file_decide_what_every_other_home_decides(lab: Lab, tmp_path: Path) -> None:
    """The very commands of docker-compose.yml, with their health checks, natively."""
    services = [name for name, service in COMPOSE["services"].items() if "build" in service]
    assert services == ["topics", "gateway", "worker-1", "worker-2", "sink"]
    topics = lab.service("topics")
    assert topics.process.wait(40) == 0, topics.tail()
    rest = [lab.service(name) for name in ("worker-1", "worker-2", "sink")]
    for child in rest:
        lab.healthy(child)
    _same_everywhere(lab, tmp_path, 300, 36)
    # Stations that ask for it have their queue on Kafka: for `tipline consume`, and for a system of their own.
    streamed = lab.rows("SELECT count(*) FROM station_events WHERE station = 'police-anping'")[0][0]
    documents = [json.loads(line) for line in lab.run("consume", "--station", "police-anping", "--limit", str(streamed)).splitlines()]
    assert len(documents) == streamed > 0
    assert all(mistakes("assignment", document) == [] for document in documents)
    revisions = {document["id"]: document["revision"] for document in documents}
    own = subprocess.Popen([sys.executable, ROOT / "examples" / "station_consumer.py", lab.broker.address, "police-anping"], stdout=subprocess.PIPE, text=True)
    assert own.stdout is not None
    with own, own.stdout:
        told: dict[str, int] = {}
        while told != revisions:
            identity, revision, *_ = own.stdout.readline().split()
            told[identity] = int(revision)
        own.kill()
    events, relayed = lab.rows("SELECT count(*), count(relayed_at) FROM assignment_events")[0]
    assert events == relayed > 0
    # Dead letters are opened with the keys of the installation.
    letter, other, *_ = json.loads(lab.run("dead-letters", "list", "--json", name="sink"))
    assert letter["reason"] in lab.run("dead-letters", "show", letter["id"], name="sink")
    lab.run("dead-letters", "discard", letter["id"], name="sink")
    assert lab.rows(f"SELECT status FROM dead_letters WHERE id IN ('{letter['id']}', '{other['id']}') ORDER BY status") == [("discarded",), ("kept",)]
    # A directory that drops an area with open work is refused, by a gateway and by `county apply`.
    gone = _county_without(lab, tmp_path / "smaller")
    for name, arguments, code in (("gateway-2", ("gateway", "--port", "0", "--county", str(tmp_path / "smaller")), 65), ("apply", ("county", "apply", str(tmp_path / "smaller")), 1)):
        child = lab.start(*arguments, name=name)
        assert child.process.wait(40) == code, child.tail()
        assert f"areas.yaml: {gone} is gone, but " in child.tail()
    # The gateway last, for its clocks escalate these tips of long ago.
    rest.append(lab.service("gateway"))
    lab.healthy(rest[-1])
    assert [child.stop() for child in rest] == [0] * 4


def _county_without(lab: Lab, folder: Path) -> str:
    """Anping without a village in which open work lies -> its area."""
    shutil.copytree(ROOT / "examples" / "anping", folder)
    areas, stations = folder / "areas.yaml", folder / "stations.yaml"
    text = areas.read_text("utf-8")
    open_ = [row[0] for row in lab.rows("SELECT DISTINCT area FROM assignments WHERE status <> 'resolved' AND area LIKE '%/%/%' ORDER BY area")]
    gone: str = next(area for area in open_ if text.count(f"{{id: {area.rsplit('/', maxsplit=1)[-1]},") == 1)
    for path, mark in ((areas, f"{{id: {gone.rsplit('/', maxsplit=1)[-1]},"), (stations, gone)):
        path.write_text("".join(line for line in path.read_text("utf-8").splitlines(keepends=True) if mark not in line), "utf-8")
    return gone


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_thousand_tips_give_the_same_everywhere(lab: Lab, tmp_path: Path) -> None:
    lab.topics()
    lab.sink()
    lab.worker()
    _same_everywhere(lab, tmp_path, 5000, 60)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_thousand_poison_messages_among_a_hundred_thousand(lab: Lab, tmp_path: Path) -> None:
    lab.topics()
    lab.sink()
    lab.worker()
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
                except (OSError, HTTPException):  # the second: cut off in the midst of the answer
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
        lab.topics()
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
cli.main()
"""


def _failing_worker(lab: Lab, failing: dict[int, int]) -> Child:
    lab.environ["FAILING"] = json.dumps(failing)
    return lab.worker("worker-1", code=FAILING)


def test_a_fold_that_raises_and_a_send_that_fails_lose_nothing(lab: Lab) -> None:
    first, second = list(tips(200)), list(tips(200, salt="second"))
    lab.topics()
    lab.produce(first)
    lab.sink()
    # Once, ten times in a row, and for ever on one record: that one is put aside, and the rest is decided.
    worker = _failing_worker(lab, {60: 1, **dict.fromkeys(range(150, 160), 1), 120: 10**6})
    lab.wait_for_tips(199)
    lab.wait_for("SELECT count(*) FROM dead_letters", 1)
    assert lab.rows("SELECT position, reason, detail FROM dead_letters") == [(120, "fold_failed", "RuntimeError")]
    assert worker.stop() == 0
    assert lab.repeats() == 0
    # For ever, on every record: the worker ends loudly, before it drains the log into the dead letters.
    lab.produce(second)
    worker = lab.start("worker", "--name", "worker-1", name="worker-1", code=FAILING.replace("left.get(position, 0) > 0", "position > 210"))
    assert worker.process.wait(60) == 70
    assert "fault of the program" in worker.tail()
    # A broker that does not take what was decided: the worker ends, and nothing was acknowledged.
    lab.largest_message("decisions", 300)
    worker = lab.start("worker", "--name", "worker-1", name="worker-1")
    assert worker.process.wait(60) == 70
    assert "MessageSizeTooLarge" in worker.tail()
    lab.largest_message("decisions", 8 * 1024 * 1024)
    # Mended, all of it is decided; what was put aside is replayed, and comes last.
    lab.worker("worker-1")
    lab.wait_for_tips(399)
    assert "1 replayed" in lab.run("dead-letters", "replay", "--all", name="ops")
    lab.wait_for_tips(400)
    assert lab.rows("SELECT status, count(*) FROM dead_letters GROUP BY status") == [("replayed", 1)]
    late = first[120 - 3]  # the county and the model stand at 1 and 2
    offline = Offline(BUNDLE, load_model())
    offline.decide([tip for tip in (*first, *second) if tip is not late] + [late])
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
    lab.topics()
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
    lab.wait_for_tips(len(told) * 80)  # in the midst of it
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


@pytest.mark.parametrize("away", ["kill", "pause"])
def test_a_worker_that_is_stopped_while_the_broker_is_away_says_a_line_at_most(lab: Lab, away: str) -> None:
    lab.topics()
    worker = lab.worker()
    lab.produce(tips(20, "anping"), "anping")
    sink = lab.sink()
    lab.wait_for_tips(20)
    getattr(lab.broker, away)()
    try:
        began = time.monotonic()
        assert (worker.stop(), sink.stop()) == (0, 0)
        assert time.monotonic() - began < 20
    finally:
        if away == "pause":
            lab.broker.resume()
        else:
            lab.broker.start()
    for child in (worker, sink):
        said = child.log.read_text("utf-8")
        assert "Traceback" not in said, said
        assert not any(line.startswith((" ", "+-")) for line in said.splitlines()), said
    # None where the broker went at a moment when nothing was asked of it.
    assert len([line for line in worker.log.read_text("utf-8").splitlines() if "stopped while" in line]) <= 1, worker.tail()


def test_a_gateway_accepts_while_broker_and_database_are_away_and_its_spool_goes_on(lab: Lab) -> None:
    def posted(url: str, count: int, begin: int = 0) -> list[tuple[int, dict[str, Any]]]:
        return [lab.post(url, {"text": f"西两洼村口第{n}根电线杆歪了", "source": "wechat:a", "message_id": str(n)}) for n in range(begin, begin + count)]

    lab.topics()
    gateway, url = lab.gateway("gateway", "--spool-records", "8")
    others = [lab.sink(), lab.worker()]
    answers = posted(url, 2)
    lab.wait_for("SELECT count(*) FROM accepted", 2)
    lab.broker.kill()
    with lab.database_away():
        while (answer := posted(url, 1, len(answers))[0])[0] == 202:
            answers.append(answer)
        assert 8 <= len(answers) <= 10  # how many of the first two were relayed is not known
        assert (answer[0], answer[1]["retry-after"]) == (503, "10")
        assert posted(url, 1, len(answers) - 1) == answers[-1:]  # what it has, it still answers
        began = time.monotonic()
        for child in (gateway, *others):
            child.process.terminate()
        assert [child.stop() for child in (gateway, *others)] == [0, 0, 0]
        assert time.monotonic() - began < 10
    lab.broker.start()
    gateway, url = lab.gateway()
    other, there = lab.gateway("gateway-2")
    lab.sink()
    lab.worker()
    count = len(answers)
    lab.wait_for_tips(count)
    assert posted(there, count) == answers  # the same ids and receipts, whichever gateway is asked
    assert posted(there, 1, count)[0][0] == 202
    lab.wait_for_tips(count + 1)
    assert len(lab.decided()) == count + 1
    assert (gateway.stop(), other.stop()) == (0, 0)


def test_a_gateway_tells_what_the_workers_have_still_to_decide(lab: Lab) -> None:
    def waiting() -> str:
        row = re.search(r"判定 · 安平县</th>.*?<td class=\"num[^>]*>([^<]*)</td>", browser.get("/ops").text, re.DOTALL)
        return row.group(1) if row is not None else ""

    lab.topics()
    _, url = lab.gateway()
    browser = Browser(int(url.rpartition(":")[2]))
    browser.log_in(lab.token())
    for number in range(3):
        assert lab.post(url, {"text": f"第{number}处井盖没了", "source": "wechat:a", "message_id": str(number)})[0] == 202
    until(lambda: waiting() == "5", 90)  # the county and the model too
    lab.sink()
    lab.worker()
    until(lambda: waiting() == "0", 90)
    lab.broker.kill()
    until(lambda: waiting() == "–", 90)
    assert "Kafka 没有答复" in browser.get("/ops").text
    lab.broker.start()
    until(lambda: waiting() == "0", 90)


# --- refusals ----------------------------------------------------------------------------------------------------------------

NOWHERE = "127.0.0.1:1"
AWAY = f"postgresql+psycopg://tipline:geheim@{NOWHERE}/tipline"
NO_BROKER = f"no Kafka broker answers at {NOWHERE} (KafkaTimeoutError): check that it runs"
#: What is refused before anything is connected to.
REFUSED: list[tuple[list[str], dict[str, str], str]] = [
    (["worker"], {"TIPLINE_LOG": ""}, "TIPLINE_LOG is not set"),
    (["sink"], {"TIPLINE_LOG": "nonsense"}, "kafka://HOST:9092"),
    (["sink"], {"TIPLINE_DATABASE": ""}, "TIPLINE_DATABASE is not set"),
    (["worker"], {}, "run `tipline topics create` first"),
]


def _said(told: tuple[int, str], says: str, codes: tuple[int, ...] = (65, 69)) -> None:
    code, said = told
    assert code in codes, said
    assert says in said
    assert "Traceback" not in said
    assert "geheim" not in said


def test_what_is_missing_or_wrong_is_said_with_its_address(lab: Lab, tmp_path: Path) -> None:
    given = lab.environ
    for arguments, environ, says in REFUSED:
        _said(lab.here(*arguments, **environ), says)
    lab.topics()
    started: list[tuple[Child, str]] = []

    def start(says: str, *arguments: str, **environ: str) -> Child:
        lab.environ = {**given, **environ}
        child = lab.start(*arguments, name=f"refused-{len(started)}")
        lab.environ = given
        started.append((child, says))
        return child

    others = {"TIPLINE_KEYS": str(tmp_path / "others.json")}
    assert lab.here("keys", "init", **others)[0] == 0
    lab.sink().stop()  # whose keys the database knows from then on
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "examples" / "anping", elsewhere)
    for path in elsewhere.iterdir():
        path.write_text(re.sub(r"\banping\b", "elsewhere", path.read_text("utf-8")), "utf-8")
    shown = AWAY.replace("geheim", "***")
    start(NO_BROKER, "worker", TIPLINE_LOG=f"kafka://{NOWHERE}")
    start(f"no database answers at {shown} ", "sink", TIPLINE_DATABASE=AWAY)
    start(f"no database answers at {shown} ", "gateway", TIPLINE_DATABASE=AWAY)
    start(f"no database answers at {shown} ", "stats", TIPLINE_DATABASE=AWAY)
    start("these are not the keys of this database", "gateway", "--port", "0", **others)
    start("run `tipline topics create --county DIR`", "gateway", "--port", "0", "--county", str(elsewhere))
    # `doctor` says the same.
    doctor = start("", "doctor", TIPLINE_LOG=f"kafka://{NOWHERE}", TIPLINE_DATABASE=AWAY)
    # Meanwhile: a worker, which has no database, knows the keys from the topics.
    _said(lab.here("worker", **others), "these are not the keys of these topics")
    _said(lab.here("topics", "create", **others), "these are not the keys of these topics")
    for child, says in started[:-1]:
        away = "answers at" in says
        _said((child.process.wait(60), child.tail()), says, (69,) if away else (65, 69))
    assert doctor.process.wait(60) == 1
    for says in (NO_BROKER, f"no database answers at {shown} "):
        assert says in doctor.tail()
    # What a later version wrote, in a log or in the database.
    key, value, headers = of_input(next(iter(tips(1))))
    lab.send("decisions", key, value, [(name, b"tipline.decision.v9" if name == "ce_type" else data) for name, data in headers])
    gateway = start("", "gateway", "--port", "0")
    _said(lab.here("worker"), "was written by a later version of tipline")
    _said((gateway.process.wait(60), gateway.tail()), "was written by a later version of tipline")
    lab.execute("UPDATE alembic_version SET version_num = '9999'")
    later = [lab.start("sink", name="later-sink"), lab.start("gateway", "--port", "0", name="later-gateway")]
    # Topics that do not go together.
    lab.widen("tips", 3)
    _said(lab.here("worker"), "the topic decisions has 1 partitions and tips has 3: run `tipline topics create`")
    for child in later:
        _said((child.process.wait(60), child.tail()), "the database stands at migration 9999")
