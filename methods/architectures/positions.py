"""Task positions: how the parameter behind them gives p (m,)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Form = Literal["free", "positive", "constant"]


class Positions(nn.Module):
    """The positions of m tasks: p itself ("free"), p = exp(ν) ("positive"), or not learned ("constant").

    They stay on the CPU when the network moves to an accelerator: the host decides how many steps a trajectory takes
    and where it is read, and to read a position on a device it would have to wait for all of the work queued there.

    Source: Ye et al. (2023), §3.3 and §5.5.
    """

    def __init__(self, initial: list[float], form: Form) -> None:
        super().__init__()
        self.form = form
        values = torch.tensor([math.log(p) for p in initial] if form == "positive" else initial)
        self.raw = nn.Parameter(values, requires_grad=form != "constant")

    def forward(self) -> Tensor:
        return self.raw.exp() if self.form == "positive" else self.raw

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Positions:
        """What `to`, `double` and the like do: another dtype, but no other device."""

        def on_host(tensor: Tensor) -> Tensor:
            applied = fn(tensor)
            return applied if applied.device == tensor.device else tensor.to(applied.dtype)

        super()._apply(on_host, recurse)  # type: ignore[no-untyped-call]
        return self
