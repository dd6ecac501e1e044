"""LDC-MTL: a weighted sum of losses plus a penalty on the differences between weighted losses, with learned weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from methods.checks import require_at_least, require_one_of, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.adam import adam_memory, adam_step
from methods.weightings.log_loss import SMALLEST_LOSS

Normalisation = Literal["initial", "none", "log"]


def normalised_losses(losses: Tensor, initial: Tensor, rule: Normalisation) -> tuple[Tensor, Tensor, Tensor]:
    """ℓ (m,), its derivative in the losses (m,), and whether a task could not be normalised, () bool.

    rule: "initial" is ℓ = L / τ for τ = L(0) / min L(0); a task whose L(0) is not positive keeps its loss. "log" is
        ℓ = log(L / L(0)); a task for which it is undefined has ℓ = 0 and derivative 0. "none" is ℓ = L.

    Source: Xiao, Dong, Zou, Ji (2025): loss normalisation, as in the released code for NYUv2, QM9 and CelebA.
    """
    ones = torch.ones_like(losses)
    if rule == "none":
        return losses, ones, torch.zeros_like(losses[0], dtype=torch.bool)
    positive = initial >= SMALLEST_LOSS
    if rule == "log":
        positive = positive & (losses >= SMALLEST_LOSS)
        ratios = torch.where(positive, losses, ones) / torch.where(positive, initial, ones)
        inverse = torch.where(positive, 1 / torch.where(positive, losses, ones), torch.zeros_like(losses))
        return torch.where(positive, ratios.log(), torch.zeros_like(losses)), inverse, ~positive.all()
    least = torch.where(positive, initial, torch.full_like(initial, torch.inf)).min()
    # Ratios first: they are exactly 1 in the first step, so that no task is above another by rounding.
    ratios = losses / torch.where(positive, initial, ones)
    normalised = torch.where(positive, least * ratios, losses)
    inverse = torch.where(positive, least / torch.where(positive, initial, ones), ones)
    return normalised, inverse, ~positive.all()


def discrepancy_factors(shares: Tensor, normalised: Tensor, penalty: float) -> Tensor:
    """a (m,) such that the objective w·ℓ / Σw + λ Σ |w_i ℓ_i − w_{i+1} ℓ_{i+1}| is linear in wℓ with these slopes.

    The sum Σw in the denominator is constant, and so are the signs of the differences. The slope is w a in ℓ and ℓ a
    in w. A task has 1 / Σw plus λ times 2, 0 or −2 (1, 0 or −1 for the first and the last) as its weighted loss is
    above, between or below those of its neighbours.

    Source: Xiao et al. (2025): both levels of the problem in one objective, as in the released code.
    """
    signs = torch.sign(-(shares * normalised).diff())  # (m - 1,)
    end = signs.new_zeros(1)
    return 1 / shares.sum() + penalty * (torch.cat([signs, end]) - torch.cat([end, signs]))


@dataclass(frozen=True)
class LDCMTL:
    """Loss discrepancy control: the weights are learned together with the network.

    penalty: λ. From 1/(2m) on, a task whose weighted loss is below that of its neighbours may get a negative weight.
    normalisation: of the losses, by those of the first step; see `normalised_losses`.
    lr: Adam's rate on the logits of the weights w = sigmoid(v), v = 1 at first.

    Task-specific heads get the gradients of the objective as well. The order of the tasks matters, as published: the
    penalty compares neighbours.
    Deviations: the weights are free numbers, as in the released code for CelebA and QM9, whose λ and rate these are;
    for NYUv2 and Cityscapes they come from a layer on features, which a weighting does not see. The rate is constant.
    A task that cannot be normalised is counted.
    """

    penalty: float = 0.01
    normalisation: Normalisation = "initial"
    lr: float = 1e-3

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_at_least("penalty", self.penalty, 0)
        require_one_of("normalisation", self.normalisation, get_args(Normalisation))
        require_positive("lr", self.lr)

    def init(self, n_tasks: int) -> State:
        """logits v, losses of the first step (NaN before it), and the moments of Adam."""
        ones = torch.ones(n_tasks, dtype=torch.float64)
        return State(memory={"logits": ones, "initial": torch.nan * ones, **adam_memory(n_tasks)})

    def step(self, signal: Signal, state: State) -> Update:
        logits, initial = state.memory["logits"], state.memory["initial"]
        initial = torch.where(initial.isnan(), signal.losses, initial)
        normalised, derivative, undefined = normalised_losses(signal.losses, initial, self.normalisation)
        shares = torch.sigmoid(logits)
        factors = discrepancy_factors(shares, normalised, self.penalty)
        direction, moments = adam_step(state.memory, factors * normalised * shares * (1 - shares))
        memory = {"logits": logits - self.lr * direction, "initial": initial, **moments}
        return Update(factors * shares * derivative, State(memory=memory), fallbacks=undefined.long())
