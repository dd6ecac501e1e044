"""NORMAL: each task reads one learned neural-ODE flow at its own learned position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from methods.architectures.flow import (
    CountedField,
    FirstOrderFlow,
    Flow,
    Gradient,
    HeavyBallFlow,
    Solver,
    SolverName,
    check_reach,
    read,
    solved_together,
    solver_error,
    states_at,
    states_of_inputs,
)
from methods.architectures.positions import Form, Positions
from methods.checks import require_at_least, require_one_of, require_positive
from methods.contract import (
    Diverged,
    Evaluations,
    Features,
    PositionOptimizer,
    PositionRule,
    SharedFeatures,
    TaskFeatures,
)

Updates = Literal["joint", "alternating"]


class NormalNetwork(nn.Module):
    """z(0) = f_θ(x); head i reads z(p_i)."""

    def __init__(
        self,
        encoder: nn.Module,
        flow: Flow,
        positions: Positions,
        heads: Sequence[nn.Module],
        solver: Solver,
        tasks: Sequence[str],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.flow = flow
        self.task_positions = positions
        self.heads = nn.ModuleList(heads)
        self.solver = solver
        self.tasks = tuple(tasks)

    def features(self, inputs: Tensor, tasks: Sequence[int]) -> list[TaskFeatures]:
        """z(p_i) and dz/dt at p_i = −q(p_i), which Eq. (7) needs, from one trajectory for all `tasks`."""
        (found,) = self.features_of_inputs([inputs], [tasks]).by_input
        return found

    def features_of_inputs(self, inputs: Sequence[Tensor], tasks: Sequence[Sequence[int]]) -> SharedFeatures:
        """The same for several inputs: from one joint trajectory where that is faster, or from one each."""
        all_positions = self.task_positions().detach().tolist()
        positions = [[all_positions[task] for task in readers] for readers in tasks]
        for own, readers in zip(positions, tasks, strict=True):
            check_reach(own, [self.tasks[task] for task in readers], self.solver)
        encoded = [self.encoder(images) for images in inputs]
        field = CountedField(self.flow)
        if solved_together(encoded, positions, self.solver):
            start = self.flow.start(torch.cat(encoded))
            states = states_of_inputs(field, start, [len(z) for z in encoded], positions, self.solver)
        else:
            pairs = zip(encoded, positions, strict=True)
            states = [states_at(field, self.flow.start(z), own, self.solver) for z, own in pairs]
        by_input = [read(self.flow, field, some) for some in states]
        forward = field.evaluations
        return SharedFeatures(by_input, lambda: Evaluations(forward, field.evaluations - forward))

    def shared_parameters(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *self.flow.parameters()]

    def last_block_parameters(self) -> list[nn.Parameter]:
        return list(self.flow.parameters())

    def positions(self) -> Tensor | None:
        positions: Tensor = self.task_positions()
        return positions

    def position_parameters(self) -> list[nn.Parameter]:
        return [p for p in self.task_positions.parameters() if p.requires_grad]

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turns a failed solve, forward or by the adjoint equation, into Diverged with the furthest position."""
        try:
            yield
        except AssertionError as error:
            message = solver_error(error)
            if not message:
                raise
            furthest = max(zip(self.task_positions().tolist(), self.tasks, strict=True), key=lambda pair: abs(pair[0]))
            raise Diverged(
                f"{self.solver.name} can't solve the flow ({message}); the furthest position is that of task "
                f"{furthest[1]} = {furthest[0]:.6g}"
            ) from error


@dataclass(frozen=True)
class Normal:
    """The time-aware neural ODE block between encoder and heads (Ye et al., IJCAI 2023).

    order: 2 is the heavy-ball flow, 1 is dz/dt = g(z).
    xi: ξ of Eq. (5).
    initial_omega: γ = sigmoid(ω) starts there.
    solver, step_size, tolerance, gradient, max_steps: see `flow.Solver`.
    position_form: "free", "positive" (p = e^ν) or "constant".
    initial_positions: one for all tasks, or one for each.
    eta_ratio: the step size η of the positions over the network's initial learning rate μ. η is constant: it doesn't
        follow a decay of the network's rate.
    position_optimizer: "plain" gradient steps (Algorithm 1), or "adam".
    updates: "joint" moves network and positions by the same gradients (Algorithm 1). "alternating" moves positions
        second, by gradients on the same batch after the network has moved (§3.3), which costs another forward pass.
    Deviations: the paper does not give η, ξ, the initial positions or the step size; these are our declared choices
        (ω from the released heavy-ball code). Gradients of the network are backpropagated through the solver's steps
        by default, where the paper solves the adjoint equation.
    """

    order: Literal[1, 2] = 2
    xi: float = 0.1
    initial_omega: float = -3.0
    solver: SolverName = "euler"
    step_size: float = 0.25
    tolerance: float = 1e-5
    gradient: Gradient = "backprop"
    max_steps: int = 64
    position_form: Form = "free"
    initial_positions: tuple[float, ...] = (1.0,)
    eta_ratio: float = 10.0
    position_optimizer: PositionOptimizer = "plain"
    updates: Updates = "joint"

    shares_features: ClassVar[bool] = False
    shares_parameters: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_one_of("solver", self.solver, get_args(SolverName))
        require_one_of("gradient", self.gradient, get_args(Gradient))
        require_one_of("position_form", self.position_form, get_args(Form))
        require_one_of("order", str(self.order), ("1", "2"))
        require_one_of("position_optimizer", self.position_optimizer, get_args(PositionOptimizer))
        require_one_of("updates", self.updates, get_args(Updates))
        require_positive("step_size", self.step_size)
        require_positive("tolerance", self.tolerance)
        require_positive("max_steps", self.max_steps)
        require_at_least("eta_ratio", self.eta_ratio, 0)
        if self.position_form == "positive":
            for position in self.initial_positions:
                require_positive("initial_positions", position)

    @property
    def position_rule(self) -> PositionRule:
        return PositionRule(self.eta_ratio, self.position_optimizer, self.updates == "alternating")

    def check(self, tasks: Sequence[str]) -> None:
        if len(self.initial_positions) not in (1, len(tasks)):
            raise ValueError(
                f"`initial_positions` must hold 1 or {len(tasks)} numbers (one per task), "
                f"found {len(self.initial_positions)}"
            )

    def build(
        self, encoder: nn.Module, heads: Sequence[nn.Module], features: Features, tasks: Sequence[str]
    ) -> NormalNetwork:
        self.check(tasks)
        initial = list(self.initial_positions) * (len(tasks) if len(self.initial_positions) == 1 else 1)
        flow: Flow = (
            HeavyBallFlow(features, self.xi, self.initial_omega) if self.order == 2 else FirstOrderFlow(features)
        )
        solver = Solver(self.solver, self.step_size, self.gradient, self.max_steps, self.tolerance)
        return NormalNetwork(encoder, flow, Positions(initial, self.position_form), heads, solver, tasks)
