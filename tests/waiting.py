"""Waiting for what must come true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(question: Callable[[], T], seconds: float = 60) -> T:
    """Asks again until the answer is truthy, and returns it; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := question()):
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.02)
    return found
