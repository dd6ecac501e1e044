"""What a method is: the few types that weightings and architectures share with the engine.

m tasks, P shared parameters, B batch. A weighting sees losses (m,) and their Gramian (m, m), never a model. An
architecture sees inputs and task indices, never a loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

HeadRule = Literal["weighted", "plain", "own"]
Needs = Literal["losses", "gramian", "jacobian", "cross_gramian"]
PositionOptimizer = Literal["plain", "adam"]


class MayBeInfinite:
    """Marks the type of a hyper-parameter for which ∞ has a meaning; all others must be finite."""


Bound = Annotated[float, MayBeInfinite]  # an upper bound; ∞ for none


class Diverged(ArithmeticError):
    """A number in training is not finite; the message names the step, the task and the value."""


@dataclass(frozen=True)
class Signal:
    """What a weighting sees of one training step.

    A weighting computes where its largest input is. One with `needs = "losses"` or "jacobian" gets everything on the
    device of the network, and must not read values there (`item`, `tolist`, a tensor as a condition): the step would
    wait for the device. The others get everything on the CPU.

    On the CPU all numbers are finite: the engine ends a run when one is not. On another device it finds out at the end
    of the epoch, so a weighting must stand nan and inf there.

    losses: (m,) float64, one mean loss per task.
    gramian: (m, m) float64, inner products of the tasks' gradients in the shared parameters; None for a weighting that
        needs losses only.
    step, epoch: counted from 0.
    generator: the run's own random stream for its method.
    jacobian: (m, P) float32, row i the gradient of task i; only for a weighting that needs it.
        The engine reuses its memory: copy what has to outlive the step.
    cross_gramian: (m, m) float64, J₁ J₂ᵀ for the Jacobians of two independent batches at the same
        parameters; only for a weighting that needs it. It is not symmetric; its expectation is the Gramian of the true
        gradients, which the Gramian of one batch overestimates.
    """

    losses: Tensor
    gramian: Tensor | None
    step: int
    epoch: int
    generator: torch.Generator
    jacobian: Tensor | None = None
    cross_gramian: Tensor | None = None

    def required_gramian(self) -> Tensor:
        """The Gramian, for weightings that need it.

        Raises:
            ValueError: there is none.
        """
        if self.gramian is None:
            raise ValueError('expected a Gramian of the task gradients, found none: set `needs = "gramian"`')
        return self.gramian

    def required_jacobian(self) -> Tensor:
        """The Jacobian, for weightings that need it.

        Raises:
            ValueError: there is none.
        """
        if self.jacobian is None:
            raise ValueError('expected the Jacobian of the tasks, found none: set `needs = "jacobian"`')
        return self.jacobian

    def required_cross_gramian(self) -> Tensor:
        """The cross-batch Gramian, for weightings that need it.

        Raises:
            ValueError: there is none.
        """
        if self.cross_gramian is None:
            raise ValueError('expected the Gramian of two batches, found none: set `needs = "cross_gramian"`')
        return self.cross_gramian


@dataclass(frozen=True)
class State:
    """What a weighting carries from step to step.

    memory: running means, learned numbers with the moments of their optimizer, the last solution. Tensors without
        gradients only, so that it can be checkpointed as it is. The engine keeps them where the weighting computes.
    """

    memory: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """What a weighting returns, on the device of `Signal` or on the CPU.

    weights: (m,) floats, best float64; the shared gradient becomes weights @ jacobian.
    state: for the next step.
    head_weights: (m,) factors of the gradients of the heads; read only if the weighting declares `heads = "own"`.
    fallbacks: how often, in this step, a solver had no regular solution and used the documented substitute: an int, or
        an integer tensor (). The sum is recorded as `solver_fallbacks`.
    direction: (P,) the shared gradient itself, from a weighting that does more than combine the rows of the Jacobian.
    unclipped: (m,) the weights before the weighting clipped the shared gradient by them; only from one that does.
    max_norm: a longer shared gradient is clipped to this norm by the engine, for a weighting that doesn't know its
        norm. ∞: it is applied as it is.
    """

    weights: Tensor
    state: State
    head_weights: Tensor | None = None
    fallbacks: int | Tensor = 0
    direction: Tensor | None = None
    unclipped: Tensor | None = None
    max_norm: float = math.inf


@runtime_checkable
class Weighting(Protocol):
    """A frozen dataclass of hyper-parameters with a pure step.

    needs: what a step must compute for it. "losses" costs one backward pass through the shared part; "gramian" and
        "jacobian" cost one per task, "cross_gramian" one per task and batch of `ManyBatches`.
    heads: how the gradients of head i are scaled, as published: "weighted" by weights[i], "plain" (not at all), or
        "own" (by `Update.head_weights[i]`).
    """

    @property
    def needs(self) -> Needs: ...
    @property
    def heads(self) -> HeadRule: ...
    def init(self, n_tasks: int) -> State: ...
    def step(self, signal: Signal, state: State) -> Update: ...


@runtime_checkable
class PostStepHook(Protocol):
    """Implemented in addition by weightings that learn from the effect of a step.

    post_step: returns the next state, from the state of `Update` and the losses (m,) of the same batch after the
        parameters have moved, float64 on the device of `Signal`. It costs another forward pass.
    """

    def post_step(self, losses: Tensor, state: State) -> State: ...


@runtime_checkable
class ManyBatches(Protocol):
    """Implemented in addition by weightings with `needs = "cross_gramian"`.

    batches: independent batches of a step, 2 or 3. The first is the batch that every other method gets. With 2, the
        cross-batch Gramian is that of both, and the weights apply to the mean of their gradients. With 3, it is that
        of the second and the third, and the weights apply to the gradients of the first.
    """

    @property
    def batches(self) -> int: ...


def batches_of(weighting: Weighting) -> int:
    """How many batches a step of this weighting reads."""
    return weighting.batches if isinstance(weighting, ManyBatches) else 1


@runtime_checkable
class Clips(Protocol):
    """Implemented in addition by weightings that clip the shared gradient.

    clips_to: the norm to which a longer one is clipped; ∞ for none. Every `Update` of a finite one has `unclipped` or
        `max_norm`.
    """

    @property
    def clips_to(self) -> float: ...


def clip_of(weighting: Weighting) -> float:
    """The norm to which this weighting clips the shared gradient; ∞ if it doesn't."""
    return weighting.clips_to if isinstance(weighting, Clips) else math.inf


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
    shared_parameters: those before the heads. Tasks share them, unless the architecture says that they share none.
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
    """The output of an encoder.

    channels: its width.
    dense: whether it is a map (B, channels, h, w) instead of vectors (B, channels).
    stride: how many times smaller the map is than the image.
    """

    channels: int
    dense: bool
    stride: int


@dataclass(frozen=True)
class PositionRule:
    """How task positions are trained.

    lr_ratio: their learning rate over the network's initial learning rate. It stays when the network's decays.
    optimizer: "plain" gradient descent, or "adam".
    alternating: they move after the network, by gradients of the moved network, instead of jointly with it.
    """

    lr_ratio: float
    optimizer: PositionOptimizer
    alternating: bool


class Architecture(Protocol):
    """A frozen dataclass of hyper-parameters that wires an encoder and heads into a network.

    position_rule: None without positions.
    shares_features: whether tasks that read one input read the same features.
    shares_parameters: whether tasks share any parameters. Without any, encoder and heads of the network are lists with
        a module for each task, and it has no other parameters.
    check: raises ValueError if the hyper-parameters don't fit the tasks.
    """

    @property
    def position_rule(self) -> PositionRule | None: ...
    @property
    def shares_features(self) -> bool: ...
    @property
    def shares_parameters(self) -> bool: ...
    def check(self, tasks: Sequence[str]) -> None: ...
    def build(
        self, encoder: nn.Module, heads: Sequence[nn.Module], features: Features, tasks: Sequence[str]
    ) -> Network: ...


MOST_KNOBS = 3  # of a weighting or an architecture, so that no method has more to tune than another


@dataclass(frozen=True)
class Knob:
    """A hyper-parameter that `bench.tune` may change: a range, a list of choices, or a point of the simplex.

    setting: its dotted name.
    low, high: the range, both ends included; log: uniform in the logarithm.
    choices: instead of a range.
    simplex: one positive number per task with mean 1, uniform on the simplex; instead of a range.
    """

    setting: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()
    simplex: bool = False

    def __post_init__(self) -> None:
        if not (self.choices or self.simplex or self.low < self.high):
            raise ValueError(
                f"{self.setting}: expected choices, a simplex or low < high, found {self.low}, {self.high}"
            )
        if self.log and not self.low > 0:
            raise ValueError(f"{self.setting}: expected low > 0 for a logarithm, found {self.low}")


@dataclass(frozen=True)
class WeightingInfo:
    """A row of the table of weightings.

    label: the name as published.
    factory: the dataclass of its hyper-parameters.
    paper: where it was published.
    deviations: how it differs from the paper, in one line.
    version: raised by hand with every change that changes numbers. It is kept in records.
    constant: whether its weights are the same at every step, whatever the losses.
    sets_gradient: whether its update is more than a combination of the tasks' gradients, which no weights describe.
    knobs: what tuning may change, at most MOST_KNOBS.
    """

    label: str
    factory: type[Any]
    paper: str
    deviations: str = "none"
    version: int = 1
    constant: bool = False
    sets_gradient: bool = False
    knobs: tuple[Knob, ...] = ()


@dataclass(frozen=True)
class ArchitectureInfo:
    """A row of the table of architectures; members as in `WeightingInfo`."""

    label: str
    factory: type[Any]
    paper: str
    deviations: str = "none"
    version: int = 1
    knobs: tuple[Knob, ...] = ()


@dataclass(frozen=True)
class MethodInfo:
    """A row of a published table: a label and the pair of architecture and weighting that it stands for."""

    label: str
    architecture: str
    weighting: str
