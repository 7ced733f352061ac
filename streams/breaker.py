"""When to stop deciding: too many failures of our own code are a broken deployment, not poison. Pure; both runtimes use it."""

from __future__ import annotations

from collections import deque

from schemas.errors import TiplineError


class Broken(TiplineError):
    """Our code fails on too many valid records: nothing more is decided until it is mended."""


class Breaker:
    """Counts failures of our own code on valid records: over 5 % of the last 1,000, or 100 in a row, is a broken
    deployment, not poison, and must not drain the log into the dead letters."""

    def __init__(self, window: int = 1000, share: float = 0.05, in_a_row: int = 100, least: int = 100) -> None:
        self._seen: deque[bool] = deque(maxlen=window)
        self._share = share
        self._limit = in_a_row
        self._least = least
        self._row = 0

    def record(self, failed: bool) -> None:
        """Notes one valid record. Raises Broken."""
        self._seen.append(failed)
        self._row = self._row + 1 if failed else 0
        failures = sum(self._seen) if failed else 0
        if self._row >= self._limit or (len(self._seen) >= self._least and failures > self._share * len(self._seen)):
            raise Broken(
                f"deciding failed on {failures} of the last {len(self._seen)} valid records, {self._row} in a row: "
                "this is a fault of the program, not of the records. Nothing was committed for this batch. "
                "Go back to the version before, or mend it, and start again."
            )
