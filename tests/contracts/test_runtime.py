"""The embedded runtime where the store fails or the program does; what it promises like every other home, test_pipeline says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from schemas.errors import Unavailable
from schemas.records import public
from streams.breaker import Breaker, Broken
from streams.embedded.offline import Offline
from tests.contracts.cursed import CURSE
from tests.contracts.homes import Embedded
from tests.tips_made import tips
from tipline.model import load_model


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(tmp_path / "data", "anping", tmp_path / "flag")
    yield made
    made.close()


def test_a_batch_that_was_not_committed_is_decided_again_alike(home: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list(tips(80))
    home.feed(*told[:40])

    def away(*_: object, **__: object) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("streams.embedded.runtime.apply_outputs", away)
        with pytest.raises(Unavailable):
            home.feed(*told[40:])
    home.settle()
    offline = Offline(home.bundle, load_model())
    offline.decide(msgspec.structs.replace(one, tip_id=home.ident(one.tip_id)) for one in told)
    assert {t: public(d) for t, d in home.decisions().items()} == {t: public(d) for t, d in offline.latest.items()}


def test_a_broken_program_stops_instead_of_draining_the_log(home: Embedded) -> None:
    told = list(tips(200))
    home.feed(*told[:20])
    home.fail(True)
    with pytest.raises(Broken, match="fault of the program"):
        home.feed(*(msgspec.structs.replace(one, text=f"{CURSE} {one.text}") for one in told[20:]))
    assert len(home.letters()) < 100  # then it was enough


def test_the_breaker_opens_at_a_hundred_in_a_row_or_over_five_percent() -> None:
    steady = Breaker()
    with pytest.raises(Broken):
        for i in range(3000):
            steady.record(i % 15 == 0)  # 6.7 %
    patient = Breaker()
    for i in range(3000):
        patient.record(i % 25 == 24)  # 4 %
    row = Breaker(share=1.1)
    with pytest.raises(Broken):
        for _ in range(100):
            row.record(True)
