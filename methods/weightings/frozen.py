"""Frozen weights: the mean weights of another method's runs as constants, so that what remains is what moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch

from methods.checks import require_at_least, require_one_of
from methods.contract import Bound, HeadRule, Needs, Signal, State, Update
from methods.transfer import send
from methods.weightings.fixed import one_per_task, require_weights


def require_finite_weights(name: str, values: Sequence[float]) -> None:
    """Raises ValueError unless the values are finite and one is not 0; those of some methods are negative."""
    if not all(math.isfinite(value) for value in values) or not any(values):
        raise ValueError(f"`{name}` must be finite and not all 0, found {tuple(values)}")


@dataclass(frozen=True)
class Frozen:
    """The frozen twin of a method: constant weights, with the head rule and the clip of that method.

    weights: one for all tasks, or one per task in their order. In a twin, the mean over all steps and seeds of the
        source, before its clip: a method whose weights don't move is its own twin only so. Negative ones are allowed.
    head_rule: how gradients of task-specific heads are scaled, as in `Weighting.heads`.
    head_weights: their constant factors with `head_rule="own"`, in the form of `weights`.
    max_norm: a longer shared gradient is clipped to this norm. 0 or ∞: no clipping.
    source: the data set and the variant whose weights these are; empty if a user chose them. It changes no number.
    source_seeds: the seeds that the weights are means of.

    With `head_rule="weighted"`, a clip scales the gradients of the heads, too, as in the methods that clip by weights.
    Deviations: none, as there is no paper. The norm of a clip is that of the gradient itself, in float32; Nash-MTL and
    FairGrad find it from the Gramian.
    """

    weights: tuple[float, ...] = (1.0,)
    head_rule: HeadRule = "weighted"
    head_weights: tuple[float, ...] = (1.0,)
    max_norm: Bound = math.inf
    source: str = ""
    source_seeds: tuple[int, ...] = ()

    needs: ClassVar[Needs] = "losses"

    def __post_init__(self) -> None:
        require_finite_weights("weights", self.weights)
        require_one_of("head_rule", self.head_rule, get_args(HeadRule))
        require_at_least("max_norm", self.max_norm, 0)
        require_weights("head_weights", self.head_weights)
        if self.head_rule != "own" and self.head_weights != (1.0,):
            raise ValueError(f'`head_weights` must come with `head_rule="own"`, found "{self.head_rule}"')

    @property
    def heads(self) -> HeadRule:
        return self.head_rule

    @property
    def clips_to(self) -> float:
        return self.max_norm or math.inf

    def init(self, n_tasks: int) -> State:
        one_per_task("weights", self.weights, n_tasks)
        if self.head_rule == "own":
            one_per_task("head_weights", self.head_weights, n_tasks)
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        m, device = len(signal.losses), signal.losses.device
        constants = [one_per_task("weights", self.weights, m)]
        if self.head_rule == "own":
            constants.append(one_per_task("head_weights", self.head_weights, m))
        weights, *heads = send(torch.stack(constants), device)  # one copy
        return Update(weights, state, head_weights=heads[0] if heads else None, max_norm=self.clips_to)
