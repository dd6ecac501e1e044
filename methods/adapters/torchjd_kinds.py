"""The kinds of TorchJD's weightings under our contract.

GramianAdapter: an aggregator whose weights follow from the Gramian.
JacobianAdapter: an aggregator whose weights need the Jacobian.
CrossGramianAdapter: an aggregator whose weights follow from the Gramian of two batches.
UniformAdapter: an aggregator that needs only the number of tasks.
DirectionAdapter: an aggregator that changes the rows instead of weighting them.
ScalarizerAdapter, LearnedScalarizerAdapter: a function of the losses, without and with parameters of its own.

Each adapter of `methods.adapters.torchjd` is a frozen dataclass of options that derives from one kind. What is special
to one class of TorchJD overrides a method there.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from methods.adapters.bridge import (
    drawing_from,
    import_peer,
    nearest_weights,
    on_cpu,
    translate_peer_errors,
    try_once,
)
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.adam import adam_memory, adam_step

Memory = Mapping[str, Tensor]


class _Adapter(ABC):
    """What all kinds share.

    peer: the name of TorchJD's class.
    module: the module of TorchJD that holds it.
    """

    peer: ClassVar[str]
    module: ClassVar[str]
    needs: ClassVar[Needs]
    heads: ClassVar[HeadRule]

    def arguments(self, n_tasks: int, like: Tensor) -> dict[str, Any]:
        """The keyword arguments of TorchJD's class.

        Vectors take the dtype and device of `like`. An empty vector means 1/m for `weights`; elsewhere it is omitted.
        """
        arguments: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                if not value and field.name != "weights":
                    continue
                value = torch.tensor(value or (1 / n_tasks,) * n_tasks).to(like)
            arguments[field.name] = value
        return arguments

    def build(self, n_tasks: int, like: Tensor) -> Any:
        """A new object of TorchJD's class."""
        module = import_peer(f"torchjd.{self.module}", "TorchJD")
        return getattr(module, self.peer)(**self.arguments(n_tasks, like))

    def init(self, n_tasks: int) -> State:
        """The state before the first step. The weighting takes one step as a trial.

        Raises:
            PeerUnavailable: TorchJD or a package that this weighting needs isn't installed, or TorchJD rejects these
                options or this number of tasks.
        """
        import_peer("torchjd", "TorchJD")
        state = State(self.initial_memory(n_tasks))
        try_once(self.step, state, n_tasks)
        return state

    def initial_memory(self, n_tasks: int) -> dict[str, Tensor]:
        del n_tasks
        return {}

    @abstractmethod
    def step(self, signal: Signal, state: State) -> Update:
        """One step of TorchJD's object.

        Raises:
            PeerFailed: TorchJD raised an error.
        """


@functools.lru_cache(maxsize=64)
def _cached_callable(adapter: _Aggregator, n_tasks: int, dtype: torch.dtype, device: torch.device) -> Any:
    return adapter.callable_of(adapter.build(n_tasks, torch.empty((), dtype=dtype, device=device)))


class _Aggregator(_Adapter):
    """An aggregator of TorchJD. Its object is cached; every step first restores the object's state.

    state_names: the attributes that make up the object's state.
    """

    module = "aggregation"
    heads = "plain"
    state_names: ClassVar[tuple[str, ...]] = ()

    def callable_of(self, aggregator: Any) -> Any:
        """What a step calls with the matrix: the aggregator, or the weighting inside it."""
        return aggregator

    @abstractmethod
    def matrix(self, signal: Signal) -> Tensor:
        """The matrix that a step is computed from; it has one row per task."""

    def allocate(self, peer: Any, matrix: Tensor) -> None:
        """Creates the state of `peer` for this matrix, where setting the attributes alone is not enough."""

    def restore(self, peer: Any, matrix: Tensor, memory: Memory) -> None:
        """Sets the state of `peer` to what an earlier step returned; without memory, to that of a new object."""
        if not self.state_names:
            return
        peer.reset()
        if not memory:
            return
        self.allocate(peer, matrix)
        for name in self.state_names:
            if name in memory:
                is_int = isinstance(getattr(peer, name), int)
                setattr(peer, name, int(memory[name]) if is_int else memory[name].clone().to(matrix.device))

    def call(self, signal: Signal, state: State) -> tuple[Tensor, State]:
        """What TorchJD returns for this step, and the next state."""
        matrix = self.matrix(signal)
        with translate_peer_errors(f"TorchJD's {self.peer}", f"step {signal.step}"):
            peer = _cached_callable(self, len(matrix), matrix.dtype, matrix.device)
            self.restore(peer, matrix, state.memory)
            with drawing_from(signal.generator, matrix.device):
                result = peer(matrix).detach()
            values = {name: getattr(peer, name) for name in self.state_names}
            memory = {name: torch.as_tensor(x).detach().clone() for name, x in values.items() if x is not None}
        return result, State(memory=memory)

    def step(self, signal: Signal, state: State) -> Update:
        weights, state = self.call(signal, state)
        return Update(weights.double().cpu(), state)


class GramianAdapter(_Aggregator):
    """An aggregator whose weights follow from the Gramian."""

    needs = "gramian"

    def callable_of(self, aggregator: Any) -> Any:
        return getattr(aggregator, "gramian_weighting", aggregator)  # some classes are the weighting itself

    def matrix(self, signal: Signal) -> Tensor:
        return signal.required_gramian()


class JacobianAdapter(_Aggregator):
    """An aggregator whose weights need the Jacobian."""

    needs = "jacobian"

    def callable_of(self, aggregator: Any) -> Any:
        return aggregator.weighting

    def matrix(self, signal: Signal) -> Tensor:
        return signal.required_jacobian()


class CrossGramianAdapter(_Aggregator):
    """An aggregator whose weights follow from the Gramian of two batches; they apply to a third."""

    needs = "cross_gramian"
    batches: ClassVar[int] = 3
    version: ClassVar[int] = 2  # before, both Jacobians were of one batch

    def matrix(self, signal: Signal) -> Tensor:
        return signal.required_cross_gramian()


class UniformAdapter(_Aggregator):
    """An aggregator that reads nothing but the number of rows; it gets the losses as one column."""

    needs = "losses"

    def callable_of(self, aggregator: Any) -> Any:
        return aggregator.weighting

    def matrix(self, signal: Signal) -> Tensor:
        return signal.losses.cpu().unsqueeze(1)


class DirectionAdapter(_Aggregator):
    """An aggregator that changes the rows of the Jacobian, so that weights alone don't describe its result."""

    needs = "jacobian"

    def matrix(self, signal: Signal) -> Tensor:
        return signal.required_jacobian()

    def step(self, signal: Signal, state: State) -> Update:
        direction, state = self.call(signal, state)
        weights = nearest_weights(signal.required_gramian().cpu(), signal.required_jacobian(), direction)
        return Update(weights, state, direction=direction)


class ScalarizerAdapter(_Adapter):
    """A function of the losses; its gradient in the losses is the weights. It runs on the CPU."""

    module = "scalarization"
    needs = "losses"
    heads = "weighted"

    def replay(self, peer: Any, signal: Signal, memory: Memory) -> dict[str, Tensor]:
        """Sets the state of the new object `peer` to that of the step, and returns the memory for the next step."""
        del peer, signal, memory
        return {}

    def parameters(self, peer: Any) -> dict[str, Tensor]:
        """What TorchJD's object learns, by name: one vector (m,) at most."""
        del peer
        return {}

    def learn(self, memory: Memory, slopes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The memory after a step of what is learned, against its slopes."""
        del slopes
        return dict(memory)

    def step(self, signal: Signal, state: State) -> Update:
        """The gradients of the scalarizer in the losses and in its own parameters.

        Raises:
            PeerFailed: TorchJD raised an error.
        """
        signal, state = on_cpu(signal, state)
        losses = signal.losses.clone().requires_grad_()
        with translate_peer_errors(f"TorchJD's {self.peer}", f"step {signal.step}"), torch.enable_grad():
            peer = self.build(len(losses), losses).double()
            memory = self.replay(peer, signal, state.memory)
            parameters = self.parameters(peer)
            for name, parameter in parameters.items():
                parameter.data.copy_(state.memory[name])
            with drawing_from(signal.generator, losses.device):
                scalar = peer(losses)
            weights, *slopes = torch.autograd.grad(scalar, [losses, *parameters.values()])
        return Update(weights, State(self.learn(memory, dict(zip(parameters, slopes, strict=True)))))


class LearnedScalarizerAdapter(ScalarizerAdapter):
    """A scalarizer with parameters. Our Adam drives them, at the rate `lr` that a subclass declares."""

    lr: float

    def arguments(self, n_tasks: int, like: Tensor) -> dict[str, Any]:
        arguments = {name: value for name, value in super().arguments(n_tasks, like).items() if name != "lr"}
        return {"shape": n_tasks, **arguments}

    def initial_memory(self, n_tasks: int) -> dict[str, Tensor]:
        peer = self.build(n_tasks, torch.empty((), dtype=torch.float64)).double()
        return {**{name: p.detach().clone() for name, p in peer.named_parameters()}, **adam_memory(n_tasks)}

    def replay(self, peer: Any, signal: Signal, memory: Memory) -> dict[str, Tensor]:
        del peer, signal
        return dict(memory)

    def parameters(self, peer: Any) -> dict[str, Tensor]:
        return dict(peer.named_parameters())

    def learn(self, memory: Memory, slopes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ((name, slope),) = slopes.items()
        direction, moments = adam_step(memory, slope)
        return {**memory, name: memory[name] - self.lr * direction, **moments}
