"""FAMO: weights under which all losses decrease at the same relative rate, learned from the losses after each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from methods.checks import require_at_least, require_one_of, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.adam import adam_memory, adam_step

Rule = Literal["adam", "plain"]

_OFFSET = 1e-8


def offset_losses(losses: Tensor) -> Tensor:
    """L_i + 1e-8, (m,), as in the released code; 1e-8 where a loss is negative and has no logarithm."""
    return losses.clamp_min(0) + _OFFSET


def balanced_rate_weights(logits: Tensor, losses: Tensor) -> Tensor:
    """c z_i / L_i, (m,), for z = softmax(ξ) and c such that they sum to 1.

    Source: Liu, Feng, Stone, Liu (NeurIPS 2023), Eq. (8).
    """
    shares = torch.softmax(logits, dim=0) / offset_losses(losses)
    return shares / shares.sum()


def logit_gradient(logits: Tensor, before: Tensor, after: Tensor, gamma: float) -> Tensor:
    """∇_ξ z·(log L − log L') + γ ξ, (m,), for the losses before and after a step.

    Source: Liu et al. (2023), Eq. (9) and Algorithm 1, with the derivative of the softmax in closed form.
    """
    z = torch.softmax(logits, dim=0)
    fall = offset_losses(before).log() - offset_losses(after).log()
    return z * (fall - z @ fall) + gamma * logits


@dataclass(frozen=True)
class FAMO:
    """Fast adaptive multi-task optimisation.

    lr: step size on the logits ξ.
    gamma: decay of the logits. The released scripts for NYUv2, CelebA and QM9 set 0.001, that for Cityscapes 0.01.
    rule: "adam", as in the released code, or "plain" gradient steps, as in the paper.

    Task-specific heads get the gradients of their weighted losses. The shared gradient is not clipped: the released
    benchmark calls the clipping before it has gradients, so that it has no effect.
    A negative loss counts as 0, and the step is counted; if it is negative after the step, the next step is counted.
    Deviations: Adam on the logits, while Algorithm 1 takes plain gradient steps.
    """

    lr: float = 0.025
    gamma: float = 0.001
    rule: Rule = "adam"

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_positive("lr", self.lr)
        require_at_least("gamma", self.gamma, 0)
        require_one_of("rule", self.rule, get_args(Rule))

    def init(self, n_tasks: int) -> State:
        """logits ξ, losses before the step, whether one was negative after it, and the moments of Adam."""
        zeros = torch.zeros(n_tasks, dtype=torch.float64)
        memory = {"logits": zeros, "losses": zeros, "negative": torch.tensor(0), **adam_memory(n_tasks)}
        return State(memory=memory)

    def step(self, signal: Signal, state: State) -> Update:
        weights = balanced_rate_weights(state.memory["logits"], signal.losses)
        negative = state.memory["negative"]
        fallbacks = negative + (signal.losses < 0).any()
        memory = {**state.memory, "losses": signal.losses, "negative": torch.zeros_like(negative)}
        return Update(weights, State(memory=memory), fallbacks=fallbacks)

    def post_step(self, losses: Tensor, state: State) -> State:
        logits = state.memory["logits"]
        direction = logit_gradient(logits, state.memory["losses"], losses, self.gamma)
        moments: dict[str, Tensor] = {}
        if self.rule == "adam":
            direction, moments = adam_step(state.memory, direction)
        negative = (losses < 0).any().long()
        return State(memory={**state.memory, **moments, "logits": logits - self.lr * direction, "negative": negative})
