"""Adam on the few numbers that a weighting learns: log variances, scales, logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


def adam_memory(n: int) -> dict[str, Tensor]:
    """The moments of Adam before its first step on n numbers, to be kept in `State.memory`."""
    zeros = torch.zeros(n, dtype=torch.float64)
    return {"mean": zeros, "square": zeros, "steps": torch.tensor(0)}


def adam_step(memory: Mapping[str, Tensor], slope: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Adam's direction (n,), of unit rate, for a slope (n,); and its moments after that slope.

    The caller subtracts the rate times the direction. There is no weight decay.

    memory: holds the moments among other things.
    Source: Kingma, Ba: Adam (ICLR 2015), Algorithm 1, with its defaults.
    """
    first, second = _BETAS
    steps = memory["steps"] + 1
    mean = first * memory["mean"] + (1 - first) * slope
    square = second * memory["square"] + (1 - second) * slope.square()
    size = (square / (1 - second ** int(steps))).sqrt() + _EPSILON
    return mean / (1 - first ** int(steps)) / size, {"steps": steps, "mean": mean, "square": square}
