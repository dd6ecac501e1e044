"""Training on a part of the training images, for training-size curves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.forecasting.sizes import dataset_size
from bench.records.same_data import compared_parts, same_fingerprint
from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from datasets import find
from datasets.contract import Splits
from datasets.fingerprint import fingerprint


def digits_with(share: float, data_root: Path, seed: int = 0) -> Splits:
    spec = resolve("digits", "ew", seed=seed, assignments={"data.train_share": share, "data.split_per_seed": True})
    folder = find("digits", data_root)
    assert folder is not None
    return spec.info.read(folder, spec.data_settings)


def rows_of(splits: Splits) -> list[set[int]]:
    return [set(source.rows_at(torch.arange(len(source))).tolist()) for source in splits.train]


def test_a_smaller_share_is_part_of_a_larger_one_and_other_parts_stay(data_root: Path) -> None:
    quarter, half, whole = (digits_with(share, data_root) for share in (0.25, 0.5, 1.0))
    for few, more, every in zip(*map(rows_of, (quarter, half, whole)), strict=True):
        assert few < more < every
        assert (len(few), len(more)) == (len(every) // 4, len(every) // 2)
    seen, full = fingerprint(quarter), fingerprint(whole)
    assert (seen["validation"], seen["test"]) == (full["validation"], full["test"])
    assert seen["train"] != full["train"]
    assert quarter.provenance["training images kept"] == [len(rows) for rows in rows_of(quarter)]
    assert rows_of(quarter) == rows_of(digits_with(0.25, data_root))
    assert rows_of(quarter) != rows_of(digits_with(0.25, data_root, seed=1))


def test_runs_with_a_partition_and_a_share_of_their_own_count_as_runs_on_the_same_data(data_root: Path) -> None:
    settings = {"data": {"split_per_seed": True, "train_share": 0.25}}
    one, other = (fingerprint(digits_with(0.25, data_root, seed)) for seed in (0, 1))
    assert same_fingerprint(one, other, compared_parts(settings, same_seed=False))
    assert not same_fingerprint(one, other, compared_parts(settings, same_seed=True))
    assert same_fingerprint(one, one, compared_parts(settings, same_seed=True))


def test_at_least_one_image_stays(data_root: Path) -> None:
    assert [len(source) for source in digits_with(1e-6, data_root).train] == [1, 1, 1, 1]


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_other_shares_are_refused(share: float) -> None:
    with pytest.raises(SpecError, match=r"`train_share` must be > 0 and ≤ 1"):
        resolve("digits", "ew", assignments={"data.train_share": share})


def test_forecasts_count_the_images_that_are_left() -> None:
    spec = resolve("faces", "ew", assignments={"data.train_share": 0.25})
    assert dataset_size("faces", spec.settings.data).training == 350
