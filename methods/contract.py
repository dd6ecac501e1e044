"""What a method is: the few shapes that weightings and architectures share with the engine.

m tasks, P shared parameters, B batch. A weighting sees losses (m,) and their Gramian (m, m), never a
model; an architecture sees inputs and task indices, never a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

HeadRule = Literal["weighted", "plain", "own"]
Needs = Literal["losses", "gramian", "jacobian"]
PositionOptimizer = Literal["plain", "adam"]


class Diverged(ArithmeticError):
    """Training left the finite world; the message names the step, the task and the value."""


@dataclass(frozen=True)
class Signal:
    """What one training step observed; finite, since the engine ends a run that is not.

    losses: (m,) float64 on the CPU, one mean loss per task.
    gramian: (m, m) float64 on the CPU, inner products of the tasks' gradients in the shared parameters;
        None for a weighting that needs no more than losses.
    jacobian: (m, P) on the device of the network, row i the gradient of task i; only for a weighting that needs it.
        It is a buffer of the engine: read it, and copy what is to be kept.
    step, epoch: counted from 0.
    generator: the run's own stream of random numbers for its method.
    """

    losses: Tensor
    gramian: Tensor | None
    step: int
    epoch: int
    generator: torch.Generator
    jacobian: Tensor | None = None

    def required_gramian(self) -> Tensor:
        """The Gramian, for weightings that cannot do without.

        Raises:
            ValueError: the engine did not form one.
        """
        if self.gramian is None:
            raise ValueError('expected a Gramian of the task gradients, found none: set `needs = "gramian"`')
        return self.gramian

    def required_jacobian(self) -> Tensor:
        """The Jacobian, for weightings that cannot do without.

        Raises:
            ValueError: the engine did not hand it out.
        """
        if self.jacobian is None:
            raise ValueError('expected the Jacobian of the tasks, found none: set `needs = "jacobian"`')
        return self.jacobian


@dataclass(frozen=True)
class State:
    """All that a weighting carries from step to step; tensors only, so it is checkpointed as it is.

    learned: parameters driven by `Update.auxiliary` with an optimizer of their own.
    memory: everything else (running means, the last solution, ...).
    """

    learned: Mapping[str, Tensor] = field(default_factory=dict)
    memory: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """What a weighting answers.

    weights: (m,) float64; the shared gradient becomes weights @ jacobian.
    direction: (P,) the shared gradient itself, from a weighting that does more than weigh the rows of the Jacobian.
    head_weights: (m,) for the gradients of each task's own head; read only where the weighting declares
        `heads = "own"`.
    auxiliary: a scalar that depends on `state.learned` alone; its gradient drives their optimizer.
    fallbacks: how often a solver met an input without a regular solution at this step and took the documented
        substitute; summed into the record as `solver_fallbacks`.
    """

    weights: Tensor
    state: State
    head_weights: Tensor | None = None
    auxiliary: Tensor | None = None
    fallbacks: int = 0
    direction: Tensor | None = None


@runtime_checkable
class Weighting(Protocol):
    """A frozen dataclass of hyper-parameters with a pure step.

    needs: what a step must observe. "losses" costs one backward pass through the shared part, "gramian" and
        "jacobian" cost one per task.
    heads: how the gradients of task i's own head are scaled, as published: "weighted" by weights[i],
        "plain" (as they are), or "own" (by `Update.head_weights[i]`).
    learned_lr: learning rate of Adam, without weight decay, on `State.learned`; None where nothing is learned.
    """

    @property
    def needs(self) -> Needs: ...
    @property
    def heads(self) -> HeadRule: ...
    @property
    def learned_lr(self) -> float | None: ...
    def init(self, n_tasks: int) -> State: ...
    def step(self, signal: Signal, state: State) -> Update: ...


@runtime_checkable
class PostStepHook(Protocol):
    """Implemented in addition by weightings that learn from the effect of a step.

    post_step: returns the next state, from the state of `Update` and the losses (m,) of the same batch after the
        parameters have moved, float64 on the CPU. It costs another forward pass.
    """

    def post_step(self, losses: Tensor, state: State) -> State: ...


class TaskFeatures(NamedTuple):
    """The input of head i, z_i, and its derivative along the task's position, dz/dt at p_i (None: no position)."""

    z: Tensor
    velocity: Tensor | None


class Evaluations(NamedTuple):
    """Evaluations of the field of a flow, in forward passes and in backward passes (adjoint equation)."""

    forward: int
    backward: int


@dataclass(frozen=True)
class SharedFeatures:
    """The result of a forward pass through the shared part.

    by_input: for each input, the features of the tasks that read it.
    evaluations: of the flow's field, in this forward pass and so far in its backward pass; None without a flow.
    """

    by_input: list[list[TaskFeatures]]
    evaluations: Callable[[], Evaluations] | None = None


class Network(Protocol):
    """A built architecture: a shared part, one head per task and, for some, one learned position per task.

    features: one forward pass of the shared part for all `tasks` that read `inputs` (B, C, H, W).
    features_of_inputs: the same for several inputs, each with its own tasks. Their graphs may be joined.
    last_block_parameters: the shared parameters nearest to the heads.
    positions: (m,), None for an architecture without positions.
    translate_errors: a context in which errors that only this architecture can have, in a forward or backward pass,
        become Diverged.
    """

    encoder: nn.Module
    heads: nn.ModuleList

    def features(self, inputs: Tensor, tasks: Sequence[int]) -> list[TaskFeatures]: ...
    def features_of_inputs(self, inputs: Sequence[Tensor], tasks: Sequence[Sequence[int]]) -> SharedFeatures: ...
    def shared_parameters(self) -> list[nn.Parameter]: ...
    def last_block_parameters(self) -> list[nn.Parameter]: ...
    def positions(self) -> Tensor | None: ...
    def position_parameters(self) -> list[nn.Parameter]: ...
    def translate_errors(self) -> AbstractContextManager[None]: ...

    # What every torch module brings.
    def to(self, *arguments: Any, **options: Any) -> Any: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Features:
    """What an encoder puts out: `channels` wide; `dense` maps are `stride` times smaller than the input."""

    channels: int
    dense: bool
    stride: int


@dataclass(frozen=True)
class PositionRule:
    """How task positions learn.

    lr_ratio: their step size over the network's first learning rate. optimizer: "plain" gradient steps, or "adam".
    alternating: they move after the network, by gradients at where it has moved, instead of jointly with it.
    """

    lr_ratio: float
    optimizer: PositionOptimizer
    alternating: bool


class Architecture(Protocol):
    """A frozen dataclass of hyper-parameters that wires an encoder and heads into a network.

    position_rule: None without positions. shares_features: whether tasks that read one input read the same features.
    check: raises ValueError where the hyper-parameters don't fit the tasks.
    """

    @property
    def position_rule(self) -> PositionRule | None: ...
    @property
    def shares_features(self) -> bool: ...
    def check(self, tasks: Sequence[str]) -> None: ...
    def build(
        self, encoder: nn.Module, heads: Sequence[nn.Module], features: Features, tasks: Sequence[str]
    ) -> Network: ...


@dataclass(frozen=True)
class WeightingInfo:
    """A row of the table of weightings.

    label: the name as published.
    factory: the dataclass of its hyper-parameters.
    paper: where it was published.
    deviations: how it differs from the paper, in one line.
    version: raised by hand with every change that changes numbers. It is kept in records.
    """

    label: str
    factory: type[Any]
    paper: str
    deviations: str = "none"
    version: int = 1


@dataclass(frozen=True)
class ArchitectureInfo:
    """A row of the table of architectures; members as in `WeightingInfo`."""

    label: str
    factory: type[Any]
    paper: str
    deviations: str = "none"
    version: int = 1


@dataclass(frozen=True)
class MethodInfo:
    """A row of a published table: a label and the pair of architecture and weighting that it stands for."""

    label: str
    architecture: str
    weighting: str
