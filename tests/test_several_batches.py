"""Weightings that read several batches in a step: MoDo and SDMGrad, and a running mean of weights over steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_gradients import CPU, applied_gradients, as_double, assert_near, plain_gradients, row_of
from scipy.optimize import minimize
from torch import Tensor
from training import splits_of

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.engine.seeds import generator_for
from bench.engine.step import compute_gradients, train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.forecasting.forecast import step_key
from bench.spec.resolve import SpecError, resolve
from datasets import find
from datasets.contract import Batch, Group
from methods import WEIGHTINGS
from methods.contract import Signal, State, WeightingInfo, batches_of
from methods.weightings.mgda import min_norm_weights
from methods.weightings.modo import MoDo, moved_weights
from methods.weightings.sdmgrad import SDMGrad, directed_weights, scaled_products


def prepared(
    data: str, data_root: Path, weighting: str, arch: str = "hps", **settings: Any
) -> tuple[TrainState, list[Batch]]:
    """A network in float64, and as many different batches as a step reads."""
    spec = resolve(data, architecture=arch, weighting=weighting, assignments={"train.batch_size": 4, **settings})
    splits = splits_of(spec, data_root)
    state = make_train_state(spec, build_network(spec, CPU))
    state.network.double()  # type: ignore[attr-defined]
    stream = training_batches(splits.train, spec.info, 4, generator_for(0, "test"), CPU)
    batches = [
        [Group(g.inputs.double(), {t: as_double(y) for t, y in g.targets.items()}) for g in batch]
        for batch in islice(stream, batches_of(state.weighting))
    ]
    return state, batches


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).mean(dim=0)


@pytest.mark.parametrize("arch", ["hps", "normal"])
@pytest.mark.parametrize("data", ["digits", "rooms"])
@pytest.mark.parametrize(("name", "count"), [("modo", 2), ("sdmgrad", 3)])
def test_gradients_of_several_batches_equal_plain_ones(
    name: str, count: int, data: str, arch: str, data_root: Path
) -> None:
    """The weights come from the Gramian of two batches, and scale the gradients of both, or of a third."""
    state, batches = prepared(data, data_root, name, arch)
    assert len(batches) == count
    plain = [plain_gradients(state, batch) for batch in batches]
    rows = [torch.stack([row_of(task) for task in shared]) for shared, _ in plain]
    result, update = compute_gradients(state, batches[0], 0, 0, others=batches[1:])
    cross_gramian = rows[-2] @ rows[-1].T
    assert not torch.allclose(cross_gramian, cross_gramian.T)  # the batches differ
    seen = Signal(result.losses, None, 0, 0, generator_for(0, "method"), cross_gramian=cross_gramian)
    assert_near(update.weights, state.weighting.step(seen, state.weighting_state).weights, 1e-10)
    applied = rows[0] if count == 3 else mean_of(rows)
    assert_near(applied_gradients(state), update.weights @ applied, 1e-10)
    for task, head in enumerate(state.network.heads):
        own = row_of([p.grad for p in head.parameters() if p.grad is not None])
        assert_near(own, mean_of([row_of(heads[task]) for _, heads in plain]), 1e-10)


def test_positions_follow_all_batches(data_root: Path) -> None:
    state, batches = prepared("digits", data_root, "modo", "normal")
    alone = []
    for batch in batches:
        compute_gradients(state, batch, 0, 0, others=[batch])
        alone.append([p.grad.clone() for p in state.network.position_parameters() if p.grad is not None])
    compute_gradients(state, batches[0], 0, 0, others=batches[1:])
    for parameter, both in zip(state.network.position_parameters(), zip(*alone, strict=True), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, mean_of(both))


def test_a_run_reads_further_batches_and_says_so(data_root: Path, tmp_path: Path) -> None:
    """An epoch has as many steps for every method; the record says how many batches each reads."""
    folder = find("digits", data_root)
    assert folder is not None
    steps = set()
    for name, count in (("ew", 1), ("modo", 2), ("sdmgrad", 3)):
        spec = resolve("digits", name, assignments={"train.epochs": 1, "data.train_share": 0.25})
        record = train(spec, RunContext(folder, tmp_path / name, CPU, 1), lambda epochs: None)
        assert record.status == "done" and record.batches == count
        steps.add(record.steps)
    assert len(steps) == 1


def test_the_first_step_of_every_method_has_the_same_losses(data_root: Path) -> None:
    first = {}
    for name in ("ew", "modo", "sdmgrad"):
        state, batches = prepared("digits", data_root, name)
        first[name] = train_step(state, batches[0], 0, 0, others=batches[1:]).losses
    torch.testing.assert_close(first["modo"], first["ew"])
    torch.testing.assert_close(first["sdmgrad"], first["ew"])


@pytest.mark.parametrize("name", ["modo", "sdmgrad"])
def test_what_several_batches_do_not_allow_is_refused(name: str) -> None:
    for setting, value in (("weighting.every", 2), ("weighting.grad_space", "last_block"), ("train.accumulate", 2)):
        with pytest.raises(SpecError, match=rf"{setting}: expected .* several batches"):
            resolve("digits", name, assignments={setting: value})
    assert resolve("digits", name, assignments={"weighting.momentum": 0.5}).settings.gramian.momentum == 0.5


@pytest.mark.parametrize(
    ("needs", "batches", "message"),
    [
        ("cross_gramian", 1, r"Odd\.batches: expected 2 or 3 with needs = 'cross_gramian', found 1"),
        ("cross_gramian", 4, r"expected 2 or 3 .* found 4"),
        ("gramian", 2, r"Odd\.batches: expected 1 with needs = 'gramian', found 2"),
        ("gramians", 1, r"Odd\.needs: expected one of losses, gramian, jacobian, cross_gramian, found 'gramians'"),
    ],
)
def test_needs_and_batches_of_a_weighting_are_checked(
    needs: Any, batches: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = dataclasses.dataclass(frozen=True)(type("Odd", (MoDo,), {"needs": needs, "batches": batches}))
    monkeypatch.setitem(WEIGHTINGS, "odd", WeightingInfo("Odd", odd, "no paper"))
    with pytest.raises(SpecError, match=message):
        resolve("digits", weighting="odd")


def test_steps_of_several_batches_have_a_cost_of_their_own() -> None:
    keys = {step_key(resolve("rooms", name)) for name in ("modo", "sdmgrad", "mgda")}
    assert len(keys) == 3


# MoDo


def test_modo_reaches_the_shortest_combination() -> None:
    """With the Gramian of the true gradients, the steps end at the minimum of ½‖Jᵀλ‖² + ½ρ‖λ‖² over the simplex."""
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 6)))
    gram = rows @ rows.T
    for rho in (0.0, 0.1):
        weights = torch.full((4,), 0.25, dtype=torch.float64)
        for _ in range(5000):
            weights = moved_weights(weights, gram, 0.05, rho)
        expected = min_norm_weights((gram + rho * torch.eye(4)).numpy())
        np.testing.assert_allclose(weights.numpy(), expected, atol=1e-8)


def test_modo_is_unbiased_where_one_batch_is_not() -> None:
    """E[J₁ J₂ᵀ] is the Gramian of the mean gradients; E[J₁ J₁ᵀ] has the noise on top."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([[1.0, 0.0, 0.5], [-0.5, 1.0, 0.0]], dtype=torch.float64)

    def noisy() -> Tensor:
        return rows + torch.randn(4000, 2, 3, generator=generator, dtype=torch.float64)

    first, second = noisy(), noisy()
    cross = (first @ second.transpose(1, 2)).mean(dim=0)
    torch.testing.assert_close(cross, rows @ rows.T, rtol=0, atol=0.15)
    single = (first @ first.transpose(1, 2)).mean(dim=0)
    assert (single.diagonal() - (rows @ rows.T).diagonal()).min() > 2.5  # three parameters with noise of variance 1


def test_modo_moves_from_equal_weights() -> None:
    method = MoDo(gamma=0.1, rho=0.0)
    products = torch.tensor([[3.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    signal = Signal(torch.ones(2).double(), None, 0, 0, torch.Generator(), cross_gramian=products)
    update = method.step(signal, method.init(2))
    # λ − 0.1 · (2, 0.5) = (0.3, 0.45), moved onto the simplex by adding (1 − 0.75)/2 to both.
    assert update.weights.tolist() == pytest.approx([0.425, 0.575])
    assert torch.equal(update.state.memory["lambda"], update.weights)


# SDMGrad


def test_sdmgrad_reaches_its_minimum() -> None:
    """½‖Jᵀw‖² + λ⟨Jᵀw, g_0⟩ over the simplex, against a general solver."""
    rows = np.random.default_rng(2).normal(size=(3, 8))
    gram = torch.from_numpy(rows @ rows.T)
    scaled = scaled_products(gram.numpy())
    w = directed_weights(np.full(3, 1 / 3), scaled, 0.3, 0.1, 0.5, 2000)

    def objective(x: np.ndarray) -> float:
        return float(0.5 * x @ scaled @ x + 0.3 * x @ scaled.mean(axis=1))

    constraint = {"type": "eq", "fun": lambda x: x.sum() - 1}
    best = minimize(objective, np.full(3, 1 / 3), bounds=[(0, 1)] * 3, constraints=constraint, options={"ftol": 1e-14})
    np.testing.assert_allclose(w, best.x, atol=1e-6)


def test_sdmgrad_is_the_mean_gradient_for_a_large_pull_and_ignores_the_scale() -> None:
    rows = torch.from_numpy(np.random.default_rng(3).normal(size=(3, 8)))
    gram = rows @ rows.T
    signal = Signal(torch.ones(3).double(), None, 0, 0, torch.Generator(), cross_gramian=gram)
    strong = SDMGrad(pull=1e6)
    torch.testing.assert_close(strong.step(signal, strong.init(3)).weights, torch.ones(3).double(), rtol=1e-5, atol=0)
    method = SDMGrad()
    larger = Signal(torch.ones(3).double(), None, 0, 0, torch.Generator(), cross_gramian=1e4 * gram)
    weights = method.step(signal, method.init(3)).weights
    torch.testing.assert_close(method.step(larger, method.init(3)).weights, weights, rtol=1e-3, atol=1e-3)
    assert weights.sum() == pytest.approx(3.0)


def test_negative_products_of_noisy_gradients_are_no_norms() -> None:
    products = torch.tensor([[-1.0, 0.2], [0.1, 4.0]], dtype=torch.float64)
    scaled = scaled_products(products.numpy())
    assert np.isfinite(scaled).all() and scaled[1, 1] == pytest.approx(4.0, rel=0.1)
    method = SDMGrad()
    signal = Signal(torch.ones(2).double(), None, 0, 0, torch.Generator(), cross_gramian=products)
    assert torch.isfinite(method.step(signal, State(method.init(2).memory)).weights).all()


# CR-MOGM


@pytest.mark.parametrize("name", ["mgda", "imtl", "uw", "modo"])
def test_momentum_is_a_running_mean_of_the_weights(name: str, data_root: Path) -> None:
    """Of two networks that take the same steps, one sees the mean of the weights that the other would apply."""
    state, batches = prepared("digits", data_root, name, **{"weighting.momentum": 0.75})
    plain, _ = prepared("digits", data_root, name)
    mean: Tensor | None = None
    for step in range(3):
        plain.network.load_state_dict(state.network.state_dict())
        _, update = compute_gradients(plain, batches[0], step, 0, others=batches[1:])
        mean = update.weights if mean is None else 0.75 * mean + 0.25 * update.weights
        plain.weighting_state = update.state
        result = train_step(state, batches[0], step, 0, others=batches[1:])
        torch.testing.assert_close(result.weights, mean)


def test_momentum_is_refused_where_weights_are_not_the_update() -> None:
    with pytest.raises(SpecError, match=r"weighting\.momentum: expected 0\.0 with graddrop, which reads"):
        resolve("digits", "graddrop", assignments={"weighting.momentum": 0.9})
    with pytest.raises(SpecError, match=r"`momentum` must be ≥ 0 and < 1, found 1\.0"):
        resolve("digits", "mgda", assignments={"weighting.momentum": 1.0})
