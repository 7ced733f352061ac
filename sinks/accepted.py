"""Accepted tips where several machines work on one installation: what one gateway relayed, each of them can answer for."""

from __future__ import annotations

from sqlalchemy import Connection, select

from sinks.tables import accepted


def record_of(connection: Connection, tip_id: str) -> bytes | None:
    """The record of a tip that was relayed."""
    value: bytes | None = connection.execute(select(accepted.c.value).where(accepted.c.tip_id == tip_id)).scalar()
    return value


def tip_of(connection: Connection, receipt: str) -> str | None:
    """The relayed tip that a receipt was given for."""
    tip_id: str | None = connection.execute(select(accepted.c.tip_id).where(accepted.c.receipt == receipt)).scalar()
    return tip_id
