"""Scale-invariant loss: the sum of the logarithms of the losses, which constant factors don't influence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.contract import HeadRule, Needs, Signal, State, Update

# The smallest normal number of single precision, in which losses are computed; smaller ones are 0 for a network.
SMALLEST_LOSS = torch.finfo(torch.float32).tiny


def log_losses(losses: Tensor) -> tuple[Tensor, Tensor]:
    """log L_i, (m,), and which tasks have a logarithm, (m,) bool. Others, whose loss is not positive, get 0."""
    positive = losses >= SMALLEST_LOSS
    return torch.where(positive, losses, torch.ones_like(losses)).log(), positive


def inverse_loss_weights(losses: Tensor) -> tuple[Tensor, Tensor]:
    """1/L_i, (m,), the gradient of Σ log L_i. A task whose loss is not positive gets 0; returns also whether there is
    one, () bool.

    Source: Navon et al. (ICML 2022), Section 5: the baseline SI.
    """
    logarithms, positive = log_losses(losses)
    return torch.where(positive, torch.exp(-logarithms), torch.zeros_like(losses)), ~positive.all()


@dataclass(frozen=True)
class LogLoss:
    """Scale-invariant weighting: each gradient is divided by its loss.

    Task-specific heads get the gradients of the logarithms as well. Deviations: none. A task whose loss is not
    positive has no logarithm, so it is left out and the step is counted.
    """

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        weights, undefined = inverse_loss_weights(signal.losses)
        return Update(weights, state, fallbacks=undefined.long())
