"""The offline runtime: the fold over a list in memory, for `process`, evaluation and benchmarks. Nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.records import Decision, Tip
from streams.pipeline import Fold
from streams.ports import Bundle
from streams.stages.classify import Model


class Offline:
    """A fold with its past in a dictionary."""

    def __init__(self, bundle: Bundle, model: Model) -> None:
        self.latest: dict[str, Decision] = {}
        self.fold = Fold(bundle, model, self.latest.get)
        self._position = 0

    def decide(self, tips: Iterable[Tip]) -> None:
        """Folds the tips in order; `latest` then holds the highest revision of each."""
        for tip in tips:
            self._position += 1
            for output in self.fold.apply([(self._position, tip)]):
                if isinstance(output, Decision):
                    self.latest[output.tip_id] = output
