"""What `tipline submit` does, without its progress bar: rows of a file over HTTP, a result for each, in order.

Every row goes with a `message_id`, its own or one derived from its content and the token; so after a lost connection the
same rows are simply sent again, and a file that is submitted twice with one token adds nothing.
"""

from __future__ import annotations

import hmac
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import orjson

from producers.parsing import MAX_BYTES, Parsed, too_large
from schemas import problems
from schemas.errors import Mistake, Rejected, TiplineError, Unavailable

#: One line of the answer: `line`, `status`, and `tip_id` with `receipt`, or `problem`.
Result = dict[str, Any]

BATCH: Final = 500
_BATCH_BYTES: Final = 8 * 1024 * 1024
_LONGEST_PAUSE: Final = 30.0
_BATCH_TOO_LARGE = problems.TYPE_PREFIX + "batch_too_large"
#: OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH: Python has no names for them.
EXPIRED: Final = 10
OTHER_NAME: Final = frozenset({62, 64})
_RETRIED = frozenset({429, 502, 503, 504})


class Untrusted(TiplineError):
    """The server's certificate is not one that we trust: nothing was sent."""


class Server(msgspec.Struct, frozen=True):
    """Where to send: base URL, bearer token, seconds to wait for one answer, whose certificates are trusted (None: whom the
    system trusts). Raises ValueError for a URL that is none."""

    url: str
    token: str
    timeout: float = 60.0
    trust: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise ValueError("write it like http://127.0.0.1:8080")


class _Later(Exception):
    """The server asks for patience, or cannot be reached. `pause` in seconds, None when it does not say."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


def with_message_ids(rows: Iterable[Parsed], key: bytes) -> Iterator[Parsed]:
    """The rows, each with a message_id: where missing, `row-` and the hash of the row's canonical form under `key`.

    The key keeps a reporter's number from being guessed: the id is stored in the clear, beside the rest of the row.
    Equal rows after the first one get their ordinal as well.
    """
    seen: dict[bytes, int] = {}
    for row in rows:
        if row.problem is not None or not isinstance(row.submission, dict) or row.submission.get("message_id"):
            yield row
            continue
        digest = hmac.digest(key, orjson.dumps(row.submission, option=orjson.OPT_SORT_KEYS), "sha256")[:16]
        seen[digest] = ordinal = seen.get(digest, 0) + 1
        name = f"row-{digest.hex()}" + (f"-{ordinal}" if ordinal > 1 else "")
        yield Parsed(row.line, {**row.submission, "message_id": name})


def submit(
    rows: Iterable[Parsed],
    server: Server,
    sleep: Callable[[float], None],
    *,
    batch: int = BATCH,
    patience: int = 10,
) -> Iterator[Result]:
    """Sends the rows and yields a result for each, in their order. 429, 503 and a lost connection are tried again.

    `patience` is how many times in a row the server may say "later" or be away before Unavailable is raised; the rows
    that had a result until then are stored. Raises Rejected for what concerns them all (401, 403, 415), and Untrusted.
    """
    link = _Link(server)
    try:
        waiting = with_message_ids(rows, server.token.encode())
        while chunk := _chunk(waiting, batch):
            yield from _deliver(chunk, link, sleep, patience)
    finally:
        link.close()


def _chunk(rows: Iterator[Parsed], batch: int) -> list[tuple[Parsed, bytes]]:
    """The next rows with their bytes, bounded in number and (loosely) in size."""
    chunk, size = [], 0
    for row in islice(rows, batch):
        raw = b"" if row.problem is not None else orjson.dumps(row.submission)
        chunk.append((row, raw))
        size += len(raw)
        if size >= _BATCH_BYTES:
            break
    return chunk


def _deliver(
    chunk: list[tuple[Parsed, bytes]], link: _Link, sleep: Callable[[float], None], patience: int
) -> Iterator[Result]:
    results = {row.line: _local(row, raw) for row, raw in chunk}
    unsent = [(row.line, raw) for row, raw in chunk if results[row.line] is None]
    failures = 0
    while unsent:
        pause: float | None = None
        try:
            answers = link.send([raw for _, raw in unsent])
        except _Later as later:
            answers, pause, why = [], later.pause, str(later)
        else:
            why = "the server has no room for more"
        before, unsent, pause = len(unsent), *_settle(unsent, answers, results, pause)
        failures = failures + 1 if len(unsent) == before else 0
        if unsent and failures >= max(1, patience):
            raise Unavailable(
                f"{link.server.url}: {why}. Gave up after {failures} tries; send the same again later",
                retry_after=int(pause or 5),
            )
        if unsent:
            sleep(min(_LONGEST_PAUSE, pause if pause is not None else 0.25 * 2**failures))
    for row, _ in chunk:
        result = results[row.line]
        if result is not None:
            yield result


def _local(row: Parsed, raw: bytes) -> Result | None:
    """The result of a row that need not be sent."""
    problem = row.problem or (too_large() if len(raw) > MAX_BYTES else None)
    if problem is None:
        return None
    return {"line": row.line, "status": problem.status, "problem": problems.of_rejected(problem)}


def _settle(
    unsent: list[tuple[int, bytes]], answers: list[Result], results: dict[int, Result | None], pause: float | None
) -> tuple[list[tuple[int, bytes]], float | None]:
    """Files the answers under their lines; what is left to send, and after how many seconds."""
    left = dict(enumerate(unsent, start=1))
    for answer in answers:
        number = answer.get("line")
        if number not in left:
            continue
        problem = answer.get("problem") or {}
        if answer.get("status") in _RETRIED or (problem.get("type") == _BATCH_TOO_LARGE and len(unsent) > 1):
            pause = float(problem.get("retry_after", pause or 0))
            continue
        line, _ = left.pop(number)
        results[line] = {**answer, "line": line}
    return list(left.values()), pause


class _Link:
    """One kept-alive connection, opened again when it is lost."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        host, port, timeout = parts.hostname or "", parts.port, server.timeout
        self.server = server
        self._connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=server.trust)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )
        self._path = parts.path.rstrip("/") + "/v1/tips/batch"

    def close(self) -> None:
        self._connection.close()

    def send(self, lines: list[bytes]) -> list[Result]:
        """One batch; the answers by line of the batch. Raises _Later, Rejected, Untrusted."""
        headers = {"authorization": f"Bearer {self.server.token}", "content-type": "application/x-ndjson"}
        try:
            self._connection.request("POST", self._path, b"\n".join(lines) + b"\n", headers)
            response = self._connection.getresponse()
            body = response.read()
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(f"{self.server.url}: {self._mistrust(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            words = getattr(error, "strerror", None) or type(error).__name__
            raise _Later(f"cannot be reached ({words}): is `tipline serve` running there?") from None
        if response.status in _RETRIED:
            raise _Later(f"answered {response.status}", _seconds(response.getheader("retry-after")))
        if response.status != 200:
            raise _refusal(response.status, body)
        return _answers(body)

    def _mistrust(self, error: ssl.SSLCertVerificationError) -> str:
        """What is wrong with the certificate, and how to mend that."""
        host = self._connection.host
        if error.verify_code in OTHER_NAME:
            names = self._names()
            there = f"is for {', '.join(names)}, not for {host}" if names else f"does not name {host}"
            named = next((f"[{name}]" if ":" in name else name for name in names if "*" not in name), "")
            instead = f"Name the server as its certificate does (--url https://{named}:{self._connection.port}), or give it" if named else "Give it"
            return f"its certificate {there}. {instead} one that names {host}: nothing was sent"
        if error.verify_code == EXPIRED:
            return "its certificate has expired. Renew it there; or is this machine's clock wrong? Nothing was sent"
        return f"its certificate is not trusted ({error.verify_message}). Name the one that signed it with --ca FILE or TIPLINE_CA"

    def _names(self) -> list[str]:
        """Whom the server's certificate is for, asked once more with all but the name checked; empty where that fails."""
        trust = self.server.trust or ssl.create_default_context()
        address = (self._connection.host, self._connection.port)
        trust.check_hostname = False
        try:
            with (
                socket.create_connection(address, self.server.timeout) as raw,
                trust.wrap_socket(raw, server_hostname=address[0]) as wrapped,
            ):
                shown: Any = wrapped.getpeercert() or {}
        except OSError:
            return []
        finally:
            trust.check_hostname = True
        return [str(name) for _, name in shown.get("subjectAltName", ())]


def _seconds(value: str | None) -> float | None:
    return float(value) if value and value.isdecimal() and len(value) < 6 else None


def _answers(body: bytes) -> list[Result]:
    """The lines that came whole; what is missing is sent again."""
    answers = []
    for line in body.splitlines():
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if isinstance(answer, dict):
            answers.append(answer)
    return answers


def _refusal(status: int, body: bytes) -> Rejected:
    try:
        document = json.loads(body)
        slug = str(document["type"]).removeprefix(problems.TYPE_PREFIX)
        return Rejected(
            status, slug, str(document["title"]), [Mistake("", str(e["detail"])) for e in document.get("errors", ())]
        )
    except (ValueError, TypeError, KeyError):
        detail = f"it answered {status} and no reason: is this the URL of tipline?"
        return Rejected(status, "unexpected", "The server's answer is not tipline's", [Mistake("", detail)])
