"""The probability of improvement."""

from __future__ import annotations

import numpy as np
from scipy.stats import beta

from bench.reporting.inference.describe import LEVEL, Array, Estimate, require_finite


def probability_of_improvement(differences: Array, level: float = LEVEL) -> Estimate:
    """P(A > B) for runs with the same seed, from paired differences A - B (n,); a tie counts as half.

    The interval is that of Clopper and Pearson for a share, which holds its level for any n; ties make it wider than it
    has to be.

    Raises:
        ValueError: no differences, or not all finite.
    Source: Bouthillier et al., "Accounting for variance in machine learning benchmarks" (MLSys 2021), Section 4.1.
    https://arxiv.org/abs/2103.03098. Ties as in Agarwal et al. (2021), Section 4.3. https://arxiv.org/abs/2108.13264
    Deviations: pairs of the same seed instead of all pairs of runs; an exact interval, since that of a percentile
    bootstrap has no width if all differences have one sign.
    """
    require_finite(differences, 1, "differences")
    n = len(differences)
    wins = float(np.sum(differences > 0) + np.sum(differences == 0) / 2)
    low = float(beta.ppf(level / 2, wins, n - wins + 1)) if wins > 0 else 0.0
    high = float(beta.ppf(1 - level / 2, wins + 1, n - wins)) if wins < n else 1.0
    return Estimate(wins / n, low, high)
