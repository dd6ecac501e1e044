"""GO4Align, IGBv1, UW-SO and LDC-MTL: what defines each of them, by hand, by autograd or by another solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import for_every
from signals import LOSSES, signal, tensor
from sklearn.cluster import KMeans
from torch import Tensor

from methods import WEIGHTINGS
from methods.contract import State, Update, Weighting
from methods.weightings.go4align import GO4Align, grouped_means
from methods.weightings.igb import IGB, improvable_gap_weights
from methods.weightings.ldc_mtl import LDCMTL, Normalisation, discrepancy_factors, normalised_losses
from methods.weightings.uw_so import UWSO, soft_inverse_weights

NEW = ("go4align", "igb", "uw_so", "ldc_mtl")


def run(weighting: Weighting, losses: list[Tensor]) -> list[Update]:
    """The updates of one step per epoch."""
    state, updates = weighting.init(len(losses[0])), []
    for epoch, each in enumerate(losses):
        updates.append(weighting.step(signal(each, step=epoch, epoch=epoch), state))
        state = updates[-1].state
    return updates


def drawn_losses(m: int, steps: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(m)
    return list(torch.randn(steps, m, dtype=torch.float64, generator=generator).exp())


# All of them


@for_every("name", NEW)
@for_every("m", [1, 2, 40])
def test_a_run_has_finite_weights_and_a_state_without_gradients(name: str, m: int) -> None:
    for update in run(WEIGHTINGS[name].factory(), drawn_losses(m)):
        assert update.weights.shape == (m,) and torch.isfinite(update.weights).all() and update.fallbacks == 0
        assert not any(value.requires_grad for value in update.state.memory.values())


@for_every("name", ["go4align", "igb", "uw_so"])
def test_permuted_tasks_get_permuted_weights_in_every_step(name: str) -> None:
    losses = drawn_losses(13)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(1))
    straight, permuted = (run(WEIGHTINGS[name].factory(), each) for each in (losses, [x[order] for x in losses]))
    for one, other in zip(straight, permuted, strict=True):
        torch.testing.assert_close(other.weights, one.weights[order])


@for_every("name", NEW)
@for_every("bad", [0.0, -1.0])
def test_losses_that_are_not_positive_have_a_result(name: str, bad: float) -> None:
    losses = [tensor(0.5, bad, 2.0), tensor(0.5, bad, 2.0), tensor(0.5, 1.0, 2.0), tensor(bad, bad, bad)]
    for update in run(WEIGHTINGS[name].factory(), losses):
        assert torch.isfinite(update.weights).all() and update.fallbacks in (0, 1)
        assert all(torch.isfinite(value).all() for value in update.state.memory.values())
    first = run(WEIGHTINGS[name].factory(), losses)[0]
    assert first.fallbacks == 1


# GO4Align


def means_of(values: np.ndarray, groups: int, grouped: np.ndarray | None = None) -> np.ndarray:
    everything = np.ones(len(values), dtype=bool) if grouped is None else grouped
    return grouped_means(torch.from_numpy(values), torch.from_numpy(everything), groups).numpy()


@for_every("m, groups", [(1, 1), (2, 2), (5, 2), (13, 4), (40, 3), (7, 9)])
def test_go4align_groups_are_the_best_k_means(m: int, groups: int) -> None:
    """No worse than the best of 50 starts of another solver, and every value has the mean of its group.

    Values that are in no group have no effect.
    """
    for seed in range(2):
        values = np.random.default_rng(seed).lognormal(sigma=2, size=m)
        means = means_of(values, groups)
        some = np.random.default_rng(seed).random(2 * m).argsort() < m  # (2m,), m of them true
        spread = np.full(2 * m, np.e)
        spread[some] = values
        assert (means_of(spread, groups, some)[some] == means).all()
        distinct = np.unique(means)
        assert len(distinct) <= min(groups, m)
        for mean in distinct:
            assert values[means == mean].mean() == pytest.approx(mean, rel=1e-12)
        other = KMeans(min(groups, m), n_init=50, init="random", random_state=0).fit(values[:, None])
        assert np.square(values - means).sum() <= other.inertia_ * (1 + 1e-9) + 1e-12


def test_go4align_groups_by_hand() -> None:
    """Values far apart in size do not cancel; equal values are in one group."""
    expected = [23 / 3, 1.5, 1.5, 23 / 3, 23 / 3]
    np.testing.assert_allclose(means_of(np.array([6.0, 1.0, 2.0, 9.0, 8.0]), 2), expected)
    np.testing.assert_allclose(means_of(np.array([1e8, 1.0, 3.0, 1.0, 3.0]), 3), [1e8, 1, 3, 1, 3], rtol=1e-15)
    np.testing.assert_allclose(means_of(np.full(6, 0.1), 3), np.full(6, 0.1), rtol=1e-15)


def test_go4align_without_groups_is_the_exponentiated_gradient() -> None:
    """With a group for each task, w_i L_i = p_i ΣL for p ∝ exp(−η Σ_t L)."""
    losses = drawn_losses(4)
    total = torch.zeros(4, dtype=torch.float64)
    for each, update in zip(losses, run(GO4Align(groups=4, step_size=0.3), losses), strict=True):
        total += each
        torch.testing.assert_close(update.weights * each, torch.softmax(-0.3 * total, dim=0) * each.sum())
    for each, update in zip(losses, run(GO4Align(groups=1), losses), strict=True):
        assert torch.equal(update.weights, update.weights[0].expand(4))
        assert float(update.weights[0]) == pytest.approx(float((each.sum() / each).mean() / 4), rel=1e-3)


def test_go4align_ignores_the_unit_of_losses() -> None:
    """All losses c times as large and a step size of 1/c of it give the same weights."""
    losses = drawn_losses(5)
    plain = run(GO4Align(groups=2, step_size=0.1), losses)
    scaled = run(GO4Align(groups=2, step_size=1e-5), [1e4 * each for each in losses])
    for one, other in zip(plain, scaled, strict=True):
        torch.testing.assert_close(other.weights, one.weights)


def test_go4align_leaves_out_losses_that_are_not_positive() -> None:
    with_zero = GO4Align().step(signal(tensor(0.5, 0.0, 2.0)), GO4Align().init(3))
    assert with_zero.fallbacks == 1 and with_zero.weights[1] == 0 and (with_zero.weights[[0, 2]] > 0).all()
    nothing = GO4Align().step(signal(torch.zeros(3, dtype=torch.float64)), GO4Align().init(3))
    assert nothing.fallbacks == 1 and nothing.weights.tolist() == [0.0] * 3


# IGBv1


def test_igb_is_the_gradient_of_its_objective() -> None:
    """Σ λ_i log L_i with λ = m softmax(L / base); the base is the mean of epoch 1, and before that λ = 1."""
    igb, state = IGB(), IGB().init(4)
    for epoch, factor in [(0, 7.0), (1, 1.0), (1, 3.0)]:
        update = igb.step(signal(factor * LOSSES, epoch=epoch), state)
        torch.testing.assert_close(update.weights, 1 / (factor * LOSSES))
        state = update.state
    losses, base = tensor(1.0, 0.3, 5.0, 2.0), 2 * LOSSES
    leaf = losses.clone().requires_grad_()
    (4 * torch.softmax(losses / base, dim=0) * leaf.log()).sum().backward()
    update = igb.step(signal(losses, epoch=2), state)
    torch.testing.assert_close(update.weights, leaf.grad)
    assert update.fallbacks == 0 and (update.weights * losses).sum() == pytest.approx(4.0)


def test_igb_ignores_the_scale_of_each_loss() -> None:
    factors = tensor(1e-6, 1.0, 10.0, 1e6)
    plain, scaled = (improvable_gap_weights(s * LOSSES, s * LOSSES.flip(0))[0] for s in (torch.ones(4), factors))
    torch.testing.assert_close(scaled * factors, plain)


def test_igb_leaves_out_tasks_without_a_logarithm_or_a_base() -> None:
    for losses, base in [(tensor(1, 0, 2), tensor(1, 1, 1)), (tensor(1, 1, 2), tensor(1, -1, 1))]:
        weights, undefined = improvable_gap_weights(losses, base)
        assert undefined and weights[1] == 0
        torch.testing.assert_close(weights[[0, 2]], 3 * torch.softmax(tensor(1, 2), dim=0) / tensor(1, 2))


# UW-SO


def test_uw_so_between_its_limits() -> None:
    weights = soft_inverse_weights(LOSSES, 0.7)
    torch.testing.assert_close(weights, torch.softmax(1 / (0.7 * LOSSES), dim=0), rtol=1e-6, atol=0)
    assert weights.sum() == pytest.approx(1.0)
    assert soft_inverse_weights(LOSSES, 1e-3).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(soft_inverse_weights(LOSSES, 1e9), torch.full((4,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(soft_inverse_weights(1e3 * LOSSES, 0.7e-3), weights, rtol=1e-6, atol=0)


def test_uw_so_gives_a_loss_of_zero_all_the_weight_and_counts_it() -> None:
    for bad in (0.0, -3.0):
        update = UWSO().step(signal(tensor(0.5, bad, 2.0)), State())
        assert update.weights.tolist() == [0.0, 1.0, 0.0] and update.fallbacks == 1
    assert UWSO().step(signal(torch.zeros(2, dtype=torch.float64)), State()).weights.tolist() == [0.5, 0.5]


# LDC-MTL


def objective(logits: Tensor, losses: Tensor, initial: Tensor, penalty: float, rule: Normalisation) -> Tensor:
    """The published objective, for autograd."""
    normalised = {
        "none": losses,
        "initial": initial.min() * (losses / initial),
        "log": (losses / initial).log(),
    }[rule]
    shares = torch.sigmoid(logits)
    weighted = shares * normalised
    return weighted.sum() / shares.sum().detach() + penalty * (weighted[:-1] - weighted[1:]).abs().sum()


@for_every("rule", ["none", "initial", "log"])
@for_every("m", [1, 2, 40])
@for_every("penalty", [0.0, 0.1])
def test_ldc_mtl_follows_its_objective(rule: Normalisation, m: int, penalty: float) -> None:
    """Weights and learned logits over ten steps, as autograd and Adam find them."""
    weighting = LDCMTL(penalty=penalty, normalisation=rule, lr=0.1)
    losses, logits = drawn_losses(m, steps=10), torch.ones(m, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.1)
    for each, update in zip(losses, run(weighting, losses), strict=True):
        leaf = each.clone().requires_grad_()
        adam.zero_grad()
        objective(logits, leaf, losses[0], penalty, rule).backward()
        adam.step()
        torch.testing.assert_close(update.weights, leaf.grad)
        torch.testing.assert_close(update.state.memory["logits"], logits.detach(), rtol=1e-9, atol=1e-9)


def test_ldc_mtl_starts_without_a_penalty_on_normalised_losses() -> None:
    """In the first step all of them are equal, not only up to rounding, which would decide the signs."""
    for each in drawn_losses(40):
        update = run(LDCMTL(penalty=1.0), [each])[0]
        torch.testing.assert_close(update.weights, each.min() / each / 40)


def test_ldc_mtl_factors_by_hand() -> None:
    """A task above both neighbours gets 2λ more than the mean weight, one below both 2λ less; ends get λ."""
    factors = discrepancy_factors(torch.full((5,), 0.5, dtype=torch.float64), tensor(1, 3, 2, 1, 1), 0.1)
    torch.testing.assert_close(factors, 0.4 + 0.1 * tensor(-1, 2, 0, -1, 0))


def test_ldc_mtl_weights_are_positive_while_the_penalty_is_small() -> None:
    for m in (2, 13, 40):
        for update in run(LDCMTL(penalty=0.5 / m), drawn_losses(m)):
            assert (update.weights >= 0).all()
    assert any((update.weights < 0).any() for update in run(LDCMTL(penalty=0.5), drawn_losses(40)))


def test_ldc_mtl_ignores_the_scale_of_each_loss_as_far_as_it_normalises() -> None:
    """With logarithms, entirely; with the initial losses, up to the scale of the smallest."""
    factors, losses = tensor(1e-3, 1.0, 10.0, 1e3), drawn_losses(4)
    for rule in ("initial", "log"):
        plain = run(LDCMTL(normalisation=rule), losses)
        scaled = run(LDCMTL(normalisation=rule), [factors * each for each in losses])
        smallest = (factors * losses[0]).min() / losses[0].min() if rule == "initial" else torch.tensor(1.0)
        for one, other in zip(plain[:1], scaled[:1], strict=True):
            torch.testing.assert_close(other.weights * factors / smallest, one.weights)


def test_ldc_mtl_counts_tasks_that_it_cannot_normalise() -> None:
    losses, initial = tensor(1.0, 2.0, 3.0), tensor(0.5, 0.0, 1.0)
    normalised, derivative, undefined = normalised_losses(losses, initial, "initial")
    assert undefined and normalised.tolist() == [1.0, 2.0, 1.5] and derivative.tolist() == [1.0, 1.0, 0.5]
    normalised, derivative, undefined = normalised_losses(losses, initial, "log")
    assert undefined and derivative.tolist() == [1.0, 0.0, 1 / 3] and normalised[1] == 0
    assert not normalised_losses(-losses, initial, "none")[2]
