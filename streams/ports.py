"""What the rooms ask of each other: protocols and the small types that cross them. No implementation, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from schemas.records import Decision, Tip
from schemas.vocabulary import Role

#: Milliseconds since 1970, UTC. The only clock anybody below the shell ever sees.
Clock = Callable[[], int]

#: The fold's way to its own past: the highest revision of a tip's decision, or None. Reads, never writes.
Recall = Callable[[str], Decision | None]


class Sealed(msgspec.Struct, frozen=True):
    """One identity, sealed: AES-256-GCM under a data key of its own, which a named key wraps."""

    token: str
    kind: str
    key_id: str
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes


class Admitted(msgspec.Struct, frozen=True):
    """A tip ready for the log: the record, the digest of its content (for idempotency) and what was sealed out of it."""

    tip: Tip
    digest: bytes
    receipt: str
    identities: tuple[Sealed, ...] = ()


class Accepted(msgspec.Struct, frozen=True):
    """The answer for one admitted tip. `outcome` is `accepted`, `redelivered` (same content, nothing new) or `conflict`."""

    tip_id: str
    receipt: str
    outcome: Literal["accepted", "redelivered", "conflict"]


class Intake(Protocol):
    """The door's side of the log `tips`."""

    def accept(self, admitted: Sequence[Admitted]) -> list[Accepted]:
        """Appends all in one fsynced commit and returns an answer for each, in order.

        Blocks until the commit is durable. Raises Unavailable when nothing was written (disk or spool full).
        """


class Principal(msgspec.Struct, frozen=True):
    """Who calls: a token's id and what it may do. Never a person's name."""

    token_id: str
    role: Role
    source: str | None = None
    station: str | None = None
    county: str | None = None


class Authority(Protocol):
    """Knows bearer tokens."""

    def principal(self, token: str) -> Principal | None:
        """The token's principal, or None for an unknown, expired or revoked one."""


class Reply(msgspec.Struct, frozen=True):
    """What a channel tells one reporter: the new public status of what they reported, and since when (RFC 3339).

    `key` follows from (incident, status, reporter): the same key is never told twice. `message_id` is that of their tip.
    """

    key: str
    source: str
    reporter: str | None
    tip_id: str
    message_id: str | None
    lang: str | None
    status: str
    at: str


class Answering(Protocol):
    """The outgoing side of the channels."""

    def reaches(self, source: str) -> bool:
        """Whether there is a way back to those who write from a source."""

    def reply(self, reply: Reply) -> bool:
        """Tells the reporter where they wrote from; False where the channel has no way back.

        Raises Unavailable to be asked again later; any other TiplineError gives up.
        """


#: Every metric of tipline, once: code, docs and dashboards read the names here. Type and meaning stand in `METRICS`.
MetricName = Literal[
    "tipline_accepted_total",
    "tipline_redelivered_total",
    "tipline_refused_total",
    "tipline_accept_seconds",
    "tipline_decided_total",
    "tipline_revised_total",
    "tipline_decide_seconds",
    "tipline_end_to_end_seconds",
    "tipline_dead_letters_total",
    "tipline_lag_records",
    "tipline_queue_depth",
    "tipline_queue_oldest_seconds",
    "tipline_station_moves_total",
    "tipline_escalated_total",
    "tipline_bounced_total",
    "tipline_spool_records",
    "tipline_http_seconds",
    "tipline_patterns_alerted_total",
    "tipline_webhooks_unopened",
]


class MetricInfo(msgspec.Struct, frozen=True):
    """`kind` is counter, gauge or histogram; labels never carry ids of tips or reporters."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


METRICS: Mapping[MetricName, MetricInfo] = {
    "tipline_accepted_total": MetricInfo("counter", ("channel",), "Tips accepted (202 given)."),
    "tipline_redelivered_total": MetricInfo("counter", ("channel",), "Submissions that were accepted before, with the same content."),
    "tipline_refused_total": MetricInfo("counter", ("reason",), "Submissions refused at the door."),
    "tipline_accept_seconds": MetricInfo("histogram", (), "From the request's last byte to its durable commit."),
    "tipline_decided_total": MetricInfo("counter", ("category", "link"), "First decisions, one a tip."),
    "tipline_revised_total": MetricInfo("counter", ("cause",), "Later revisions of decisions."),
    "tipline_decide_seconds": MetricInfo("histogram", (), "One batch through the fold and its commit."),
    "tipline_end_to_end_seconds": MetricInfo("histogram", (), "From acceptance to the station's queue."),
    "tipline_dead_letters_total": MetricInfo("counter", ("reason",), "Records put aside as dead letters."),
    "tipline_lag_records": MetricInfo("gauge", ("county",), "Records of `tips` not yet decided."),
    "tipline_queue_depth": MetricInfo("gauge", ("station", "status"), "Assignments on a station's queue."),
    "tipline_queue_oldest_seconds": MetricInfo("gauge", ("station",), "Age of the oldest open assignment."),
    "tipline_station_moves_total": MetricInfo("counter", ("move",), "Moves made on assignments."),
    "tipline_escalated_total": MetricInfo("counter", ("level", "clock"), "Assignments escalated, by the level reached and the clock that ran out."),
    "tipline_bounced_total": MetricInfo("counter", ("station", "reason"), "Assignments returned by a station."),
    "tipline_spool_records": MetricInfo("gauge", (), "Accepted records that wait for the relay."),
    "tipline_http_seconds": MetricInfo("histogram", ("route", "status"), "HTTP requests by route template and status class."),
    "tipline_patterns_alerted_total": MetricInfo("counter", ("subtype",), "Patterns that reached their third incident."),
    "tipline_webhooks_unopened": MetricInfo("gauge", (), "Webhooks whose secret does not open with the keys that there are."),
}


class Metrics(Protocol):
    """Where figures go. Implementations check names and labels against `METRICS`."""

    def count(self, name: MetricName, amount: float = 1, **labels: str) -> None:
        """Adds to a counter."""

    def observe(self, name: MetricName, value: float, **labels: str) -> None:
        """Adds an observation (seconds) to a histogram."""

    def gauge(self, name: MetricName, value: float, **labels: str) -> None:
        """Sets a gauge."""


class Row(msgspec.Struct, frozen=True):
    """One entry of a log as stored: its position, its key and its bytes."""

    position: int
    key: str
    value: bytes


class InputLog(Protocol):
    """The runtime's side of the log `tips`."""

    def read(self, county: str, after: int, limit: int) -> list[Row]:
        """Up to `limit` rows of a county with position > `after`, in order."""

    def append(self, county: str, key: str, value: bytes) -> int | None:
        """Appends a correction, closure or change once by its `key`; None when the key is known. Durable on return."""

    def end(self, county: str) -> int:
        """The last position of a county, 0 when it has none."""


Bundle = dict[str, Any]
