"""Bearer tokens: `tl_<id>_<secret>`, shown once, stored as SHA-256. The secret has 256 bits, so a plain digest is
enough."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from typing import Final

import msgspec
from sqlalchemy import Connection, Engine, select, update

from schemas.vocabulary import ROLES, Role
from sinks.database import reading
from sinks.tables import NEVER, tokens
from streams.ports import Clock, Principal

#: Random bytes a token is made of: 8 for its id, 32 for its secret.
ENTROPY_BYTES: Final = 40

#: A revoked token stops within this time, in every process.
CACHE_MS: Final = 1_000
_CACHE_SIZE: Final = 10_000


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it may be shown: all but its secret. Times in ms; `expires_at` None means never."""

    id: str
    role: Role
    source: str | None
    station: str | None
    county: str | None
    label: str | None
    created_at: int
    expires_at: int | None
    revoked_at: int | None


def create(
    connection: Connection,
    *,
    entropy: bytes,
    principal: Principal,
    now: int,
    expires_at: int | None = None,
    label: str | None = None,
) -> str:
    """Stores a token and returns it: the only time its secret is seen. `principal.token_id` is given by the entropy.

    Raises ValueError for too little entropy, and where the role lacks its scope (a station its station).
    """
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a token is made of {ENTROPY_BYTES} random bytes")
    if principal.role not in ROLES:
        raise ValueError(f"{principal.role} is no role: choose among {', '.join(ROLES)}")
    if (principal.role == "station") != (principal.station is not None):
        raise ValueError("a station's token names its station, and no other token does")
    identity = entropy[:8].hex()
    secret = base64.urlsafe_b64encode(entropy[8:]).rstrip(b"=").decode()
    row = {
        "id": identity,
        "digest": _digest(secret),
        "role": principal.role,
        "source": principal.source,
        "station": principal.station,
        "county": principal.county,
        "label": label,
        "created_at": now,
        "expires_at": NEVER if expires_at is None else expires_at,
        "revoked_at": None,
    }
    connection.execute(tokens.insert(), [row])
    return f"tl_{identity}_{secret}"


def id_of(token: str) -> str:
    """The public part of a token that `create` made."""
    return token.split("_", 2)[1]


def listed(connection: Connection) -> list[TokenInfo]:
    """All tokens, oldest first, without their secrets."""
    rows = connection.execute(select(tokens).order_by(tokens.c.created_at, tokens.c.id)).mappings()
    return [_info({**row}) for row in rows]


def revoke(connection: Connection, identity: str, *, now: int) -> bool:
    """Ends a token, for good; False when it is unknown or was revoked before."""
    statement = update(tokens).where(tokens.c.id == identity, tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    return connection.execute(statement).rowcount == 1


class DatabaseAuthority:
    """`streams.ports.Authority` over the table of tokens. Answers are remembered for CACHE_MS; safe between threads."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[int, int, Principal | None]] = {}

    def principal(self, token: str) -> Principal | None:
        """The token's principal, or None for an unknown, expired or revoked one."""
        now, key = self._clock(), hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            found = self._known.get(key)
        if found is None or not found[0] <= now < found[0] + CACHE_MS:
            expires, principal = self._look_up(token)
            found = (now, expires, principal)
            with self._lock:
                if len(self._known) >= _CACHE_SIZE:
                    self._known.clear()
                self._known[key] = found
        return found[2] if now < found[1] else None

    def _look_up(self, token: str) -> tuple[int, Principal | None]:
        parts = token.split("_", 2)
        if len(parts) != 3 or parts[0] != "tl" or not token.isascii() or "\0" in token:
            return NEVER, None
        with reading(self._engine) as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == parts[1][:32])).mappings().first()
        if (
            row is None
            or row["revoked_at"] is not None
            or not hmac.compare_digest(bytes(row["digest"]), _digest(parts[2]))
        ):
            return NEVER, None
        return row["expires_at"], Principal(row["id"], row["role"], row["source"], row["station"], row["county"])


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _info(row: dict[str, object]) -> TokenInfo:
    shown = {name: row[name] for name in TokenInfo.__struct_fields__}
    if shown["expires_at"] == NEVER:
        shown["expires_at"] = None
    return msgspec.convert(shown, TokenInfo)
