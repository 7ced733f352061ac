"""`tipline evaluate`: score classification or grouping on labelled texts, compare a candidate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tipline.commands.options import county_option, joined, json_option

if TYPE_CHECKING:
    from streams.ports import Bundle
    from streams.stages.classify import Model

F = TypeVar("F", bound=Callable[..., Any])


def _options(command: F) -> F:
    for option in (
        click.option("--worst", default=10, show_default=True, help="How many of the worst mistakes to show."),
        click.option("--compare", metavar="MODEL|DIR", help="A model file or county directory: what it would change."),
        click.option("--model", metavar="FILE", help="Another model than the packaged one."),
        json_option,
        county_option,
        click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    ):
        command = option(command)
    return command


@click.group("evaluate")
def evaluate() -> None:
    """Scores classification or grouping on labelled texts, one JSON object a line (see docs/quality.md)."""


@evaluate.command("classify")
@_options
def classify(
    file: Path, county: tuple[str, ...], as_json: bool, model: str | None, compare: str | None, worst: int
) -> None:
    """Category, subtype and urgency of FILE (text, category, subtype, urgent): figures, calibration, worst mistakes.

    Example: tipline evaluate classify tests/quality/classify-a-1.jsonl --compare new.npz
    """
    from tipline.evaluate import run_classify

    bundle, chosen, other = _chosen(county, model, compare)
    _print(run_classify(file, bundle, chosen, worst, other), as_json)


@evaluate.command("group")
@_options
def group(
    file: Path, county: tuple[str, ...], as_json: bool, model: str | None, compare: str | None, worst: int
) -> None:
    """Incidents of FILE (text, ts, incident_id, in order): pairwise and B-cubed figures, false merges, splits.

    Example: tipline evaluate group tests/quality/group-a.jsonl --county examples/anping
    """
    from tipline.evaluate import run_group

    bundle, chosen, other = _chosen(county, model, compare)
    _print(run_group(file, bundle, chosen, worst, other), as_json)


def _chosen(
    county: tuple[str, ...], model: str | None, compare: str | None
) -> tuple[Bundle, Model, tuple[Bundle, Model] | None]:
    from tipline.county import find_county, load_county
    from tipline.model import load_model, read_model
    from tipline.settings import counties_of, effective

    names = counties_of(effective({"county": joined(county)}))
    if len(names) > 1:
        raise click.UsageError("evaluate decides for one county: give --county once")
    bundle = load_county(find_county(names[0] or "anping"))
    chosen = read_model(Path(model)) if model else load_model()
    if compare is None:
        return bundle, chosen, None
    if Path(compare).is_dir():
        return bundle, chosen, (load_county(Path(compare)), chosen)
    return bundle, chosen, (bundle, read_model(Path(compare)))


def _print(result: dict[str, Any], as_json: bool) -> None:
    from tipline.evaluate import shown

    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    else:
        click.echo("\n".join(shown(result)))
