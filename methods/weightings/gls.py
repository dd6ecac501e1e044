"""GLS: the geometric loss strategy, the geometric mean of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.log_loss import log_losses


def geometric_weights(losses: Tensor) -> tuple[Tensor, Tensor]:
    """(Π L)^(1/m) / (m L_i), (m,), the gradient of the geometric mean in the losses.

    A task whose loss is not positive gets 0, and the mean is over the others. Returns also whether there is one, ()
    bool.

    Source: Chennupati et al. (CVPR Workshops 2019), Eq. (3).
    """
    logarithms, positive = log_losses(losses)
    n = positive.sum().clamp_min(1)
    weights = torch.exp(logarithms.sum() / n - logarithms) / n
    return torch.where(positive, weights, torch.zeros_like(weights)), ~positive.all()


@dataclass(frozen=True)
class GLS:
    """The geometric loss strategy: each gradient relative to its loss, all scaled by the geometric mean.

    Task-specific heads get the gradients of the geometric mean as well. Deviations: none; the authors have released no
    code. If a loss is not positive the geometric mean has no gradient, so its task is left out and the step is counted.
    """

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        weights, undefined = geometric_weights(signal.losses)
        return Update(weights, state, fallbacks=undefined.long())
