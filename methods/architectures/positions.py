"""Task positions: how the parameter behind them gives p (m,)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Form = Literal["free", "positive", "constant"]


class Positions(nn.Module):
    """The positions of m tasks: p itself ("free"), p = exp(ν) ("positive"), or not learned ("constant").

    Source: Ye et al. (2023), §3.3 and §5.5.
    """

    def __init__(self, initial: list[float], form: Form) -> None:
        super().__init__()
        self.form = form
        values = torch.tensor([math.log(p) for p in initial] if form == "positive" else initial)
        self.raw = nn.Parameter(values, requires_grad=form != "constant")

    def forward(self) -> Tensor:
        return self.raw.exp() if self.form == "positive" else self.raw
