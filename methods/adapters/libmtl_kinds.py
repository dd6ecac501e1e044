"""How LibMTL's weightings take a step under our contract: those that read losses, and those that read gradients.

LibMTL makes a model class out of an architecture and a weighting at run time, and the weighting reads and writes that
model. Here a stand-in replaces the model. Its losses are L_i + J_i·θ + h_i at θ = 0, h = 0. So the gradients of the
shared parameters θ are exactly the rows of our Jacobian, and the gradient that arrives at h_i is the factor of the
gradients of task i's own head.

What was added so that it runs:
- LibMTL imports `torchvision.models.utils`, which torchvision removed. An empty module of that name exists during the
  import.
- After each task's backward pass LibMTL clears the shared gradients with `zero_grad`, which sets them to None since
  torch 2.0, and then writes to their `.data`. The stand-in sets its gradients to zero instead.
"""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

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


@functools.lru_cache
def weightings() -> ModuleType:
    """LibMTL's module of weightings.

    Raises:
        PeerUnavailable: LibMTL isn't installed.
    """
    removed = "torchvision.models.utils"
    missing = removed not in sys.modules
    if missing:
        sys.modules[removed] = ModuleType(removed)
        sys.modules[removed].load_state_dict_from_url = torch.hub.load_state_dict_from_url  # type: ignore[attr-defined]
    try:
        return import_peer("LibMTL.weighting", "LibMTL")
    finally:
        if missing:
            del sys.modules[removed]


@functools.lru_cache
def _stand_in_class(peer_name: str) -> type[Any]:
    peer: type[Any] = getattr(weightings(), peer_name)

    class StandIn(peer):  # type: ignore[misc]
        """The model, as the weighting sees it."""

        def get_share_params(self) -> list[nn.Parameter]:
            return [self.shared]

        def zero_grad_share_params(self) -> None:
            self.shared.grad.zero_()

    return StandIn


class _Adapter(ABC):
    """What both kinds share.

    peer: the name of LibMTL's class.
    state_names: attributes that LibMTL sets on the model at one step and reads at the next.
    learns_scales: whether it trains LibMTL's `loss_scale`, at the rate `lr` that the subclass declares.
    reads_epoch_means: whether it reads the mean losses of earlier epochs.
    reads_representation: whether it works on the gradients of one representation that all tasks share.
    """

    peer: ClassVar[str]
    needs: ClassVar[Needs]
    heads: ClassVar[HeadRule]
    lr: float
    state_names: ClassVar[tuple[str, ...]] = ()
    learns_scales: ClassVar[bool] = False
    reads_epoch_means: ClassVar[bool] = False
    reads_representation: ClassVar[bool] = False

    def options(self) -> dict[str, Any]:
        """What LibMTL's command line would pass to the weighting. Our own `lr` is not among it."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "lr"}  # type: ignore[arg-type]

    def init(self, n_tasks: int) -> State:
        """The state before the first step. The weighting takes one step as a trial.

        Raises:
            PeerUnavailable: LibMTL isn't installed, or its weighting can't work with this number of tasks.
        """
        weightings()
        memory = {}
        if self.learns_scales:
            model = _stand_in_class(self.peer)()
            model.task_num, model.device = n_tasks, torch.device("cpu")
            model.init_param()
            memory = {"loss_scale": model.loss_scale.detach().double(), **adam_memory(n_tasks)}
        state = State(memory)
        try_once(self.step, state, n_tasks)
        return state

    @abstractmethod
    def rows(self, signal: Signal) -> Tensor:
        """(m, P) float32 the gradients of the tasks in the stand-in's shared parameters."""

    def add_shared(self, model: Any, losses: Tensor, rows: Tensor) -> Tensor:
        """Gives the model shared parameters, and the losses (m,) these rows for gradients in them."""
        model.shared = nn.Parameter(rows.new_zeros(rows.shape[1], dtype=torch.float32))
        return losses + (rows @ model.shared if rows.shape[1] else 0.0)

    def stand_in(self, signal: Signal, state: State, epoch_means: Tensor) -> tuple[Any, Tensor]:
        """The model at this step and its losses (m,), both in float32, as LibMTL works."""
        m = len(signal.losses)
        rows = self.rows(signal)
        model = _stand_in_class(self.peer)()
        model.device, model.epoch, model.rep_grad = rows.device, signal.epoch, self.reads_representation
        model.task_num, model.task_name = m, [str(task) for task in range(m)]
        model.train_loss_buffer = epoch_means.numpy()
        model.init_param()
        if self.learns_scales:
            model.loss_scale = nn.Parameter(state.memory["loss_scale"].float().to(rows.device))
        for name in self.state_names:
            if name in state.memory:
                setattr(model, name, state.memory[name].clone().to(rows.device))
        model.own = nn.Parameter(rows.new_zeros(m, dtype=torch.float32))
        losses = signal.losses.float().to(rows.device) + model.own
        return model, self.add_shared(model, losses, rows)

    @abstractmethod
    def read(self, model: Any, signal: Signal, state: State) -> Update:
        """The update, from the gradients that LibMTL left on the model."""

    def step(self, signal: Signal, state: State) -> Update:
        """Runs LibMTL's `backward` on the stand-in, and reads the gradients from it.

        It runs where the Jacobian is, or on the CPU without one.

        Raises:
            PeerFailed: LibMTL raised an error.
        """
        signal, state = on_cpu(signal, state)
        memory = dict(state.memory)
        if self.reads_epoch_means:
            memory |= _with_epoch_means(signal, state.memory)
        means = memory.get("epoch_means", torch.zeros(len(signal.losses), 0))
        means = torch.cat([means, torch.zeros_like(means[:, :1])], dim=1)
        with translate_peer_errors(f"LibMTL's {self.peer}", f"step {signal.step}"), torch.enable_grad():
            model, losses = self.stand_in(signal, state, means)
            with drawing_from(signal.generator, losses.device), np.errstate(all="ignore"):
                model.backward(losses, **self.options())
        memory.update({name: getattr(model, name).detach().cpu() for name in self.state_names if hasattr(model, name)})
        if self.learns_scales and model.loss_scale.grad is not None:
            direction, moments = adam_step(memory, model.loss_scale.grad.double().cpu())
            memory |= {"loss_scale": memory["loss_scale"] - self.lr * direction, **moments}
        return self.read(model, signal, State(memory))


class LossAdapter(_Adapter):
    """A weighting that reads losses only; its weights are the factors of the heads' gradients."""

    needs = "losses"
    heads = "weighted"

    def rows(self, signal: Signal) -> Tensor:
        return signal.losses.new_zeros(len(signal.losses), 0)

    def read(self, model: Any, signal: Signal, state: State) -> Update:
        del signal
        return Update(model.own.grad.double().cpu(), state)


class GradientAdapter(_Adapter):
    """A weighting that reads the gradients of all tasks and sets the shared gradient."""

    needs = "jacobian"
    heads = "own"

    def rows(self, signal: Signal) -> Tensor:
        return signal.required_jacobian().float()

    def read(self, model: Any, signal: Signal, state: State) -> Update:
        direction = model.shared.grad.flatten()
        weights = nearest_weights(signal.required_gramian(), signal.required_jacobian(), direction)
        head_weights = model.own.grad.double().cpu()
        return Update(weights, state, head_weights=head_weights, direction=direction)


def _with_epoch_means(signal: Signal, memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean training losses by epoch, (m, epochs), and the running sum of the current epoch."""
    zero = torch.zeros_like(signal.losses)
    means = memory.get("epoch_means", zero.new_zeros(len(zero), 0))
    total, batches = memory.get("loss_sum", zero), memory.get("batches", torch.zeros(()))
    while means.shape[1] < signal.epoch:
        means = torch.cat([means, (total / batches.clamp_min(1)).unsqueeze(1)], dim=1)
    epoch = torch.tensor(signal.epoch)
    if int(memory.get("epoch", epoch)) != signal.epoch:
        total, batches = zero, torch.zeros(())
    return {"epoch_means": means, "loss_sum": total + signal.losses, "batches": batches + 1, "epoch": epoch}
