"""Weightings that read the Jacobian: each against its published procedure, written out on explicit vectors."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from cases import for_every
from torch import Tensor

from methods.contract import Signal, State, Update, Weighting
from methods.weightings.db_mtl import DBMTL
from methods.weightings.excess_mtl import ExcessMTL
from methods.weightings.graddrop import GradDrop, masked_gradients, sign_purity
from methods.weightings.moco import MoCo, nearest_on_simplex
from methods.weightings.simplex import project_onto_simplex

M, P, STEPS = 3, 40, 6


def observed(step: int, m: int = M, dtype: torch.dtype = torch.float64) -> Signal:
    """Losses and rows of their own at every step, of norms that differ."""
    stream = torch.Generator().manual_seed(100 + step)
    rows = torch.randn(m, P, generator=stream, dtype=torch.float64) * 10.0 ** torch.arange(m).unsqueeze(1)
    losses = torch.rand(m, generator=stream, dtype=torch.float64) + 0.1
    return signal(losses, rows.to(dtype), step)


def signal(losses: Tensor, rows: Tensor, step: int = 0) -> Signal:
    stream = torch.Generator().manual_seed(step)
    return Signal(losses, (rows @ rows.T).double(), step, step // 2, stream, rows)


def updates(weighting: Weighting, steps: int = STEPS) -> list[tuple[Signal, Update]]:
    state, taken = weighting.init(M), []
    for step in range(steps):
        seen = observed(step)
        update = weighting.step(seen, state)
        taken.append((seen, update))
        state = update.state
    return taken


def rows_of(seen: Signal) -> np.ndarray:
    return seen.required_jacobian().numpy()


def close(found: Tensor | None, expected: np.ndarray) -> None:
    assert found is not None
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def purity_of(rows: Tensor) -> Tensor:
    return sign_purity(rows.clamp_min(0).sum(dim=0), rows.clamp_max(0).sum(dim=0))


@for_every("leak", [0.0, 0.3, 1.0])
@for_every("variant", ["paper", "released"])
def test_graddrop_is_the_published_procedure(leak: float, variant: Literal["paper", "released"]) -> None:
    for seen, update in updates(GradDrop(leak, variant)):
        rows = rows_of(seen)
        draws = torch.rand(P, generator=torch.Generator().manual_seed(seen.step), dtype=torch.float64).numpy()
        expected, passed = np.zeros(P), np.zeros((M, P))
        for k in range(P):
            purity = 0.5 * (1 + rows[:, k].sum() / np.abs(rows[:, k]).sum())
            for i in range(M):
                mask = rows[i, k] > 0 if purity > draws[k] else rows[i, k] < 0
                passed[i, k] = leak + (1 - leak) * mask
                expected[k] += passed[i, k] * rows[i, k]
        if variant == "released":
            expected *= np.linalg.norm(rows.sum(axis=0)) / np.linalg.norm(expected)
        close(update.direction, expected)
        close(update.weights, (passed * rows**2).sum(axis=1) / (rows**2).sum(axis=1))


def test_graddrop_keeps_what_agrees_and_mixes_what_does_not() -> None:
    rows = torch.tensor([[1.0, -1.0, 3.0, 0.0], [2.0, -4.0, -1.0, 0.0]], dtype=torch.float64)
    assert purity_of(rows).tolist() == [1.0, 0.0, 0.75, 0.5]
    low, _ = masked_gradients(rows, torch.full((4,), 0.5, dtype=torch.float64), 0.0)
    high, shares = masked_gradients(rows, torch.full((4,), 0.9, dtype=torch.float64), 0.0)
    assert low.tolist() == [3.0, -5.0, 3.0, 0.0] and high.tolist() == [3.0, -5.0, -1.0, 0.0]
    torch.testing.assert_close(shares, torch.tensor([2 / 11, 1.0], dtype=torch.float64))


def test_graddrop_without_a_gradient() -> None:
    """Nothing to scale, and no sum to scale to."""
    rows = observed(0).required_jacobian()
    for given in (0 * rows, torch.stack([rows[0], -rows[0], 0 * rows[0]])):
        update = GradDrop().step(signal(observed(0).losses, given), State())
        assert update.direction is not None and not update.direction.any()


def test_graddrop_expects_the_sum_weighed_by_purity() -> None:
    """Over many draws a parameter moves by purity times its positive part plus the rest of its negative part."""
    rows = observed(0).required_jacobian()
    stream = torch.Generator().manual_seed(7)
    draws = [torch.rand(P, generator=stream, dtype=torch.float64) for _ in range(4000)]
    mean = torch.stack([masked_gradients(rows, draw, 0.0)[0] for draw in draws]).mean(dim=0)
    purity = purity_of(rows)
    expected = purity * rows.clamp_min(0).sum(dim=0) + (1 - purity) * rows.clamp_max(0).sum(dim=0)
    assert (mean - expected).abs().max() < 0.05 * rows.abs().max()


@for_every("beta, sigma", [(0.9, 0.5), (0.5, 0.0), (0.0, 0.5)])
def test_db_mtl_is_the_published_procedure(beta: float, sigma: float) -> None:
    means = np.zeros((M, P))
    for seen, update in updates(DBMTL(beta, sigma)):
        kept = beta / (seen.step + 1) ** sigma
        for i in range(M):
            means[i] = kept * means[i] + (1 - kept) * rows_of(seen)[i] / float(seen.losses[i])
        norms = [np.linalg.norm(mean) for mean in means]
        close(update.direction, sum((max(norms) / norms[i] * means[i] for i in range(M)), np.zeros(P)))
        close(update.head_weights, 1 / seen.losses.numpy())
        if beta == 0:
            close(update.direction, update.weights.numpy() @ rows_of(seen))


def test_db_mtl_without_a_logarithm_or_a_gradient() -> None:
    seen = observed(0)
    losses = torch.tensor([0.5, 0.0, -2.0], dtype=torch.float64)
    update = DBMTL(beta=0).step(signal(losses, seen.required_jacobian()), State())
    assert update.fallbacks == 1 and update.head_weights is not None
    assert update.head_weights.tolist() == [2.0, 0.0, 0.0]
    rows = seen.required_jacobian().clone()
    rows[1] = 0
    update = DBMTL().step(signal(seen.losses, rows), State())
    assert update.fallbacks == 1 and update.weights[1] == 0
    update = DBMTL().step(signal(seen.losses, 0 * rows), State())
    assert update.fallbacks == 1 and update.direction is not None and not update.direction.any()


def test_excess_mtl_is_the_published_procedure() -> None:
    squares, weights = np.zeros((M, P)), np.ones(M)
    first = np.zeros(M)
    for seen, update in updates(ExcessMTL(step_size=0.4)):
        squares += rows_of(seen) ** 2
        risks = np.array([sum(rows_of(seen)[i] ** 2 / np.sqrt(squares[i] + 1e-7)) for i in range(M)])
        if seen.step == 0:
            first = risks
        else:
            weights = weights * np.exp(0.4 * risks / first)
            weights = weights / weights.sum() * M
        close(update.weights, weights)
        assert update.direction is None and update.fallbacks == 0


def test_excess_mtl_waits_for_a_first_gradient_and_does_not_overflow() -> None:
    weighting, seen = ExcessMTL(step_size=1.0), observed(0)
    rows = seen.required_jacobian().clone()
    rows[0] = 0
    silent = weighting.step(signal(seen.losses, rows), weighting.init(M))
    again = weighting.step(signal(seen.losses, rows, 1), silent.state)
    assert silent.fallbacks == again.fallbacks == 1
    assert silent.weights.tolist() == pytest.approx([1.0] * 3) and again.weights[0] < 1
    spoken = weighting.step(observed(2), again.state)
    assert spoken.fallbacks == 0 and spoken.state.memory["first_risks"][0] > 0
    huge = weighting.step(signal(seen.losses, 1e12 * seen.required_jacobian(), 3), spoken.state)
    assert torch.isfinite(huge.weights).all() and huge.weights.sum() == pytest.approx(M)


@for_every("variant", ["released", "paper"])
@for_every("sigma", [0.0, 0.5])
def test_moco_is_the_published_procedure(variant: Literal["paper", "released"], sigma: float) -> None:
    tracked, shares = np.zeros((M, P)), np.full(M, 1 / M)
    for seen, update in updates(MoCo(variant, 0.5, sigma, 0.3, sigma, rho=0.2)):
        count = 1 + (seen.epoch if variant == "released" else seen.step)
        beta, gamma = 0.5 / count**sigma, 0.3 / count**sigma
        rows = rows_of(seen).copy()
        if variant == "released":
            for i in range(M):
                rows[i] *= float(seen.losses[i]) / np.linalg.norm(rows[i])
        tracked = tracked - beta * (tracked - rows)
        moved = shares - gamma * (tracked @ tracked.T + 0.2 * np.eye(M)) @ shares
        if variant == "released":
            shares = np.exp(moved - moved.max()) / np.exp(moved - moved.max()).sum()
        else:
            shares = by_bisection(moved)
        close(update.direction, (M if variant == "released" else 1) * shares @ tracked)


@for_every("variant", ["released", "paper"])
def test_moco_without_memory_is_a_combination_of_the_gradients(variant: Literal["paper", "released"]) -> None:
    for seen, update in updates(MoCo(variant, beta=1.0)):
        close(update.direction, update.weights.numpy() @ rows_of(seen))


def by_bisection(point: np.ndarray) -> np.ndarray:
    """By bisection on the threshold τ of Σ max(p − τ, 0) = 1."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(point - (low + high) / 2, 0)


def test_simplex_projection_at_the_ends() -> None:
    def projected(*values: float) -> list[float]:
        return project_onto_simplex(np.array(values, dtype=np.float64)).tolist()

    assert projected(5.0) == [1.0]
    assert projected(0.2, 0.8) == pytest.approx([0.2, 0.8])
    assert projected(-1e18, 3.0, 3.0) == [0.0, 0.5, 0.5]


@for_every("m", [1, 2, 3, 13, 40])
def test_both_simplex_projections_are_one_to_the_last_bit(m: int) -> None:
    """One is for the CPU, and one for any device."""
    rng = np.random.default_rng(m)
    for scale in (1e-8, 0.1, 1.0, 1e6):
        for point in (scale * rng.normal(size=m), scale * rng.integers(0, 2, size=m)):
            expected = project_onto_simplex(point)
            assert torch.equal(nearest_on_simplex(torch.from_numpy(point)), torch.from_numpy(expected))
            np.testing.assert_allclose(expected, by_bisection(point), atol=1e-9)


def test_moco_finds_the_shortest_combination_of_steady_gradients() -> None:
    rows = torch.tensor([[3.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    weighting = MoCo("paper")
    state = weighting.init(2)
    for step in range(300):
        update = weighting.step(signal(torch.ones(2, dtype=torch.float64), rows, step), state)
        state = update.state
    torch.testing.assert_close(update.weights, torch.tensor([1 / 4, 3 / 4], dtype=torch.float64), atol=1e-9, rtol=0)


def test_moco_counts_a_gradient_that_cannot_be_scaled() -> None:
    rows = observed(0).required_jacobian().clone()
    rows[2] = 0
    seen = signal(observed(0).losses, rows)
    assert MoCo().step(seen, MoCo().init(M)).fallbacks == 1
    assert MoCo("paper").step(seen, MoCo().init(M)).fallbacks == 0


@for_every("weighting", [GradDrop(), DBMTL(), ExcessMTL(), MoCo()])
def test_the_buffer_of_the_engine_is_read_and_never_kept(weighting: Weighting) -> None:
    """The Jacobian is as before, nothing remembered shares its memory, and the state given in stays as it was."""
    state = weighting.init(M)
    for step in range(3):
        seen = observed(step, dtype=torch.float32)
        rows = seen.required_jacobian()
        before = rows.clone()
        kept = {name: tensor.clone() for name, tensor in state.memory.items()}
        update = weighting.step(seen, state)
        assert torch.equal(rows, before)
        assert all(torch.equal(state.memory[name], tensor) for name, tensor in kept.items())
        assert all(tensor.data_ptr() != rows.data_ptr() for tensor in update.state.memory.values())
        assert update.weights.dtype == torch.float64
        if update.direction is not None:
            assert update.direction.dtype == torch.float32 and update.direction.shape == (P,)
        state = update.state


@for_every("weighting", [GradDrop(), DBMTL(), ExcessMTL(), MoCo()])
def test_one_task_alone_keeps_its_direction(weighting: Weighting) -> None:
    seen = observed(0, m=1)
    update = weighting.step(seen, weighting.init(1))
    rows = seen.required_jacobian()
    direction = update.weights @ rows if update.direction is None else update.direction
    cosine = (direction @ rows[0]) / (direction.norm() * rows[0].norm())
    assert float(cosine) == pytest.approx(1.0)


@for_every(
    "make, message",
    [
        (lambda: GradDrop(1.5), "`leak` must be ≤ 1"),
        (lambda: DBMTL(beta=1.0), "`beta` must be < 1"),
        (lambda: MoCo(beta=2.0), "`beta` must be ≤ 1"),
    ],
)
def test_upper_bounds(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
