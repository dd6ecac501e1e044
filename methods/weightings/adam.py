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

    memory: holds the moments among other things, on the device of the slope.
    Source: Kingma, Ba: Adam (ICLR 2015), Algorithm 1, with its defaults.
    """
    first, second = _BETAS
    steps = memory["steps"] + 1
    mean = first * memory["mean"] + (1 - first) * slope
    square = second * memory["square"] + (1 - second) * slope * slope
    exponent = steps.double()
    size = _root(square / (1 - second**exponent)) + _EPSILON
    direction = mean / (1 - first**exponent) / size
    return direction, {"mean": mean, "square": square, "steps": steps}


def _root(values: Tensor) -> Tensor:
    """√values, rounded correctly, as IEEE 754 asks; on CPUs, the last bit of `Tensor.sqrt` depends on its library."""
    return torch.complex(values, torch.zeros_like(values)).sqrt().real
