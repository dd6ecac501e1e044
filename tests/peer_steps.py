"""One network, batch and state for ours and for peers: their steps on it, and what came of them."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from methods import WEIGHTINGS
from methods.adapters import adapted_weightings, libmtl
from methods.contract import Signal, Update, Weighting

ADAPTERS = adapted_weightings()
TASKS = ("a", "b", "c")


class Encoder(nn.Module):
    """The shared part of the network: 6 → 8."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.tanh(self.layer(inputs))


@dataclass
class Scene:
    """A network with three tasks that conflict, and a batch."""

    encoder: Encoder
    heads: nn.ModuleDict
    inputs: Tensor
    targets: Tensor

    def losses(self) -> Tensor:
        z = self.encoder(self.inputs)
        predictions = torch.stack([self.heads[task](z)[:, 0] for task in TASKS])
        return (predictions - self.targets).square().mean(dim=1)

    def rows(self) -> Tensor:
        """(m, P) gradients in the shared parameters."""
        losses, parameters = self.losses(), list(self.encoder.parameters())
        rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
        return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])

    def signal(self, step: int = 0, epoch: int = 0, seed: int = 0) -> Signal:
        rows = self.rows()
        generator = torch.Generator().manual_seed(seed)
        gramian = rows.double() @ rows.double().T
        return Signal(self.losses().detach().double(), gramian, step, epoch, generator, rows, cross_gramian=gramian)


def scene(seed: int = 0) -> Scene:
    torch.manual_seed(seed)
    heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in TASKS})
    inputs = torch.randn(16, 6)
    targets = torch.randn(3, 16)
    targets[1] = -0.8 * targets[0] + 0.5 * targets[1]
    return Scene(Encoder(), heads, inputs, targets * torch.tensor([1.0, 2.0, 0.7]).unsqueeze(1))


def libmtl_model(name: str, where: Scene) -> Any:
    """LibMTL's model, made as its trainer makes it, on the network of the scene; shared gradients cleared to zeros."""
    peer = getattr(libmtl.weightings(), name)
    hps = sys.modules["LibMTL"].architecture.HPS  # type: ignore[attr-defined]

    class Model(hps, peer):  # type: ignore[misc, valid-type]
        def zero_grad_share_params(self) -> None:
            self.encoder.zero_grad(set_to_none=False)

    model = Model(list(TASKS), Encoder, where.heads, False, False, torch.device("cpu"))
    model.init_param()
    model.encoder.load_state_dict(where.encoder.state_dict())
    model.epoch = 0
    return model


def libmtl_step(model: Any, where: Scene, **options: Any) -> tuple[Tensor, list[Tensor]]:
    """The shared gradient and the gradients of the heads' weights that LibMTL leaves behind."""
    model.zero_grad()
    z = model(where.inputs)
    predictions = torch.stack([z[task][:, 0] for task in TASKS])
    model.backward((predictions - where.targets).square().mean(dim=1), **options)
    shared = torch.cat([p.grad.flatten() for p in model.get_share_params()])
    return shared, [head.weight.grad.clone() for head in model.decoders.values()]


def direction(update: Update, signal: Signal) -> Tensor:
    if update.direction is not None:
        return update.direction.double()
    return update.weights @ signal.required_jacobian().double()


def own_gradients(weighting: Weighting, update: Update, where: Scene) -> list[Tensor]:
    """The gradients of the heads' weights under our rule."""
    scales = {"weighted": update.weights, "plain": torch.ones(3), "own": update.head_weights}[weighting.heads]
    assert scales is not None
    losses = where.losses()
    return [
        float(scale) * torch.autograd.grad(loss, where.heads[task].weight, retain_graph=True)[0]
        for scale, loss, task in zip(scales, losses, TASKS, strict=True)
    ]


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Relative to the length of the whole vector."""
    gap = (ours.double() - theirs.double()).norm() / theirs.double().norm()
    assert gap <= tolerance, f"{gap:.2e} apart"


@contextmanager
def met_in(orders: Tensor) -> Iterator[None]:
    """Random orders of both peers are the rows of `orders` (m, m), one after the other, with absent tasks left out."""
    rows = iter(orders.tolist() * 10)
    shuffle, randperm = random.shuffle, torch.randperm

    def in_order(tasks: list[int]) -> None:
        tasks[:] = [task for task in next(rows) if task in tasks]

    task = 0

    def permutation(n: int) -> Tensor:
        nonlocal task
        row = next(rows)
        if n < len(row):  # indices into all tasks but the present one
            row = [other - (other > task % len(row)) for other in row if other != task % len(row)]
        task += 1
        return torch.tensor(row)

    random.shuffle, torch.randperm = in_order, permutation
    try:
        yield
    finally:
        random.shuffle, torch.randperm = shuffle, randperm


def drawn_orders(seed: int, m: int = 3) -> Tensor:
    """The orders that our PCGrad and GradVac draw from a fresh generator."""
    return torch.rand((m, m), generator=torch.Generator().manual_seed(seed), dtype=torch.float32).argsort(dim=1)


def signal_of(rows: Tensor) -> Signal:
    losses = torch.linspace(0.5, 2.0, len(rows), dtype=torch.float64)
    return Signal(losses, rows.double() @ rows.double().T, 0, 0, torch.Generator().manual_seed(0), rows)


def first(name: str, rows: Tensor, **options: Any) -> Update:
    """The first step of a weighting, ours or a peer's."""
    weighting: Weighting = (ADAPTERS if ":" in name else WEIGHTINGS)[name].factory(**options)
    return weighting.step(signal_of(rows), weighting.init(len(rows)))
