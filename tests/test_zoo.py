"""Every Gramian weighting on the whole zoo: what defines it, symmetries, and fallbacks only where documented."""

from __future__ import annotations

import numpy as np
import torch
from cases import for_every
from gramians import DEPENDENT, FAMILIES, NEARLY_DEPENDENT, REGULAR, SIZES, gramian, jacobian, least_eigenvalue

from bench.profiling.gradients import OPPOSED

SINGLE = float(np.finfo(np.float32).eps)


@for_every("family, m", [(family, m) for family in FAMILIES for m in SIZES if m > 1])
def test_families_are_what_they_are_called(family: str, m: int) -> None:
    exact, single = gramian(family, m).numpy(), gramian(family, m, "single").numpy()
    np.testing.assert_allclose(single, exact, atol=1e-5 * max(exact.max(), 1e-300), rtol=0)
    rank = np.linalg.matrix_rank(jacobian(family, m))
    assert (rank < m) == (family in DEPENDENT)
    if family in REGULAR:
        assert least_eigenvalue(single) > m * SINGLE
    if family in NEARLY_DEPENDENT and m >= 13:
        assert least_eigenvalue(exact) < m * SINGLE
    norms = np.sqrt(exact.diagonal())
    half = np.arange(m // 2)
    if family in OPPOSED:
        cosines = exact[half, half + m - m // 2] / norms[half] / norms[half + m - m // 2]
        np.testing.assert_allclose(1 + cosines, OPPOSED[family], rtol=1e-5)
    if family == "spread":
        assert abs(norms.max() / norms.min() / 1e8 - 1) < 1e-6
    if family == "stationary":
        factors = np.append(-np.linalg.lstsq(jacobian(family, m)[:-1].T, jacobian(family, m)[-1], rcond=None)[0], 1)
        assert factors.min() > 0 and np.abs(factors @ jacobian(family, m)).max() < 1e-12 * norms.max()


def test_one_precision_is_the_default_and_neither_is_shared() -> None:
    gramian("random", 3).zero_()
    assert gramian("random", 3).abs().min() > 0
    assert not torch.equal(gramian("random", 3), gramian("random", 3, "single"))
