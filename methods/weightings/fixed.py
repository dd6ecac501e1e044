"""Fixed weights, given by the user: tuned, they are the scalarisation that other methods must beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.transfer import send


def one_per_task(name: str, values: Sequence[float], n_tasks: int) -> Tensor:
    """The values as (m,) float64; a single value is used for every task.

    Raises:
        ValueError: the number of values is neither 1 nor m.
    """
    if len(values) not in (1, n_tasks):
        raise ValueError(f"`{name}` must be one number for all tasks or {n_tasks}, one per task; found {len(values)}")
    return torch.tensor(values, dtype=torch.float64).expand(n_tasks).clone()


def require_weights(name: str, values: Sequence[float]) -> None:
    """Raises ValueError unless the values are finite, none is negative and one is positive."""
    if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
        raise ValueError(f"`{name}` must be finite, ≥ 0 and not all 0, found {tuple(values)}")


def require_all_positive(name: str, values: Sequence[float]) -> None:
    """Raises ValueError unless there are values, all finite and positive."""
    if not values or not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"`{name}` must be finite and > 0, found {tuple(values)}")


@dataclass(frozen=True)
class Fixed:
    """Weights that the user sets.

    weights: one for all tasks, or one per task in their order.

    Task-specific heads get the gradients of their weighted losses. Deviations: none.
    """

    weights: tuple[float, ...] = (1.0,)

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_weights("weights", self.weights)

    def init(self, n_tasks: int) -> State:
        one_per_task("weights", self.weights, n_tasks)
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        weights = one_per_task("weights", self.weights, len(signal.losses))
        return Update(send(weights, signal.losses.device), state)
