"""Named places where a test kills the process, to show that what comes before and after each durable step survives.

Nothing happens unless the shell arms one: `arm("accept.before_commit:3")` ends the process at the third pass, as
kill -9 would. `NAMES` lists every point; a runtime that adds a durable step adds its points here.
"""

from __future__ import annotations

import os
from typing import Final

#: Exit status of a process that a failpoint ended: that of SIGKILL.
EXIT_STATUS: Final = 137

NAMES: Final[frozenset[str]] = frozenset(
    {
        "accept.before_begin",  # nothing is written yet
        "accept.before_commit",  # rows are written, not committed
        "accept.after_commit",  # committed and fsynced, the callers do not know yet
        "decide.before_begin",
        "decide.before_commit",
        "decide.after_commit",
        "move.before_commit",  # a station's move, a correction, an escalation
        "move.after_commit",
    }
)

_left: dict[str, int] = {}


def arm(where: str) -> None:
    """`name:n`: end the process at the nth pass of `name` (n defaults to 1). Raises ValueError for an unknown name."""
    name, _, passes = where.partition(":")
    if name not in NAMES or not (passes or "1").isdecimal():
        raise ValueError(f"{where!r} is no failpoint: write NAME:N with one of {', '.join(sorted(NAMES))}")
    _left[name] = int(passes or "1")


def disarm() -> None:
    """Forgets all."""
    _left.clear()


def reach(name: str) -> None:
    """Passes the point `name`; ends the process there when it was armed and its turn has come."""
    if not _left or name not in _left:
        return
    _left[name] -= 1
    if _left[name] <= 0:
        os._exit(EXIT_STATUS)
