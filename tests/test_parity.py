"""Ours beside LibMTL and TorchJD on one network, batch and state: equal where they are right, their faults where not.

LibMTL's side is its own model class on its own architecture, trained parameters and all; TorchJD's is its aggregator
on the Jacobian of the same network. Ours sees losses and gradients, as in the engine.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import WEIGHTINGS
from methods.adapters import adapted_weightings, libmtl
from methods.contract import LooksBack, Signal, State, Update, Weighting

pytest.importorskip("torchjd", reason="the extra `peers` isn't installed")
pytestmark = pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")

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
        return Signal(self.losses().detach().double(), gramian, step, epoch, generator, rows)


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


def moved(weighting: Weighting, update: Update) -> State:
    """The state after a plain step of 0.1 on what is learned."""
    if update.auxiliary is None:
        return update.state
    learned = update.state.learned
    slopes = torch.autograd.grad(update.auxiliary, list(learned.values()))
    stepped = {n: (x - 0.1 * d).detach().requires_grad_() for (n, x), d in zip(learned.items(), slopes, strict=True)}
    return State(stepped, update.state.memory)


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


@dataclass(frozen=True)
class Pair:
    """Ours and a peer with options that mean the same; `factor` is ours over theirs."""

    ours: str
    settings: dict[str, Any]
    peer: str
    options: dict[str, Any]
    factor: float = 1.0
    tolerance: float = 1e-5

    def __str__(self) -> str:
        return f"{self.ours}-{self.peer}-{'-'.join(str(value) for value in self.options.values())}"


# Looser where the peer's solver stops short of the solution: both peers' MGDA crawl towards it, LibMTL's until the
# weights change by less than 1e-5; in both peers' CAGrad (SLSQP, Clarabel) a flat minimum is met to 1e-8 in its value,
# so to 1e-4 in its place.
LIBMTL = [
    Pair("ew", {}, "EW", {}),
    Pair("uw", {"initial_log_variance": -0.5}, "UW", {}),
    Pair("gls", {}, "GLS", {}),
    Pair("dwa", {"temperature": 2.0}, "DWA", {"T": 2.0}),
    Pair("gradnorm", {"alpha": 1.5}, "GradNorm", {"alpha": 1.5}),
    *(
        Pair("mgda", {"normalisation": name}, "MGDA", {"mgda_gn": name}, tolerance=1e-3)
        for name in ("none", "l2", "loss", "loss+")
    ),
    Pair("pcgrad", {}, "PCGrad", {}),
    Pair("gradvac", {"beta": 0.5}, "GradVac", {"beta": 0.5}),
    Pair("imtl", {}, "IMTL", {}),
    *(
        Pair("cagrad", {"c": 0.5, "rescale": name}, "CAGrad", {"calpha": 0.5, "rescale": index}, tolerance=2e-4)
        for index, name in enumerate(("none", "1+c^2", "1+c"))
    ),
]
TORCHJD = [
    Pair("ew", {}, "sum", {}),
    Pair("ew", {}, "mean", {}, factor=3.0),
    Pair("fixed", {"weights": (0.2, 0.3, 0.5)}, "constant", {"weights": (0.2, 0.3, 0.5)}),
    Pair("uw", {}, "uw", {}),
    Pair("gls", {}, "geometric_mean", {}),
    Pair("dwa", {}, "dwa", {}),
    Pair("famo", {"gamma": 1e-3}, "famo", {}),
    Pair("stch", {"objective": "plain", "preference": (1 / 3,)}, "stch", {}),
    Pair("imtl", {"variant": "loss"}, "imtl_l", {}),
    Pair("imtl", {"variant": "gradient"}, "imtl_g", {}),
    Pair("mgda", {}, "mgda", {"epsilon": 1e-9, "max_iters": 100_000}, tolerance=1e-4),
    Pair("pcgrad", {}, "pcgrad", {}),
    Pair("gradvac", {"beta": 0.5}, "gradvac", {"beta": 0.5}),
    Pair("cagrad", {"c": 0.4, "rescale": "none"}, "cagrad", {"c": 0.4}, tolerance=2e-4),
    Pair("nash_mtl", {"max_norm": 1.0}, "nash_mtl", {"max_norm": 1.0}),
    Pair("aligned_mtl", {"scale": "min"}, "aligned_mtl", {"scale_mode": "min"}, factor=3.0),
    Pair("aligned_mtl", {"scale": "median"}, "aligned_mtl", {"scale_mode": "median"}, factor=3.0),
    Pair("aligned_mtl", {"scale": "rmse"}, "aligned_mtl", {"scale_mode": "rmse"}, factor=3.0),
    Pair("fairgrad", {"alpha": 2.0}, "fairgrad", {"alpha": 2.0}),
    Pair("excess_mtl", {"step_size": 1.0}, "excess_mtl", {"n_warmup_steps": 1}, factor=3.0),
]


def present(pairs: list[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair.ours in WEIGHTINGS]


@pytest.mark.parametrize("pair", present(LIBMTL), ids=str)
def test_parity_with_libmtl(pair: Pair) -> None:
    """Four epochs of one batch, so that what is learned and remembered moves; heads, too."""
    weighting: Weighting = WEIGHTINGS[pair.ours].factory(**pair.settings)
    where = scene(4)
    model = libmtl_model(pair.peer, where)
    model.train_loss_buffer = torch.zeros(3, 4).numpy()
    state = weighting.init(3)
    for epoch in range(4):
        where = scene(4)
        where.targets = where.targets * (1 + 0.1 * epoch * torch.tensor([1.0, 3.0, -2.0]).unsqueeze(1))
        model.epoch = epoch
        signal = where.signal(epoch, epoch, seed=epoch)
        with met_in(drawn_orders(epoch)):
            theirs, their_heads = libmtl_step(model, where, **pair.options)
        model.train_loss_buffer[:, epoch] = signal.losses
        update = weighting.step(signal, state)
        if pair.peer == "GradNorm" and epoch == 0:  # LibMTL's first epoch is EW
            update = Update(torch.ones(3).double(), update.state, head_weights=torch.ones(3))
        if pair.peer == "GradNorm":
            # LibMTL leaves the heads' gradients plain; the paper weighs the whole losses, and so do we.
            plain = Update(torch.ones(3).double(), update.state)
            for expected, head in zip(own_gradients(weighting, plain, where), their_heads, strict=True):
                assert_near(expected, head, 1e-5)
            their_heads = own_gradients(weighting, update, where)
        assert_near(direction(update, signal), pair.factor * theirs, pair.tolerance)
        for ours, head in zip(own_gradients(weighting, update, where), their_heads, strict=True):
            assert_near(ours, head, 1e-5)
        state = moved(weighting, update)
        if hasattr(model, "loss_scale") and model.loss_scale.grad is not None:
            if update.auxiliary is not None:
                model.loss_scale.data -= 0.1 * model.loss_scale.grad
            model.loss_scale.grad = None


@pytest.mark.parametrize("pair", present(TORCHJD), ids=str)
def test_parity_with_torchjd(pair: Pair) -> None:
    """TorchJD's own object under the adapter; five steps, the first two in one epoch."""
    ours: Weighting = WEIGHTINGS[pair.ours].factory(**pair.settings)
    theirs: Weighting = ADAPTERS[f"torchjd:{pair.peer}"].factory(**pair.options)
    states = [ours.init(3), theirs.init(3)]
    for step, epoch in enumerate((0, 0, 1, 2, 3)):
        where = scene(4)
        where.targets = where.targets * (1 + 0.1 * step * torch.tensor([1.0, 3.0, -2.0]).unsqueeze(1))
        updates = []
        for index, weighting in enumerate((ours, theirs)):
            signal = where.signal(step, epoch, seed=step)
            with met_in(drawn_orders(step)):
                update = weighting.step(signal, states[index])
            states[index] = moved(weighting, update)
            if isinstance(weighting, LooksBack):
                states[index] = weighting.after(signal.losses * torch.tensor([0.9, 0.7, 1.1]).double(), states[index])
            updates.append(update)
        assert_near(updates[0].weights, pair.factor * updates[1].weights, pair.tolerance)
        assert_near(direction(updates[0], signal), pair.factor * direction(updates[1], signal), pair.tolerance)


@pytest.mark.parametrize("name", [key for key in ADAPTERS if key.startswith("libmtl:") and key != "libmtl:graddrop"])
def test_adapter_is_libmtl(name: str) -> None:
    """What the stand-in gives is what LibMTL's own model gives, shared part and heads."""
    weighting: Any = ADAPTERS[name].factory()
    where = scene(4)
    model = libmtl_model(weighting.peer, where)
    model.train_loss_buffer = torch.zeros(3, 4).numpy()
    signal = where.signal()
    update = weighting.step(signal, weighting.init(3))
    generator = torch.Generator().manual_seed(0)
    with importlib.import_module("methods.adapters.bridge").drawing_from(generator, torch.device("cpu")):
        theirs, their_heads = libmtl_step(model, where, **weighting.options())
    assert_near(direction(update, signal), theirs, 1e-5)
    for ours, head in zip(own_gradients(weighting, update, where), their_heads, strict=True):
        assert_near(ours, head, 1e-5)


@pytest.mark.skipif("graddrop" not in WEIGHTINGS, reason="no GradDrop of ours")
def test_graddrop_with_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scene(4).rows()
    ours = direction(first("graddrop", rows), signal_of(rows))
    draws = torch.rand(rows.shape[1], generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(torch, "rand", lambda *size, **options: draws)
    monkeypatch.setattr(torch, "rand_like", lambda like: draws.view(like.shape))
    for peer in ("libmtl:graddrop", "torchjd:graddrop"):
        theirs = ADAPTERS[peer].factory().step(signal_of(rows), State())
        assert_near(ours, direction(theirs, signal_of(rows)), 1e-5)


@pytest.mark.skipif("rlw" not in WEIGHTINGS, reason="no RLW of ours")
def test_rlw_with_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scene(4).rows()
    ours = first("rlw", rows).weights
    draws = torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(torch, "randn", lambda *size, **options: draws)
    monkeypatch.setattr(torch.distributions.Normal, "sample", lambda self: draws.float())
    for peer in ("libmtl:rlw", "torchjd:random"):
        assert_near(ours, ADAPTERS[peer].factory().step(signal_of(rows), State()).weights, 1e-5)


def signal_of(rows: Tensor) -> Signal:
    losses = torch.linspace(0.5, 2.0, len(rows), dtype=torch.float64)
    return Signal(losses, rows.double() @ rows.double().T, 0, 0, torch.Generator().manual_seed(0), rows)


def first(name: str, rows: Tensor, **options: Any) -> Update:
    """The first step of a weighting, ours or a peer's."""
    weighting: Weighting = (ADAPTERS if ":" in name else WEIGHTINGS)[name].factory(**options)
    return weighting.step(signal_of(rows), weighting.init(len(rows)))


def unit_rows(seed: int, m: int = 3) -> Tensor:
    rows = torch.randn(m, 12, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def bargain_residual(update: Update, rows: Tensor) -> float:
    """max |α_i (Gα)_i − 1|, 0 at the solution."""
    gram = rows.double() @ rows.double().T
    return float((update.weights * (gram @ update.weights) - 1).abs().max())


# Residuals seen: 12.1, 6.9, 8264.
NASH = [(0, (1.0, 10.0, 100.0)), (3, (1.0, 10.0, 100.0)), (3, (1.0, 0.01, 100.0))]


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize(("seed", "norms"), NASH)
def test_fault_torchjd_nash_stops_far_from_the_bargain(seed: int, norms: tuple[float, ...]) -> None:
    rows = unit_rows(seed) * torch.tensor(norms).unsqueeze(1)
    assert bargain_residual(first("torchjd:nash_mtl", rows, max_norm=0.0), rows) > 1
    assert bargain_residual(first("nash_mtl", rows, max_norm=0.0), rows) < 1e-8


def test_fault_torchjd_nash_is_silently_equal_weighting() -> None:
    """Where ECOS gives up, even on gradients of one length, the error is swallowed and the start (1, 1, 1) stays."""
    rows = unit_rows(0)
    theirs = first("torchjd:nash_mtl", rows, max_norm=0.0)
    torch.testing.assert_close(theirs.weights, torch.ones(3).double())
    assert bargain_residual(theirs, rows) > 1
    ours = first("nash_mtl", rows, max_norm=0.0)
    expected = torch.tensor([1.2254, 2.0511, 1.3756], dtype=torch.float64)
    torch.testing.assert_close(ours.weights, expected, rtol=1e-4, atol=0)


def test_fault_libmtl_mgda_keeps_two_tasks_from_the_ends() -> None:
    rows = torch.tensor([[1.0, 0.0], [3.0, 1.0]])  # the first is the shortest in the hull
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    clamped = torch.tensor([0.999, 0.001], dtype=torch.float64)
    torch.testing.assert_close(first("libmtl:mgda", rows).weights, clamped, rtol=0, atol=1e-6)
    torch.testing.assert_close(first("mgda", rows).weights, ends, rtol=0, atol=1e-12)


def test_fault_libmtl_mgda_is_far_from_shortest_for_many_tasks() -> None:
    """40 gradients with norms from 0.1 to 10: its 250 iterations end 20 % to 100 % too long."""
    excess = []
    for seed in range(3):
        rows = torch.randn(40, 60, generator=torch.Generator().manual_seed(seed))
        rows = rows * 10 ** torch.linspace(-1, 1, 40).unsqueeze(1)
        theirs, ours = (direction(first(name, rows), signal_of(rows)) for name in ("libmtl:mgda", "mgda"))
        excess.append(float(theirs.norm() / ours.norm()))
    assert min(excess) > 1.15


@pytest.mark.parametrize("seed", range(3))
def test_fault_torchjd_mgda_stops_early(seed: int) -> None:
    """By default Frank-Wolfe stops at a step of 0.001; the hull's nearest point is still percents away."""
    rows = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed))
    rows[1] = -0.4 * rows[0] + 0.7 * rows[1]
    theirs, ours = (direction(first(name, rows), signal_of(rows)) for name in ("torchjd:mgda", "mgda"))
    assert 5e-3 < (theirs - ours).norm() / ours.norm() < 5e-2
    assert theirs.norm() > ours.norm()


@pytest.mark.parametrize("m", [2, 4, 40])
def test_fault_libmtl_cagrad_is_wired_to_three_tasks(m: int) -> None:
    with pytest.raises(ValueError, match=rf"cannot reshape array of size {m} into shape \(1,3\)"):
        ADAPTERS["libmtl:cagrad"].factory().init(m)


def test_fault_libmtl_imtl_inverts_a_singular_matrix() -> None:
    """Two tasks with one gradient have equal projections; TorchJD and we find them, LibMTL ends the run."""
    rows = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    with pytest.raises(RuntimeError, match="singular"):
        first("libmtl:imtl", rows)
    ours = first("imtl", rows, variant="gradient")
    torch.testing.assert_close(ours.weights, first("torchjd:imtl_g", rows).weights)


def test_fault_libmtl_pcgrad_projects_a_task_off_itself() -> None:
    """After two projections a gradient may oppose what it was; LibMTL then projects it off itself."""
    rows = torch.tensor([[-0.8557, -0.2417], [-0.3336, -0.6899], [0.9568, 0.8499]])
    orders = torch.tensor([[2, 1, 0], [0, 2, 1], [0, 1, 2]])
    with met_in(orders):
        theirs = direction(ADAPTERS["libmtl:pcgrad"].factory().step(signal_of(rows), State()), signal_of(rows))
    with met_in(orders):
        judge = direction(ADAPTERS["torchjd:pcgrad"].factory().step(signal_of(rows), State()), signal_of(rows))
    projected_weights: Callable[[Tensor, Tensor], Tensor]
    projected_weights = importlib.import_module("methods.weightings.pcgrad").projected_weights
    ours = projected_weights(rows.double() @ rows.double().T, orders) @ rows.double()
    assert_near(ours, judge, 1e-5)
    assert (theirs - ours).norm() / theirs.norm() > 0.3


def test_fault_libmtl_gls_logs_weights_that_it_does_not_apply() -> None:
    """The gradient of the geometric mean weighs L_i by mean/(m L_i); LibMTL returns L_i/(m Π L)."""
    where = scene(4)
    model = libmtl_model("GLS", where)
    returned = torch.as_tensor(model.backward(where.losses())).double()
    applied = ADAPTERS["libmtl:gls"].factory().step(where.signal(), State()).weights
    losses = where.signal().losses
    torch.testing.assert_close(applied, losses.prod() ** (1 / 3) / (3 * losses), rtol=1e-5, atol=0)
    assert (returned - applied).abs().max() > 0.1


@pytest.mark.skipif("upgrad" not in WEIGHTINGS, reason="no UPGrad of ours")
def test_fault_torchjd_upgrad_regularises() -> None:
    """It adds 1e-4 to the scaled Gramian; without that it is ours."""
    linalg = importlib.import_module("torchjd.linalg")
    aggregation = importlib.import_module("torchjd.aggregation")
    rows = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    rows[1] = -0.4 * rows[0] + 0.7 * rows[1]
    gram = signal_of(rows).required_gramian()
    ours = first("upgrad", rows).weights
    exact = aggregation.UPGradWeighting(projector=linalg.QuadprogProjector(norm_eps=0.0, reg_eps=0.0))(gram)
    factor = float(ours.sum() / exact.sum())
    assert factor == pytest.approx(1.0) or factor == pytest.approx(3.0)
    assert_near(ours, factor * exact, 1e-5)
    gap = (ours - factor * first("torchjd:upgrad", rows).weights).norm() / ours.norm()
    assert 1e-4 < gap < 2e-3
