"""How much the outcome of tuning is luck: its spread over repeats of the tuning."""

from __future__ import annotations

import numpy as np

from bench.reporting.inference.describe import Array


def best_of_repeats(scores: Array, draws: int | None = None) -> tuple[Array, Array]:
    """Mean and standard deviation (...,) of the best validation score over repeats of the tuning.

    A repeat draws trials with replacement; the first trial, which has the default settings, is part of all. Both
    numbers are exact: of d draws from k trials, the r-th best is the best one with probability
    ((k - r + 1) / k)^d - ((k - r) / k)^d.

    scores: (..., trials), higher is better; -inf for a trial that counts as worst.
    draws: d; None for all k without the first.

    Raises:
        ValueError: no trials, NaN, or a first trial of -inf without any better.
    Source: Dodge et al., "Show your work: improved reporting of experimental results" (EMNLP 2019), Section 3.1.
    https://arxiv.org/abs/1909.03004
    """
    if not scores.shape[-1] or np.isnan(scores).any() or (scores.max(axis=-1) == -np.inf).any():
        raise ValueError("scores: expected trials with a finite one among them, and no NaN, found others")
    drawn = scores[..., 1:] if scores.shape[-1] > 1 else scores
    ordered = np.maximum(-np.sort(-drawn, axis=-1), scores[..., :1])  # best first
    lowest = np.min(ordered, axis=-1, where=np.isfinite(ordered), initial=np.inf, keepdims=True)
    finite = np.maximum(ordered, lowest)  # a repeat of failures only ends with the lowest score that any trial has
    k = drawn.shape[-1]
    left = np.arange(k, -1, -1) / k
    chances = left[:-1] ** (draws or k) - left[1:] ** (draws or k)
    mean = (finite * chances).sum(axis=-1)
    return mean, np.sqrt((((finite - mean[..., None]) ** 2) * chances).sum(axis=-1))


def pooled_luck(scores: Array) -> Array:
    """The standard deviation (...,) of the best score over repeats of the tuning, that of all rows together.

    It is pooled since a row whose trials missed good settings doesn't show that there are any. A repeat draws three
    quarters of the trials: the best of as many draws as there are trials varies too little, as it is never better than
    the best one. The share is the one with which verdicts hold their level without being much too careful.

    scores: (..., rows, trials), of all rows that were tuned on a problem, as of `best_of_repeats`.
    Source: Bickel, Götze and van Zwet, "Resampling fewer than n observations" (1997).
    https://www.jstor.org/stable/24306024
    """
    draws = max(1, 3 * (scores.shape[-1] - 1) // 4)
    return np.asarray(np.sqrt(np.mean(best_of_repeats(scores, draws)[1] ** 2, axis=-1)))
