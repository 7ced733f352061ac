"""Problem documents (RFC 9457): how every refusal of tipline looks on the wire. Pure: errors in, dict or bytes out.

Shape: `{type, title, status, detail?, errors: [{pointer, detail}], retry_after?}`. `type` is
`urn:tipline:problem:<slug>`; the slug is stable and what programs read. `errors` is never empty: what concerns the whole
request has the pointer "". No value that a caller sent is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from schemas.errors import Mistake, Rejected, Unavailable

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:tipline:problem:"


def problem(
    status: int, slug: str, title: str, mistakes: Sequence[Mistake] = (), detail: str | None = None
) -> dict[str, Any]:
    """A problem document. `slug` names its kind for ever, `title` says it, `mistakes` say where and how to mend."""
    document: dict[str, Any] = {"type": TYPE_PREFIX + slug, "title": title, "status": status}
    if detail:
        document["detail"] = detail
    document["errors"] = errors(title, mistakes)
    return document


def errors(title: str, mistakes: Sequence[Mistake]) -> list[dict[str, str]]:
    """The list `errors` of a problem."""
    return [{"pointer": one.pointer, "detail": one.detail} for one in mistakes or [Mistake("", title)]]


def of_rejected(error: Rejected) -> dict[str, Any]:
    """The document for something refused."""
    return problem(error.status, error.slug, error.title, error.mistakes)


def of_unavailable(error: Unavailable) -> dict[str, Any]:
    """The document for a store or service that is away or full; `retry_after` in seconds. Which one is not told."""
    document = problem(503, "unavailable", "Nothing was stored: a service is away or full. Send the same again later")
    document["retry_after"] = error.retry_after
    return document


def internal(reference: str) -> dict[str, Any]:
    """The document for a fault of ours; `reference` finds it in the log."""
    return problem(500, "internal", "A fault of the server's, not of the request", detail=f"Reference {reference}")


def encode(document: dict[str, Any]) -> bytes:
    """The document as JSON."""
    return orjson.dumps(document)
