"""Wiring of the distributed runtime: what the commands `worker`, `sink`, `gateway`, `topics` and `consume` are made of."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from schemas.errors import TiplineError, Unavailable
from schemas.records import Change
from schemas.times import format_time
from streams.pipeline import Fold
from streams.ports import Authority, Principal
from tipline.keymark import OtherKeys, fingerprint, known_mark, mark_of, put_mark
from tipline.metrics import PrometheusMetrics
from tipline.store import NoDatabase, Store, entropy, now_ms

if TYPE_CHECKING:
    from streams.distributed.app import Plan, Putaside, Room
    from streams.distributed.decider import MakeFold
    from streams.distributed.topics import Layout
    from streams.ports import Bundle, Recall
    from tipline.settings import Settings

_log = logging.getLogger("tipline.distributed")

#: A stop that takes longer is cut short: everything can be read again.
STOP_S: Final = 6.0
#: Exit status of a process that its own guard ended.
FAULT: Final = 70


#: Loggers of the libraries that we stand on.
_UNDERNEATH: Final = ("aiokafka", "faust", "kafka", "mode", "asyncio", "alembic", "streams.distributed.driver")

#: Tokens that a gateway remembers for the time the database is away.
_TOKENS: Final = 100_000


class NoLog(TiplineError):
    """TIPLINE_LOG is missing."""


def servers(store: Store) -> list[str]:
    """Kafka's addresses from the settings. Raises NoLog, BadAddress."""
    from streams.distributed.topics import servers_of

    if not store.settings.log:
        raise NoLog("TIPLINE_LOG is not set: this command works on Kafka. Write TIPLINE_LOG=kafka://HOST:9092, or use `tipline serve` for one machine")
    return servers_of(store.settings.log)


def logging_to_stderr(level: str) -> None:
    """One line an event; the libraries underneath only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Seldom())
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", handlers=[handler])
    for name in _UNDERNEATH:
        logging.getLogger(name).setLevel(logging.ERROR)


class Seldom(logging.Filter):
    """Lets what a library repeats through once in `EVERY_S`: a broker that is away is worth a line, not twenty a second, and
    no traceback but at the level `debug`."""

    EVERY_S: Final = 30.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repeat. Our own lines pass."""
        if record.name.startswith("tipline") or record.levelno >= logging.CRITICAL:
            return True
        now, what = self._clock(), (record.name, str(record.msg)[:60])
        if now - self._said.get(what, -self.EVERY_S) < self.EVERY_S:
            return False
        self._said[what] = now
        if record.exc_info and logging.getLogger().level > logging.DEBUG:
            # Where in a library a connection broke tells nobody anything: what broke is enough, in one line.
            kind = record.exc_info[0]
            record.msg, record.args = f"{' '.join(record.getMessage().split())} ({kind.__name__ if kind else 'unknown'})", ()
            record.exc_info = record.exc_text = None
        return True


def fatal(error: BaseException) -> NoReturn:
    """Says why and ends the process at once: nothing is acknowledged, so nothing is lost."""
    words = str(error) if isinstance(error, TiplineError) else f"{type(error).__name__}: {error}"
    _log.critical("stopping at once: %s", words, exc_info=None if isinstance(error, TiplineError) else error)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(FAULT)


# --- worker ---------------------------------------------------------------------------------------------------------------


def worker_plan(store: Store, metrics: PrometheusMetrics, name: str | None = None) -> Plan:
    """What a worker is made of."""
    from streams.distributed.app import Plan

    folder = store.path / "faust"
    folder.mkdir(exist_ok=True)
    return Plan(
        servers=servers(store),
        fold_of=lambda bundle: fold_maker(store, bundle),
        seal=lambda one, now: seal(store, one, now),
        clock=now_ms,
        metrics=metrics,
        fatal=fatal,
        folder=folder,
        instance=name,
    )


def fold_maker(store: Store, bundle: Bundle) -> MakeFold:
    """How to make a county's fold, with this program's model until the log says otherwise."""
    from tipline.model import load_model

    def make(recall: Recall) -> Fold:
        return Fold(bundle, load_model(), recall, store.model)

    return make


def seal(store: Store, one: Putaside, now: int) -> tuple[str, bytes]:
    """A dead letter's id and its document, its bytes sealed."""
    from sinks.dead_letters import dead_letter_id

    row = one.bad.row
    identity = dead_letter_id(one.topic, one.county, row.position)
    sealed = store.keyring.seal(identity, [("dead_letter", "bytes", row.value.hex())], entropy)[0]
    document = {
        "id": identity,
        "county": one.county,
        "reason": one.bad.reason,
        "detail": one.bad.detail[:900],
        "topic": one.topic,
        "partition": one.partition,
        "position": row.position,
        "record_id": row.key[:200] or None,
        "sealed": base64.b64encode(msgspec.json.encode(sealed)).decode(),
        "at": format_time(now),
    }
    return identity, msgspec.json.encode(document)


def run_worker(store: Store, name: str | None, metrics_port: int | None, ready: Callable[[Sequence[str]], None]) -> None:
    """Decides until SIGTERM or SIGINT. Raises NoBroker, BadTopics at the start; a fault later ends the process."""
    from streams.distributed.app import Room
    from streams.distributed.topics import read_layout, refuse_later
    from tipline.model import load_model, model_bytes

    layout = read_layout(servers(store))
    if not store.keyring_path.exists():
        raise OtherKeys(f"{store.keyring_path}: there are no keys. Name the installation's with TIPLINE_KEYS (`tipline topics create` makes them at first): what this worker seals, the others must be able to open")
    keys_of_log(store, layout)
    refuse_later(servers(store), layout)
    store.keep_model(model_bytes(), load_model().digest)
    metrics = PrometheusMetrics()
    serve_metrics(metrics, metrics_port)
    asyncio.run(_work(lambda: Room(worker_plan(store, metrics, name)), ready))


async def _work(make: Callable[[], Room], ready: Callable[[Sequence[str]], None]) -> None:
    from streams.distributed.app import run

    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def leave() -> None:
        stop.set()
        in_time(last_word=_quietly())

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    room = make()
    room.on_ready = ready
    await run(room, stop)


def _quietly() -> Callable[[], None]:
    """From here on a worker stops, and what its libraries say of a broker that is away, tracebacks and all, tells nobody
    anything -> what says it once, in one line."""
    once = threading.Lock()

    def say() -> None:
        if once.acquire(blocking=False):
            _log.warning("stopped while the broker does not answer: what was not finished is decided again by whoever takes it over")

    for name in _UNDERNEATH:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    threading.excepthook = lambda _: say()  # Faust's consumer has a thread of its own, which ends so
    return say


def in_time(seconds: float = STOP_S, last_word: Callable[[], None] = lambda: None) -> None:
    """Ends the process in so many seconds if it has not ended by then."""

    def end() -> None:
        last_word()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def serve_metrics(metrics: PrometheusMetrics, port: int | None) -> None:
    """`/metrics` on all addresses of this machine: inside the compose network there is no other way to reach it."""
    if port is None:
        return
    from prometheus_client import start_http_server

    start_http_server(port, registry=metrics.registry)


# --- database -------------------------------------------------------------------------------------------------------------


def open_store(settings: Settings) -> Store:
    """The store with its database and keys, both checked. Raises NoDatabase, OtherKeys, NoLog, BadAddress."""
    store = Store(settings)
    servers(store)
    if not settings.database:
        raise NoDatabase("TIPLINE_DATABASE is not set: gateways and the sink share one database. Write TIPLINE_DATABASE=postgresql+psycopg://USER:PASSWORD@HOST/NAME")
    try:
        same_keys(store)
    except TiplineError:
        store.close()
        raise
    return store


def same_keys(store: Store) -> None:
    """Raises OtherKeys where the database knows installations with another keyring: ids and receipts would not agree."""
    from sinks.database import writing

    with writing(store.engine) as connection:
        put_mark(connection, store.keyring)
        known = known_mark(connection)
    if known != mark_of(store.keyring):
        raise OtherKeys(_others(store, "this database"))


def keys_of_log(store: Store, layout: Layout) -> None:
    """Raises OtherKeys where the topics were made with another keyring: for parts that have no database."""
    if layout.keyrings - {fingerprint(store.keyring)}:
        raise OtherKeys(_others(store, "these topics"))


def _others(store: Store, whose: str) -> str:
    return (
        f"{store.keyring_path}: these are not the keys of {whose}: receipts and identities would not agree. "
        "Give every gateway, worker and sink the same file: TIPLINE_KEYS"
    )


class LastingAuthority:
    """Knows tokens from the database, and while that is away those it has seen: a database that is away refuses no tips."""

    def __init__(self, inner: Authority) -> None:
        self._inner = inner
        self._seen: dict[bytes, Principal] = {}

    def principal(self, token: str) -> Principal | None:
        """As `streams.ports.Authority`. Raises Unavailable for a token not seen before while the database is away."""
        key = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        try:
            found = self._inner.principal(token)
        except Unavailable:
            if key in self._seen:
                return self._seen[key]
            raise
        if found is None:
            self._seen.pop(key, None)
        elif len(self._seen) < _TOKENS:
            self._seen[key] = found
        return found


# --- sink -----------------------------------------------------------------------------------------------------------------


def run_sink(store: Store, metrics_port: int | None, ready: Callable[[], None]) -> int:
    """Applies until SIGTERM or SIGINT -> exit code. Raises NoBroker, BadTopics at the start."""
    from streams.distributed.events import EventRelay
    from streams.distributed.publisher import Publisher
    from streams.distributed.sink import Sink, SinkPlan

    metrics = PrometheusMetrics()
    serve_metrics(metrics, metrics_port)
    sink = Sink(SinkPlan(servers=servers(store), engine=store.engine, clock=now_ms, metrics=metrics))
    publisher = Publisher(servers(store))
    events = EventRelay(store.engine, publisher, lambda: sink.counties, _show, now_ms)
    stop = stopping()
    out = spawn("events", lambda: events.run(stop))
    ready()
    try:
        sink.run(stop)
    except Exception as error:
        fatal(error)
    out.join(5)
    sink.close()
    store.close()
    return 0


def _show(item: Any, cc: Collection[str], offset_minutes: int, station: str) -> dict[str, Any]:
    from stations.documents import assignment, part

    return assignment(item, cc, offset_minutes, part(item, cc, station))


def stopping() -> threading.Event:
    """Set by SIGTERM and SIGINT; then the process ends in STOP_S seconds at the latest."""
    stop = threading.Event()

    def leave(*_: object) -> None:
        stop.set()
        in_time()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    return stop


def spawn(name: str, work: Callable[[], None]) -> threading.Thread:
    """A thread whose failure ends the process."""

    def run() -> None:
        try:
            work()
        except Exception as error:
            fatal(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


# --- topics ---------------------------------------------------------------------------------------------------------------


@contextmanager
def end_of_input(store: Store) -> Iterator[Callable[[str, str, bytes], int | None]]:
    """Puts a record at the end of a county's input: (county, key, value) -> its position, or None when it is known already.

    On one machine that is the store's own log. Distributed it is Kafka itself: a spool would need a gateway over the same
    directory to carry it on. Raises NoBroker, BadTopics, BadRecord, Unavailable.
    """
    if not store.settings.log:
        yield store.intake.append
        return
    from schemas.codec import decode_input
    from schemas.topics import TIPS
    from streams.distributed.envelope import input_headers
    from streams.distributed.publisher import Publisher
    from streams.distributed.topics import read_layout

    layout, publisher = read_layout(servers(store)), Publisher(servers(store))

    def append(county: str, _key: str, value: bytes) -> int:
        sendable = (county.encode(), value, input_headers(decode_input(value)))
        return publisher.send(TIPS, layout.partition(county), [sendable])[0] + 1

    try:
        yield append
    finally:
        publisher.close()


def create_topics(store: Store, replication: int) -> list[str]:
    """Makes and checks the topics for the counties of the settings -> what was done, a line each."""
    from streams.distributed import topics
    from streams.distributed.envelope import KEYRING, Sendable, of_input
    from tipline.county import county_digest
    from tipline.model import load_model
    from tipline.store import bundles_of

    first: dict[str, list[Sendable]] = {}
    stations = []
    at = format_time(now_ms())
    mark = (KEYRING, fingerprint(store.keyring).encode())  # the keys are made here, so that every part finds the same ones
    for bundle in bundles_of(store.settings):  # to name them is what this is for
        county = bundle["county"]["id"]
        changes = (("county", county_digest(bundle), bundle), ("model", load_model().digest, None))
        records = [of_input(Change(county=county, change_id=f"{what}/{digest}/first", what=what, digest=digest, at=at, bundle=document)) for what, digest, document in changes]
        first[county] = [(key, value, [*headers, mark]) for key, value, headers in records]
        stations += [station["id"] for station in bundle["stations"]["stations"] if station.get("queue_topic")]
    try:
        keys_of_log(store, topics.read_layout(servers(store)))
    except topics.BadTopics:
        pass  # not made yet
    return topics.create(servers(store), first, stations, replication)
