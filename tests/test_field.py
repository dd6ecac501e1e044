"""The field of weightings beyond the first eight: what defines each of them, by hand, by autograd or by conditions."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gramians import DEGENERATE, REGULAR, SIZES, gramian, jacobian
from scipy.optimize import minimize
from torch import Tensor

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.seeds import generator_for
from bench.engine.step import Trainee, losses_now, make_trainee, train_step
from bench.spec import SpecError, resolve
from datasets import find
from datasets.contract import Batch
from methods import WEIGHTINGS
from methods.contract import Diverged, LooksBack, Signal, State, Weighting
from methods.weightings.aligned_mtl import AlignedMTL, alignment
from methods.weightings.dwa import DWA
from methods.weightings.fairgrad import FairGrad, fair_weights
from methods.weightings.famo import FAMO, balanced_rate_weights, logit_gradient
from methods.weightings.fixed import Fixed
from methods.weightings.gls import GLS, geometric_weights
from methods.weightings.gradvac import VANISHING, GradVac, vaccinated_weights
from methods.weightings.log_loss import LogLoss
from methods.weightings.nash_mtl import bargaining_weights
from methods.weightings.pcgrad import projected_weights
from methods.weightings.rlw import RLW, Distribution
from methods.weightings.stch import STCH
from methods.weightings.upgrad import UPGrad, unconflicting_weights

ZOO = [(kind, m) for kind in REGULAR + DEGENERATE for m in SIZES]
REGULAR_ZOO = [(kind, m) for kind in REGULAR for m in SIZES]
LOSSES = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
FIELD = ("fixed", "dwa", "rlw", "gls", "log_loss", "gradvac", "aligned_mtl", "famo", "fairgrad", "upgrad", "stch")


def signal(losses: Tensor, gram: Tensor | None = None, step: int = 0, epoch: int = 0, seed: int = 0) -> Signal:
    return Signal(losses, gram, step, epoch, torch.Generator().manual_seed(seed))


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slope(objective: Callable[[Tensor], Tensor], losses: Tensor) -> Tensor:
    """Autograd's gradient of an objective in the losses."""
    leaf = losses.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(leaf), leaf)
    return gradient


# Fixed


def test_fixed_weights_are_those_given() -> None:
    assert Fixed((2.0, 0.0, 1.0)).step(signal(LOSSES[:3]), State()).weights.tolist() == [2.0, 0.0, 1.0]
    assert Fixed((0.5,)).step(signal(LOSSES), State()).weights.tolist() == [0.5] * 4
    assert Fixed().step(signal(LOSSES), State()).weights.tolist() == [1.0] * 4
    for wrong in ((), (0.0,), (float("nan"),), (float("inf"), 1.0)):
        with pytest.raises(ValueError, match="`weights` must be"):
            Fixed(wrong)


@pytest.mark.parametrize(("name", "option"), [("fixed", "weights"), ("aligned_mtl", "weights"), ("stch", "preference")])
def test_numbers_per_task_must_fit_the_tasks(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be one number for all tasks or 3, one per task; found 2"):
        WEIGHTINGS[name].factory(**{option: (1.0, 2.0)}).init(3)
    with pytest.raises(SpecError, match="or 4, one per task; found 3"):
        resolve("digits", name, None, None, 0, {f"weighting.{option}": [1, 2, 3]})


def test_fixed_weights_of_a_run_are_in_its_settings() -> None:
    spec = resolve("digits", "fixed", None, None, 0, {"weighting.weights": [1, 2, 3, 0.5]})
    assert spec.weighting_settings == Fixed((1.0, 2.0, 3.0, 0.5))
    assert spec.overrides == {"weighting.weights": [1.0, 2.0, 3.0, 0.5]}


# DWA


def test_dwa_by_hand_over_four_epochs() -> None:
    """Epoch means (1, 1), (0.5, 1), (0.5, 0.25): ratios (0.5, 1) in the third epoch, (1, 0.25) in the fourth."""
    dwa, state = DWA(temperature=2.0), DWA().init(2)
    seen = []
    for step, (epoch, *losses) in enumerate(
        [(0, 0.5, 2.0), (0, 1.5, 0.0), (1, 0.25, 1.5), (1, 0.75, 0.5), (2, 0.5, 0.25), (3, 9.0, 9.0)]
    ):
        update = dwa.step(signal(tensor(*losses), step=step, epoch=epoch), state)
        assert update.fallbacks == 0
        state = update.state
        seen.append(update.weights.numpy())
    for early in seen[:4]:
        np.testing.assert_array_equal(early, [1.0, 1.0])
    for weights, ratios in zip(seen[4:], ([0.5, 1.0], [1.0, 0.25]), strict=True):
        shares = np.exp(np.array(ratios) / 2)
        np.testing.assert_allclose(weights, 2 * shares / shares.sum(), rtol=1e-14)


def test_dwa_ignores_the_scale_of_losses_and_counts_losses_of_zero() -> None:
    def third_epoch(scale: Tensor) -> tuple[Tensor, int]:
        state = DWA().init(4)
        for epoch in range(3):
            update = DWA().step(signal(scale * LOSSES ** (1 + epoch), epoch=epoch), state)
            state = update.state
        return update.weights, update.fallbacks

    plain, scaled = third_epoch(torch.ones(4, dtype=torch.float64)), third_epoch(tensor(1e-6, 1.0, 10.0, 1e6))
    torch.testing.assert_close(plain[0], scaled[0])
    assert plain[1] == scaled[1] == 0 and plain[0].sum() == pytest.approx(4.0)
    weights, fallbacks = third_epoch(tensor(0.0, 1.0, 1.0, 1.0))
    assert fallbacks == 1
    torch.testing.assert_close(weights, 4 * torch.softmax(tensor(1.0, 1.0, 2.0, 4.0) / 2, dim=0))


# RLW


@pytest.mark.parametrize("distribution", ["normal", "uniform", "dirichlet"])
def test_rlw_draws_from_its_generator(distribution: Distribution) -> None:
    rlw = RLW(distribution)
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([rlw.step(Signal(LOSSES, None, 0, 0, generator), State()).weights for _ in range(2000)])
    torch.testing.assert_close(draws.sum(dim=1), torch.ones(2000, dtype=torch.float64))
    assert draws.min() > 0
    torch.testing.assert_close(draws.mean(dim=0), torch.full((4,), 0.25, dtype=torch.float64), atol=0.02, rtol=0)
    if distribution == "dirichlet":  # variance (1/m)(1 − 1/m)/(m + 1) of a flat Dirichlet
        torch.testing.assert_close(draws.var(dim=0), torch.full((4,), 0.0375, dtype=torch.float64), atol=0.006, rtol=0)
    same, other = (rlw.step(signal(LOSSES, seed=seed), State()).weights for seed in (1, 2))
    assert torch.equal(same, draws[0]) and not torch.equal(same, other)


# GLS and SI


def test_gls_is_the_gradient_of_the_geometric_mean() -> None:
    expected = slope(lambda losses: losses.prod() ** 0.25, LOSSES)
    torch.testing.assert_close(geometric_weights(LOSSES)[0], expected)
    assert torch.isfinite(geometric_weights(torch.full((40,), 1e-30, dtype=torch.float64))[0]).all()


def test_gls_and_si_ignore_the_scale_of_losses() -> None:
    """A loss that is c times as large has a gradient c times as large and gets 1/c of the weight, up to one factor."""
    factors = tensor(1e-3, 1.0, 10.0, 1e3)
    plain, scaled = (LogLoss().step(signal(losses), State()).weights for losses in (LOSSES, LOSSES * factors))
    torch.testing.assert_close(plain, slope(lambda losses: losses.log().sum(), LOSSES))
    torch.testing.assert_close(scaled * factors, plain)
    plain, scaled = (GLS().step(signal(losses), State()).weights for losses in (LOSSES, LOSSES * factors))
    torch.testing.assert_close(scaled * factors, plain * factors.prod() ** 0.25)


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_losses_without_a_logarithm_are_left_out_and_counted(bad: float) -> None:
    losses = tensor(0.5, bad, 2.0)
    for weighting in (GLS(), LogLoss(), STCH()):
        update = weighting.step(signal(losses), weighting.init(3))
        assert update.fallbacks == 1 and update.weights[1] == 0
        assert torch.isfinite(update.weights).all() and (update.weights[[0, 2]] > 0).all()
    alone = geometric_weights(tensor(0.5, 2.0))[0]
    torch.testing.assert_close(geometric_weights(losses)[0][[0, 2]], alone)
    for weighting in (GLS(), LogLoss(), STCH(warmup_epochs=0)):
        update = weighting.step(signal(torch.zeros(3, dtype=torch.float64)), weighting.init(3))
        update = weighting.step(signal(torch.zeros(3, dtype=torch.float64), epoch=1), update.state)
        assert update.weights.tolist() == [0.0] * 3 and update.fallbacks == 1


# GradVac


def explicit_vaccine(
    rows: np.ndarray, orders: np.ndarray, targets: np.ndarray, beta: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wang et al. (2021), Algorithm 1, on the gradients themselves, task by task."""
    targets, total = targets.copy(), np.zeros(rows.shape[1])
    norms = np.linalg.norm(rows, axis=1)
    for i, order in enumerate(orders):
        g, gross = rows[i].copy(), norms[i]
        for j in order:
            size = np.linalg.norm(g)
            if j == i or not size > np.sqrt(VANISHING) * gross or norms[j] == 0:
                continue
            cosine = np.clip(g @ rows[j] / (size * norms[j]), -1, 1)
            goal = targets[i, j]
            if cosine < goal:
                rise = goal * np.sqrt(1 - cosine**2) - cosine * np.sqrt(1 - goal**2)
                share = size * rise / (norms[j] * np.sqrt(1 - goal**2))
                g, gross = g + share * rows[j], gross + abs(share) * norms[j]
            targets[i, j] = (1 - beta) * goal + beta * cosine
        total += g
    return total, targets


@pytest.mark.parametrize(("kind", "m"), [(kind, m) for kind, m in ZOO if m <= 40])
def test_gradvac_is_the_published_procedure(kind: str, m: int) -> None:
    """Three steps with the state carried, the same orders on both sides."""
    rows = jacobian(kind, m)
    gram = torch.from_numpy(rows @ rows.T)
    ours, theirs = torch.zeros(m, m, dtype=torch.float64), np.zeros((m, m))
    scale = max(np.linalg.norm(rows, axis=1).max(), 1e-300)
    for step in range(3):
        orders = np.stack([np.random.default_rng([step, i]).permutation(m) for i in range(m)])
        weights, ours, _ = vaccinated_weights(gram, torch.from_numpy(orders), ours, 0.2)
        total, theirs = explicit_vaccine(rows, orders, theirs, 0.2)
        size = max(scale, float(np.abs(weights.numpy()) @ np.linalg.norm(rows, axis=1)))
        np.testing.assert_allclose(weights.numpy() @ rows / size, total / size, atol=1e-6)
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)


def test_gradvac_starts_as_pcgrad_and_reaches_its_targets() -> None:
    gram = gramian("opposed", 11)
    orders = torch.rand(11, 11, generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    zeros = torch.zeros(11, 11, dtype=torch.float64)
    torch.testing.assert_close(vaccinated_weights(gram, orders, zeros, 0.5)[0], projected_weights(gram, orders))
    pair, goal = tensor(4.0, -1.0, -1.0, 1.0).reshape(2, 2), torch.full((2, 2), 0.6, dtype=torch.float64)
    first_meets = torch.tensor([[0, 1], [1, 0]])
    weights, _, _ = vaccinated_weights(pair, first_meets, goal, 0.5)
    # By hand: g_1 + a g_2 with cosine 0.6 to g_2, and likewise for g_2.
    a = 2 * (0.6 * np.sqrt(0.75) + 0.5 * 0.8) / 0.8
    b = 1 * (0.6 * np.sqrt(0.75) + 0.5 * 0.8) / (2 * 0.8)
    torch.testing.assert_close(weights, tensor(1 + b, 1 + a))
    turned = tensor(1.0, a)
    assert (turned @ pair)[1] / (turned @ pair @ turned).sqrt() == pytest.approx(0.6)


def test_gradvac_counts_pairs_without_a_cosine_and_targets_out_of_reach() -> None:
    vac = GradVac()
    zero = vac.step(signal(LOSSES[:3], gramian("zero row", 3)), vac.init(3))
    assert zero.fallbacks == 1 and zero.state.memory["targets"][0].eq(0).all()
    ones = State(memory={"targets": torch.ones(2, 2, dtype=torch.float64)})
    unreachable = vac.step(signal(LOSSES[:2], torch.eye(2, dtype=torch.float64)), ones)
    assert unreachable.fallbacks == 1 and unreachable.weights.tolist() == [1.0, 1.0]
    assert vac.step(signal(LOSSES[:3], gramian("random", 3)), vac.init(3)).fallbacks == 0
    with pytest.raises(ValueError, match=r"`beta` must be from 0 to 1, found 1\.5"):
        GradVac(1.5)


# Aligned-MTL


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("kind", ["random", "aligned", "opposed"])
def test_aligned_gradients_are_orthogonal_and_of_one_length(kind: str, m: int) -> None:
    rows = torch.from_numpy(jacobian(kind, m))
    gram = rows @ rows.T
    values = torch.linalg.eigvalsh(gram)
    for scale, squared in {"min": values[0], "median": values[(m - 1) // 2], "rmse": values.mean()}.items():
        balance, rank = alignment(gram, scale)  # type: ignore[arg-type]
        assert rank == m
        singular = torch.linalg.svdvals(balance @ rows)
        assert singular.max() / singular.min() == pytest.approx(1.0, abs=1e-8)
        torch.testing.assert_close(singular, squared.sqrt().expand(m), rtol=1e-8, atol=0)


def test_aligned_mtl_uses_the_weights_of_its_user_and_scales_with_the_gradients() -> None:
    gram = gramian("random", 3)
    balance, _ = alignment(gram, "rmse")
    weighted = AlignedMTL("rmse", (1.0, 2.0, 0.0)).step(signal(LOSSES[:3], gram), State())
    torch.testing.assert_close(weighted.weights, balance @ tensor(1.0, 2.0, 0.0))
    assert weighted.fallbacks == 0
    torch.testing.assert_close(alignment(1e6 * gram, "min")[0], alignment(gram, "min")[0])
    diagonal, _ = alignment(torch.diag(tensor(16.0, 4.0, 1.0)), "min")
    torch.testing.assert_close(diagonal, torch.diag(tensor(0.25, 0.5, 1.0)))


@pytest.mark.parametrize("kind", DEGENERATE)
def test_aligned_mtl_aligns_the_span_of_dependent_gradients_and_counts(kind: str) -> None:
    rows = torch.from_numpy(jacobian(kind, 11))
    update = AlignedMTL().step(signal(torch.ones(11, dtype=torch.float64), rows @ rows.T), State())
    assert update.fallbacks == 1
    balance, rank = alignment(rows @ rows.T, "min")
    if kind == "zero":
        assert rank == 0 and update.weights.tolist() == [1.0] * 11
        return
    singular = torch.linalg.svdvals(balance @ rows)
    assert 0 < rank < 11 and singular[rank - 1] / singular[0] == pytest.approx(1.0, abs=1e-6)
    assert (singular[rank:] < 1e-6 * singular[0]).all()


# FAMO


@pytest.mark.parametrize("rule", ["adam", "plain"])
def test_famo_follows_its_formulas_on_a_quadratic(rule: str) -> None:
    """Ten steps on ½‖A_i x − b_i‖², with the objective and the logits of the released code under autograd."""
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 4, 5, dtype=torch.float64, generator=generator)
    targets = torch.randn(3, 4, dtype=torch.float64, generator=generator) * tensor(0.1, 1.0, 10.0)[:, None]

    def losses_at(x: Tensor) -> Tensor:
        return (matrices @ x - targets).square().mean(dim=1) / 2

    famo = FAMO(lr=0.3, gamma=0.01, rule=rule)  # type: ignore[arg-type]
    assert isinstance(famo, LooksBack)
    state = famo.init(3)
    x = torch.zeros(5, dtype=torch.float64)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer: torch.optim.Optimizer = torch.optim.SGD([logits], lr=0.3, weight_decay=0.01)
    if rule == "adam":
        optimizer = torch.optim.Adam([logits], lr=0.3, weight_decay=0.01)
    for step in range(10):
        before = losses_at(x)
        update = famo.step(signal(before, step=step), state)
        z = torch.softmax(logits, dim=0).detach()
        constant = (z / (before + 1e-8)).sum()
        expected = slope(lambda losses: ((losses + 1e-8).log() * z).sum() / constant, before)  # noqa: B023
        torch.testing.assert_close(update.weights, expected)
        leaf = x.clone().requires_grad_()
        (direction,) = torch.autograd.grad((update.weights * losses_at(leaf)).sum(), leaf)
        x = x - 0.05 * direction
        after = losses_at(x)
        fall = (before + 1e-8).log() - (after + 1e-8).log()
        optimizer.zero_grad()
        (torch.softmax(logits, dim=0) * fall).sum().backward()
        optimizer.step()
        state = famo.after(after, update.state)
        torch.testing.assert_close(state.memory["logits"], logits.detach(), rtol=1e-9, atol=1e-12)
        assert update.fallbacks == 0
    assert state.memory["logits"].abs().max() > 1e-3


def test_famo_weights_sum_to_one_and_favour_the_task_that_fell_least() -> None:
    weights = balanced_rate_weights(torch.zeros(3, dtype=torch.float64), LOSSES[:3])
    torch.testing.assert_close(weights, tensor(4, 2, 1) / 7)
    gradient = logit_gradient(torch.zeros(2, dtype=torch.float64), tensor(1, 1), tensor(0.5, 1), 0.0)
    assert gradient[0] > 0 > gradient[1] and gradient.sum() == pytest.approx(0.0)


def test_famo_counts_negative_losses_before_and_after() -> None:
    famo = FAMO()
    first = famo.step(signal(tensor(-1.0, 2.0)), famo.init(2))
    assert first.fallbacks == 1 and torch.isfinite(first.weights).all()
    state = famo.after(tensor(1.0, -2.0), first.state)
    assert torch.isfinite(state.memory["logits"]).all()
    second = famo.step(signal(tensor(1.0, 2.0)), state)
    assert second.fallbacks == 1
    assert famo.step(signal(tensor(1.0, 2.0)), famo.after(tensor(1.0, 1.0), second.state)).fallbacks == 0


def prepared(method: str, data_root: Path, data: str = "digits", arch: str = "hps") -> tuple[Trainee, Batch]:
    spec = resolve(data, None, arch, method, 0, {"train.batch_size": 4})
    folder = find(data, data_root)
    assert folder is not None
    splits = spec.info.read(folder, spec.data_settings)
    network = build_network(spec, torch.device("cpu"))
    batches = training_batches(splits.train, spec.info, 4, generator_for(0, "test"), torch.device("cpu"))
    return make_trainee(spec, network), next(iter(batches))


@pytest.mark.parametrize(("data", "arch"), [("digits", "hps"), ("digits", "normal"), ("faces", "hps")])
def test_the_engine_looks_back_on_the_same_batch(data: str, arch: str, data_root: Path) -> None:
    """The losses after a step are those that the next step on the same batch sees before it."""
    trainee, batch = prepared("famo", data_root, data, arch)
    first = train_step(trainee, batch, 0, 0)
    torch.testing.assert_close(trainee.state.memory["losses"], first.losses)
    assert int(trainee.state.memory["steps"]) == 1 and trainee.state.memory["logits"].abs().max() > 0
    now = losses_now(trainee, batch, 0)
    assert not now.requires_grad and not torch.equal(now, first.losses)
    torch.testing.assert_close(train_step(trainee, batch, 1, 0).losses, now, rtol=1e-5, atol=1e-6)


def test_only_weightings_that_look_back_pay_for_it(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr("bench.engine.step.losses_now", lambda trainee, batch, step: looked.append(step) or LOSSES)
    for name in WEIGHTINGS:
        trainee, batch = prepared(name, data_root)
        looked.clear()
        train_step(trainee, batch, 0, 0)
        assert bool(looked) == isinstance(trainee.weighting, LooksBack) == (name == "famo"), name


# FairGrad


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(("kind", "m"), REGULAR_ZOO)
def test_fairgrad_solves_its_equation(kind: str, m: int, alpha: float) -> None:
    gram = gramian(kind, m).numpy()
    weights, fallback = fair_weights(gram, alpha)
    if kind == "spread" and alpha not in (1.0, 2.0):
        assert np.isfinite(weights).all()  # weights spread over so many magnitudes that doubles may not tell
        return
    assert not fallback and weights.min() > 0
    assert np.abs(weights ** (1 / alpha) * (gram @ weights) - 1).max() <= 1e-8


@pytest.mark.parametrize(("kind", "m"), REGULAR_ZOO)
def test_fairgrad_of_one_is_nash(kind: str, m: int) -> None:
    gram = gramian(kind, m).numpy()
    np.testing.assert_allclose(fair_weights(gram, 1.0)[0], bargaining_weights(gram)[0], rtol=1e-6)


def test_fairgrad_by_hand_and_under_scaling() -> None:
    """Orthogonal: w = ‖g‖^(−2α/(1+α)). All gradients c times as long: w times c^(−2α/(1+α))."""
    squared = np.array([16.0, 4.0, 1.0])
    for alpha in (0.5, 1.0, 2.0, 5.0):
        np.testing.assert_allclose(fair_weights(np.diag(squared), alpha)[0], squared ** (-alpha / (1 + alpha)))
        gram = gramian("random", 5).numpy()
        scaled = fair_weights(1e8 * gram, alpha)[0]
        np.testing.assert_allclose(scaled, 1e8 ** (-alpha / (1 + alpha)) * fair_weights(gram, alpha)[0], rtol=1e-8)


def test_fairgrad_counts_what_has_no_solution() -> None:
    for kind in ("zero row", "zero"):
        update = FairGrad().step(signal(LOSSES[:3], gramian(kind, 3)), State())
        assert update.fallbacks == 1 and update.weights[0] == 0
    stationary = FairGrad().step(signal(LOSSES[:2], tensor(1, -1, -1, 1).reshape(2, 2)), State())
    assert stationary.fallbacks == 1 and torch.isfinite(stationary.weights).all()
    torch.testing.assert_close(stationary.weights[0], stationary.weights[1])


# UPGrad


@pytest.mark.parametrize(("kind", "m"), ZOO)
def test_upgrad_does_not_conflict(kind: str, m: int) -> None:
    gram = gramian(kind, m).numpy()
    weights, missed = unconflicting_weights(gram)
    assert not missed
    norms = np.sqrt(gram.diagonal())
    share = norms * np.abs(weights)
    assert (gram @ weights >= -1e-8 * norms * share.sum()).all()


def projection_by_minimisation(rows: np.ndarray, i: int) -> np.ndarray:
    """The point nearest to g_i with J x ≥ 0, by a general solver on its dual: min ‖g_i + Jᵀs‖², s ≥ 0."""
    found = minimize(
        lambda s: 0.5 * np.square(rows[i] + s @ rows).sum(),
        np.zeros(len(rows)),
        jac=lambda s: rows @ (rows[i] + s @ rows),
        bounds=[(0, None)] * len(rows),
        method="L-BFGS-B",
        options={"ftol": 1e-16, "gtol": 1e-11, "maxiter": 20000, "maxfun": 100000},
    )
    return np.asarray(rows[i] + found.x @ rows)


@pytest.mark.parametrize("kind", ["random", "aligned", "opposed", "duplicated", "low rank", "zero row"])
@pytest.mark.parametrize("m", [2, 3, 11])
def test_upgrad_is_the_mean_of_the_projections(kind: str, m: int) -> None:
    rows = jacobian(kind, m)
    expected = np.mean([projection_by_minimisation(rows, i) for i in range(m)], axis=0)
    weights, _ = unconflicting_weights(rows @ rows.T)
    scale = np.linalg.norm(rows, axis=1).max()
    np.testing.assert_allclose(weights @ rows / scale, expected / scale, atol=1e-5)


def test_upgrad_of_two_tasks_by_hand() -> None:
    """Each of two conflicting gradients loses its part along the other; without conflict the mean is left."""
    a, b = np.array([3.0, 0.0]), np.array([-1.0, 2.0])
    gram = np.array([[a @ a, a @ b], [a @ b, b @ b]])
    weights, _ = unconflicting_weights(gram)
    np.testing.assert_allclose(weights, [(1 + 3 / 9) / 2, (1 + 3 / 5) / 2])
    np.testing.assert_allclose(unconflicting_weights(gramian("aligned", 5).numpy())[0], 0.2)
    assert UPGrad().step(signal(LOSSES, gramian("zero", 4)), State()).weights.tolist() == [0.25] * 4


def test_upgrad_is_linear_under_scaling() -> None:
    """Projections are linear in the length of each gradient: lengths c_i leave w·g_i's direction parts to add up."""
    rows, factors = jacobian("random", 5), np.array([1e-3, 1.0, 2.0, 10.0, 1e3])
    parts = []
    for i in range(5):
        chosen = np.where(np.arange(5) == i, 1.0, 1e-150)  # the others have next to no length, but still a direction
        scaled = rows * chosen[:, None]
        parts.append(unconflicting_weights(scaled @ scaled.T)[0] @ scaled)
    scaled = rows * factors[:, None]
    weights, _ = unconflicting_weights(scaled @ scaled.T)
    np.testing.assert_allclose(weights @ scaled, factors @ np.array(parts), rtol=1e-8)


# STCH


def test_stch_is_the_gradient_of_its_smooth_maximum() -> None:
    preference, reference = tensor(0.1, 0.2, 0.3, 0.4), tensor(0.1, 0.2, 0.0, 1.0)
    stch = STCH(0.5, "plain", preference=tuple(preference.tolist()), reference=tuple(reference.tolist()))
    expected = slope(lambda x: 0.5 * torch.logsumexp(preference * (x - reference) / 0.5, dim=0), LOSSES)
    torch.testing.assert_close(stch.step(signal(LOSSES), stch.init(4)).weights, expected)


def test_stch_warms_up_and_then_follows_the_released_objective() -> None:
    stch, state = STCH(mu=0.7, warmup_epochs=1), STCH().init(4)
    for epoch, factor in [(0, 1.0), (1, 1.0), (1, 3.0)]:
        update = stch.step(signal(factor * LOSSES, epoch=epoch), state)
        torch.testing.assert_close(update.weights, 1 / (factor * LOSSES))
        state = update.state
    nadir, losses = 2 * LOSSES, tensor(1.0, 0.3, 5.0, 2.0)
    update = stch.step(signal(losses, epoch=2), state)
    expected = slope(lambda x: 4 * 0.7 * torch.logsumexp((x / nadir).log() / 0.7, dim=0), losses)
    torch.testing.assert_close(update.weights, expected)
    assert update.fallbacks == 0


def test_stch_between_its_limits() -> None:
    """μ → 0 leaves the worst task alone; μ → ∞ weighs as λ says."""
    preference = (0.4, 0.3, 0.25, 0.05)
    sharp = STCH(1e-6, "plain", preference=preference).step(signal(LOSSES), State()).weights
    assert sharp.count_nonzero() == 1 and sharp.argmax() == (tensor(*preference) * LOSSES).argmax()
    flat = STCH(1e9, "plain", preference=preference).step(signal(LOSSES), State()).weights
    torch.testing.assert_close(flat, tensor(*preference) / 4)


# All of them


@pytest.mark.parametrize("name", FIELD)
def test_state_is_tensors_and_settings_are_plain(name: str) -> None:
    weighting: Weighting = WEIGHTINGS[name].factory()
    assert all(isinstance(value, Tensor) for value in weighting.init(3).memory.values())
    json.dumps(dataclasses.asdict(weighting))  # type: ignore[call-overload]


@pytest.mark.parametrize("name", FIELD)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_ends_the_run_before_it_is_weighted(
    name: str, bad: float, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainee, batch = prepared(name, data_root)
    monkeypatch.setattr(type(trainee.weighting), "step", lambda *_: pytest.fail("a weighting saw it"))
    with torch.no_grad():
        next(trainee.network.heads[1].parameters()).fill_(bad)
    with pytest.raises(Diverged, match=r"loss of task .* is (nan|inf) at step 7"):
        train_step(trainee, batch, 7, 0)


def test_losses_that_are_not_finite_after_a_step_end_the_run(data_root: Path) -> None:
    trainee, batch = prepared("famo", data_root)
    trainee.optimizers["network"].param_groups[0]["lr"] = 1e30
    with pytest.raises(Diverged, match=r"loss after the move of task .* at step 3"):
        train_step(trainee, batch, 3, 0)


@pytest.mark.parametrize("name", FIELD)
def test_a_step_is_quick(name: str) -> None:
    """At most 10 ms of processor time at m = 40, the median of eleven steps on each regular Gramian."""
    weighting: Weighting = WEIGHTINGS[name].factory()
    losses = torch.linspace(0.5, 2.0, 40, dtype=torch.float64)
    seconds = []
    for kind in REGULAR:
        gram, state = gramian(kind, 40), weighting.init(40)
        for step in range(11):
            observed = signal(losses, gram, step=step)
            start = time.thread_time()
            state = weighting.step(observed, state).state
            seconds.append(time.thread_time() - start)
    assert np.median(seconds) <= 0.010
