"""Floors under the figures on texts that the model was not trained on; see docs/quality.md for the figures themselves."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tipline.county import find_county, load_county
from tipline.evaluate import Judged, classify_figures, judge, read_labelled, run_classify, shown, worst_of
from tipline.model import load_model

HERE = Path(__file__).parent


@cache
def _judged() -> tuple[Judged, ...]:
    bundle = load_county(find_county("anping"))
    files = sorted(HERE.glob("classify-*.jsonl"))
    return tuple(j for path in files for j in judge(read_labelled(path, "anping"), bundle, load_model()))


@cache
def _figures() -> dict[str, Any]:
    return classify_figures(_judged(), intervals=False)


def test_there_are_at_least_500_texts() -> None:
    assert _figures()["texts"] >= 500


@pytest.mark.parametrize(
    ("figure", "floor"),
    [("macro_f1", 0.93), ("subtype_accuracy", 0.88), ("urgent_recall", 0.94), ("urgent_precision", 0.66)],
)
def test_floor(figure: str, floor: float) -> None:
    assert _figures()[figure] >= floor


@pytest.mark.parametrize(
    ("name", "floors"),
    [
        ("group-c.jsonl", {"macro_f1": 0.93, "subtype_accuracy": 0.90, "urgent_recall": 0.94, "urgent_precision": 0.85}),
        ("group-d.jsonl", {"macro_f1": 0.90, "subtype_accuracy": 0.83, "urgent_recall": 0.90, "urgent_precision": 0.77}),
        ("group-e.jsonl", {"macro_f1": 0.92, "subtype_accuracy": 0.86, "urgent_recall": 0.83, "urgent_precision": 0.74}),
    ],
)
def test_floors_on_the_tips_of_a_countys_desk(name: str, floors: dict[str, float]) -> None:
    """Follow-ups and scraps among them, each read by itself."""
    bundle = load_county(find_county("anping"))
    said = classify_figures(judge(read_labelled(HERE / name, "anping"), bundle, load_model()), intervals=False)
    assert all(said[figure] >= floor for figure, floor in floors.items()), said


@pytest.mark.parametrize("category", ["dispute", "fraud", "theft", "safety_hazard", "other"])
def test_no_category_is_given_up(category: str) -> None:
    assert _figures()["classes"][category]["f1"] >= 0.87


def test_confidence_means_what_it_says() -> None:
    assert _figures()["calibration"]["ece"] <= 0.04


def test_what_a_person_decides_is_where_the_mistakes_are() -> None:
    """Under the county's threshold of 0.45 mistakes are much denser than above it, and few texts go there."""
    low = [j for j in _judged() if j.confidence < 0.45]
    high = [j for j in _judged() if j.confidence >= 0.45]
    assert len(low) <= 0.12 * len(_judged())
    assert sum(not j.right for j in low) / max(1, len(low)) > 5 * sum(not j.right for j in high) / len(high)


def test_every_decision_has_its_reasons() -> None:
    assert all(j.reasons for j in _judged() if any(c.isalpha() for c in j.text))


def test_a_candidate_that_is_the_same_changes_nothing() -> None:
    bundle, model = load_county(find_county("anping")), load_model()
    result = run_classify(HERE / "classify-a-1.jsonl", bundle, model, 3, (bundle, model))
    assert result["compare"]["different"] == [] and result["compare"]["macro_f1"] == result["macro_f1"]
    assert len(result["worst"]) <= 3 and any("macro_f1" in line for line in shown(result))


def test_the_worst_come_first() -> None:
    worst = worst_of(_judged(), 5)
    assert all(not j.right or j.said_urgent != j.urgent for j in worst)
