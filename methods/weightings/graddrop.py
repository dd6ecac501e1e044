"""GradDrop: every parameter follows the tasks whose gradients have one sign, drawn by the purity of the signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from methods.checks import require_at_least, require_one_of
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.rows import column_blocks
from methods.transfer import send

Variant = Literal["released", "paper"]


def sign_purity(positive: Tensor, negative: Tensor) -> Tensor:
    """½(1 + Σ_i g_i / Σ_i |g_i|) for every parameter, (P,): 1 where all signs are +, 0 where all are −, ½ without any.

    positive, negative: (P,) the sums over tasks of positive and of negative entries, of which it is p/(p − n).
    Source: Chen et al. (NeurIPS 2020), Eq. (1).
    """
    magnitude = positive - negative
    return torch.where(magnitude > 0, positive / magnitude, 0.5)


def masked_gradients(jacobian: Tensor, draws: Tensor, leak: float) -> tuple[Tensor, Tensor]:
    """The combined gradient (P,), and the share (m,) of each task's squared norm that passes the mask.

    Σ_i (leak + (1 − leak) M_i) g_i, where the mask M_i selects task i's positive entries where the purity exceeds
    the draw, and its negative ones elsewhere. draws: (P,) uniform in [0, 1). The share of a zero gradient is 1.

    Source: Chen et al. (NeurIPS 2020), Algorithm 1, with the identity for f.
    """
    combined = torch.empty_like(draws)
    passed = total = torch.zeros(len(jacobian), dtype=torch.float64, device=jacobian.device)
    for block in column_blocks(jacobian):
        rows = jacobian[:, block]
        above = rows.clamp_min(0)
        below = rows - above
        positive, negative = above.sum(dim=0), below.sum(dim=0)
        kept = torch.where(sign_purity(positive, negative) > draws[block], above, below)
        torch.lerp(kept.sum(dim=0), positive + negative, leak, out=combined[block])
        passed = passed + torch.linalg.vector_norm(kept, dim=1).double().square()
        total = total + torch.linalg.vector_norm(rows, dim=1).double().square()
    shares = torch.where(total > 0, leak + (1 - leak) * passed / torch.where(total > 0, total, 1.0), 1.0)
    return combined, shares


def norm_of_sum(jacobian: Tensor) -> Tensor:
    """‖Σ_i g_i‖, a scalar on the device of the Jacobian (m, P)."""
    parts = [jacobian[:, block].sum(dim=0) for block in column_blocks(jacobian)]
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part) for part in parts]))


@dataclass(frozen=True)
class GradDrop:
    """Gradient sign dropout, drawn at every step from the run's generator.

    leak: the share of every gradient that isn't masked, in [0, 1]; with 1 the update is the plain sum.
    variant: "released" is the authors' layer, which scales the masked sum to the norm of the plain sum. "paper" leaves
        it as it is, Algorithm 1.

    The weights are the shares of each task's squared gradient norm that passed the mask; the update itself is not a
    combination of the gradients. Task-specific heads keep their plain gradients.
    Deviations: the masks and the scale apply to the gradients of the shared parameters, with one draw per parameter;
    in the paper and the authors' layer, to those of the representation, with the masks from their sums over the batch
    after multiplication by the sign of the activation.
    Draws are made on the CPU, so that they are the same on every device, and sent without a wait. That takes the host
    about 10 ns for each parameter.
    """

    leak: float = 0.0
    variant: Variant = "released"

    needs: ClassVar[Needs] = "jacobian"
    heads: ClassVar[HeadRule] = "plain"

    def __post_init__(self) -> None:
        require_at_least("leak", self.leak, 0)
        if self.leak > 1:
            raise ValueError(f"`leak` must be ≤ 1, found {self.leak}")
        require_one_of("variant", self.variant, get_args(Variant))

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        jacobian = signal.required_jacobian()
        draws = torch.empty(jacobian.shape[1], dtype=jacobian.dtype, pin_memory=not jacobian.is_cpu)
        draws.uniform_(generator=signal.generator)
        direction, shares = masked_gradients(jacobian, send(draws, jacobian.device), self.leak)
        if self.variant == "released":
            norm = torch.linalg.vector_norm(direction)
            direction *= norm_of_sum(jacobian) / torch.where(norm > 0, norm, 1.0)
        return Update(shares, state, direction=direction)
