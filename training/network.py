"""A network of one hidden layer over sparse rows, for `train.py`: numpy and scipy only, the same bytes from the same seed.

Two outputs share the hidden layer: the leaves (softmax) and urgency (sigmoid). Grams and hidden units are left out at
random while it learns, so that no single word is leaned on. The optimiser is Adam; rows of grams that a batch does
not have are left alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

HIDDEN = 48
EPOCHS = 40
BATCH = 64
RATE = 3e-3
#: Shares of grams and of hidden units that a step does without.
DROPPED_GRAMS, DROPPED_UNITS = 0.5, 0.3
#: Share of a label that is spread over all leaves: labels are not always right.
SMOOTHING = 0.05


class Network(NamedTuple):
    """Weights: grams x hidden, hidden, hidden x (leaves + urgent), leaves + urgent."""

    inner: Any
    inner_bias: Any
    outer: Any
    outer_bias: Any

    def logits(self, matrix: Any) -> Any:
        """Rows -> logits of the leaves, then of urgent."""
        hidden = np.maximum(np.asarray(matrix.astype(np.float32) @ self.inner) + self.inner_bias, 0)
        return hidden @ self.outer + self.outer_bias


class _Adam:
    """The optimiser's memory of one array."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.mean = np.zeros_like(array)
        self.square = np.zeros_like(array)

    def step(self, at: Any, gradient: Any, count: int, rate: float) -> None:
        mean = self.mean[at] * 0.9 + 0.1 * gradient
        square = self.square[at] * 0.999 + 0.001 * gradient * gradient
        self.mean[at], self.square[at] = mean, square
        self.array[at] -= rate * (mean / (1 - 0.9**count)) / (np.sqrt(square / (1 - 0.999**count)) + 1e-8)


class Targets(NamedTuple):
    """What the rows are: leaf numbers, urgent (0 or 1), the weight of each row; leaves in all; the weight of urgent."""

    leaf: Any
    urgent: Any
    weight: Any
    leaves: int
    urgent_weight: float


def learn(matrix: Any, targets: Targets, seed: int) -> Network:
    """Trains on all rows for EPOCHS, the step size falling to nothing."""
    chance = np.random.default_rng(seed)
    matrix = matrix.astype(np.float32).tocsr()
    count, width = matrix.shape
    leaves = targets.leaves
    wanted = np.full((count, leaves + 1), SMOOTHING / leaves, np.float32)
    wanted[np.arange(count), targets.leaf] += 1 - SMOOTHING
    wanted[:, leaves] = targets.urgent
    network = Network(
        (chance.standard_normal((width, HIDDEN)) * 0.1).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        (chance.standard_normal((HIDDEN, leaves + 1)) / np.sqrt(HIDDEN)).astype(np.float32),
        np.zeros(leaves + 1, np.float32),
    )
    memory = [_Adam(array) for array in network]
    share = np.repeat((targets.weight / BATCH).astype(np.float32)[:, None], leaves + 1, axis=1)
    share[:, leaves] *= np.where(targets.urgent > 0, targets.urgent_weight, 1.0)
    steps, done = EPOCHS * (count // BATCH), 0
    for _ in range(EPOCHS):
        order = chance.permutation(count)
        for start in range(0, count - BATCH + 1, BATCH):
            picked = order[start : start + BATCH]
            done += 1
            _step(network, memory, (matrix[picked].copy(), wanted[picked], share[picked]), chance, (done, steps))
    return network


def _step(network: Network, memory: list[_Adam], batch: tuple[Any, Any, Any], chance: Any, at: tuple[int, int]) -> None:
    rows, wanted, share = batch
    done, steps = at
    leaves = wanted.shape[1] - 1
    rows.data *= (chance.random(rows.nnz) >= DROPPED_GRAMS).astype(np.float32) / (1 - DROPPED_GRAMS)
    sums = np.asarray(rows @ network.inner) + network.inner_bias
    passed = (sums > 0) * (chance.random(sums.shape) >= DROPPED_UNITS).astype(np.float32) / (1 - DROPPED_UNITS)
    hidden = (sums * passed).astype(np.float32)
    logits = hidden @ network.outer + network.outer_bias
    said = np.exp(logits[:, :leaves] - logits[:, :leaves].max(axis=1, keepdims=True))
    wrong = np.empty_like(logits)
    wrong[:, :leaves] = said / said.sum(axis=1, keepdims=True) - wanted[:, :leaves]
    wrong[:, leaves] = 1 / (1 + np.exp(-logits[:, leaves])) - wanted[:, leaves]
    wrong *= share
    back = ((wrong @ network.outer.T) * passed).astype(np.float32)
    seen = np.unique(rows.indices)
    gradients = (np.asarray(rows[:, seen].T @ back), back.sum(axis=0), hidden.T @ wrong, wrong.sum(axis=0))
    rate = RATE * (1 - done / (steps + 1))
    for adam, where, gradient in zip(memory, (seen, ..., ..., ...), gradients, strict=True):
        adam.step(where, gradient, done, rate)
