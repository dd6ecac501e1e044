"""Values and sizes of scenes: what passes, what is resized, and how. tests/damages.py has what doesn't pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from damages import scaled
from data_trees import SETTINGS, columns_of, parts, read, same, scene, write_nyuv2, write_parquet
from numpy.typing import NDArray
from PIL import Image

from datasets.contract import DataError, DataSettings
from datasets.scenes import SceneConversion, final_size, nearest, smooth, to_depth, to_normals, to_uint8

Floats = NDArray[np.float64]
WALL = np.array([0.0, 0.0, 1.0])
# Both these normals and 2·x - 1 of them have length 1: no component is negative, and the sum of them is 1.5.
SLANTED = np.array([0.25, (1.25 - 0.3125**0.5) / 2, (1.25 + 0.3125**0.5) / 2])


def filled(normal: Floats) -> Floats:
    return np.broadcast_to(normal, (4, 6, 3)).copy()


def random_normals() -> Floats:
    normals = np.random.default_rng(0).normal(size=(4, 6, 3))
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


@pytest.mark.parametrize("normal", [WALL, np.array([1.0, 0, 0]), SLANTED, 0.9 * WALL, 0 * WALL])
def test_normals_without_negative_components_pass(normal: Floats) -> None:
    values = filled(normal)
    values[0, :2] = 0  # unknown
    assert np.array_equal(to_normals(values), np.moveaxis(values, -1, 0).astype(np.float32))


@pytest.mark.parametrize("top", [1, 255])
@pytest.mark.parametrize("normal", [WALL, -WALL, np.array([0.6, 0.8, 0]), None], ids=str)
def test_normals_of_another_coding_do_not(normal: Floats | None, top: int) -> None:
    values = random_normals() if normal is None else filled(normal)
    values[0, :2] = 0
    coded = (values + 1) / 2 * top
    coded = np.round(coded) if top == 255 else coded
    with pytest.raises(ValueError, match=rf"found them coded as 0 to {top} \(decode them: 2·x"):
        to_normals(coded)


def test_normals_of_about_unit_length_pass_as_they_are() -> None:
    """Some files of the real data were interpolated."""
    values = random_normals() * np.random.default_rng(1).uniform(0.7, 1.0, (4, 6, 1))
    assert np.array_equal(to_normals(values), np.moveaxis(values, -1, 0).astype(np.float32))


def test_what_interpolation_adds_to_an_image_is_cut_off() -> None:
    values = np.array([-5e-5, 0.5, 1 + 5e-5])
    assert to_uint8(values).tolist() == [0, 128, 255]
    with pytest.raises(ValueError, match=r"expected image values in \[0, 1\]"):
        to_uint8(values + 1e-4)


def test_depths_up_to_twenty_metres_pass() -> None:
    assert to_depth(np.array([[[0.0], [20.0]]])).tolist() == [[[0, 20]]]
    with pytest.raises(ValueError, match=r"expected depths from 0 to 20 m, found 0 to 20\.5"):
        to_depth(np.array([[[0.0], [20.5]]]))


@pytest.mark.parametrize("kind", ["image", "label", "depth", "normal"])
def test_an_array_without_pixels_is_refused(kind: str) -> None:
    shape = {"label": (), "depth": (1,)}.get(kind, (3,))
    with pytest.raises(ValueError, match="expected height, width and channels"):
        SceneConversion(kind)(np.zeros((0, 6, *shape)))


@pytest.fixture
def larger(tmp_path: Path) -> Path:
    """The scenes with each pixel repeated twice in both directions."""
    write_nyuv2(tmp_path / "larger")
    for part in ("train", "val"):
        scaled(2, 2)(tmp_path / "larger" / part)
    return tmp_path / "larger"


def test_scenes_of_another_size_are_resized(tmp_path: Path, larger: Path) -> None:
    write_nyuv2(tmp_path / "usual")
    usual, found = read("nyuv2", tmp_path / "usual"), read("nyuv2", larger)
    assert same(usual, found)
    assert found.provenance["resized"] == "from 8×12" and "resized" not in usual.provenance
    kept = read("nyuv2", larger, DataSettings(None))  # no array of the other size is taken for these
    (source,) = kept.test
    assert source.images.shape[1:] == (8, 12, 3) and source.targets[2].shape[1:] == (3, 8, 12)
    assert "resized" not in kept.provenance


def test_rows_of_another_size_are_resized(tmp_path: Path) -> None:
    import pyarrow.parquet

    write_parquet(tmp_path / "usual")
    shutil.copytree(tmp_path / "usual", tmp_path / "larger")
    for path in (tmp_path / "larger/data").iterdir():
        part, number, of = path.name.split("-")[0], int(path.name.split("-")[1]), int(path.name.split("-")[3])
        indices = np.array_split(range({"train": 15, "val": 11}[part]), of)[number]
        scenes = [{kind: a.repeat(2, axis=0).repeat(2, axis=1) for kind, a in scene(int(i)).items()} for i in indices]
        table = columns_of(scenes).drop_columns(["noise"])
        pyarrow.parquet.write_table(table, path)
    usual, found = read("nyuv2", tmp_path / "usual"), read("nyuv2", tmp_path / "larger")
    assert same(usual, found) and found.provenance["resized"] == "from 8×12"


def test_values_are_checked_before_they_are_resized(larger: Path) -> None:
    """The one depth that is too large isn't taken over by the nearest pixel."""
    path = larger / "val/depth/2.npy"
    depth = np.load(path)
    depth[0, 0] = 30
    assert nearest(np.moveaxis(depth, -1, 0), (4, 6)).max() < 20
    np.save(path, depth)
    with pytest.raises(DataError, match=r"depth/2\.npy: expected depths from 0 to 20 m, found 0 to 30"):
        read("nyuv2", larger)


def test_images_are_averaged_and_labels_are_not() -> None:
    rng = np.random.default_rng(0)
    image, depth = rng.random((480, 640, 3)), rng.choice([0, 1, 5.0], (480, 640, 1))
    found = SceneConversion("image", (480, 640), (288, 384))(image)
    expected = Image.fromarray(to_uint8(image)).resize((384, 288), Image.Resampling.BILINEAR)
    assert found.shape == (288, 384, 3) and np.array_equal(found, np.asarray(expected))
    assert found.std() < 0.7 * to_uint8(image).std()  # antialiasing
    depths = SceneConversion("depth", (480, 640), (288, 384))(depth)
    expected = Image.fromarray(depth[..., 0].astype(np.float32)).resize((384, 288), Image.Resampling.NEAREST)
    assert depths.dtype == np.float32 and np.array_equal(depths[0], np.asarray(expected))
    assert set(np.unique(depths)) == {0, 1, 5}


@pytest.mark.parametrize(("stored", "wanted"), [((4, 6), (8, 12)), ((240, 320), (288, 384)), ((425, 567), (288, 384))])
def test_sizes_of_one_aspect_ratio_are_accepted(stored: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert final_size(stored, wanted, Path("nyuv2")) == wanted
    assert final_size(stored, None, Path("nyuv2")) == stored


@pytest.mark.parametrize("stored", [(427, 561), (640, 480), (480, 600)])
def test_others_are_refused(stored: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"^nyuv2: expected .* ratio of 288 to 384, found \d+×\d+; crop .*--set data\."):
        final_size(stored, (288, 384), Path("nyuv2"))


def test_parts_of_two_sizes_are_refused(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    scaled(2, 2)(tmp_path / "val")
    with pytest.raises(DataError, match=r"val/image/0\.npy: expected height, width and channels 4×6×3, found 8×12×3"):
        read("nyuv2", tmp_path, DataSettings(None))


def test_arrays_by_other_rules_are_not_used() -> None:
    usual = SceneConversion("depth", (4, 6), (4, 6))
    others = [SceneConversion("depth", (8, 12), (4, 6)), SceneConversion("depth", (8, 12)), SceneConversion("label")]
    assert usual.recipe == SceneConversion("depth", (4, 6)).recipe
    assert len({usual.recipe, *(other.recipe for other in others)}) == 4


def test_files_of_the_usual_size_keep_their_bits(tmp_path: Path) -> None:
    write_nyuv2(tmp_path, "float32")
    for part in parts(read("nyuv2", tmp_path, SETTINGS)):
        for source in part:
            for row in range(len(source)):
                place = int(source.rows_at(torch.tensor([row])))
                index = int(source.images[place, 0, 0, 0]) // 10
                for task, kind in ((1, "depth"), (2, "normal")):
                    expected = np.moveaxis(scene(index)[kind], -1, 0).astype(np.float32)
                    assert source.targets[task][place].numpy().tobytes() == np.ascontiguousarray(expected).tobytes()


def test_smooth_keeps_plain_colours() -> None:
    image = np.full((480, 640, 3), (10, 200, 3), dtype=np.uint8)
    assert np.array_equal(smooth(image, (288, 384)), image[:288, :384])
