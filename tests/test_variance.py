"""The variance of a mean score, split into test-sampling noise and the rest: by hand, and where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import for_every

from bench.reporting.inference.variance import Items, variance_parts

SEEDS, ITEMS = 6, 40
SEED_SD, ITEM_SD, REMAINDER_SD = 0.3, 1.2, 0.9


def test_two_seeds_of_two_items_by_hand() -> None:
    """Scores 1/2 and 1: their variance is 1/8, that of their mean 1/16.

    Shared items: their means over seeds are 1 and 1/2, with variance 1/8, over two items 1/16. What neither seeds nor
    items explain is 1/4 in each cell but for the sign, 1/4 with its one degree of freedom: 1/16 over four cells, which
    is all that the seeds show. Own items: variances 1/2 and 0 within seeds, over two items and two seeds 1/16.
    """
    runs = [[np.array([True, False])], [np.array([True, True])]]
    shared, own = variance_parts(runs, "shared"), variance_parts(runs, "own")
    assert (shared.between_seeds, shared.test_sampling, shared.rest) == pytest.approx((1 / 16, 1 / 16, 0))
    assert (own.between_seeds, own.test_sampling, own.rest) == pytest.approx((1 / 16, 1 / 16, 0))
    assert shared.total == pytest.approx(1 / 16) and own.total == pytest.approx(1 / 16)


def test_items_that_all_seeds_answer_alike_are_test_sampling_noise_only() -> None:
    """A deviation over seeds of zero hides it: the standard error of a share of 3/10."""
    correct = np.arange(10) < 3
    parts = variance_parts([[correct]] * 3, "shared")
    assert (parts.between_seeds, parts.rest) == pytest.approx((0, 0), abs=1e-15)
    assert math.sqrt(parts.total) == pytest.approx(math.sqrt(0.3 * 0.7 / 9))


def drawn(generator: np.random.Generator, items: Items) -> list[list[np.ndarray]]:
    """Runs of two blocks, the second with two equal columns, so that it counts twice."""
    seed = generator.normal(0, SEED_SD, SEEDS)
    blocks = []
    for _ in range(2):
        item = generator.normal(0, ITEM_SD, (1 if items == "shared" else SEEDS, ITEMS))
        blocks.append(seed[:, None] + item + generator.normal(0, REMAINDER_SD, (SEEDS, ITEMS)))
    return [[blocks[0][s], np.stack([blocks[1][s]] * 2, axis=1)] for s in range(SEEDS)]


@for_every("items", ["shared", "own"])
def test_the_parts_are_those_that_were_drawn(items: Items) -> None:
    """On average over simulations; and the total is the variance of the mean scores of these simulations."""
    generator = np.random.default_rng(0)
    runs = [drawn(generator, items) for _ in range(600)]
    parts = [variance_parts(some, items) for some in runs]
    weights = (1 / 3) ** 2 + (2 / 3) ** 2
    item, remainder = (weights * sd**2 / ITEMS for sd in (ITEM_SD, REMAINDER_SD))
    rest = SEED_SD**2 / SEEDS
    sampling = (item if items == "shared" else item / SEEDS) + remainder / SEEDS
    between = rest + remainder / SEEDS + (0 if items == "shared" else item / SEEDS)
    for name, truth in (("rest", rest), ("test_sampling", sampling), ("between_seeds", between)):
        found = np.array([getattr(one, name) for one in parts])
        assert abs(found.mean() - truth) < 4 * found.std() / math.sqrt(len(found)), name
    means = np.array([np.mean([(a.mean() + 2 * b.mean()) / 3 for a, b in some]) for some in runs])
    assert means.var() == pytest.approx(sampling + rest, rel=4 * math.sqrt(2 / len(means)))


@for_every("items", ["shared", "own"])
def test_columns_of_one_block_share_their_items(items: Items) -> None:
    """Twice the same task on the same images is one task: as two blocks, it would seem twice the evidence."""
    generator = np.random.default_rng(1)
    scores = generator.random((4, 20))
    once = variance_parts([[one] for one in scores], items)
    twice = variance_parts([[np.stack([one, one], axis=1)] for one in scores], items)
    assert vars(twice) == pytest.approx(vars(once))


def test_seeds_may_have_test_sets_of_different_sizes_if_they_are_their_own() -> None:
    runs = [[np.array([0.0, 1.0, 1.0])], [np.array([0.0, 1.0])]]
    assert variance_parts(runs, "own").test_sampling == pytest.approx((1 / 3 / 3 + 1 / 2 / 2) / 4)
    with pytest.raises(ValueError, match=r"runs: expected the same blocks of shared items for all seeds, found"):
        variance_parts(runs, "shared")


@for_every(
    "runs, words",
    [
        ([[np.ones(3)]], "expected at least two seeds, found 1"),
        ([[np.ones(3)], [np.ones(3), np.ones(3)]], "expected the same blocks of own items"),
        ([[np.ones(3)], [np.array([1.0, np.nan, 1.0])]], "all finite"),
        ([[np.ones(1)], [np.ones(1)]], "at least two items"),
    ],
)
def test_what_cannot_be_split_is_refused(runs: list[list[np.ndarray]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        variance_parts(runs, "own")
