"""A fold that fails on what a tip says, for tests; little is imported, for a worker imports it too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from schemas.records import Input, Output, Tip
from streams.pipeline import Fold

#: A tip that says this makes the fold raise.
CURSE: Final = "made to fail"


def cursed(make: Callable[[Any], Fold], flag: Path) -> Callable[[Any], Fold]:
    """Folds that raise on cursed tips while the flag stands, after they have touched their state."""

    def made(recall: Any) -> Fold:
        fold = make(recall)
        one = fold._one

        def failing(at: int, record: Input) -> list[Output]:
            outputs = one(at, record)
            if isinstance(record, Tip) and CURSE in record.text and flag.exists():
                raise RuntimeError(CURSE)
            return outputs

        fold._one = failing  # type: ignore[method-assign]
        return fold

    return made
