"""Who is logged in: users with passwords, sessions that end, and the slowing down of guesses.

A session stands for a token or a user and is looked up in the database at every request: a token that is revoked or a
user that is disabled ends it at once. The cookie's secret is random; the table holds its SHA-256 only.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, Literal

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, and_, delete, select, update

from schemas.times import HOUR, MINUTE
from schemas.vocabulary import ROLES
from sinks.tables import sessions, tokens, users
from streams.ports import Principal

#: Random bytes to a size, from the shell.
Entropy = Callable[[int], bytes]
Kind = Literal["token", "user"]

#: A shift and its handover; and how long nobody need have looked. A queue that is open and live counts as looking.
SESSION_MS: Final = 16 * HOUR
IDLE_MS: Final = 4 * HOUR
#: `seen_at` is written at most this often.
_SEEN_EVERY: Final = 5 * MINUTE

LEAST_PASSWORD: Final = 10
MOST_PASSWORD: Final = 200

#: RFC 9106's second choice: 64 MiB, three passes.
_hasher: Final = PasswordHasher()
#: Hashing costs memory: so many at a time, the others wait.
_hashing: Final = threading.BoundedSemaphore(2)


class Session(msgspec.Struct, frozen=True):
    """Somebody logged in."""

    principal: Principal
    kind: Kind
    #: What the person is called among colleagues: the user's name or the token's label.
    name: str | None


def create_user(
    connection: Connection, *, name: str, password: str, principal: Principal, entropy: Entropy, now: int
) -> str:
    """Stores a user and returns the id; `principal.token_id` is given by the entropy. Raises ValueError."""
    if not 1 <= len(name.strip()) <= 100 or not name.isprintable():
        raise ValueError("a user's name has 1 to 100 printable characters")
    if principal.role not in ROLES:
        raise ValueError(f"{principal.role} is no role: choose among {', '.join(ROLES)}")
    if (principal.role == "station") != (principal.station is not None):
        raise ValueError("a user of a station names the station, and no other does")
    if connection.execute(select(users.c.id).where(users.c.name == name.strip())).first() is not None:
        raise ValueError(f"there is a user {name.strip()!r} already")
    identity = "u-" + entropy(8).hex()
    row = {
        "id": identity,
        "name": name.strip(),
        "password": hash_password(password),
        "role": principal.role,
        "source": principal.source,
        "station": principal.station,
        "county": principal.county,
        "created_at": now,
        "disabled_at": None,
    }
    connection.execute(users.insert(), [row])
    return identity


def set_password(connection: Connection, name: str, password: str) -> bool:
    """Another password for a user, whose sessions end; False for an unknown one. Raises ValueError."""
    found = connection.execute(select(users.c.id).where(users.c.name == name)).scalar()
    if found is None:
        return False
    connection.execute(update(users).where(users.c.id == found).values(password=hash_password(password)))
    connection.execute(delete(sessions).where(sessions.c.kind == "user", sessions.c.subject == found))
    return True


def disable_user(connection: Connection, name: str, *, now: int) -> bool:
    """Ends a user and the user's sessions; False for an unknown or disabled one."""
    statement = update(users).where(users.c.name == name, users.c.disabled_at.is_(None)).values(disabled_at=now)
    return connection.execute(statement).rowcount == 1


def enable_user(connection: Connection, name: str) -> bool:
    """Lets a disabled user log in again, with the password as it was; False for an unknown one or one who may."""
    statement = update(users).where(users.c.name == name, users.c.disabled_at.is_not(None)).values(disabled_at=None)
    return connection.execute(statement).rowcount == 1


class User(msgspec.Struct, frozen=True):
    """A user as it is listed."""

    name: str
    role: str
    station: str | None
    county: str | None
    disabled: bool


def listed(connection: Connection) -> list[User]:
    """All users by name."""
    rows = connection.execute(select(users).order_by(users.c.name)).mappings()
    return [User(row["name"], row["role"], row["station"], row["county"], row["disabled_at"] is not None) for row in rows]


def hash_password(password: str) -> str:
    """Argon2id. Raises ValueError for a password that is too short or too long. Blanks around it do not count."""
    password = password.strip()
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise ValueError(f"a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters")
    with _hashing:
        return _hasher.hash(password)


@cache
def _nobody() -> str:
    """A hash that no password fits: an unknown name costs what a known one does."""
    return _hasher.hash(hashlib.sha256(b"nobody").hexdigest())


def check_password(connection: Connection, name: str, password: str) -> str | None:
    """The id of the user whose name and password these are, else None. Takes as long for an unknown name."""
    row = connection.execute(select(users).where(users.c.name == name.strip())).mappings().first()
    known = row is not None and row["disabled_at"] is None
    encoded = row["password"] if row is not None and known else _nobody()
    try:
        with _hashing:
            _hasher.verify(encoded, password.strip()[:MOST_PASSWORD])
    except (VerificationError, InvalidHashError):
        return None
    return row["id"] if row is not None and known else None


# --- sessions ---------------------------------------------------------------------------------------------------------


def begin(connection: Connection, kind: Kind, subject: str, *, entropy: Entropy, now: int) -> str:
    """A new session -> the cookie's secret. Sessions that have ended are swept out."""
    connection.execute(delete(sessions).where(sessions.c.expires_at < now))
    secret = base64.urlsafe_b64encode(entropy(32)).rstrip(b"=").decode()
    row = {
        "digest": _digest(secret),
        "kind": kind,
        "subject": subject,
        "created_at": now,
        "seen_at": now,
        "expires_at": now + SESSION_MS,
    }
    connection.execute(sessions.insert(), [row])
    return secret


def find(connection: Connection, secret: str, *, now: int) -> tuple[Session | None, bool]:
    """The session of a secret, and whether `touch` is due. None once it has ended or its token or user has."""
    row = connection.execute(select(sessions).where(sessions.c.digest == _digest(secret))).mappings().first()
    if row is None or now >= row["expires_at"] or now >= row["seen_at"] + IDLE_MS:
        return None, False
    found = _token(connection, row["subject"], now) if row["kind"] == "token" else _user(connection, row["subject"])
    return found, now >= row["seen_at"] + _SEEN_EVERY


def touch(connection: Connection, secret: str, *, now: int) -> None:
    """Somebody looked."""
    connection.execute(update(sessions).where(sessions.c.digest == _digest(secret)).values(seen_at=now))


def end(connection: Connection, secret: str) -> None:
    """Logs out."""
    connection.execute(delete(sessions).where(sessions.c.digest == _digest(secret)))


def _token(connection: Connection, identity: str, now: int) -> Session | None:
    alive = and_(tokens.c.id == identity, tokens.c.revoked_at.is_(None), tokens.c.expires_at > now)
    row = connection.execute(select(tokens).where(alive)).mappings().first()
    if row is None:
        return None
    principal = Principal(row["id"], row["role"], row["source"], row["station"], row["county"])
    return Session(principal, "token", row["label"])


def _user(connection: Connection, identity: str) -> Session | None:
    row = connection.execute(select(users).where(users.c.id == identity)).mappings().first()
    if row is None or row["disabled_at"] is not None:
        return None
    principal = Principal(row["id"], row["role"], row["source"], row["station"], row["county"])
    return Session(principal, "user", row["name"])


class Colleague(msgspec.Struct, frozen=True):
    """Who did something: what they are called among colleagues, where they have a name, and what they are."""

    name: str | None
    role: str
    station: str | None


def colleagues(connection: Connection, ids: set[str]) -> dict[str, Colleague]:
    """The holders of these ids, as far as they are known."""
    found: dict[str, Colleague] = {}
    if ids:
        for table, name in ((tokens, tokens.c.label), (users, users.c.name)):
            wanted = select(table.c.id, name, table.c.role, table.c.station).where(table.c.id.in_(sorted(ids)))
            found |= {identity: Colleague(*known) for identity, *known in connection.execute(wanted)}
    return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


# --- slowing down -----------------------------------------------------------------------------------------------------


class Slowdown:
    """After some failures each further one doubles the wait, by name and by address. One for a process.

    A try goes by several names, each with its failures that cost no wait: few for one user at one address, more for what
    colleagues or a stranger could use up for somebody else.
    """

    #: The longest wait; how many names are remembered.
    MOST_MS: Final = 5 * MINUTE
    _SIZE: Final = 20_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: dict[str, tuple[int, int]] = {}

    def wait(self, names: Mapping[str, int], now: int) -> int:
        """Ms until the next try is looked at; 0 when it may be now."""
        with self._lock:
            return max((max(0, self._failed[name][1] - now) for name in names if name in self._failed), default=0)

    def failed(self, names: Mapping[str, int], now: int) -> None:
        """Counts a failure; `names` with the failures that are free."""
        with self._lock:
            if len(self._failed) >= self._SIZE:
                self._failed = {name: state for name, state in self._failed.items() if state[1] > now}
            for name, free in names.items():
                times = self._failed.get(name, (0, 0))[0] + 1
                over = times - free
                self._failed[name] = (times, now + (min(self.MOST_MS, 1000 << min(over, 20)) if over > 0 else 0))

    def succeeded(self, names: Mapping[str, int]) -> None:
        """Forgets the failures."""
        with self._lock:
            for name in names:
                self._failed.pop(name, None)


class Paces:
    """So many at once, then so many a minute, by name. One for a process; safe between threads."""

    _SIZE: Final = 50_000

    def __init__(self, burst: float, per_minute: float) -> None:
        self._burst, self._rate = burst, per_minute / MINUTE
        self._lock = threading.Lock()
        self._state: dict[str, tuple[float, int]] = {}

    def take(self, name: str, now: int) -> int:
        """Takes one -> 0, or the ms to wait while there is none."""
        with self._lock:
            if name not in self._state and len(self._state) >= self._SIZE:
                self._state.clear()
            level, then = self._state.get(name, (self._burst, now))
            level = min(self._burst, level + max(0, now - then) * self._rate)
            if level < 1:
                return int((1 - level) / self._rate) + 1
            self._state[name] = (level - 1, now)
            return 0
