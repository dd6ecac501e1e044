"""Augmentation as geometry has it: identities, and planes that stay planes."""

from __future__ import annotations

import pytest
import torch
from cases import for_every
from torch import Tensor
from torch.nn import functional

from bench.engine.augment import (
    SCALES,
    Views,
    draw_views,
    transform,
    transform_depth,
    transform_images,
    transform_labels,
    transform_normals,
)
from datasets import DATASETS
from datasets.contract import Group

BATCH, HEIGHT, WIDTH = 5, 12, 16
FOCAL = 20.0
RESIZED = {name: info for name, info in DATASETS.items() if info.kind == "single-input"}


def views(scale: float = 1.0, mirrored: bool = False, top: float = 0.5, left: float = 0.5, count: int = BATCH) -> Views:
    full = torch.full((count,), scale)
    return Views(full, torch.full((count,), top), torch.full((count,), left), torch.full((count,), mirrored))


@pytest.fixture
def scene() -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(0)
    valid = torch.rand((BATCH, 1, HEIGHT, WIDTH), generator=drawn) < 0.7
    normals = functional.normalize(torch.randn((BATCH, 3, HEIGHT, WIDTH), generator=drawn), dim=1)
    return {
        "image": torch.randn((BATCH, 3, HEIGHT, WIDTH), generator=drawn),
        "labels": torch.randint(-1, 13, (BATCH, HEIGHT, WIDTH), generator=drawn),
        "depth": torch.randint(1, 10, (BATCH, 1, HEIGHT, WIDTH), generator=drawn).float() * valid,
        "normals": normals * valid,
    }


def all_transformed(scene: dict[str, Tensor], how: Views) -> dict[str, Tensor]:
    see = {
        "image": transform_images,
        "labels": transform_labels,
        "depth": transform_depth,
        "normals": transform_normals,
    }
    return {kind: see[kind](scene[kind], how) for kind in scene}


def test_scale_one_is_the_identity(scene: dict[str, Tensor]) -> None:
    for kind, tensor in all_transformed(scene, views()).items():
        assert torch.equal(tensor, scene[kind]) and tensor.dtype == scene[kind].dtype, kind


def test_a_flip_mirrors_and_a_second_one_restores(scene: dict[str, Tensor]) -> None:
    once = all_transformed(scene, views(mirrored=True))
    for kind in ("image", "labels", "depth"):
        assert torch.equal(once[kind], scene[kind].flip(-1)), kind
    assert torch.equal(once["normals"], scene["normals"].flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None])
    for kind, tensor in all_transformed(once, views(mirrored=True)).items():
        assert torch.equal(tensor, scene[kind]), kind


def test_twice_as_large_shows_each_pixel_twice(scene: dict[str, Tensor]) -> None:
    corner = scene["labels"][:, : HEIGHT // 2, : WIDTH // 2]
    assert torch.equal(
        transform_labels(scene["labels"], views(2.0, top=0, left=0)),
        corner.repeat_interleave(2, 1).repeat_interleave(2, 2),
    )
    rest = scene["depth"][..., HEIGHT // 2 :, WIDTH // 2 :]
    assert torch.equal(
        transform_depth(scene["depth"], views(2.0, top=1, left=1)),
        rest.repeat_interleave(2, 2).repeat_interleave(2, 3) / 2,
    )


def test_an_image_that_is_linear_stays_so() -> None:
    rows, columns = torch.meshgrid(torch.arange(10.0), torch.arange(30.0), indexing="ij")
    image = (2 * rows + 3 * columns)[None, None]
    shown = transform_images(image, views(1.5, top=0.3, left=0.6, count=1))
    # The crop starts 0.3 of the spare third down and 0.6 of it to the right; centres of pixels are at halves.
    expected_rows = ((rows + 0.5) / 1.5 + 0.3 * 10 / 3 - 0.5).clamp(0, 9)
    expected_columns = ((columns + 0.5) / 1.5 + 0.6 * 30 / 3 - 0.5).clamp(0, 29)
    torch.testing.assert_close(shown[0, 0], 2 * expected_rows + 3 * expected_columns)


@for_every("scale", [1.0, 1.2, 1.5])
@for_every("mirrored", [False, True])
def test_what_has_no_truth_still_has_none(scene: dict[str, Tensor], scale: float, mirrored: bool) -> None:
    shown = all_transformed(scene, views(scale, mirrored, top=0.2, left=0.9))
    valid = shown["depth"] != 0
    assert 0.5 < valid.double().mean() < 0.9
    assert torch.equal((shown["normals"] != 0).any(dim=1, keepdim=True), valid)
    whole = shown["depth"] * scale  # none is a mixture of two
    assert float((whole - whole.round()).abs().max()) < 1e-5
    assert set(shown["labels"].unique().tolist()) <= set(range(-1, 13))
    lengths = shown["normals"].norm(dim=1)[valid.squeeze(1)]
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


@for_every("scale", SCALES)
@for_every("mirrored", [False, True])
@for_every("normal", [(0.0, 0.0, -1.0), (0.6, 0.0, -0.8), (-0.3, 0.7, -0.6), (0.1, -0.5, -0.9)])
def test_a_plane_stays_a_plane_with_its_normal(
    normal: tuple[float, float, float], scale: float, mirrored: bool
) -> None:
    """Points from the depth that is seen lie on a plane, and the normals that are seen are that plane's."""
    height, width = 200, 240
    rays = torch.stack(
        [
            *torch.meshgrid(
                (torch.arange(width) + 0.5 - width / 2) / (10 * FOCAL),
                (torch.arange(height) + 0.5 - height / 2) / (10 * FOCAL),
                indexing="xy",
            ),
            torch.ones(height, width),
        ]
    ).double()  # (3, H, W)
    true = functional.normalize(torch.tensor(normal).double(), dim=0)
    depth = -3.0 / (true[:, None, None] * rays).sum(dim=0)
    assert (depth > 0).all()
    how = views(scale, mirrored, count=1)
    shown = transform_depth(depth[None, None], how)[0, 0]
    directions = transform_normals(true[None, :, None, None].expand(1, 3, height, width).contiguous(), how)[0]
    assert directions.flatten(1).std(dim=1).max() < 1e-6
    direction = directions[:, 0, 0]
    heights = (direction[:, None, None] * rays * shown).sum(dim=0)
    # Depth comes from the nearest pixel, half a pixel away at most.
    assert float(heights.std() / shown.mean()) < 2e-3
    assert float((heights.max() - heights.min()) / shown.mean()) < 2e-2


def test_views_are_drawn_evenly() -> None:
    drawn = draw_views(3, 2000, torch.Generator().manual_seed(0))
    for scale in SCALES:
        assert abs(float((drawn.scale == scale).double().mean()) - 1 / 3) < 0.02
    assert abs(float(drawn.mirrored.double().mean()) - 0.5) < 0.02
    for share in (drawn.top, drawn.left):
        assert 0 <= float(share.min()) < 0.01 and 0.99 < float(share.max()) <= 1


@for_every("name", RESIZED)
def test_targets_are_transformed_by_their_kind(name: str, scene: dict[str, Tensor]) -> None:
    info, how = RESIZED[name], views(1.2, True)
    if info.tasks[0].key == "segmentation":
        targets = {0: scene["labels"], 1: scene["depth"], 2: scene["normals"]}
        expected = [
            transform_labels(targets[0], how),
            transform_depth(targets[1], how),
            transform_normals(targets[2], how),
        ]
    else:
        targets = {task: torch.arange(BATCH) % 2 for task in range(len(info.tasks))}
        expected = list(targets.values())
    group = transform(Group(scene["image"], targets), dict(enumerate(info.tasks)), how)
    assert torch.equal(group.inputs, transform_images(scene["image"], how))
    assert all(torch.equal(group.targets[task], value) for task, value in enumerate(expected))


def test_classes_of_whole_images_stay(scene: dict[str, Tensor]) -> None:
    labels = torch.arange(BATCH)
    group = transform(Group(scene["image"], {1: labels}), dict(enumerate(DATASETS["digits"].tasks)), views(1.5))
    assert torch.equal(group.targets[1], labels)
