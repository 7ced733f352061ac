"""Floors under grouping, on incidents that nothing was trained on: two dense files, and days as a county sees them."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from producers.parsing import Parsed
from schemas.times import HOUR, format_time, parse_time
from schemas.vocabulary import NO_ACTION
from streams.stages.pair import FEATURES
from tipline.county import find_county, load_county
from tipline.demo.day import read_day
from tipline.evaluate import Grouped, Labelled, group, group_figures, read_labelled, with_thresholds
from tipline.model import load_model
from tipline.process import process

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "streams" / "model"
MIDNIGHT = parse_time("2026-11-24T00:00:00+08:00")


def scored(truth: dict[str, str], found: dict[str, str]) -> dict[str, Any]:
    """Row -> true incident, row -> incident said: the figures of `tipline evaluate group`."""
    return group_figures(
        [Grouped(row, "", incident, found[row], "new", ()) for row, incident in truth.items()], intervals=False
    )


def labels() -> dict[str, str | None]:
    """Rows of the demo's day -> incident; None where readers differ."""
    rows = {row.id: row for row in read_day()}
    listed: dict[str, str | None] = dict.fromkeys(rows, "")
    for line in (HERE / "day.tsv").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        incident, row, start = line.split("\t")
        assert rows[row].text.startswith(start), f"day.tsv: {row} does not begin with {start}"
        listed[row] = None if incident == "?" else incident
    return {row: row if incident == "" else incident for row, incident in listed.items()}


@cache
def demo_day() -> dict[str, Any]:
    """The demo's day, decided: row -> public decision."""
    rows = read_day()
    parsed = [Parsed(n, row.submission(MIDNIGHT, 480), None) for n, row in enumerate(rows, 1)]
    lines = process(parsed, load_county(find_county("anping")), load_model())
    assert all(good for good, _ in lines)
    return {row.id: json.loads(line) for row, (_, line) in zip(rows, lines, strict=True)}


def test_a_countys_day_joins_few_strangers_and_most_that_belong_together() -> None:
    truth = {row: incident for row, incident in labels().items() if incident is not None}
    said = scored(truth, {row: demo_day()[row]["incident_id"] for row in truth})
    assert said["pairwise_recall"] >= 0.90 and said["pairwise_precision"] >= 0.93, said
    assert said["falsely_joined"] <= 0.04, said


def test_strangers_of_two_townships_are_never_joined() -> None:
    """What is falsely joined on the day lies at one place; a forward is told everywhere."""
    truth = labels()
    by_incident: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row, decision in demo_day().items():
        area = (decision["area"] or "").split("/")
        if len(area) > 1 and truth[row] is not None:
            by_incident[decision["incident_id"]].add((str(truth[row]), area[1]))
    for members in by_incident.values():
        assert len({incident for incident, _ in members}) == 1 or len({township for _, township in members}) == 1, (
            members
        )


def test_publicity_stays_by_itself() -> None:
    work = {d["incident_id"] for d in demo_day().values() if d["subtype"] not in NO_ACTION}
    idle = [d for d in demo_day().values() if d["subtype"] in NO_ACTION]
    assert len(idle) >= 3 and not [d["message_id"] for d in idle if d["incident_id"] in work]


@pytest.mark.parametrize(
    ("name", "precision", "recall", "falsely_joined"),
    [
        ("group-a.jsonl", 0.90, 0.75, 0.07),
        ("group-b.jsonl", 0.86, 0.55, 0.08),
        ("group-c.jsonl", 0.83, 0.71, 0.06),
        ("group-d.jsonl", 0.83, 0.73, 0.11),
        ("group-e.jsonl", 0.83, 0.73, 0.06),
        ("group-mixed.jsonl", 0.78, 0.82, 0.07),
    ],
)
def test_dense_files(name: str, precision: float, recall: float, falsely_joined: float) -> None:
    texts = read_labelled(HERE / name, "anping")
    said = group_figures(group(texts, load_county(find_county("anping")), load_model()), intervals=False)
    assert (
        said["pairwise_precision"] >= precision
        and said["pairwise_recall"] >= recall
        and said["falsely_joined"] <= falsely_joined
    ), said


@pytest.mark.parametrize(
    ("join", "falsely_joined", "recall"), [(None, 0.22, 0.82), (0.7, 0.11, 0.71)], ids=["as shipped", "carefully"]
)
def test_a_day_of_five_hundred_tips_without_places(join: float | None, falsely_joined: float, recall: float) -> None:
    """A written day with hundreds of other texts laid over it, each an incident of its own; a county with such days joins
    more carefully."""
    chance = random.Random(3)
    told = read_labelled(HERE / "group-mixed.jsonl", "anping")
    began = min(parse_time(t.tip.received_at) for t in told)
    for one in chance.sample(
        [t for path in sorted(HERE.glob("classify-*.jsonl")) for t in read_labelled(path, "anping")], 400
    ):
        at = format_time(began + chance.randrange(16 * HOUR), 480)
        tip = msgspec.structs.replace(one.tip, received_at=at, reported_at=at)
        told.append(Labelled(one.id, tip, {**one.label, "incident_id": one.id}))
    told.sort(key=lambda t: (t.tip.received_at, t.id))
    county = load_county(find_county("anping"))
    grouped = group(told, county if join is None else with_thresholds(county, {"join": join}), load_model())
    said = group_figures(grouped, intervals=False)
    assert said["falsely_joined"] <= falsely_joined and said["pairwise_recall"] >= recall, said
    largest = max(Counter(g.said for g in grouped).values())
    assert largest <= 10, said


def test_the_page_beside_the_model_speaks_of_this_model() -> None:
    data = (MODEL / "model.npz").read_bytes()
    page = (MODEL / "README.md").read_text("utf-8")
    model = load_model()
    assert f"SHA-256 `{hashlib.sha256(data).hexdigest()}`" in page
    assert model.digest == hashlib.sha256(data).hexdigest()
    assert len(model.pair_weights.features) == len(FEATURES) + 1
    assert f"joins from {model.meta['pairs']['join']}" in page


@pytest.mark.parametrize("seed", range(3))
def test_a_countys_day_falls_into_the_same_incidents_in_any_order(seed: int) -> None:
    parsed = [Parsed(n, row.submission(MIDNIGHT, 480), None) for n, row in enumerate(read_day(), 1)]
    random.Random(seed).shuffle(parsed)
    decided = [json.loads(line) for _, line in process(parsed, load_county(find_county("anping")), load_model())]
    assert partition(decided) == partition(demo_day().values())


def partition(decided: Iterable[dict[str, Any]]) -> set[frozenset[str]]:
    incidents: dict[str, set[str]] = defaultdict(set)
    for decision in decided:
        incidents[decision["incident_id"]].add(decision["message_id"])
    return {frozenset(rows) for rows in incidents.values()}
