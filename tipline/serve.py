"""Everything in one process: the door, the runtimes, the stations' API, escalation and the outbox, wired and run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import ipaddress
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from producers.hooks import FILE_NAME, BadHooks, HookFile
from producers.http import Door, Limits, intake_routes
from producers.open311 import open311_routes
from producers.webhooks import webhook_routes
from schemas.codec import decode_output
from schemas.errors import TiplineError
from schemas.records import Decision, public
from sinks.database import reading
from sinks.dead_letters import DeadLetter, dead_letter_id, keep
from sinks.sink import AppliedEvents, latest_decision, undecided
from sinks.tokens import DatabaseAuthority
from stations.pages import Part, Site, page_routes
from stations.service import Service, receipt_status
from streams.embedded.runtime import BadInput, Broken, Runtime
from streams.pipeline import Facts, Fold
from streams.ports import Bundle
from streams.stages.county import compile_county
from tipline.apply import put_in_force, refuse_dropping
from tipline.county import county_digest, find_county, load_county
from tipline.keymark import take_keys
from tipline.metrics import PrometheusMetrics
from tipline.model import load_model, model_bytes
from tipline.ops_http import Health, ops_routes
from tipline.outside import make_outside
from tipline.pages import Reach, make_pages
from tipline.settings import BadSettings, Settings
from tipline.store import Origin, Store, entropy, now_ms

_log = logging.getLogger("tipline.serve")

_ORIGINS: dict[Origin, str] = {
    "settings": "as --county or TIPLINE_COUNTY names it",
    "store": "in force by a record of this store",
    "package": "the example that ships with tipline",
}


class CannotListen(TiplineError):
    """The address is taken, or none of this machine's."""


class Embedded:
    """One installation on one machine, running. Make it, `start`, serve `app`, `stop`."""

    def __init__(self, store: Store) -> None:
        """Opens the store, puts counties and model in force and rebuilds the state. Raises TiplineError, all loudly."""
        self.store = store
        self.metrics = PrometheusMetrics()
        self.health = Health()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.fatal: Exception | None = None
        self.on_fatal: Callable[[], None] = lambda: None
        bundles, self.origin = store.counties()
        self.counties = {bundle["county"]["id"]: compile_county(bundle) for bundle in bundles}
        take_keys(store)
        store.keep_model(model_bytes(), load_model().digest)
        self._put_in_force(bundles)
        self.runtimes = [self._runtime(bundle) for bundle in bundles]
        self.authority = DatabaseAuthority(store.engine, now_ms)
        outside = make_outside(store, store.intake.lookup)
        self.service = Service(store.engine, self.counties, now_ms, self.metrics, store.intake.append, outside)
        self.door = Door(
            intake=store.intake,
            authority=self.authority,
            keyring=store.keyring,
            counties=tuple(self.counties),
            clock=now_ms,
            entropy=entropy,
            metrics=self.metrics,
            decision_of=self.decision_of,
            status_of_receipt=self.status_of_receipt,
            lookup=store.intake.lookup,
            limits=Limits(per_second=store.settings.rate, burst=store.settings.rate * 10),
        )
        self.hooks = HookFile(store.path / FILE_NAME, store.keyring, store.renewed_keyring)
        reach = Reach(self.status_of_receipt, self._likely, self._parts, store.intake.append)
        self.pages = make_pages(store, self.door, self.service, self.authority, reach)
        self.health.checks["runtime"] = self._runtime_alive
        self.health.checks["database"] = self._database_answers

    def _put_in_force(self, bundles: list[Bundle]) -> None:
        refuse_dropping(self.store, bundles, self.origin)
        for bundle in bundles:
            county = bundle["county"]["id"]
            if self.origin != "store":
                put_in_force(self.store, county, "county", county_digest(bundle), bundle)
            put_in_force(self.store, county, "model", load_model().digest)

    def told_counties(self) -> list[str]:
        """Which counties are in force and why, a line each, for whoever starts the service."""
        packaged = load_county(find_county()) if self.origin == "store" else None
        lines = []
        for county in self.counties.values():
            line = f"  county   {county.id} {county.digest[:12]}, {_ORIGINS[self.origin]}"
            if packaged is not None and packaged["county"]["id"] == county.id and county_digest(packaged) != county.digest:
                line += f"; the example that ships is another, {county_digest(packaged)[:12]}"
            lines.append(line)
        return lines

    # --- what the rooms ask of the shell ---------------------------------------------------------------------------------

    def decision_of(self, tip_id: str) -> dict[str, Any] | None:
        """A tip's latest decision as consumers see it."""
        with reading(self.store.engine) as connection:
            value = latest_decision(connection, tip_id)
        decision = decode_output(value) if value is not None else None
        return public(decision) if isinstance(decision, Decision) else None

    def status_of_receipt(self, receipt: str) -> dict[str, Any] | None:
        """A receipt's public status."""
        status: dict[str, Any] | None = receipt_status(self.store.engine, self.store.intake, receipt)
        return status

    def _dead_letter(self, connection: Any, county: str, bad: BadInput, now: int) -> None:
        keep(connection, [make_dead_letter(self.store, county, bad, now)])

    def _runtime(self, bundle: Bundle) -> Runtime:
        county = bundle["county"]["id"]
        runtime = Runtime(
            county,
            self.store.intake,
            self.store.engine,
            lambda recall: Fold(bundle, load_model(), recall, self.store.model),
            self._dead_letter,
            now_ms,
            self.metrics,
        )
        runtime.on_applied = lambda applied: self._applied(runtime, applied)
        return runtime

    def _applied(self, runtime: Runtime, applied: AppliedEvents) -> None:
        """After each committed batch: a changed county directory reaches the stations too, and live queues wake."""
        county = runtime.fold.county
        if self.counties[county.id].digest != county.digest:
            self.counties[county.id] = county
            self.service.desk.county_changed(county)
        self.service.announce(applied.stations)

    def _likely(self, county: str, facts: Facts) -> list[tuple[str, float]] | None:
        return next(runtime for runtime in self.runtimes if runtime.county == county).likely(facts)

    def _parts(self) -> list[Part]:
        failing = self.health.failing()
        parts = [
            Part(name="intake", detail=", ".join(self.counties)),
            Part(name="database", problem=failing.get("database")),
        ]
        for runtime in self.runtimes:
            with reading(self.store.engine) as connection:
                lag = undecided(connection, runtime.county, self.store.intake.end(runtime.county))
            parts.append(Part(name=f"runtime {runtime.county}", problem=failing.get("runtime"), lag=lag))
        return parts

    def _runtime_alive(self) -> str | None:
        return (
            None
            if all(t.is_alive() for t in self._threads) and self.fatal is None
            else "a part of the service has stopped; see the log"
        )

    def _database_answers(self) -> str | None:
        with reading(self.store.engine) as connection:
            connection.exec_driver_sql("SELECT 1")
        return None

    # --- running -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the threads: a runtime a county, the stations' clock work (escalation, leases) and their outbox."""
        # What is remembered stays for months: looking through all of it for garbage would stop every answer meanwhile.
        # Deciding makes many objects and hardly a cycle, so that looking seldom is enough.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        for runtime in self.runtimes:
            self._spawn(f"runtime-{runtime.county}", functools.partial(runtime.run, self._stop, self.store.intake.wait))
        self._spawn("clockwork", lambda: self.service.run(self._stop))
        self._spawn("outbox", lambda: self.service.send(self._stop))

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self.fatal = error
                _log.critical(
                    "%s stopped: %s",
                    name,
                    error if isinstance(error, TiplineError) else type(error).__name__,
                    exc_info=not isinstance(error, Broken),
                )
                self.on_fatal()

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Ends the threads after their batch, then closes the store."""
        self._stop.set()
        self.store.intake.wake()
        for thread in self._threads:
            thread.join(8)
        self.door.close()
        self.store.close()

    def app(self) -> Starlette:
        """The whole HTTP side."""
        site = Site(self.pages)
        routes = [
            *intake_routes(self.door),
            *webhook_routes(self.door, self.hooks.lookup),
            *open311_routes(self.door),
            *self.service.routes(self.authority),
            *page_routes(site),
            *ops_routes(self.health, self._render_metrics, self.authority),
        ]

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            self.service.close_streams()

        return Starlette(routes=routes, exception_handlers={HTTPException: site.http_error}, lifespan=lifespan)

    def _render_metrics(self) -> bytes:
        self.service.measure_queues()
        with contextlib.suppress(BadHooks):  # the log has it
            self.metrics.gauge("tipline_webhooks_unopened", len(self.hooks.unopened()))
        return self.metrics.render()


def make_dead_letter(store: Store, county: str, bad: BadInput, now: int) -> DeadLetter:
    """A dead letter of a row of `tips`, its bytes sealed."""
    identity = dead_letter_id("tips", county, bad.row.position)
    sealed = store.keyring.seal(identity, [("dead_letter", "bytes", bad.row.value.hex())], entropy)[0]
    import msgspec

    return DeadLetter(
        id=identity,
        county=county,
        reason=bad.reason,
        detail=bad.detail[:900],
        topic="tips",
        part=county,
        position=bad.row.position,
        record_id=bad.row.key,
        sealed=msgspec.json.encode(sealed),
        at=now,
    )


def listening(settings: Settings) -> dict[str, Any]:
    """What uvicorn is told about TLS and proxies. Raises BadSettings: half a pair, files that do not fit, no address.

    Without a trusted proxy nobody's X-Forwarded-For counts: a visitor could choose the address that is slowed down.
    """
    found: dict[str, Any] = {"proxy_headers": False}
    if settings.tls_cert or settings.tls_key:
        if not (settings.tls_cert and settings.tls_key):
            raise BadSettings("TLS needs both --tls-cert FILE and --tls-key FILE (TIPLINE_TLS_CERT, TIPLINE_TLS_KEY)")
        try:
            # An empty password: otherwise OpenSSL would ask for one at the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key, password="")
        except (OSError, ValueError) as error:
            raise BadSettings(
                f"--tls-cert {settings.tls_cert} with --tls-key {settings.tls_key}: {error}. "
                "Name a PEM certificate (its chain below it) and the unencrypted PEM key that belongs to it"
            ) from None
        found |= {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}
    if proxies := [part.strip() for part in settings.trusted_proxy.split(",") if part.strip()]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise BadSettings(f"--trusted-proxy {proxy}: {error}. Write addresses or networks like 10.0.0.5 or 10.0.0.0/24") from None
        found |= {"proxy_headers": True, "forwarded_allow_ips": ",".join(proxies)}
    return found


def in_the_clear(settings: Settings) -> bool:
    """Whether tokens and cookies would cross a network unencrypted."""
    loopback = settings.host == "localhost" or settings.host.startswith("127.") or settings.host == "::1"
    return not (loopback or settings.tls_cert or settings.trusted_proxy)


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: the shell has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises CannotListen."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512, reuse_port=False
        )
    except OSError as error:
        words = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise CannotListen(
            f"cannot listen on {host}:{port} ({words}). Choose another --port or --host, or stop what holds it"
        ) from None


def run(
    embedded: Embedded, host: str, port: int, ready: Callable[[str], None], options: dict[str, Any] | None = None
) -> int:
    """Serves until SIGTERM or SIGINT -> exit code. `ready(url)` is called once the port answers; `options` are those of
    `listening`. Raises CannotListen.
    """
    taken = listener(host, port)
    scheme = "https" if "ssl_certfile" in (options or {}) else "http"
    url = f"{scheme}://{host if ':' not in host else f'[{host}]'}:{taken.getsockname()[1]}"
    config = uvicorn.Config(
        embedded.app(),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        loop="uvloop",
        http="httptools",
        timeout_graceful_shutdown=4,
        timeout_keep_alive=75,
        **(options or {"proxy_headers": False}),
    )
    server = _Server(config)

    async def serve() -> None:
        loop = asyncio.get_running_loop()

        def leave() -> None:
            embedded.service.close_streams()
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leave)

        def leave_from_thread() -> None:
            loop.call_soon_threadsafe(leave)

        embedded.on_fatal = leave_from_thread
        embedded.start()
        task = asyncio.create_task(server.serve(sockets=[taken]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        if server.started:
            ready(url)
        await task

    asyncio.run(serve())
    embedded.stop()
    return 1 if embedded.fatal is not None else 0
