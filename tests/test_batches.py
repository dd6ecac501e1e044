"""Batches: images normalised as the formula says, whichever way they take to the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import for_every
from torch import Tensor

from bench.engine.batches import evaluation_batches, training_batches
from bench.engine.gathering import gather_on_cpu
from bench.engine.placement import fitting, on_device
from bench.engine.seeds import generator_for
from datasets import DATASETS
from datasets.contract import DataSettings, Source, Splits

CPU = torch.device("cpu")
INFO = DATASETS["nyuv2"]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def source(count: int, height: int, width: int) -> Source:
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, height, width, 3), dtype=torch.uint8, generator=drawn)
    labels = torch.randint(-1, 13, (count, height, width), dtype=torch.int8, generator=drawn)
    return Source(images, {0: labels, 1: torch.rand((count, 1, height, width), generator=drawn)})


def normalised(images: Tensor) -> Tensor:
    """All at once, as the formula says."""
    return ((images - torch.tensor(INFO.mean) * 255) / (torch.tensor(INFO.std) * 255)).movedim(-1, 1)


def check(whole: Source, indices: Tensor) -> None:
    group = gather_on_cpu(whole, indices, INFO)
    assert torch.equal(group.inputs, normalised(whole.images[indices])) and group.inputs.is_contiguous()
    assert group.targets[0].dtype == torch.int64  # labels as losses want them
    assert torch.equal(group.targets[0], whole.targets[0][indices].long())
    assert torch.equal(group.targets[1], whole.targets[1][indices])


@for_every("batch, height, width", [(1, 5, 7), (64, 9, 8), (50, 48, 64), (3, 288, 384)])
def test_images_are_normalised_to_the_bit(batch: int, height: int, width: int) -> None:
    whole = source(2 * batch, height, width)
    check(whole, torch.randperm(2 * batch, generator=torch.Generator().manual_seed(1))[:batch])


@pytest.mark.usefixtures("two_threads")
def test_threads_change_nothing() -> None:
    check(source(40, 224, 224), torch.arange(40).flip(0))


def test_images_may_stay_on_disk(tmp_path: Path) -> None:
    whole = source(6, 5, 4)
    np.save(tmp_path / "images.npy", whole.images.numpy())
    on_disk = torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c"))
    check(Source(on_disk, whole.targets), torch.tensor([5, 0, 5]))


def test_a_source_reads_its_own_rows_only(tmp_path: Path) -> None:
    whole, rows, places = source(9, 5, 4), torch.tensor([7, 2, 2, 8]), torch.tensor([3, 0, 1])
    part = Source(whole.images, whole.targets, rows)
    assert len(part) == 4 and len(Source(whole.images, whole.targets, rows[:0])) == 0
    group = gather_on_cpu(part, places, INFO)
    assert torch.equal(group.inputs, normalised(whole.images[rows[places]]))
    assert torch.equal(group.targets[1], whole.targets[1][rows[places]])
    assert torch.equal(torch.cat([*part.target_batches(0, 3)]), whole.targets[0][rows])
    seen = [*evaluation_batches(part, INFO, 3, CPU)]
    assert torch.equal(torch.cat([group.inputs for group in seen]), normalised(whole.images[rows]))


def test_evaluation_sees_everything_in_order() -> None:
    whole = source(7, 3, 4)
    groups = list(evaluation_batches(whole, INFO, 3, CPU))
    assert [len(group.inputs) for group in groups] == [3, 3, 1]
    assert torch.equal(torch.cat([group.inputs for group in groups]), normalised(whole.images))
    assert not list(evaluation_batches(source(0, 3, 4), INFO, 3, CPU))


@for_every(
    "sizes, room, expected",
    [
        ([3, 2, 1], 6, [True, True, True]),
        ([3, 2, 1], 5, [True, True, False]),
        ([4, 2, 1], 3, [False, True, True]),
        ([1], 0, [False]),
        ([0, 1], 0, [True, False]),
        ([], 9, []),
    ],
)
def test_sources_go_onto_the_device_while_they_fit(sizes: list[int], room: int, expected: list[bool]) -> None:
    assert fitting(sizes, room) == expected


def test_a_cpu_reads_from_where_data_is() -> None:
    splits = Splits((source(2, 3, 3),), (source(1, 3, 3),), (source(1, 3, 3),), {})
    assert on_device(splits, CPU) is splits


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator")
@pytest.mark.parametrize("share", [0.25, 0.0])
def test_data_on_an_accelerator_gives_the_same_batches(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    monkeypatch.setattr("bench.engine.placement.DATA_SHARE", share)
    splits = Splits((source(20, 30, 40),), (source(5, 30, 40),), (source(5, 30, 40),), {})
    placed = on_device(splits, device)
    assert (placed.train[0].images.device.type == device.type) == (share > 0)
    here, there = (
        list(training_batches(part, INFO, 4, generator_for(0, "x"), where))
        for part, where in ((splits.train, CPU), (placed.train, device))
    )
    for (group,), (other,) in zip(here, there, strict=True):
        assert torch.allclose(group.inputs, other.inputs.cpu(), rtol=1e-6, atol=1e-6)
        assert all(torch.equal(group.targets[task], other.targets[task].cpu()) for task in group.targets)


def test_augmentation_is_off_by_default_and_the_same_for_a_seed() -> None:
    assert not DataSettings(None).augment
    whole = source(240, 8, 8)

    def inputs(**options: bool) -> Tensor:
        batches = training_batches((whole,), INFO, 8, generator_for(0, "batches", 0), CPU, **options)
        return torch.cat([group.inputs for (group,) in batches])

    plain, first, second = inputs(), inputs(augment=True), inputs(augment=True)
    assert torch.equal(first, second)
    changed = (plain != first).flatten(1).any(dim=1).double().mean()
    assert 0.7 < changed < 0.95  # one in six is neither enlarged nor mirrored
