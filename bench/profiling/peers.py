"""LibMTL's and TorchJD's way of taking a training step up to the optimizer, on our network, losses and batch.

**LibMTL** is run as its trainer runs it (`LibMTL/trainer.py`): its model class is made of its HPS and the weighting,
losses are written into one tensor by index, and of several inputs each passes on its own. Three things differ. Its
models clear the shared gradients between tasks with `zero_grad`, which sets them to None since torch 2.0, and then
write to their `.data`; here they are set to zero. What its meters read off losses and predictions is left out. Its
GradNorm and DWA, which weigh equally in the first epochs, find themselves in a later one.

**TorchJD** takes the step of its documentation: `mtl_backward` from the losses through the features, then `jac_to_grad`
with an aggregator, all options being the default ones; where it has a scalarizer, `scalarizer(losses).backward()`. Of
several inputs it is given all features, which `mtl_backward` accepts. On a CPU tasks are differentiated one after
another (`parallel_chunk_size=1`), which is as quick as its default for three and four tasks; for forty, on ResNet-18
with 16 images of 64×64, the default wasn't done after five times as long. On an accelerator it has its default, which
is all at once. Its IMTL-G stands for IMTL.

Options that have no default, or shape how long a solver takes, are those of our methods.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.profiling.solvers import LIBMTL, TORCHJD
from datasets.contract import Batch, Group, Task
from methods.adapters import libmtl
from methods.adapters.bridge import import_peer
from methods.contract import Network
from methods.weightings.cagrad import CAGrad
from methods.weightings.fairgrad import FairGrad
from methods.weightings.stch import STCH

# The first in which every method does what it does for the rest of training; before, some weigh equally.
STEADY_EPOCH = 2

Step = Callable[[], object]


@dataclass(frozen=True)
class Problem:
    """What a step is taken on: a network with hard sharing, its m tasks, and a batch."""

    network: Network
    tasks: Sequence[Task]
    batch: Batch

    @property
    def device(self) -> torch.device:
        return self.batch[0].inputs.device


def methods_of(peer: str) -> Collection[str]:
    """Which of our methods a package has."""
    return {LIBMTL: libmtl.WEIGHTINGS.keys(), TORCHJD: _SCALARIZERS.keys() | _AGGREGATORS.keys()}[peer]


def versions() -> dict[str, str]:
    """Of the packages that are installed, under the names that they have in a list of packages."""
    found = {}
    for package in (LIBMTL, TORCHJD):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def peer_step(peer: str, method: str, problem: Problem) -> Step:
    """A call that takes one step and leaves the gradients in the network.

    Raises:
        PeerUnavailable: the package isn't installed. Whatever the package raises where its method can't do with this.
    """
    return {LIBMTL: _libmtl_step, TORCHJD: _torchjd_step}[peer](method, problem)


_LIBMTL_OPTIONS: Mapping[str, Mapping[str, Any]] = {"cagrad": {"calpha": CAGrad().c}}


def _libmtl_step(method: str, problem: Problem) -> Step:
    weighting = libmtl.WEIGHTINGS[method](**_LIBMTL_OPTIONS.get(method, {}))
    model = _libmtl_model(weighting.peer, problem)
    options = weighting.options()

    def step() -> None:
        losses = _libmtl_losses(model, problem)
        model.zero_grad()
        model.backward(losses, **options)

    return step


def _libmtl_model(peer: str, problem: Problem) -> Any:
    """The model that LibMTL's trainer would make, at STEADY_EPOCH; the mean losses of all epochs were 1."""
    weighting: type[Any] = getattr(libmtl.weightings(), peer)
    sharing: type[Any] = import_peer("LibMTL.architecture", LIBMTL).HPS

    class Model(sharing, weighting):  # type: ignore[misc]
        def zero_grad_share_params(self) -> None:
            self.encoder.zero_grad(set_to_none=False)

    names = _names(problem)
    heads = nn.ModuleDict(dict(zip(names, problem.network.heads, strict=True)))
    # The only one of its weightings that works on gradients of the representation alone.
    by_representation = peer == "GradDrop"
    several = len(problem.batch) > 1
    model = Model(names, lambda: problem.network.encoder, heads, by_representation, several, problem.device)
    model.init_param()
    model.epoch = STEADY_EPOCH
    model.train_loss_buffer = np.ones((len(names), STEADY_EPOCH + 1))
    return model.train()


def _libmtl_losses(model: Any, problem: Problem) -> Tensor:
    """(m,), put together as `Trainer.train` and `Trainer._compute_loss` do."""
    names = _names(problem)
    losses = torch.zeros(len(names)).to(problem.device)
    for group in problem.batch:
        only = names[next(iter(group.targets))] if len(problem.batch) > 1 else None
        predictions = model(group.inputs, only)
        for task, target in group.targets.items():
            losses[task] = problem.tasks[task].loss(predictions[names[task]], target)
    return losses


def _names(problem: Problem) -> list[str]:
    """Keys for LibMTL's tables; those of tasks may be there more than once."""
    return [f"task {index}" for index in range(len(problem.tasks))]


# Our method -> TorchJD's object for m tasks, from torchjd.scalarization or torchjd.aggregation.
_SCALARIZERS: Mapping[str, Callable[[Any, int], Any]] = {
    "ew": lambda module, m: module.Sum(),
    "uw": lambda module, m: module.UW(m),
    "dwa": lambda module, m: module.DWA(),
    "rlw": lambda module, m: module.Random(),
    "gls": lambda module, m: module.GeometricMean(),
    "famo": lambda module, m: module.FAMO(m),
    "stch": lambda module, m: module.STCH(mu=STCH().mu),
}
_AGGREGATORS: Mapping[str, Callable[[Any, int], Any]] = {
    "mgda": lambda module, m: module.MGDA(),
    "pcgrad": lambda module, m: module.PCGrad(),
    "imtl": lambda module, m: module.IMTLG(),
    "cagrad": lambda module, m: module.CAGrad(c=CAGrad().c),
    "nash_mtl": lambda module, m: module.NashMTL(n_tasks=m),
    "gradvac": lambda module, m: module.GradVac(),
    "aligned_mtl": lambda module, m: module.AlignedMTL(),
    "fairgrad": lambda module, m: module.FairGrad(alpha=FairGrad().alpha),
    "upgrad": lambda module, m: module.UPGrad(),
    "graddrop": lambda module, m: module.GradDrop(),
    "excess_mtl": lambda module, m: module.ExcessMTL(),
}


def _torchjd_step(method: str, problem: Problem) -> Step:
    m = len(problem.tasks)
    if method in _SCALARIZERS:
        scalarizer = _SCALARIZERS[method](import_peer("torchjd.scalarization", TORCHJD), m).to(problem.device)
        return lambda: _scalarised(scalarizer, problem)
    aggregator = _AGGREGATORS[method](import_peer("torchjd.aggregation", TORCHJD), m).to(problem.device)
    autojac: Any = import_peer("torchjd.autojac", TORCHJD)
    return lambda: _aggregated(aggregator, autojac, problem)


def _scalarised(scalarizer: Any, problem: Problem) -> None:
    _, losses = pass_ahead(problem, problem.batch)
    scalarizer.zero_grad()
    _clear(problem.network)
    scalarizer(torch.stack(losses)).backward()


def _aggregated(aggregator: Any, autojac: Any, problem: Problem) -> None:
    features, losses = pass_ahead(problem, problem.batch)
    _clear(problem.network)
    at_once = 1 if problem.device.type == "cpu" else None
    autojac.mtl_backward(losses, features=features, parallel_chunk_size=at_once)
    autojac.jac_to_grad(problem.network.shared_parameters(), aggregator)


def _clear(network: Network) -> None:
    for parameter in (*network.shared_parameters(), *network.heads.parameters()):
        parameter.grad = None


def pass_ahead(problem: Problem, groups: Sequence[Group]) -> tuple[list[Tensor], list[Tensor]]:
    """The features of every group's input, and the losses () of their tasks, in the order of the tasks."""
    features, losses = [], {}
    for group in groups:
        z = problem.network.encoder(group.inputs)
        features.append(z)
        for task, target in group.targets.items():
            losses[task] = problem.tasks[task].loss(problem.network.heads[task](z), target)
    return features, [losses[task] for task in sorted(losses)]
