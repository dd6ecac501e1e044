"""ExcessMTL: weights that grow with each task's excess risk, the distance from its best possible loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_at_least
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.rows import column_blocks

# Added to the summed squares under the root, as in the released code.
_DAMPING = 1e-7


def excess_risks(jacobian: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """g_iᵀ H_i⁻¹ g_i (m,), with H_i = diag √(squares_i) of the squared gradients summed so far; and these squares.

    before: (m, P) the squares summed up to the previous step; None at the first. The returned ones include this step.
    Source: He et al. (ICML 2024), Eq. (6)–(7).
    """
    squares = torch.empty_like(jacobian)
    risks = torch.zeros(len(jacobian), dtype=torch.float64, device=jacobian.device)
    for block in column_blocks(jacobian):
        present = jacobian[:, block].square()
        summed = present if before is None else present + before[:, block]
        squares[:, block] = summed
        risks += (present * (summed + _DAMPING).rsqrt_()).sum(dim=1)
    return risks, squares


@dataclass(frozen=True)
class ExcessMTL:
    """Multi-task learning robust to label noise: w_i ← w_i exp(η E_i / E_i(0)), scaled to Σw = m.

    step_size: η. Its default is that of the authors' code; their example on Office-Home, with noisy labels, has 1.

    E_i is the excess risk of task i, and E_i(0) that at the first step, which leaves w = 1, as in the released code.
    Task-specific heads get their gradients times w. A task whose gradients were all zero has no E_i(0): its exponent is
    0 until it has one, and the step is counted.
    Deviations: Σw = m and gradients of the shared parameters, as in the released code, while the paper has Σw = 1;
    E_i(0) is that of the first step, while the paper's experiments average over three epochs.
    """

    step_size: float = 0.01

    needs: ClassVar[Needs] = "jacobian"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_at_least("step_size", self.step_size, 0)

    def init(self, n_tasks: int) -> State:
        zero = torch.zeros(n_tasks, dtype=torch.float64)
        return State(memory={"log_weights": zero, "first_risks": zero.clone()})

    def step(self, signal: Signal, state: State) -> Update:
        risks, squares = excess_risks(signal.required_jacobian(), state.memory.get("squares"))
        before = state.memory["first_risks"]
        known = before > 0
        ratios = torch.where(known, risks / torch.where(known, before, 1.0), 0.0)
        # Kept as logarithms: a task far from its first risk saturates the weights and doesn't overflow them.
        log_weights = torch.log_softmax(state.memory["log_weights"] + self.step_size * ratios, dim=0)
        first_risks = torch.where(known, before, risks)
        memory = {"log_weights": log_weights, "first_risks": first_risks, "squares": squares}
        weights = len(risks) * log_weights.exp()
        return Update(weights, State(memory), fallbacks=(first_risks <= 0).any().long())
