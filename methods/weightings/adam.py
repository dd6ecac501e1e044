"""Adam on the few numbers that a weighting learns: log variances, scales, logits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
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
    # On numpy's views of the tensors, which takes a fraction of the time of as many torch calls.
    first, second = _BETAS
    values, steps = slope.numpy(), int(memory["steps"]) + 1
    mean = first * memory["mean"].numpy() + (1 - first) * values
    square = second * memory["square"].numpy() + (1 - second) * values * values
    size = np.sqrt(square / (1 - second**steps)) + _EPSILON
    direction = mean / (1 - first**steps) / size
    moments = {"mean": torch.from_numpy(mean), "square": torch.from_numpy(square), "steps": torch.tensor(steps)}
    return torch.from_numpy(direction), moments
