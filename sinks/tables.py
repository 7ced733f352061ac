"""The tables of delivery and of the stations' work: SQLAlchemy Core metadata, the same on SQLite and PostgreSQL.

Times are milliseconds since 1970 (UTC). `NEVER` stands where a clock does not run, so that indexes on times need no
null.
Dimensions of `statistics` that a tip lacks are empty strings, for a primary key may hold no null.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

#: Later than every moment that is ever compared with it.
NEVER: Final = 1 << 60

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: SQLite numbers rows by itself only where the type is literally INTEGER.
_serial = BigInteger().with_variant(Integer, "sqlite")

#: Last number given, by name (`decisions/<county>`, `station/<station>`, `audit`). The row lock makes numbers gapless.
counters = Table(
    "counters",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

#: The log `decisions`: one row a tip and revision, or a change of the fold's state. `seq` is gapless per county.
decisions = Table(
    "decisions",
    metadata,
    Column("county", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("tip_id", String(36)),
    Column("revision", Integer),
    Column("position", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("incident_id", String(36)),
    #: `<county>/<position>/<ordinal>` of a state change: what `(tip_id, revision)` is to a decision.
    Column("change_key", String(120), unique=True),
    Column("value", LargeBinary, nullable=False),
    UniqueConstraint("tip_id", "revision"),
    Index(None, "county", "position"),
    Index(None, "incident_id"),
)

#: How far a consumer has read: written in the transaction of what it read. `part` is a partition's number or a county.
positions = Table(
    "positions",
    metadata,
    Column("consumer", String(64), primary_key=True),
    Column("topic", String(128), primary_key=True),
    Column("part", String(64), primary_key=True),
    Column("position", BigInteger, nullable=False),
)

#: What happened, as the latest decisions of its tips tell it together. `revision` grows with every change and is the
#: ETag's number.
incidents = Table(
    "incidents",
    metadata,
    Column("incident_id", String(36), primary_key=True),
    Column("county", String(64), nullable=False),
    Column("category", String(32), nullable=False),
    Column("subtype", String(64)),
    Column("urgent", Boolean, nullable=False),
    Column("area", String(200)),
    Column("station", String(128), nullable=False),
    Column("level", String(16), nullable=False),
    Column("route_id", String(128), nullable=False),
    Column("title", Text, nullable=False),
    Column("pattern_id", String(36)),
    #: The earliest of its tips' times.
    Column("occurred_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("last_received_at", BigInteger, nullable=False),
    Column("corroborations", Integer, nullable=False),
    Column("tips", Integer, nullable=False),
    Column("no_action", Boolean, nullable=False),
    #: The tip with the smallest (occurred_at, tip_id): it stands for the incident in the statistics.
    Column("lead_tip", String(36)),
    Column("merged_into", String(36)),
    Column("revision", Integer, nullable=False),
    Index(None, "county", "received_at"),
    Index(None, "pattern_id"),
)

#: The latest decision of each tip, as far as tables need it; also its contribution to the statistics.
incident_tips = Table(
    "incident_tips",
    metadata,
    Column("tip_id", String(36), primary_key=True),
    Column("incident_id", String(36), nullable=False, index=True),
    Column("county", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("link", String(16), nullable=False),
    Column("link_to", String(36)),
    Column("category", String(32), nullable=False),
    Column("subtype", String(64)),
    Column("urgent", Boolean, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("area", String(200)),
    Column("title", Text, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("source", String(200), nullable=False),
    Column("station", String(128), nullable=False),
    Column("occurred_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    #: Start of the incident's hour, county-local, as the moment it is.
    Column("hour", BigInteger, nullable=False),
    Index(None, "link_to"),
)

#: What the tips of a large incident say together, summed by category, subtype and area ("" for none), so that one tip
#: more need not read them all (`sinks.sums`). Made anew from `incident_tips` where it is missing.
incident_sums = Table(
    "incident_sums",
    metadata,
    Column("incident_id", String(36), primary_key=True),
    Column("category", String(32), primary_key=True),
    Column("subtype", String(64), primary_key=True),
    Column("area", String(200), primary_key=True),
    Column("tips", Integer, nullable=False),
    Column("urgent", Boolean, nullable=False),
    #: The sum of their confidence, in millionths.
    Column("certainty", BigInteger, nullable=False),
    #: The tip with the smallest (occurred_at, tip_id).
    Column("first_at", BigInteger, nullable=False),
    Column("first_tip", String(36), nullable=False),
    Column("title", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("last_received_at", BigInteger, nullable=False),
)

#: One incident on one station's queue. See `sinks.station_queue.Assignment` for what each column means.
assignments = Table(
    "assignments",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("incident_id", String(36), nullable=False, unique=True),
    Column("county", String(64), nullable=False),
    Column("station", String(128), nullable=False),
    Column("status", String(16), nullable=False),
    Column("level", String(16), nullable=False),
    Column("category", String(32), nullable=False),
    Column("subtype", String(64)),
    Column("urgent", Boolean, nullable=False),
    Column("area", String(200)),
    Column("title", Text, nullable=False),
    Column("corroborations", Integer, nullable=False),
    Column("route_id", String(128), nullable=False),
    Column("dispatched_at", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("clock", String(8), nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("overdue", Boolean, nullable=False),
    Column("wake_at", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("events", Integer, nullable=False),
    Column("lease_token", Integer),
    Column("lease_expires", BigInteger),
    Column("lease_holder", String(128)),
    Column("owner", String(128)),
    Column("outcome", String(100)),
    Column("resolved_at", BigInteger),
    Column("resolved_level", String(16)),
    Column("returns", Integer, nullable=False),
    Column("returned_by", Text, nullable=False),
    Column("touched", Boolean, nullable=False),
    Column("merged_into", String(36)),
    Column("rank", Integer, nullable=False),
    #: Claim order: urgent (rank 0) first, then the others (1), then due.
    Index("ix_assignments_queue", "station", "status", "rank", "due_at", "id"),
    #: A whole queue in that order.
    Index("ix_assignments_listing", "station", "rank", "due_at", "id"),
    Index(None, "wake_at"),
    Index(None, "county", "resolved_level"),
)

#: Stations that see an assignment without holding it. `origin` is `route` (the decision's cc) or `work` (events of the
#: work).
assignment_cc = Table(
    "assignment_cc",
    metadata,
    Column("assignment_id", String(36), primary_key=True),
    Column("station", String(128), primary_key=True),
    Column("origin", String(8), nullable=False),
    Index(None, "station"),
)

#: The history of stations' work, append-only: who, when, why, and the state after it. Also the outbox of the log
#: `assignments`.
assignment_events = Table(
    "assignment_events",
    metadata,
    Column("id", _serial, primary_key=True, autoincrement=True),
    Column("assignment_id", String(36), nullable=False),
    Column("number", Integer, nullable=False),
    Column("incident_id", String(36), nullable=False, index=True),
    Column("county", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("station", String(128), nullable=False),
    Column("from_station", String(128)),
    Column("reason", Text),
    Column("data", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("relayed_at", BigInteger),
    UniqueConstraint("assignment_id", "number"),
    Index(
        "ix_assignment_events_unrelayed",
        "id",
        sqlite_where=text("relayed_at IS NULL"),
        postgresql_where=text("relayed_at IS NULL"),
    ),
)

#: One gapless stream a station: what `Last-Event-ID` names. A move stands in the stream of each station that sees it.
station_events = Table(
    "station_events",
    metadata,
    Column("station", String(128), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("assignment_id", String(36), nullable=False),
    Column("event_number", Integer, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("at", BigInteger, nullable=False),
)

DIMENSIONS: Final = ("county", "category", "subtype", "area", "hour", "channel", "link", "station")

statistics = Table(
    "statistics",
    metadata,
    Column("county", String(64), primary_key=True),
    Column("category", String(32), primary_key=True),
    Column("subtype", String(64), primary_key=True),
    Column("area", String(200), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("channel", String(16), primary_key=True),
    Column("link", String(16), primary_key=True),
    Column("station", String(128), primary_key=True),
    Column("tips", BigInteger, nullable=False),
    Column("incidents", BigInteger, nullable=False),
    Index(None, "county", "hour"),
)

#: Admitted but not processable. `sealed` are the record's bytes, sealed by whoever put it here.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("county", String(64)),
    Column("reason", String(32), nullable=False),
    Column("detail", String(1000), nullable=False),
    Column("topic", String(128), nullable=False),
    Column("part", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("record_id", String(200)),
    Column("sealed", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("settled_at", BigInteger),
    UniqueConstraint("topic", "part", "position"),
    Index(None, "status", "at"),
)

#: Who saw or changed what. `hash` = SHA-256(previous hash + canonical row): an edit, a gap or a swap shows.
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("detail", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

#: Bearer tokens: the SHA-256 of the secret only.
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("role", String(16), nullable=False),
    Column("source", String(200)),
    Column("station", String(128)),
    Column("county", String(64)),
    Column("label", String(200)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

#: What must still leave: `input` (a record for the county's input), `reply` (an incident's new public status), `answer`
#: (it, for one reporter). `key` makes the effect happen once.
outbox = Table(
    "outbox",
    metadata,
    Column("id", _serial, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("county", String(64), nullable=False),
    Column("key", String(200), nullable=False),
    Column("target", String(200), nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("done_at", BigInteger),
    Column("error", String(500)),
    UniqueConstraint("kind", "key"),
    Index(
        "ix_outbox_waiting",
        "kind",
        "next_at",
        sqlite_where=text("done_at IS NULL"),
        postgresql_where=text("done_at IS NULL"),
    ),
)

#: People who log in to the pages with a name and a password. `id` is what histories name; `name` stays here.
users = Table(
    "users",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    #: Argon2id with its salt and cost, in the encoded form.
    Column("password", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("source", String(200)),
    Column("station", String(128)),
    Column("county", String(64)),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

#: Who is logged in: the SHA-256 of the cookie's secret, and the token or user it stands for.
sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    #: `token` or `user`, and its id.
    Column("kind", String(8), nullable=False),
    Column("subject", String(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index(None, "expires_at"),
)

#: Accepted tips as the gateways relayed them: what one gateway's spool knows, every gateway can answer. Not filled by the
#: embedded runtime, whose log of tips answers by itself.
accepted = Table(
    "accepted",
    metadata,
    Column("tip_id", String(36), primary_key=True),
    Column("county", String(64), nullable=False),
    Column("receipt", String(64), nullable=False, unique=True),
    Column("value", LargeBinary, nullable=False),
)

#: What was sealed out of the relayed tips. Erasing a row destroys the identity and its key.
identities = Table(
    "identities",
    metadata,
    Column("tip_id", String(36), primary_key=True),
    Column("kind", String(64), primary_key=True),
    Column("token", String(200), primary_key=True),
    Column("key_id", String(64), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Index(None, "token"),
    Index(None, "key_id"),
)
