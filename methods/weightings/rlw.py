"""RLW: weights drawn at random at every step, the baseline for all methods that compute them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from methods.checks import require_one_of
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.transfer import send

Distribution = Literal["normal", "uniform", "dirichlet", "bernoulli", "one_hot"]


def random_weights(n_tasks: int, distribution: Distribution, generator: torch.Generator) -> Tensor:
    """Weights (m,) ≥ 0 that sum to 1, on the CPU, like the generator.

    "normal" and "uniform": softmax of independent standard draws. "dirichlet": uniform on the simplex, as the
    shares of independent exponential draws. "bernoulli": equal weights on a random subset, uniform among those that
    aren't empty. "one_hot": a single task, the paper's constrained Bernoulli.

    Source: Lin, Ye, Zhang, Tsang (TMLR 2022), Section 3.
    """
    if distribution == "normal":
        return torch.softmax(torch.randn(n_tasks, dtype=torch.float64, generator=generator), dim=0)
    empty = torch.empty(n_tasks, dtype=torch.float64)
    if distribution == "one_hot":
        drawn = torch.randint(n_tasks, (), generator=generator)
        return empty.zero_().index_fill_(0, drawn, 1.0)
    if distribution == "bernoulli":
        while not empty.bernoulli_(generator=generator).any():
            continue
        return empty / empty.sum()
    if distribution == "dirichlet":
        draws = empty.exponential_(generator=generator)
        return draws / draws.sum()
    return torch.softmax(empty.uniform_(generator=generator), dim=0)


@dataclass(frozen=True)
class RLW:
    """Random loss weighting, drawn at every step from the run's generator.

    distribution: "normal", "uniform", "dirichlet", "bernoulli" or "one_hot", all five of the paper.

    The draws are made on the CPU, so that they are the same on every device; the m weights are then sent there.
    Task-specific heads get the gradients of their weighted losses. Deviations: none.
    """

    distribution: Distribution = "normal"

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_one_of("distribution", self.distribution, get_args(Distribution))

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        weights = random_weights(len(signal.losses), self.distribution, signal.generator)
        return Update(send(weights, signal.losses.device), state)
