"""The catalogue of metrics is the only source: registry and docs follow it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.ports import METRICS
from tipline.metrics import PrometheusMetrics

ROOT = Path(__file__).parents[2]


def test_every_metric_stands_in_the_operations_page_with_its_labels() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for name, info in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in info.labels) or "-"
        assert f"| `{name}` | {info.kind} | {labels} | {info.help} |" in page


def test_no_label_names_a_tip_or_a_reporter() -> None:
    assert not {label for info in METRICS.values() for label in info.labels} & {"tip_id", "tip", "reporter", "receipt", "incident_id", "assignment"}


def test_figures_are_rendered_and_unknown_labels_refused() -> None:
    metrics = PrometheusMetrics()
    metrics.count("tipline_accepted_total", channel="bot")
    metrics.observe("tipline_accept_seconds", 0.01)
    metrics.gauge("tipline_lag_records", 3, county="anping")
    text = metrics.render().decode()
    assert 'tipline_accepted_total{channel="bot"} 1.0' in text
    assert 'tipline_lag_records{county="anping"} 3.0' in text
    with pytest.raises(ValueError, match="label"):
        metrics.count("tipline_accepted_total", reporter="v-1")
