"""The errors of tipline.

TiplineError
 +- Rejected            refused at the door; the caller is told, nothing is kept
 |   +- Conflict        the idempotency key is known with other content
 +- BadRecord           a record of the log cannot be read
 |   +- FutureVersion   it was written by a later version
 +- BadCounty           a county directory with mistakes, all of them listed
 +- Unavailable         a service is missing or full; try later
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec


class Mistake(msgspec.Struct, frozen=True):
    """One fault: `pointer` (RFC 6901) says where, `detail` what and how to mend it."""

    pointer: str
    detail: str


class TiplineError(Exception):
    """Base of all errors of ours. `exit_code` is what the command line ends with (docs/contracts.md)."""

    exit_code: ClassVar[int] = 69


class Rejected(TiplineError):
    """Refused at the door. `status` is the HTTP status, `slug` the stable name of the problem."""

    exit_code = 65

    def __init__(self, status: int, slug: str, title: str, mistakes: Sequence[Mistake] = ()) -> None:
        super().__init__(title)
        self.status = status
        self.slug = slug
        self.title = title
        self.mistakes = tuple(mistakes)


class Conflict(Rejected):
    """The same (source, message_id) was accepted before with other content."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            409, "conflict", "This message_id was accepted before with other content", [Mistake("/message_id", detail)]
        )


class BadRecord(TiplineError):
    """Bytes in a log that are no record of ours. `reason` is one of the dead letters' reasons."""

    exit_code = 65

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BadCounty(TiplineError):
    """A county directory with mistakes: each `file:line: key: what and how to mend it`."""

    exit_code = 65

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class Unavailable(TiplineError):
    """A store or service is away or full; nothing was done. `retry_after` in seconds."""

    exit_code = 75

    def __init__(self, what: str, retry_after: int = 5) -> None:
        super().__init__(what)
        self.retry_after = retry_after
