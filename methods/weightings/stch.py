"""STCH: a smooth maximum of the losses instead of their sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from methods.checks import require_at_least, require_one_of, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.transfer import send
from methods.weightings.fixed import one_per_task, require_weights
from methods.weightings.log_loss import inverse_loss_weights, log_losses

Variant = Literal["released", "paper"]


def smooth_maximum_weights(losses: Tensor, mu: float, preference: Tensor, reference: Tensor) -> Tensor:
    """Weights (m,): the gradient in the losses of μ log Σ exp(λ_i (L_i − z_i) / μ).

    Source: Lin, Zhang, Yang, Liu, Wang, Zhang (ICML 2024), Eq. (7).
    """
    return preference * torch.softmax(preference * (losses - reference) / mu, dim=0)


def log_smooth_maximum_weights(losses: Tensor, mu: float, nadir: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (m,): the gradient in the losses of m μ log Σ exp(log(L_i / n_i) / μ) for their first level n.

    A task whose loss or level is not positive gets 0; returns also whether there is one, () bool.

    Source: Lin et al. (2024), released code for multi-task learning.
    """
    (logarithms, positive), (levels, positive_level) = log_losses(losses), log_losses(nadir)
    positive = positive & positive_level
    terms = torch.where(positive, (logarithms - levels) / mu, torch.full_like(losses, -torch.inf))
    weights = len(losses) * torch.exp(torch.log_softmax(terms, dim=0) - logarithms)
    return torch.where(positive, weights, torch.zeros_like(losses)), ~positive.all()


@dataclass(frozen=True)
class STCH:
    """Smooth Tchebycheff scalarisation.

    mu: smoothness μ; towards 0 only the worst task counts.
    variant: "released" is the authors' code for multi-task learning: the smooth maximum, times m, of log losses
        relative to their means in epoch `warmup_epochs`; until the end of that epoch the sum of the log losses is
        trained. "paper" is the smooth maximum of the losses, Eq. (7).
    warmup_epochs: for "released" only.
    preference, reference: λ and the point z of "paper"; one number for all tasks, or one per task. "released" has
        neither.

    Task-specific heads get the gradients of the objective as well. A task without a logarithm is left out, and the step
    is counted.
    Deviations: the default is the released objective instead of the published one. Up to and including epoch
    `warmup_epochs`, it is that of `log_loss`: shorter runs see nothing else.
    """

    mu: float = 1.0
    variant: Variant = "released"
    warmup_epochs: int = 4
    preference: tuple[float, ...] = (1.0,)
    reference: tuple[float, ...] = (0.0,)

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_positive("mu", self.mu)
        require_one_of("variant", self.variant, get_args(Variant))
        require_at_least("warmup_epochs", self.warmup_epochs, 0)
        require_weights("preference", self.preference)
        if self.variant == "paper" and self.warmup_epochs != 4:
            raise ValueError(
                f'`warmup_epochs` belongs to `variant="released"`, found {self.warmup_epochs} with "paper"'
            )
        if self.variant == "released" and (set(self.preference) != {1.0} or any(self.reference)):
            raise ValueError(
                '`preference` and `reference` belong to `variant="paper"`, found '
                f'{self.preference} and {self.reference} with "released": set `variant="paper"`'
            )

    def init(self, n_tasks: int) -> State:
        """total, steps: of the losses in the last epoch of the warm-up."""
        one_per_task("preference", self.preference, n_tasks)
        one_per_task("reference", self.reference, n_tasks)
        if self.variant == "paper":
            return State()
        return State(memory={"total": torch.zeros(n_tasks, dtype=torch.float64), "steps": torch.tensor(0)})

    def step(self, signal: Signal, state: State) -> Update:
        losses, m = signal.losses, len(signal.losses)
        if self.variant == "paper":
            settings = {"preference": self.preference, "reference": self.reference}
            per_task = torch.stack([one_per_task(name, values, m) for name, values in settings.items()])
            return Update(smooth_maximum_weights(losses, self.mu, *send(per_task, losses.device)), state)
        total, steps = state.memory["total"], state.memory["steps"]
        if signal.epoch > self.warmup_epochs:
            weights, undefined = log_smooth_maximum_weights(losses, self.mu, total / steps)
            return Update(weights, state, fallbacks=undefined.long())
        weights, undefined = inverse_loss_weights(losses)
        if signal.epoch == self.warmup_epochs:
            state = State(memory={"total": total + losses, "steps": steps + 1})
        return Update(weights, state, fallbacks=undefined.long())
