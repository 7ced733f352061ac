"""Odd texts go through the whole fold: each has its decision and a queue, in time, and holds up nobody."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from schemas.records import Decision
from schemas.vocabulary import CATEGORIES, SUBTYPES
from tests.fold_made import Driven, tip
from tests.odd_texts import ODD

HERE = Path(__file__).parents[1]
CHANNELS = ("volunteer", "hotline", "bot", "web", "partner")


@pytest.fixture(scope="module")
def busy() -> Driven:
    """A county's fold with some hundred tips of the last hours in mind."""
    made = Driven()
    texts = [json.loads(line)["text"] for line in (HERE / "quality" / "classify-a-1.jsonl").read_text("utf-8").splitlines()]
    made.feed(*[tip(f"before-{n}", text, n * 0.5) for n, text in enumerate(texts)])
    return made


@pytest.mark.parametrize("name", ODD)
def test_every_odd_text_is_decided_in_time(busy: Driven, name: str) -> None:
    taken = []
    for channel in CHANNELS:
        one = tip(f"{name}-{channel}", ODD[name], 50, channel=channel, source=f"{channel}:odd")
        start = time.thread_time()  # of this thread alone: what else the machine does counts for nothing
        written = busy.feed(one)
        taken.append(time.thread_time() - start)
        said = next(o for o in written if isinstance(o, Decision) and o.tip_id == one.tip_id)
        assert said.category in CATEGORIES and (said.subtype is None or said.subtype in SUBTYPES[said.category])
        assert said.station and said.route_id and said.incident_id and said.reasons
    assert min(taken) < 0.005, taken
