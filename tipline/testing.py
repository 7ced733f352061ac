"""A service driven from outside: the process, clients that never lose an answer, and the ledger of what they were told.

The tests, the demo and the bench drive `tipline serve` with this, over HTTP and signals only, as its users would.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from schemas.errors import TiplineError
from schemas.vocabulary import Role

#: Seconds within which a service must be ready, on a busy machine.
START_SECONDS: Final = 60.0

_READY = re.compile(r"tipline is ready at (http\S+)")


def _plain_environ() -> dict[str, str]:
    """Ours without settings of tipline: a service under test has only those it is given."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TIPLINE_")}


class NotReady(TiplineError):
    """The service did not come up; the message holds the end of its log."""


class Served:
    """`tipline serve` as a child process, on one port through all its lives."""

    def __init__(
        self, data: Path, environ: Mapping[str, str] | None = None, arguments: tuple[str, ...] = (), port: int = 0
    ) -> None:
        """`environ` is added to ours. The log goes beside the data, never into it. Without `port` the first life gets a
        free one, which another process may take while the service is away."""
        self.data = data
        self.environ = dict(environ or {})
        self.log = data.with_name(f"{data.name}.log")
        self.url = ""
        self.starts = 0
        self._arguments = arguments
        self._port = port
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Served:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the present life. Raises NotReady when there is none."""
        if self._process is None:
            raise NotReady("the service is not running")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, environ: Mapping[str, str] | None = None) -> float:
        """Starts it and waits until it answers -> seconds that took. `environ` holds for this life only.

        Raises NotReady.
        """
        began = time.monotonic()
        command = [sys.executable, "-m", "tipline", "serve", "--data", str(self.data), "--port", str(self._port)]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is for whoever drives, who then ends the service in order.
            self._process = subprocess.Popen(
                [*command, *self._arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**_plain_environ(), **self.environ, **(environ or {})},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self.url = self._first_words(self._process.stdout)
        self._port = urlsplit(self.url).port or 0
        self.starts += 1
        return time.monotonic() - began

    def _first_words(self, stdout: IO[str]) -> str:
        watch = threading.Timer(START_SECONDS, self.kill)
        watch.start()
        try:
            for line in stdout:
                if found := _READY.search(line):
                    return found.group(1)
        finally:
            watch.cancel()
        raise NotReady(f"`tipline serve` did not come up:\n{self.log_end()}")

    def log_end(self, characters: int = 2000) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-characters:] if self.log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the present life."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL: no last word, no clean-up."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._bury(30)

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, and its exit status. Raises subprocess.TimeoutExpired."""
        self.signal(signal.SIGTERM)
        return self._bury(seconds)

    def wait(self, seconds: float) -> int:
        """The exit status, once it ended by itself. Raises subprocess.TimeoutExpired."""
        return self._bury(seconds)

    def _bury(self, seconds: float) -> int:
        if self._process is None:
            return 0
        status = self._process.wait(seconds)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status

    def close(self) -> None:
        """Ends it: in order if it will, by force if not."""
        if not self.alive:
            self._bury(5)
            return
        try:
            self.signal(signal.SIGCONT)
            self.stop(15)
        except subprocess.TimeoutExpired:
            self.kill()


class Holder(msgspec.Struct, frozen=True):
    """Whom a token is for."""

    role: Role
    source: str | None = None
    station: str | None = None


def make_tokens(data: Path, holders: Sequence[Holder]) -> list[str]:
    """Bearer tokens, put into the store directly as `tipline token create` does."""
    from sinks.database import writing
    from sinks.tokens import ENTROPY_BYTES, create
    from streams.ports import Principal
    from tipline.settings import load_settings
    from tipline.store import Store, entropy, now_ms

    store = Store(load_settings({}, {"data": str(data)}))
    try:
        county = store.bundles()[0]["county"]["id"]
        with writing(store.engine) as connection:
            return [
                create(
                    connection,
                    entropy=entropy(ENTROPY_BYTES),
                    principal=Principal("", one.role, one.source, one.station, county),
                    now=now_ms(),
                )
                for one in holders
            ]
    finally:
        store.close()


def make_token(data: Path, role: Role, *, source: str | None = None, station: str | None = None) -> str:
    """One token. See `make_tokens`."""
    return make_tokens(data, [Holder(role, source, station)])[0]


class Ledger:
    """What clients were told, in a file outside the system: what `tipline verify --ledger` reads. Safe for threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def note(
        self,
        outcome: Literal["ok", "refused", "unknown"],
        source: str | None,
        message_id: str | None,
        tip_id: str | None = None,
    ) -> None:
        """One line; in the file on return."""
        line = msgspec.json.encode({"outcome": outcome, "source": source, "message_id": message_id, "tip_id": tip_id})
        with self._lock:
            with self.path.open("ab") as file:
                file.write(line + b"\n")
            self.counts[outcome] += 1


class Lost(TiplineError):
    """No answer came. `sent` false: nothing had left yet. True: nobody knows what became of the request."""

    def __init__(self, why: str, sent: bool = True) -> None:
        super().__init__(why)
        self.sent = sent


class Answer(msgspec.Struct, frozen=True):
    """One HTTP answer, and the seconds it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """One kept-alive connection with one token. Not for several threads."""

    def __init__(self, served: Served | str, token: str, timeout: float = 20.0) -> None:
        """`served` as an object is asked for its URL at each connect, so that a restart is followed."""
        self._served = served
        self._token = token
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, one answer. Raises Lost."""
        began = time.perf_counter()
        given = {"authorization": f"Bearer {self._token}", **(headers or {})}
        connection = self._connect()
        try:
            connection.request(method, path, body, given)
            response = connection.getresponse()
            read = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Lost(type(error).__name__) from None
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, read, time.perf_counter() - began)

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self._served if isinstance(self._served, str) else self._served.url)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self._timeout)
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                raise Lost(type(error).__name__, sent=False) from None
            self._connection = connection
        return self._connection

    def get(self, path: str) -> Answer:
        """A GET. Raises Lost."""
        return self.call("GET", path)

    def send(self, path: str, document: object, headers: Mapping[str, str] | None = None) -> Answer:
        """A POST of JSON. Raises Lost."""
        body = msgspec.json.encode(document)
        return self.call("POST", path, body, {"content-type": "application/json", **(headers or {})})


class Sender:
    """Posts tips and writes down what it was told. An answer that never came is noted `unknown`, and the same message is
    sent again until there is one."""

    def __init__(self, client: Client, ledger: Ledger, give_up: Callable[[], bool] = lambda: False) -> None:
        """`give_up` is asked before each repeat; once it says yes, Lost is raised."""
        self._client = client
        self._ledger = ledger
        self._give_up = give_up
        #: (tip, moment on the monotonic clock, seconds the answer took) of each 202.
        self.accepted: list[tuple[str, float, float]] = []

    def post(
        self,
        submission: Mapping[str, Any],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        client: Client | None = None,
    ) -> Answer:
        """One tip until it is accepted or refused. `body` and `headers` where it goes in another form than plain JSON;
        `client` where not ours sends it. Raises Lost when given up."""
        source, message_id = submission.get("source"), submission.get("message_id")
        raw = msgspec.json.encode(submission) if body is None else body
        while True:
            try:
                given = {"content-type": "application/json", **(headers or {})}
                answer = (client or self._client).call("POST", "/v1/tips", raw, given)
            except Lost as lost:
                if lost.sent:
                    self._ledger.note("unknown", source, message_id)
                pause = 0.02
            else:
                if answer.status not in (429, 503):
                    return self._told(answer, source, message_id)
                pause = min(2.0, float(answer.headers.get("retry-after", "1")))
            if self._give_up():
                raise Lost("given up")
            time.sleep(pause)

    def _told(self, answer: Answer, source: str | None, message_id: str | None) -> Answer:
        if answer.status == 202:
            tip_id = answer.document["tip_id"]
            self._ledger.note("ok", source, message_id, tip_id)
            self.accepted.append((tip_id, time.monotonic(), answer.seconds))
        else:
            self._ledger.note("refused", source, message_id)
        return answer
