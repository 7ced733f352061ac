"""`tipline evaluate`: score classification or grouping on labelled texts, compare a candidate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tipline.commands.options import json_option, local, one_county

if TYPE_CHECKING:
    from streams.ports import Bundle
    from streams.stages.classify import Model
    from tipline.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def _options(command: F) -> F:
    for option in (
        click.option("--worst", default=10, show_default=True, help="How many of the worst mistakes to show."),
        click.option("--compare", metavar="MODEL|DIR", help="A model file or county directory: what it would change."),
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
def group(file: Path, settings: Settings, as_json: bool, model: str | None, compare: str | None, worst: int) -> None:
    """Incidents of FILE (text, ts, incident_id, in order): pairwise and B-cubed figures, false merges, splits.

    Example: tipline evaluate group tests/quality/group-a.jsonl --county examples/anping
    """
    from tipline.evaluate import run_group

    bundle, chosen, other = _chosen(settings, model, compare)
    _print(run_group(file, bundle, chosen, worst, other), as_json)


def _chosen(
    settings: Settings, model: str | None, compare: str | None
) -> tuple[Bundle, Model, tuple[Bundle, Model] | None]:
    from tipline.county import load_county
    from tipline.model import load_model, read_model

    bundle = one_county(settings)
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
