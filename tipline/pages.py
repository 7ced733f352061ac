"""What the pages need of the shell: taking a report, a preview while somebody types, and the ops page's hands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from producers.keyring import normal_receipt
from sinks import audit, dead_letters
from sinks.database import reading, writing
from stations.pages import Likely, Pages, Part, Preview
from stations.pages.foresight import foresee
from streams.ports import Principal, Sealed
from tipline.model import load_model
from tipline.settings import BadSettings
from tipline.store import Store, entropy, now_ms

if TYPE_CHECKING:
    from producers.http import Door
    from stations.service import Service
    from streams.pipeline import Facts
    from streams.ports import Authority

#: county, facts of a draft -> (incident id, score), the likeliest first; None where incidents are not remembered.
LikelyOf = Callable[[str, "Facts"], Sequence[tuple[str, float]] | None]
StatusOf = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Reach:
    """What differs between the homes of the pages. `append` puts a replayed dead letter back into a county's input."""

    status_of: StatusOf
    likely_of: LikelyOf
    parts: Callable[[], Sequence[Part]]
    append: Callable[[str, str, bytes], object]


def make_pages(store: Store, door: Door, service: Service, authority: Authority, reach: Reach) -> Pages:
    """The pages' needs, met by this process."""
    async def take(submission: dict[str, Any], principal: Principal) -> Mapping[str, Any]:
        accepted = await door.take(submission, principal, now_ms())
        return {"tip_id": accepted.tip_id, "receipt": accepted.receipt}

    def preview(county: str, draft: dict[str, Any]) -> Preview:
        def likely(facts: Facts) -> list[Likely] | None:
            found = reach.likely_of(county, facts)
            return None if found is None else [Likely(incident, score) for incident, score in found]

        return foresee(service.desk.counties[county], load_model(), draft, now_ms(), likely)

    def status(typed: str) -> Mapping[str, Any] | None:
        receipt = normal_receipt(typed)
        return None if receipt is None else reach.status_of(receipt)

    return Pages(
        desk=service.desk,
        incidents=service.incidents,
        hub=service.hub,
        authority=authority,
        clock=now_ms,
        entropy=entropy,
        take=take,
        preview=preview,
        status_of_receipt=status,
        ops=Hands(store, reach.parts, reach.append),
        public_url=_origin(store.settings.public_url),
        tiles=_tiles(store.settings.tiles),
    )


def _origin(given: str) -> str | None:
    """The setting public_url. Raises BadSettings unless it is an origin."""
    parts = urlsplit(given.rstrip("/"))
    if given and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query):
        raise BadSettings(f"TIPLINE_PUBLIC_URL {given}: is no origin; write it like https://tips.example")
    return given.rstrip("/") or None


def _tiles(given: str) -> str | None:
    """The setting tiles. Raises BadSettings unless it is a template of tiles at one host."""
    parts = urlsplit(given)
    fits = parts.scheme in ("http", "https") and re.fullmatch(r"[\w.-]+(:[0-9]+)?", parts.netloc, re.ASCII)
    if given and not (fits and all(part in parts.path for part in ("{z}", "{x}", "{y}"))):
        raise BadSettings(f"TIPLINE_TILES {given}: write it like https://tiles.example/{{z}}/{{x}}/{{y}}.png")
    return given or None


class Hands:
    """What the ops page may do. Every look into a dead letter is written to the audit first."""

    def __init__(
        self, store: Store, parts: Callable[[], Sequence[Part]], append: Callable[[str, str, bytes], object]
    ) -> None:
        self._store = store
        self._parts = parts
        self._append = append

    def parts(self) -> Sequence[Part]:
        """The parts of the installation and how they are."""
        return self._parts()

    def open_letter(self, identity: str, actor: str) -> bytes | None:
        """The bytes of a dead letter, unsealed; None for an unknown one."""
        with writing(self._store.engine) as connection:
            letter = dead_letters.find(connection, identity)
            if letter is not None:
                audit.append(connection, at=now_ms(), actor=actor, action="dead_letter.show", subject=identity)
        return None if letter is None else unsealed(self._store, letter)

    def replay(self, identity: str, actor: str) -> bool:
        """Puts a dead letter back into the input; False when it is unknown or settled."""
        with reading(self._store.engine) as connection:
            letter = dead_letters.find(connection, identity)
        if letter is None or letter.status != "kept":
            return False
        replay(self._store, letter, self._append)
        return settle(self._store, identity, "replayed", actor)

    def discard(self, identity: str, actor: str) -> bool:
        """Marks a dead letter as of no use; False when it is unknown or settled."""
        return settle(self._store, identity, "discarded", actor)


def settle(store: Store, identity: str, status: Literal["replayed", "discarded"], actor: str) -> bool:
    """Marks a dead letter as dealt with, and says so in the audit; False when it is unknown or was settled before."""
    with writing(store.engine) as connection:
        settled = dead_letters.settle(connection, identity, status, now=now_ms())
        if settled:
            audit.append(connection, at=now_ms(), actor=actor, action=f"dead_letter.{status}", subject=identity)
    return settled


def unsealed(store: Store, letter: dead_letters.DeadLetter) -> bytes:
    """A dead letter's bytes. Raises CannotOpen."""
    return bytes.fromhex(store.open_sealed(letter.id, msgspec.json.decode(letter.sealed, type=Sealed)))


def replay(store: Store, letter: dead_letters.DeadLetter, append: Callable[[str, str, bytes], object]) -> None:
    """Puts a dead letter's bytes at the end of its county's input, under a key of their own. Raises BadRecord for bytes that are still no record."""
    append(letter.county or letter.part, f"replay/{letter.id}", unsealed(store, letter))
