"""`tipline evaluate`: score classification or grouping on labelled texts, compare a candidate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tipline.commands.options import candidate, compare_option, json_option, local, one_county

if TYPE_CHECKING:
    from streams.ports import Bundle
    from streams.stages.classify import Model
    from tipline.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
_SHARE = click.FloatRange(0, 1)


def _options(command: F) -> F:
    for option in (
        click.option("--worst", default=10, show_default=True, help="How many of the worst mistakes to show."),
        compare_option,
        click.option("--model", metavar="FILE", help="Another model than the packaged one."),
        json_option,
        local,
        click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    ):
        command = option(command)
    return command


@click.group("evaluate")
def evaluate() -> None:
    """Scores classification or grouping on labelled texts, one JSON object a line (see docs/quality.md).

    Example: tipline evaluate classify tests/quality/classify-a-1.jsonl
    """


@evaluate.command("classify")
@_options
def classify(file: Path, settings: Settings, as_json: bool, model: str | None, compare: str | None, worst: int) -> None:
    """Category, subtype and urgency of FILE (text, category, subtype, urgent): figures, calibration, worst mistakes.

    Example: tipline evaluate classify tests/quality/classify-a-1.jsonl --compare new.npz
    """
    from tipline.evaluate import run_classify

    bundle, chosen, other = _chosen(settings, model, compare)
    _print(run_classify(file, bundle, chosen, worst, other), as_json)


@evaluate.command("group")
@_options
@click.option("--join", type=_SHARE, help="Compare with joining from this likelihood on.")
@click.option("--suggest", type=_SHARE, help="Compare with suggesting from this likelihood on.")
def group(
    file: Path, settings: Settings, as_json: bool, model: str | None, compare: str | None, worst: int, **thresholds: float | None
) -> None:
    """Incidents of FILE (text, ts, incident_id, in order): pairwise and B-cubed figures, false merges, splits.

    Example: tipline evaluate group tests/quality/group-a.jsonl --join 0.6
    """
    from tipline.evaluate import run_group, with_thresholds

    bundle, chosen, other = _chosen(settings, model, compare)
    if told := {name: value for name, value in thresholds.items() if value is not None}:
        tried, with_model = other or (bundle, chosen)
        other = with_thresholds(tried, told), with_model
    _print(run_group(file, bundle, chosen, worst, other), as_json)


def _chosen(
    settings: Settings, model: str | None, compare: str | None
) -> tuple[Bundle, Model, tuple[Bundle, Model] | None]:
    from tipline.model import load_model, read_model

    bundle = one_county(settings)
    chosen = read_model(Path(model)) if model else load_model()
    return bundle, chosen, candidate(compare, bundle, chosen) if compare else None


def _print(result: dict[str, Any], as_json: bool) -> None:
    from tipline.evaluate import shown

    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    else:
        click.echo("\n".join(shown(result)))
