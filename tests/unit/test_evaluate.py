"""The figures of `tipline evaluate`, against examples worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tipline.county import find_county, load_county
from tipline.evaluate import Grouped, classify_figures, group_figures, judge, read_labelled, shown
from tipline.model import load_model


def grouped(*pairs: str) -> list[Grouped]:
    """`Ax`: a text of incident A that was put in x."""
    return [Grouped(str(n), "", pair[0], pair[1], "new", ()) for n, pair in enumerate(pairs)]


def test_figures_of_grouping() -> None:
    # A was cut (two in x, one in y), B was joined with one of A; C is whole.
    said = group_figures(grouped("Ax", "Ax", "Ay", "By", "Cz", "Cz"))
    assert (said["texts"], said["incidents"], said["said_incidents"]) == (6, 3, 3)
    assert said["pairwise_precision"] == round(2 / 3, 4)  # xx and zz of xx, yy, zz
    assert said["pairwise_recall"] == 0.5  # 2 of 3 + 1
    assert said["bcubed_precision"] == round((1 + 1 + 0.5 + 0.5 + 1 + 1) / 6, 4)
    assert said["bcubed_recall"] == round((2 / 3 + 2 / 3 + 1 / 3 + 1 + 1 + 1) / 6, 4)
    assert (said["falsely_joined"], said["split"]) == (round(1 / 3, 4), round(1 / 3, 4))
    for name, (low, high) in said["intervals"].items():
        assert low <= said[name] <= high, name
    assert set(said["intervals"]) == {name for name, value in said.items() if isinstance(value, float)}


def test_perfect_grouping_has_no_doubt() -> None:
    said = group_figures(grouped("Ax", "Ax", "By", "Cz"))
    assert said["intervals"]["pairwise_f1"] == [1.0, 1.0] and said["intervals"]["falsely_joined"] == [0.0, 0.0]


def classified(tmp_path: Path, *rows: dict[str, Any]) -> dict[str, Any]:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    bundle = load_county(find_county("anping"))
    return classify_figures(judge(read_labelled(path, "anping"), bundle, load_model()))


THEFT = {"text": "马店镇老赵家电动车让人偷了", "category": "theft", "subtype": "vehicle"}


def test_what_cannot_be_told_is_not_nought(tmp_path: Path) -> None:
    said = classified(tmp_path, {**THEFT, "urgent": False}, {"text": "包工头欠俺们工钱不给", "category": "dispute", "subtype": "debt_wage"})
    assert said["urgent_recall"] is None and said["area_accuracy"] is None
    assert (said["macro_f1"], said["macro_f1_present"], said["subtype_accuracy"]) == (0.4, 1.0, 1.0)
    lines = shown({"file": "f", "model": "m", **said})
    assert any(line.split()[:2] == ["urgent_recall", "-"] for line in lines)
    assert "urgent_recall" not in said["intervals"] and said["intervals"]["macro_f1_present"] == [1.0, 1.0]


@pytest.mark.parametrize(("area", "right"), [("anping/madian", 1.0), ("anping/anping", 0.0)])
def test_areas_count_where_the_label_names_one(tmp_path: Path, area: str, right: float) -> None:
    assert classified(tmp_path, {**THEFT, "area": area}, {**THEFT, "area": None})["area_accuracy"] == right
