"""Deciding the batches of one county: bytes in, outputs and dead letters out. No Kafka here, and no Faust.

The fold is driven record by record, so that what a batch had decided before a failure is not lost with it. A record on
which our own code fails is tried a second time on a state rebuilt from `decisions`; after that it is a dead letter, and the
breaker counts it. Failures seldom come alone: from the first on, for as long as `CAREFUL` records, the decider keeps what
the state is made of, and rebuilds it by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from schemas.codec import decode_input, decode_output
from schemas.errors import BadRecord
from schemas.records import Decision, Input, Output, StateChange, Tip
from streams.breaker import Breaker
from streams.distributed.envelope import Group, Sendable, decode_told, of_outputs
from streams.pipeline import Fold, FoldFailed, analyse
from streams.ports import Recall, Row

#: How often a valid record is tried in all.
TRIES: Final = 2
#: After a failure, so many good records in a row until the means to rebuild are let go.
CAREFUL: Final = 1000
_DECODED: Final = 4096
_PIECE: Final = 2000
#: Decisions that may be kept beyond what is asked for.
_SPARE: Final = 10_000

MakeFold = Callable[[Recall], Fold]


class Bad(msgspec.Struct, frozen=True):
    """A row to put aside. `reason` is one of the dead letters'; `detail` repeats nothing of the record."""

    row: Row
    reason: str
    detail: str


class Decided(msgspec.Struct):
    """What deciding a batch gave. `left` are the rows that wait for a rebuilt state."""

    sendables: list[Sendable] = []
    decisions: list[Decision] = []
    bad: list[Bad] = []
    left: Sequence[Row] = ()
    rebuild: bool = False


class Memory:
    """The latest decision of each tip that the fold may ask for, as bytes; those asked for lately also decoded."""

    def __init__(self) -> None:
        self._bytes: dict[str, bytes] = {}
        self._decoded: dict[str, Decision] = {}

    def keep(self, decision: Decision, value: bytes) -> None:
        """Notes a decision; the one before is forgotten."""
        self._bytes[decision.tip_id] = value
        self._decoded[decision.tip_id] = decision
        if len(self._decoded) > _DECODED:
            for tip_id in list(self._decoded)[: _DECODED // 2]:
                del self._decoded[tip_id]

    def remember(self, tip_id: str, value: bytes) -> None:
        """As `keep`, for a decision that nobody asks for soon."""
        self._bytes[tip_id] = value
        self._decoded.pop(tip_id, None)

    def recall(self, tip_id: str) -> Decision | None:
        """The latest decision of a tip."""
        found = self._decoded.get(tip_id)
        if found is not None:
            return found
        value = self._bytes.get(tip_id)
        decision = decode_output(value) if value is not None else None
        return decision if isinstance(decision, Decision) else None

    def forget_all_but(self, tips: Iterable[str]) -> None:
        """Drops the decisions of tips that the fold does not remember any more."""
        wanted = set(tips)
        for tip_id in [t for t in self._bytes if t not in wanted]:
            del self._bytes[tip_id]
            self._decoded.pop(tip_id, None)

    def __len__(self) -> int:
        return len(self._bytes)


class Decider:
    """One county's fold with its memory. One thread at a time may call it."""

    def __init__(self, county: str, make_fold: MakeFold, breaker: Breaker) -> None:
        self.county = county
        self._make_fold = make_fold
        self._breaker = breaker
        self._failed_at = 0
        self._tries = 0
        self._good = 0
        #: All outputs so far, as bytes, while the decider is careful.
        self._history: list[bytes] | None = None
        self.memory = Memory()
        self.fold = make_fold(self.memory.recall)

    # --- state -------------------------------------------------------------------------------------------------------------

    def begin_anew(self, careful: bool = False) -> None:
        """Forgets everything; `restore` follows. `careful` after a failure."""
        self._history = [] if careful else None
        self._good = 0
        self.memory = Memory()
        self.fold = self._make_fold(self.memory.recall)

    def restore(self, groups: Iterable[Group]) -> None:
        """Takes up what was decided before, in the order of the log. May be called piece by piece."""
        outputs: list[Output] = []
        for group in groups:
            outputs.extend(group.outputs)
            if self._history is not None:
                self._history.extend(group.values)
            for output, value in zip(group.outputs, group.values, strict=True):
                if not isinstance(output, StateChange):
                    self.memory.remember(output.tip_id, value)
        self.fold.restore(outputs)

    def _again(self, history: Sequence[bytes]) -> None:
        """The state as it was before the failure."""
        self._good = 0
        self.fold = self._make_fold(self.memory.recall)
        for begin in range(0, len(history), _PIECE):
            self.fold.restore([decode_told(value) for value in history[begin : begin + _PIECE]])

    # --- a batch -----------------------------------------------------------------------------------------------------------

    def decide(self, rows: Sequence[Row]) -> Decided:
        """Decides rows in order. With `rebuild` set the state is spoilt: the caller makes the outputs durable, calls
        `begin_anew` and `restore`, and then decides what is `left`. Raises Broken."""
        made = Decided()
        index = 0
        while index < len(rows):
            row = rows[index]
            index += 1
            if row.position <= self.fold.position:
                continue
            try:
                record = self._read(row)
            except BadRecord as error:
                made.bad.append(Bad(row, error.reason, error.detail))
                continue
            try:
                outputs = self.fold.apply([(row.position, record)])
            except FoldFailed as failure:
                spoilt = not self._untouched(record)
                if spoilt and self._once_more(row):
                    index -= 1
                else:
                    self._breaker.record(True)
                    made.bad.append(Bad(row, "fold_failed", type(failure.__cause__).__name__))
                if spoilt and self._history is None:
                    made.left, made.rebuild = rows[index:], True
                    return made
                if spoilt and self._history is not None:
                    self._again(self._history)
                continue
            self._breaker.record(False)
            self._note_good()
            if outputs:
                self._take(made, outputs)
        self._forget()
        return made

    def _forget(self) -> None:
        """What the fold has forgotten it never asks for: seldom, for looking costs a pass over all."""
        if len(self.memory) > 2 * len(self.fold.groups.tips) + _SPARE:
            self.memory.forget_all_but(self.fold.groups.tips)

    def _note_good(self) -> None:
        if self._history is not None:
            self._good += 1
            if self._good >= CAREFUL:
                self._history = None

    def _read(self, row: Row) -> Input:
        record = decode_input(row.value)
        if record.county != self.county:
            raise BadRecord("invalid", f"a record of another county in the input of {self.county}")
        return record

    def _untouched(self, record: Input) -> bool:
        """Whether the failure came before the record reached the state, so that nothing need be rebuilt."""
        if not isinstance(record, Tip):
            return False
        try:
            analyse(self.fold.county, self.fold.model, record)
        except Exception:
            return True
        return False

    def _once_more(self, row: Row) -> bool:
        self._tries = self._tries + 1 if self._failed_at == row.position else 1
        self._failed_at = row.position
        return self._tries < TRIES

    def _take(self, made: Decided, outputs: Sequence[Output]) -> None:
        for output, sendable in zip(outputs, of_outputs(outputs), strict=True):
            made.sendables.append(sendable)
            if self._history is not None:
                self._history.append(sendable[1])
            if isinstance(output, Decision):
                self.memory.keep(output, sendable[1])
                made.decisions.append(output)
