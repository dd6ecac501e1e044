"""Ours beside LibMTL and TorchJD on one network, batch and state: equal where they are right.

LibMTL's side is its own model class on its own architecture, trained parameters and all; TorchJD's is its aggregator
on the Jacobian of the same network. Ours sees losses and gradients, as in the engine.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from peer_steps import (
    ADAPTERS,
    assert_near,
    direction,
    drawn_orders,
    first,
    libmtl_model,
    libmtl_step,
    met_in,
    own_gradients,
    scene,
    signal_of,
)

from methods import WEIGHTINGS
from methods.adapters import torchjd
from methods.adapters.counterparts import COUNTERPARTS, Counterpart
from methods.contract import PostStepHook, State, Update, Weighting

pytest.importorskip("torchjd", reason="the extra `peers` isn't installed")
pytestmark = pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")


@dataclass(frozen=True)
class Pair:
    """Ours and a peer with options that mean the same.

    peer: LibMTL's class, or the key of TorchJD's adapter; by default the counterpart.
    factor: ours over theirs.
    """

    ours: str
    settings: dict[str, Any]
    options: dict[str, Any]
    peer: str = ""
    factor: float = 1.0
    tolerance: float = 1e-5

    def __str__(self) -> str:
        return f"{self.ours}-{self.peer}-{'-'.join(str(value) for value in self.options.values())}"

    @property
    def libmtl(self) -> str:
        return self.peer or COUNTERPARTS[self.ours].libmtl

    @property
    def torchjd(self) -> str:
        row = COUNTERPARTS.get(self.ours, Counterpart())
        of = {factory.peer: key for key, factory in torchjd.WEIGHTINGS.items()}
        return f"torchjd:{self.peer or of[row.scalarizer if row.scalarizer in of else row.aggregator]}"


# Looser if the peer's solver stops short of the solution: both peers' MGDA converge slowly, LibMTL's until the weights
# change by less than 1e-5; in both peers' CAGrad (SLSQP, Clarabel) a flat minimum is met to 1e-8 in its value, so to
# 1e-4 in its place.
LIBMTL = [
    Pair("ew", {}, {}),
    Pair("uw", {"initial_log_variance": -0.5, "lr": 0.1}, {}),
    Pair("gls", {}, {}),
    Pair("dwa", {"temperature": 2.0}, {"T": 2.0}),
    Pair("gradnorm", {"alpha": 1.5}, {"alpha": 1.5}),
    *(
        Pair("mgda", {"variant": "paper", "normalisation": name}, {"mgda_gn": name}, tolerance=1e-3)
        for name in ("none", "l2", "loss", "loss+")
    ),
    Pair("pcgrad", {}, {}),
    Pair("gradvac", {"beta": 0.5}, {"beta": 0.5}),
    Pair("imtl", {}, {}),
    *(
        Pair("cagrad", {"c": 0.5, "rescale": name}, {"calpha": 0.5, "rescale": index}, factor=3.0, tolerance=2e-4)
        for index, name in enumerate(("none", "1+c^2", "1+c"))
    ),
]
TORCHJD = [
    Pair("ew", {}, {}),
    Pair("ew", {}, {}, "mean", factor=3.0),
    Pair("fixed", {"weights": (0.2, 0.3, 0.5)}, {"weights": (0.2, 0.3, 0.5)}, "constant"),
    Pair("uw", {}, {}),
    Pair("gls", {}, {}),
    Pair("dwa", {}, {}),
    Pair("famo", {"gamma": 1e-3}, {}),
    Pair("stch", {"variant": "paper", "preference": (1 / 3,)}, {}),
    Pair("imtl", {"variant": "loss"}, {}, "imtl_l"),
    Pair("imtl", {"variant": "gradient"}, {}),
    Pair("mgda", {"variant": "paper"}, {"epsilon": 1e-6, "max_iters": 10_000}, tolerance=1e-3),
    Pair("pcgrad", {}, {}),
    Pair("gradvac", {"beta": 0.5}, {"beta": 0.5}),
    Pair("cagrad", {"variant": "paper", "c": 0.4}, {"c": 0.4}, tolerance=2e-4),
    Pair("nash_mtl", {"max_norm": 1.0}, {"max_norm": 1.0}),
    *(Pair("aligned_mtl", {"scale": name}, {"scale_mode": name}, factor=3.0) for name in ("min", "median", "rmse")),
    Pair("modo", {"gamma": 0.1}, {"gamma": 0.1}),
    # Ours has the 1e-4 of the released code under the root, TorchJD 1e-8 beside the square.
    Pair("sdmgrad", {"inner_steps": 3, "lr": 0.1}, {"n_iter": 3, "lr": 0.1}, factor=3.0, tolerance=1e-3),
    Pair("fairgrad", {"variant": "paper", "alpha": 2.0}, {"alpha": 2.0}),
    Pair("excess_mtl", {"step_size": 1.0}, {"n_warmup_steps": 1}, factor=3.0),
    Pair("config", {}, {}),
    Pair("config", {"preference": (0.2, 0.3, 0.5)}, {"pref_vector": (0.2, 0.3, 0.5)}),
]


@pytest.mark.parametrize("pair", LIBMTL, ids=str)
def test_parity_with_libmtl(pair: Pair) -> None:
    """Four epochs of one batch, so that what is learned and remembered moves; heads, too."""
    weighting: Weighting = WEIGHTINGS[pair.ours].factory(**pair.settings)
    where = scene(4)
    model = libmtl_model(pair.libmtl, where)
    model.train_loss_buffer = torch.zeros(3, 4).numpy()
    state = weighting.init(3)
    # LibMTL leaves its scales to the optimizer of the network; here they get torch's Adam at our rate.
    learns = isinstance(getattr(model, "loss_scale", None), torch.nn.Parameter) and "lr" in vars(weighting)
    optimizer = torch.optim.Adam([model.loss_scale], lr=vars(weighting)["lr"]) if learns else None
    for epoch in range(4):
        where = scene(4)
        where.targets = where.targets * (1 + 0.1 * epoch * torch.tensor([1.0, 3.0, -2.0]).unsqueeze(1))
        model.epoch = epoch
        signal = where.signal(epoch, epoch, seed=epoch)
        with met_in(drawn_orders(epoch)):
            theirs, their_heads = libmtl_step(model, where, **pair.options)
        model.train_loss_buffer[:, epoch] = signal.losses
        update = weighting.step(signal, state)
        if pair.ours == "gradnorm" and epoch == 0:  # LibMTL's first epoch is EW, without a step of its scales
            unmoved = State({**state.memory, "initial_losses": signal.losses})
            update = Update(torch.ones(3).double(), unmoved, head_weights=torch.ones(3))
        if pair.ours == "gradnorm":
            # LibMTL leaves the heads' gradients plain; the paper weighs the whole losses, and so do we.
            plain = Update(torch.ones(3).double(), update.state)
            for expected, head in zip(own_gradients(weighting, plain, where), their_heads, strict=True):
                assert_near(expected, head, 1e-5)
            their_heads = own_gradients(weighting, update, where)
        assert_near(direction(update, signal), pair.factor * theirs, pair.tolerance)
        for ours, head in zip(own_gradients(weighting, update, where), their_heads, strict=True):
            assert_near(ours, head, 1e-5)
        state = update.state
        if optimizer is not None and model.loss_scale.grad is not None:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("pair", TORCHJD, ids=str)
def test_parity_with_torchjd(pair: Pair) -> None:
    """TorchJD's own object under the adapter; five steps, the first two in one epoch."""
    ours: Weighting = WEIGHTINGS[pair.ours].factory(**pair.settings)
    theirs: Weighting = ADAPTERS[pair.torchjd].factory(**pair.options)
    states = [ours.init(3), theirs.init(3)]
    for step, epoch in enumerate((0, 0, 1, 2, 3)):
        where = scene(4)
        where.targets = where.targets * (1 + 0.1 * step * torch.tensor([1.0, 3.0, -2.0]).unsqueeze(1))
        updates = []
        for index, weighting in enumerate((ours, theirs)):
            signal = where.signal(step, epoch, seed=step)
            with met_in(drawn_orders(step)):
                update = weighting.step(signal, states[index])
            states[index] = update.state
            if isinstance(weighting, PostStepHook):
                states[index] = weighting.post_step(
                    signal.losses * torch.tensor([0.9, 0.7, 1.1]).double(), states[index]
                )
            updates.append(update)
        assert_near(updates[0].weights, pair.factor * updates[1].weights, pair.tolerance)
        assert_near(direction(updates[0], signal), pair.factor * direction(updates[1], signal), pair.tolerance)


@pytest.mark.parametrize("name", [key for key in ADAPTERS if key.startswith("libmtl:") and key != "libmtl:graddrop"])
def test_adapter_is_libmtl(name: str) -> None:
    """The adapter's stand-in gives the same as LibMTL's own model, shared part and heads."""
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


def test_graddrop_with_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scene(4).rows()
    ours = direction(first("graddrop", rows, variant="paper"), signal_of(rows))
    draws = torch.rand(rows.shape[1], generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(torch, "rand", lambda *size, **options: draws)
    monkeypatch.setattr(torch, "rand_like", lambda like: draws.view(like.shape))
    for peer in ("libmtl:graddrop", "torchjd:graddrop"):
        theirs = ADAPTERS[peer].factory().step(signal_of(rows), State())
        assert_near(ours, direction(theirs, signal_of(rows)), 1e-5)


def test_rlw_with_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scene(4).rows()
    ours = first("rlw", rows).weights
    draws = torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(torch, "randn", lambda *size, **options: draws)
    monkeypatch.setattr(torch.distributions.Normal, "sample", lambda self: draws.float())
    for peer in ("libmtl:rlw", "torchjd:random"):
        assert_near(ours, ADAPTERS[peer].factory().step(signal_of(rows), State()).weights, 1e-5)
