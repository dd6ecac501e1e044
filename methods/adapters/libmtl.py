"""The weightings of LibMTL 1.1.5 under our contract, as found, faults included.

LibMTL makes a model class out of an architecture and a weighting at run time, and the weighting reads and writes that
model. Here a stand-in takes the model's place: its losses are L_i + J_i·θ + h_i at θ = 0, h = 0, so that the shared
parameters θ have exactly the rows of our Jacobian for gradients, and what arrives at h_i is the factor of the
gradients of task i's own head.

What was added so that it runs:
- LibMTL imports `torchvision.models.utils`, which torchvision dropped; a module of that name is lent for the import.
- After each task's backward LibMTL clears the shared gradients with `zero_grad`, which sets them to None since torch
  2.0, and then writes to their `.data`. The stand-in's gradients are set to zero instead.
- GradDrop wants the gradients of one representation that all tasks share, and the signs of its activations. Here the
  shared parameters stand for it, with sign 1.
- Means of the training losses by epoch, which LibMTL's trainer keeps for DWA and GradNorm, are kept in our state.
- The learned scales are driven by an Adam of their own without weight decay; in LibMTL they sit in the network's.
- Random draws come from the run's own stream instead of the global ones.

All of a weighting's state is in `State`, so it checkpoints.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from methods.adapters.bridge import drawing_from, import_peer, nearest_weights, translate_peer_errors, try_once
from methods.contract import Needs, Signal, State, Update

VERSION = "1.1.5"

_Class = TypeVar("_Class")


@functools.lru_cache
def weightings() -> ModuleType:
    """LibMTL's module of weightings.

    Raises:
        PeerUnavailable: LibMTL isn't installed.
    """
    gone = "torchvision.models.utils"
    lent = gone not in sys.modules
    if lent:
        sys.modules[gone] = ModuleType(gone)
        sys.modules[gone].load_state_dict_from_url = torch.hub.load_state_dict_from_url  # type: ignore[attr-defined]
    try:
        return import_peer("LibMTL.weighting", "LibMTL")
    finally:
        if lent:
            del sys.modules[gone]


@functools.lru_cache
def _stand_in_class(name: str) -> type[Any]:
    peer: type[Any] = getattr(weightings(), name)

    class StandIn(peer):  # type: ignore[misc]
        """The model that the weighting takes itself for."""

        def get_share_params(self) -> list[nn.Parameter]:
            return [self.shared]

        def zero_grad_share_params(self) -> None:
            self.shared.grad.zero_()

    return StandIn


def _stand_in(weighting: Any, signal: Signal, state: State, buffer: Tensor) -> tuple[Any, Tensor]:
    """The model at this step and its losses (m,), both in float32, as LibMTL works."""
    m = len(signal.losses)
    rows = signal.required_jacobian().float() if weighting.needs == "jacobian" else signal.losses.new_zeros(m, 0)
    model = _stand_in_class(weighting.peer)()
    model.device, model.epoch, model.rep_grad = rows.device, signal.epoch, weighting.peer == "GradDrop"
    model.task_num, model.task_name = m, [str(task) for task in range(m)]
    model.train_loss_buffer = buffer.numpy()
    model.init_param()
    for name, tensor in state.learned.items():
        setattr(model, name, nn.Parameter(tensor.detach().to(rows.device)))
    for name in weighting.keeps & set(state.memory):
        setattr(model, name, state.memory[name].clone().to(rows.device))
    model.own = nn.Parameter(rows.new_zeros(m, dtype=torch.float32))
    losses = signal.losses.float().to(rows.device) + model.own
    if model.rep_grad:
        model.shared = model.rep = nn.Parameter(rows.new_ones(1, rows.shape[1]))
        model.rep_tasks = {task: torch.zeros_like(model.rep, requires_grad=True) for task in model.task_name}
        parts = [row @ model.rep_tasks[task][0] for row, task in zip(rows, model.task_name, strict=True)]
        return model, losses + torch.stack(parts)
    model.shared = nn.Parameter(rows.new_zeros(rows.shape[1], dtype=torch.float32))
    return model, losses + (rows @ model.shared if rows.shape[1] else 0.0)


def _recorded(signal: Signal, memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The means of the training losses by epoch, (m, epochs), and the running sum of the present one."""
    zero = torch.zeros_like(signal.losses)
    means = memory.get("epoch_means", zero.new_zeros(len(zero), 0))
    total, batches = memory.get("loss_sum", zero), memory.get("batches", torch.zeros(()))
    while means.shape[1] < signal.epoch:
        means = torch.cat([means, (total / batches.clamp_min(1)).unsqueeze(1)], dim=1)
    started = torch.tensor(signal.epoch)
    if int(memory.get("epoch", started)) != signal.epoch:
        total, batches = zero, torch.zeros(())
    return {"epoch_means": means, "loss_sum": total + signal.losses, "batches": batches + 1, "epoch": started}


def start(weighting: Any, n_tasks: int) -> State:
    """The state before the first step; the weighting is tried once.

    Raises:
        PeerUnavailable: LibMTL isn't installed, or its weighting can't do with so many tasks.
    """
    weightings()
    learned = {}
    if weighting.learned_lr is not None:
        model = _stand_in_class(weighting.peer)()
        model.task_num, model.device = n_tasks, torch.device("cpu")
        model.init_param()
        learned = {"loss_scale": model.loss_scale.detach().clone().requires_grad_()}
    state = State(learned=learned)
    try_once(weighting.step, state, n_tasks)
    return state


def drive(weighting: Any, signal: Signal, state: State) -> Update:
    """Lets LibMTL's `backward` place its gradients on the stand-in, and reads them off.

    Raises:
        PeerFailed: LibMTL raised an error.
    """
    memory = _recorded(signal, state.memory) if weighting.remembers_losses else dict(state.memory)
    buffer = memory.get("epoch_means", torch.zeros(len(signal.losses), 0))
    buffer = torch.cat([buffer, torch.zeros_like(buffer[:, :1])], dim=1)
    with translate_peer_errors(f"LibMTL's {weighting.peer}", f"step {signal.step}"), torch.enable_grad():
        model, losses = _stand_in(weighting, signal, state, buffer)
        with drawing_from(signal.generator, losses.device), np.errstate(all="ignore"):
            model.backward(losses, **weighting.options())
    memory.update({name: getattr(model, name).detach().cpu() for name in weighting.keeps if hasattr(model, name)})
    auxiliary = None
    if state.learned and model.loss_scale.grad is not None:
        auxiliary = (model.loss_scale.grad.cpu() * state.learned["loss_scale"]).sum()
    own = model.own.grad.double().cpu()
    state = State(state.learned, memory)
    if weighting.needs == "losses":
        return Update(own, state, auxiliary=auxiliary)
    direction = model.shared.grad.flatten()
    weights = nearest_weights(signal.required_gramian(), signal.required_jacobian(), direction)
    return Update(weights, state, head_weights=own, auxiliary=auxiliary, direction=direction)


def _options(weighting: Any) -> dict[str, Any]:
    """What LibMTL's command line would pass on; our own `lr` is none of it."""
    return {field.name: getattr(weighting, field.name) for field in fields(weighting) if field.name != "lr"}


def adapts(
    peer: str, needs: Needs, keeps: frozenset[str] = frozenset(), remembers_losses: bool = False
) -> Callable[[type[_Class]], type[_Class]]:
    """Gives a dataclass of options the members of a `Weighting`, driven by LibMTL's class `peer`.

    keeps: attributes that LibMTL puts on the model at one step and reads at the next.
    remembers_losses: whether it reads the mean losses of former epochs.
    """

    def complete(options: type[_Class]) -> type[_Class]:
        members: dict[str, Any] = {
            "peer": peer,
            "needs": needs,
            "heads": "weighted" if needs == "losses" else "own",
            "keeps": keeps,
            "remembers_losses": remembers_losses,
            "learned_lr": property(lambda self: getattr(self, "lr", None)),
            "options": _options,
            "init": start,
            "step": drive,
        }
        for name, member in members.items():
            setattr(options, name, member)
        return options

    return complete


@adapts("EW", "losses")
@dataclass(frozen=True)
class EW:
    """The sum of the losses."""


@adapts("UW", "losses")
@dataclass(frozen=True)
class UW:
    """lr: of the scales; LibMTL takes the network's, 1e-4 by default."""

    lr: float = 1e-4


@adapts("DWA", "losses", remembers_losses=True)
@dataclass(frozen=True)
class DWA:
    """T: temperature."""

    T: float = 2.0


@adapts("RLW", "losses")
@dataclass(frozen=True)
class RLW:
    """dist: Normal, Uniform, Dirichlet, Bernoulli or constrained_Bernoulli."""

    dist: str = "Normal"


@adapts("GLS", "losses")
@dataclass(frozen=True)
class GLS:
    """The geometric mean of the losses."""


@adapts("GradNorm", "jacobian", remembers_losses=True)
@dataclass(frozen=True)
class GradNorm:
    """alpha: restoring force. lr: of the scales; LibMTL takes the network's, 1e-4 by default. EW in the first epoch."""

    alpha: float = 1.5
    lr: float = 1e-4


@adapts("MGDA", "jacobian")
@dataclass(frozen=True)
class MGDA:
    """mgda_gn: none, l2, loss or loss+."""

    mgda_gn: str = "none"


@adapts("PCGrad", "jacobian")
@dataclass(frozen=True)
class PCGrad:
    """Projections in an order drawn at each step."""


@adapts("GradVac", "jacobian", keeps=frozenset({"rho_T"}))
@dataclass(frozen=True)
class GradVac:
    """beta: decay of the target cosines."""

    beta: float = 0.5


@adapts("GradDrop", "jacobian")
@dataclass(frozen=True)
class GradDrop:
    """leak: share of the gradients that no mask removes."""

    leak: float = 0.0


@adapts("IMTL", "jacobian")
@dataclass(frozen=True)
class IMTL:
    """lr: of the scales; LibMTL takes the network's, 1e-4 by default."""

    lr: float = 1e-4


@adapts("CAGrad", "jacobian")
@dataclass(frozen=True)
class CAGrad:
    """calpha: radius of the ball. rescale: 0 (none), 1 (1 + calpha²) or 2 (1 + calpha)."""

    calpha: float = 0.5
    rescale: int = 1


WEIGHTINGS: Mapping[str, type[Any]] = {
    "ew": EW,
    "uw": UW,
    "dwa": DWA,
    "rlw": RLW,
    "gls": GLS,
    "gradnorm": GradNorm,
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "gradvac": GradVac,
    "graddrop": GradDrop,
    "imtl": IMTL,
    "cagrad": CAGrad,
}
