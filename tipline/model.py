"""The model file: the packaged one, or another by path."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from schemas.errors import TiplineError
from streams.stages.classify import Model
from streams.stages.group import checked


class BadModel(TiplineError):
    """A file that is no model of ours; the message says which and what to do."""

    exit_code = 65


@cache
def model_bytes() -> bytes:
    """The packaged model file."""
    return files("streams").joinpath("model", "model.npz").read_bytes()


@cache
def load_model() -> Model:
    """The packaged model, ready to score."""
    return Model(model_bytes())


def read_model(path: Path) -> Model:
    """A model from a file. Raises BadModel."""
    try:
        model = Model(path.read_bytes())
        checked(model.pair_weights)
        return model
    except (OSError, ValueError) as error:
        raise BadModel(f"{path}: {error}") from None
