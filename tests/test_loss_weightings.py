"""Weightings that look at losses alone: what defines each of them, by hand, by autograd or by conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from cases import for_every
from scipy.stats import chisquare
from signals import LOSSES, signal, tensor
from torch import Tensor

from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from methods import WEIGHTINGS
from methods.contract import PostStepHook, Signal, State
from methods.weightings.dwa import DWA
from methods.weightings.famo import FAMO, balanced_rate_weights, logit_gradient
from methods.weightings.fixed import Fixed
from methods.weightings.gls import GLS, geometric_weights
from methods.weightings.log_loss import LogLoss
from methods.weightings.rlw import RLW, Distribution
from methods.weightings.stch import STCH


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


@for_every(
    "name, option, others",
    [
        ("fixed", "weights", {}),
        ("aligned_mtl", "weights", {}),
        ("stch", "preference", {"variant": "paper"}),
        ("mgda", "preference", {}),
        ("config", "preference", {}),
        ("epo", "preference", {}),
    ],
)
def test_numbers_per_task_must_fit_the_tasks(name: str, option: str, others: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be one number for all tasks or 3, one per task; found 2"):
        WEIGHTINGS[name].factory(**{option: (1.0, 2.0)}, **others).init(3)
    with pytest.raises(SpecError, match="or 4, one per task; found 3"):
        settings = {option: [1, 2, 3], **others}
        resolve("digits", name, assignments={f"weighting.{key}": value for key, value in settings.items()})


def test_fixed_weights_of_a_run_are_in_its_settings() -> None:
    spec = resolve("digits", "fixed", assignments={"weighting.weights": [1, 2, 3, 0.5]})
    assert spec.settings.weighting == Fixed((1.0, 2.0, 3.0, 0.5))
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


def drawn(distribution: Distribution) -> Tensor:
    """Weights (2000, 4) of as many steps of one run."""
    generator = torch.Generator().manual_seed(1)
    rlw = RLW(distribution)
    return torch.stack([rlw.step(Signal(LOSSES, None, 0, 0, generator), State()).weights for _ in range(2000)])


@for_every("distribution", get_args(Distribution))
def test_rlw_draws_from_its_generator(distribution: Distribution) -> None:
    draws = drawn(distribution)
    torch.testing.assert_close(draws.sum(dim=1), torch.ones(2000, dtype=torch.float64))
    assert draws.min() >= 0
    torch.testing.assert_close(draws.mean(dim=0), torch.full((4,), 0.25, dtype=torch.float64), atol=0.03, rtol=0)
    rlw = RLW(distribution)
    same, *others = (rlw.step(signal(LOSSES, seed=seed), State()).weights for seed in range(1, 9))
    assert torch.equal(same, draws[0]) and not all(torch.equal(same, other) for other in others)


def test_rlw_dirichlet_is_flat() -> None:
    """Each weight has the variance (1/m)(1 − 1/m)/(m + 1)."""
    draws = drawn("dirichlet")
    assert draws.min() > 0
    torch.testing.assert_close(draws.var(dim=0), torch.full((4,), 0.0375, dtype=torch.float64), atol=0.006, rtol=0)


def test_rlw_bernoulli_is_uniform_over_the_subsets_that_are_not_empty() -> None:
    subsets, counts = torch.unique(drawn("bernoulli") > 0, dim=0, return_counts=True)
    assert len(subsets) == 15
    assert chisquare(counts.numpy()).pvalue > 0.01
    chosen, times = torch.unique(drawn("one_hot"), dim=0, return_counts=True)
    assert torch.equal(chosen.flip(0), torch.eye(4, dtype=torch.float64))
    assert chisquare(times.numpy()).pvalue > 0.01


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


@for_every("bad", [0.0, -1.0])
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


# FAMO


@for_every("rule", ["adam", "plain"])
def test_famo_follows_its_formulas_on_a_quadratic(rule: str) -> None:
    """Ten steps on ½‖A_i x − b_i‖², with the objective and the logits of the released code under autograd."""
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 4, 5, dtype=torch.float64, generator=generator)
    targets = torch.randn(3, 4, dtype=torch.float64, generator=generator) * tensor(0.1, 1.0, 10.0)[:, None]

    def losses_at(x: Tensor) -> Tensor:
        return (matrices @ x - targets).square().mean(dim=1) / 2

    famo = FAMO(lr=0.3, gamma=0.01, rule=rule)  # type: ignore[arg-type]
    assert isinstance(famo, PostStepHook)
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
        state = famo.post_step(after, update.state)
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
    state = famo.post_step(tensor(1.0, -2.0), first.state)
    assert torch.isfinite(state.memory["logits"]).all()
    second = famo.step(signal(tensor(1.0, 2.0)), state)
    assert second.fallbacks == 1
    assert famo.step(signal(tensor(1.0, 2.0)), famo.post_step(tensor(1.0, 1.0), second.state)).fallbacks == 0


# STCH


def test_stch_is_the_gradient_of_its_smooth_maximum() -> None:
    preference, reference = tensor(0.1, 0.2, 0.3, 0.4), tensor(0.1, 0.2, 0.0, 1.0)
    stch = STCH(0.5, "paper", preference=tuple(preference.tolist()), reference=tuple(reference.tolist()))
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


def test_stch_refuses_a_preference_that_its_objective_ignores() -> None:
    for ignored in ({"preference": (0.5, 0.5)}, {"preference": (0.5,)}, {"reference": (0.1,)}):
        with pytest.raises(ValueError, match='set `variant="paper"`'):
            STCH(**ignored)
    STCH(preference=(1.0, 1.0), reference=(0.0,))


def test_stch_between_its_limits() -> None:
    """μ → 0 leaves the worst task alone; μ → ∞ weighs as λ says."""
    preference = (0.4, 0.3, 0.25, 0.05)
    sharp = STCH(1e-6, "paper", preference=preference).step(signal(LOSSES), State()).weights
    assert sharp.count_nonzero() == 1 and sharp.argmax() == (tensor(*preference) * LOSSES).argmax()
    flat = STCH(1e9, "paper", preference=preference).step(signal(LOSSES), State()).weights
    torch.testing.assert_close(flat, tensor(*preference) / 4)
