"""A training step as LibMTL and TorchJD take it, up to the optimizer, on our network, losses and batch.

**LibMTL** runs as in its trainer (`LibMTL/trainer.py`): its model class is made of its HPS and the weighting, losses
are written into one tensor by index, and every input has a forward pass of its own. Three things differ. Its models
clear the shared gradients between tasks with `zero_grad`, which sets them to None since torch 2.0, and then write to
their `.data`; here they are set to zero. Its meters of losses and predictions are left out. Its GradNorm and DWA use
equal weights in the first epochs, so the step is one of a later epoch.

**TorchJD** takes the step of its documentation: `scalarizer(losses).backward()` if it has a scalarizer for the method,
else `mtl_backward` from the losses through the features, then `jac_to_grad` with an aggregator. With several inputs it
gets all features, which `mtl_backward` accepts. On an accelerator all tasks are differentiated at once, its default. On
a CPU they are differentiated one after another (`parallel_chunk_size=1`). For three and four tasks this is as fast as
the default; for forty, on ResNet-18 with 16 images of 64×64, the default had not finished after five times as long.
Methods that read several batches take the step of their class's documentation: `jac` of two, and `backward` of the
weighted losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.contract import Batch, Group, Task
from methods import WEIGHTINGS
from methods.adapters import libmtl
from methods.adapters.bridge import import_peer
from methods.adapters.counterparts import COUNTERPARTS, LIBMTL, TORCHJD, torchjd_object
from methods.contract import Network, batches_of

# The first epoch in which every method works as in the rest of training; before it, some use equal weights.
STEADY_EPOCH = 2

Step = Callable[[], object]


@dataclass(frozen=True)
class Problem:
    """A network with hard parameter sharing, its m tasks, and a batch."""

    network: Network
    tasks: Sequence[Task]
    batch: Batch

    @property
    def device(self) -> torch.device:
        return self.batch[0].inputs.device


def peer_step(package: str, method: str, problem: Problem) -> Step:
    """A call that takes one step and leaves the gradients in the network.

    Raises:
        PeerUnavailable: the package isn't installed.
        Exception: whatever the package raises if its method doesn't support the problem.
    """
    return {LIBMTL: _libmtl_step, TORCHJD: _torchjd_step}[package](method, problem)


def _libmtl_step(method: str, problem: Problem) -> Step:
    counterpart = COUNTERPARTS[method]
    model = _libmtl_model(counterpart.libmtl, problem)

    def step() -> None:
        losses = _libmtl_losses(model, problem)
        model.zero_grad()
        model.backward(losses, **counterpart.libmtl_options)

    return step


def _libmtl_model(peer: str, problem: Problem) -> Any:
    """The model that LibMTL's trainer would make, at STEADY_EPOCH; the mean losses of all epochs were 1."""
    weighting: type[Any] = getattr(libmtl.weightings(), peer)
    sharing: type[Any] = import_peer("LibMTL.architecture", LIBMTL).HPS

    class Model(sharing, weighting):  # type: ignore[misc]
        def zero_grad_share_params(self) -> None:
            self.encoder.zero_grad(set_to_none=False)

    names = [f"task {index}" for index in range(len(problem.tasks))]  # unique, even if a task occurs more than once
    heads = nn.ModuleDict(dict(zip(names, problem.network.heads, strict=True)))
    by_representation = peer == "GradDrop"  # the only one that works on gradients of the representation alone
    multi_input = len(problem.batch) > 1
    model = Model(names, lambda: problem.network.encoder, heads, by_representation, multi_input, problem.device)
    model.init_param()
    model.epoch = STEADY_EPOCH
    model.train_loss_buffer = np.ones((len(names), STEADY_EPOCH + 1))
    return model.train()


def _libmtl_losses(model: Any, problem: Problem) -> Tensor:
    """(m,), put together as in `Trainer.train` and `Trainer._compute_loss`."""
    names = model.task_name
    losses = torch.zeros(len(names)).to(problem.device)
    for group in problem.batch:
        only = names[next(iter(group.targets))] if len(problem.batch) > 1 else None
        predictions = model(group.inputs, only)
        for task, target in group.targets.items():
            losses[task] = problem.tasks[task].loss(predictions[names[task]], target)
    return losses


def _torchjd_step(method: str, problem: Problem) -> Step:
    scalarizer, aggregator = (torchjd_object(method, kind, len(problem.tasks)) for kind in ("scalarizer", "aggregator"))
    batches = batches_of(WEIGHTINGS[method].factory())
    if batches > 1:
        return _torchjd_step_of_batches(aggregator, batches, problem)
    autojac: Any = import_peer("torchjd.autojac", TORCHJD)
    (scalarizer or aggregator).to(problem.device)
    at_once = 1 if problem.device.type == "cpu" else None
    shared = problem.network.shared_parameters()

    def step() -> None:
        features, losses = forward(problem, problem.batch)
        for parameter in (*shared, *problem.network.heads.parameters()):
            parameter.grad = None
        if scalarizer is not None:
            scalarizer.zero_grad()
            scalarizer(torch.stack(losses)).backward()
        else:
            autojac.mtl_backward(losses, features=features, parallel_chunk_size=at_once)
            autojac.jac_to_grad(shared, aggregator)

    return step


def _torchjd_step_of_batches(weighting: Any, batches: int, problem: Problem) -> Step:
    """The same batch takes the place of all, which costs as much as different ones."""
    autojac: Any = import_peer("torchjd.autojac", TORCHJD)
    at_once = 1 if problem.device.type == "cpu" else None
    shared = problem.network.shared_parameters()

    def step() -> None:
        for parameter in (*shared, *problem.network.heads.parameters()):
            parameter.grad = None
        rows, applied = [], []
        for _ in range(2):
            losses = torch.stack(forward(problem, problem.batch)[1])
            parts = autojac.jac(losses, shared, retain_graph=batches == 2, parallel_chunk_size=at_once)
            rows.append(torch.cat([part.flatten(1) for part in parts], dim=1))
            applied.append(losses)
        weights = weighting(rows[0] @ rows[1].T)
        if batches == 3:
            torch.stack(forward(problem, problem.batch)[1]).backward(weights)
        else:
            (sum(applied) / batches).backward(weights)  # type: ignore[union-attr]

    return step


def forward(problem: Problem, groups: Sequence[Group]) -> tuple[list[Tensor], list[Tensor]]:
    """The features of every group's input, and the losses () of their tasks, in the order of the tasks."""
    features, losses = [], {}
    for group in groups:
        z = problem.network.encoder(group.inputs)
        features.append(z)
        for task, target in group.targets.items():
            losses[task] = problem.tasks[task].loss(problem.network.heads[task](z), target)
    return features, [losses[task] for task in sorted(losses)]
