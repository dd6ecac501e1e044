"""SDMGrad: the shortest combination near the mean gradient, from gradients of independent batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from methods.checks import require_at_least, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.simplex import Matrix, Vector, project_onto_simplex

# Added to squared norms under the root, as in the released code.
_DAMPING = 1e-4


def scaled_products(cross_gramian: Matrix) -> Matrix:
    """J₁ J₂ᵀ (m, m) over the squared mean of the gradient norms, which makes the step size of the weights scale-free.

    The product of a task's two gradients stands for its squared norm; where noise makes it negative, it counts as 0.
    Source: Xiao, Ban, Ji (NeurIPS 2023), Section 6.1 and released code.
    """
    norms = np.sqrt(np.maximum(cross_gramian.diagonal(), 0.0) + _DAMPING)
    return np.asarray(cross_gramian / norms.mean() ** 2, dtype=np.float64)


def directed_weights(before: Vector, products: Matrix, pull: float, lr: float, momentum: float, steps: int) -> Vector:
    """w (m,) after so many projected steps from `before` on ½‖Jᵀw‖² + pull·⟨Jᵀw, g_0⟩ over the simplex.

    products: (m, m) J₁ J₂ᵀ, scaled. g_0 is the mean gradient.
    Source: Xiao, Ban, Ji (NeurIPS 2023), Algorithm 1, with the momentum of the released code.
    """
    m = len(before)
    weights, velocity = before, np.zeros_like(before)
    for _ in range(steps):
        velocity = momentum * velocity + products @ (weights + pull / m)
        weights = project_onto_simplex(weights - lr * velocity)
    return weights


@dataclass(frozen=True)
class SDMGrad:
    """Stochastic direction-oriented multi-objective gradient descent: m · (Jᵀw + λ g_0) / (1 + λ).

    pull: λ, of the mean gradient g_0.
    lr, inner_momentum, inner_steps: of the steps on w, which begin at the w of the last step of training.

    Every step reads three batches: two for w, one for the gradients that it weights. So an epoch reads the data three
    times. Task-specific heads keep the mean of their plain gradients.
    Deviations: the released code for NYUv2 writes the gradients of all three batches into one tensor, so that it uses
    those of the last batch only, for w and for the update; here they are apart, as in the paper. It also clips the
    shared gradient to norm 1 (`train.clip_norm` clips that of all parameters). Heads get the sum over the batches
    there.
    """

    pull: float = 0.3
    lr: float = 10.0
    inner_momentum: float = 0.5
    inner_steps: int = 20

    needs: ClassVar[Needs] = "cross_gramian"
    heads: ClassVar[HeadRule] = "plain"
    batches: ClassVar[int] = 3

    def __post_init__(self) -> None:
        require_at_least("pull", self.pull, 0)
        require_positive("lr", self.lr)
        if not 0 <= self.inner_momentum < 1:
            raise ValueError(f"`inner_momentum` must be ≥ 0 and < 1, found {self.inner_momentum}")
        require_at_least("inner_steps", self.inner_steps, 1)

    def init(self, n_tasks: int) -> State:
        return State({"w": torch.full((n_tasks,), 1 / n_tasks, dtype=torch.float64)})

    def step(self, signal: Signal, state: State) -> Update:
        products, before = scaled_products(signal.required_cross_gramian().numpy()), state.memory["w"].numpy()
        w = directed_weights(before, products, self.pull, self.lr, self.inner_momentum, self.inner_steps)
        weights = (len(w) * w + self.pull) / (1 + self.pull)
        return Update(torch.from_numpy(weights), State({"w": torch.from_numpy(w)}))
