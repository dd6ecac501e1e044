"""Files to tensors, once: decoding, its cache, and what interrupts it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_trees import Colour, Trees, every_data_set, jpeg, office_colour, read, same, tensors, view
from numpy.typing import NDArray
from PIL import Image

from datasets import celeba, nyuv2, office
from datasets.contract import DataError, DataSettings
from datasets.pixels import decoded, image_loader, npy_loader


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 200, 30), (10, 200, 30)),
        ("RGBA", (10, 200, 30, 77), (10, 200, 30)),
        ("L", 90, (90, 90, 90)),
        ("P", 0, (10, 200, 30)),
    ],
)
def test_images_of_any_mode_become_rgb(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], expected: Colour
) -> None:
    image = Image.new(mode, (3, 2), colour)
    if mode == "P":
        image.putpalette([10, 200, 30])
    image.save(tmp_path / "image.png")
    assert image_loader(None)(tmp_path / "image.png").tolist() == [[list(expected)] * 3] * 2


def test_image_size_is_height_and_width(tmp_path: Path) -> None:
    corners = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], dtype=np.uint8)
    Image.fromarray(corners.repeat(10, axis=0).repeat(20, axis=1)).save(tmp_path / "image.png")
    loaded = image_loader((4, 6))(tmp_path / "image.png")
    assert loaded.shape == (4, 6, 3)
    assert loaded[::3, ::5].tolist() == corners.tolist()


@pytest.mark.parametrize("kind", ["jpg", "png", "npy"])
def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path: Path, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(4, 6, 3), dtype=np.uint8)
    path = tmp_path / f"file.{kind}"
    if kind == "npy":
        np.save(path, pixels)
        load = npy_loader(lambda array: array, (4, 6, 3))
    else:
        Image.fromarray(pixels).save(path)
        load = image_loader(None)
    content, whole = path.read_bytes(), load(path)
    end = len(content) - 20  # what follows is an image's end mark and checksums
    for length in [*range(0, end, 9), *range(end, len(content))]:
        path.write_bytes(content[:length])
        try:
            assert np.array_equal(load(path), whole)
            assert length >= end
            assert kind != "npy"
        except DataError as error:
            assert str(error).startswith(f"{path}: expected a readable")


def first_byte(path: Path) -> NDArray[np.generic]:
    return np.frombuffer(path.read_bytes()[:1], dtype=np.uint8)


def refuse(path: Path) -> NDArray[np.generic]:
    raise AssertionError(f"{path} was decoded again")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files of the bytes 0, 1 and 2."""
    paths = [tmp_path / f"{index}.bin" for index in range(3)]
    for index, path in enumerate(paths):
        path.write_bytes(bytes([index]))
    return paths


@every_data_set
def test_a_second_read_decodes_nothing(monkeypatch: pytest.MonkeyPatch, trees: Trees, name: str) -> None:
    first = read(name, trees(name))
    for module, loader in ((office, "image_loader"), (celeba, "image_loader"), (nyuv2, "npy_loader")):
        monkeypatch.setattr(module, loader, lambda *_: refuse)
    assert same(first, read(name, trees(name)))
    with pytest.raises(AssertionError, match="decoded again"):
        read(name, trees(name), DataSettings(image_size=(8, 12)))


@pytest.mark.parametrize(
    ("name", "changed", "other"),
    [
        ("office31", "dslr/images/TV/frame_0002.jpg", "dslr/images/TV/frame_0003.jpg"),
        ("officehome", "Art/TV/frame_0002.jpg", "Art/TV/frame_0003.jpg"),
        ("nyuv2", "train/image/3.npy", "train/image/4.npy"),
        ("nyuv2", "train/label/3.npy", "train/label/4.npy"),
        ("nyuv2", "val/depth/3.npy", "val/depth/4.npy"),
        ("nyuv2", "val/normal/3.npy", "val/normal/4.npy"),
        ("celeba", "Img/img_align_celeba/000003.jpg", "Img/img_align_celeba/000004.jpg"),
    ],
)
def test_a_changed_file_is_noticed(tmp_path: Path, trees: Trees, name: str, changed: str, other: str) -> None:
    view(trees(name), tmp_path, str(Path(changed).parent))
    before = read(name, tmp_path)
    time = (tmp_path / changed).stat().st_mtime_ns
    shutil.copyfile(tmp_path / other, tmp_path / changed)
    os.utime(tmp_path / changed, ns=(time, time + 1_000_000))
    after = read(name, tmp_path)
    pairs = zip(tensors(before), tensors(after), strict=True)
    assert sum(int((a != b).flatten(1).any(dim=1).sum()) for a, b in pairs if a.dim() > 1) == 1


@pytest.mark.parametrize(("content", "later"), [(b"\x09", 1_000_000), (b"\x09more", 0)], ids=["time", "size"])
def test_a_file_that_differs_in_time_or_size_is_decoded_again(
    tmp_path: Path, files: list[Path], content: bytes, later: int
) -> None:
    assert decoded(tmp_path, files, first_byte, "byte").values.tolist() == [[0], [1], [2]]
    time = files[1].stat().st_mtime_ns
    files[1].write_bytes(content)
    os.utime(files[1], ns=(time, time + later))
    assert decoded(tmp_path, files, first_byte, "byte").values.tolist() == [[0], [9], [2]]


def test_another_recipe_or_another_choice_of_files_is_another_cache(tmp_path: Path, files: list[Path]) -> None:
    decoded(tmp_path, files, first_byte, "byte")
    assert decoded(tmp_path, files, lambda path: first_byte(path) + 1, "more").values.tolist() == [[1], [2], [3]]
    assert decoded(tmp_path, files[::-1], first_byte, "byte").values.tolist() == [[2], [1], [0]]
    assert decoded(tmp_path, files, refuse, "byte").values.tolist() == [[0], [1], [2]]


def test_writing_to_what_was_read_does_not_change_the_cache(tmp_path: Path, files: list[Path]) -> None:
    decoded(tmp_path, files, first_byte, "byte").values.fill_(7)
    assert decoded(tmp_path, files, refuse, "byte").values.tolist() == [[0], [1], [2]]


def test_images_of_several_sizes_need_an_image_size(tmp_path: Path, trees: Trees) -> None:
    view(trees("office31"), tmp_path, "dslr/images/TV")
    odd = tmp_path / "dslr/images/TV/frame_0002.jpg"
    odd.write_bytes(jpeg(office_colour(1, 1, 2), (8, 8)))
    read("office31", tmp_path)
    with pytest.raises(DataError, match=rf"{re.escape(str(odd))}: expected \(7, 9, 3\).*`data.image_size`"):
        read("office31", tmp_path, DataSettings(image_size=None))


@pytest.mark.parametrize("decoded_at", [(4, 6), None])
def test_decoded_scenes_do_not_pass_for_another_size(trees: Trees, decoded_at: tuple[int, int] | None) -> None:
    read("nyuv2", trees("nyuv2"), DataSettings(image_size=decoded_at))
    root = re.escape(str(trees("nyuv2")))
    with pytest.raises(DataError, match=f"{root}: expected height and width in the ratio of 6 to 4, found 4×6"):
        read("nyuv2", trees("nyuv2"), DataSettings(image_size=(6, 4)))
