"""What a weighting sees in a step, in short."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.contract import Signal

LOSSES = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)


def signal(losses: Tensor, gram: Tensor | None = None, step: int = 0, epoch: int = 0, seed: int = 0) -> Signal:
    return Signal(losses, gram, step, epoch, torch.Generator().manual_seed(seed))


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
