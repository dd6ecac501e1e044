"""The readers of the real data sets, on small trees in each layout they accept: contents, splits, cache, faults."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datasets import DATASETS, celeba, find, nyuv2, obtain, office
from datasets.celeba import ATTRIBUTES
from datasets.contract import DataError, DataMissing, DataSettings, Source, Split, Splits
from datasets.embedded.whole_folder import written_whole
from datasets.office import partition
from datasets.pixels import CACHE, decoded, image_loader, npy_loader

REAL = ("office31", "officehome", "nyuv2", "celeba")
SETTINGS = DataSettings(image_size=(4, 6))
TOLERANCE = 2  # what JPEG loses of a plain colour, in 1/255

DOMAINS = {
    "office31": ("amazon/images", "dslr/images", "webcam/images"),
    "officehome": ("Art", "Clipart", "Product", "Real_World"),
}
# In code-point order, which is neither that of a dictionary nor that of creation below.
CLASSES = {
    name: ("Alarm_Clock", "TV", "Table", "ToothBrush", *(f"back_pack_{i:02d}" for i in range(count - 4)))
    for name, count in (("office31", 31), ("officehome", 65))
}
SCENES = {"train": 15, "val": 11}
PARTS = (0, 0, 1, 2, 0, 1, 0, 2, 0, 1)  # of CelebA's images in order
KNOWN_ROW, KNOWN_ATTRIBUTES = 4, ("Bangs", "Eyeglasses", "Male", "Smiling", "Young")

Colour = tuple[int, int, int]
Member = tuple[int, int]
Trees = Callable[[str], Path]


@cache
def jpeg(colour: Colour, size: tuple[int, int] = (9, 7)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "JPEG", quality=100)
    return stream.getvalue()


def office_colour(domain: int, label: int, index: int) -> Colour:
    return 20 + 50 * domain, 20 + 3 * label, 20 + 20 * index


def files_of(domain: int, label: int) -> int:
    return 5 + (label + domain) % 6 if label < 6 else 5


def write_office(root: Path, name: str) -> None:
    for domain, folder in enumerate(DOMAINS[name]):
        for label, class_name in reversed(list(enumerate(CLASSES[name]))):
            place = root / folder / class_name
            place.mkdir(parents=True)
            for index in range(files_of(domain, label)):
                (place / f"frame_{index:04d}.jpg").write_bytes(jpeg(office_colour(domain, label, index)))


def scene(index: int) -> dict[str, NDArray[np.float64]]:
    """Image, labels, depth and normals that tell the index; some pixels unlabelled, unmeasured or unknown."""
    image = np.full((4, 6, 3), [10 * index, 3, 200]) / 255
    label, depth, normal = np.full((4, 6), index % 13), np.full((4, 6, 1), 1 + index / 4), np.zeros((4, 6, 3))
    normal[..., index % 3] = -1 if index % 2 else 1
    label[0, 0], depth[0, 1], normal[1, 1] = -1, 0, 0
    return {"image": image, "label": label.astype(float), "depth": depth, "normal": normal}


def write_nyuv2(root: Path, dtype: str = "float64") -> None:
    for part, count in SCENES.items():
        for index in range(count):
            for kind, array in scene(index).items():
                (root / part / kind).mkdir(parents=True, exist_ok=True)
                np.save(root / part / kind / f"{index}.npy", array.astype(dtype))


def celeba_colour(index: int) -> Colour:
    return 20 + 20 * index, 220 - 20 * index, 100


def celeba_attributes() -> NDArray[np.bool_]:
    """(images, 40)"""
    attributes = np.random.default_rng(0).random((len(PARTS), len(ATTRIBUTES))) < 0.5
    attributes[KNOWN_ROW] = [name in KNOWN_ATTRIBUTES for name in ATTRIBUTES]
    return attributes


def write_celeba(root: Path, layout: str = "official") -> None:
    """As distributed, as torchvision keeps it ("flat"), or with the images that are not compressed ("png")."""
    flat, ending = layout == "flat", "png" if layout == "png" else "jpg"
    annotations, evaluation = (root, root) if flat else (root / "Anno", root / "Eval")
    images = root / ("img_align_celeba" if flat else f"Img/img_align_celeba{'_png' if layout == 'png' else ''}")
    for folder in (annotations, evaluation, images):
        folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index + 1:06d}.jpg" for index in range(len(PARTS))]
    rows = [" ".join(f"{1 if has else -1:2d}" for has in row) for row in celeba_attributes()]
    lines = [str(len(names)), " ".join(ATTRIBUTES), *map("{} {}".format, names, rows)]
    (annotations / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (evaluation / "list_eval_partition.txt").write_text("".join(map("{} {}\n".format, names, PARTS)))
    for index, name in enumerate(names):
        Image.new("RGB", (9, 7), celeba_colour(index)).save((images / name).with_suffix(f".{ending}"), quality=100)


def view(tree: Path, root: Path, own: str = "") -> None:
    """A tree under another root by links, except the folder `own` and its files, which may be changed."""
    first, _, rest = own.partition("/")
    root.mkdir(exist_ok=True)
    for child in tree.iterdir():
        if child.name == CACHE:
            continue
        if child.name == first:
            view(child, root / first, rest)
        elif own or child.is_dir():
            (root / child.name).symlink_to(child)
        else:
            shutil.copy2(child, root)


def read(name: str, root: Path, settings: DataSettings = SETTINGS) -> Splits:
    return DATASETS[name].read(root, settings)


def parts(splits: Splits) -> tuple[Split, Split, Split]:
    return splits.train, splits.validation, splits.test


def tensors(splits: Splits) -> list[Tensor]:
    return [
        tensor for split in parts(splits) for source in split for tensor in (source.images, *source.targets.values())
    ]


def same(first: Splits, second: Splits) -> bool:
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


def office_members(source: Source, task: int) -> list[Member]:
    """(label, index) of each image, told from its colour, which must be that of its domain and label."""
    label = source.targets[task]
    index = ((source.images[:, 2, 3, 2].int() - 20) / 20).round().int()
    members = list(zip(label.tolist(), index.tolist(), strict=True))
    colours = torch.tensor([office_colour(task, *member) for member in members])
    assert (source.images.int() - colours[:, None, None]).abs().max() <= TOLERANCE
    return members


def office_split(splits: Splits) -> list[list[list[Member]]]:
    """part -> domain -> members"""
    return [[office_members(source, task) for task, source in enumerate(split)] for split in parts(splits)]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    """One tree of each data set, which no test may change."""

    @cache
    def tree(name: str) -> Path:
        root = tmp_path_factory.mktemp(name)
        if name in DOMAINS:
            write_office(root, name)
        else:
            {"nyuv2": write_nyuv2, "celeba": write_celeba}[name](root)
        return root

    return tree


every_office = pytest.mark.parametrize("name", DOMAINS)
every_data_set = pytest.mark.parametrize("name", REAL)


# Office-31 and Office-Home


@every_office
def test_office_images_come_back_with_the_label_of_their_folder(name: str, trees: Trees) -> None:
    splits = read(name, trees(name))
    assert all(source.images.dtype == torch.uint8 for split in parts(splits) for source in split)
    assert all(source.images.shape == (len(source), 4, 6, 3) for split in parts(splits) for source in split)
    tasks = DATASETS[name].tasks
    assert [len(split) for split in parts(splits)] == [len(tasks)] * 3
    assert all(list(source.targets) == [task] for split in parts(splits) for task, source in enumerate(split))
    assert {task.outputs for task in tasks} == {len(CLASSES[name])}


@every_office
def test_office_splits_each_class_of_each_domain_by_the_floor_rule(name: str, trees: Trees) -> None:
    splits = read(name, trees(name))
    split = office_split(splits)
    for domain, task in enumerate(DATASETS[name].tasks):
        everyone = [member for part in split for member in part[domain]]
        expected = [(label, i) for label in range(task.outputs) for i in range(files_of(domain, label))]
        assert sorted(everyone) == expected  # all of them, each once
        for label in range(task.outputs):
            files = files_of(domain, label)
            sizes = [sum(member[0] == label for member in part[domain]) for part in split]
            assert sizes == [3 * files // 5, files // 5, files - 3 * files // 5 - files // 5]
    keys = [task.key for task in DATASETS[name].tasks]
    counts = {
        part: dict(zip(keys, map(len, members), strict=True))
        for part, members in zip(("train", "validation", "test"), split, strict=True)
    }
    assert splits.provenance["counts"] == counts


def test_parts_of_a_class_are_exact_floors() -> None:
    """60 and 20 % of a number of files are not exact in floating point; the floors must be."""
    for files in range(5, 500):
        train, validation, test = partition(files, 0, "amazon", "TV")
        assert (len(train), len(validation)) == (3 * files // 5, files // 5)
        assert sorted(train + validation + test) == list(range(files))


def test_each_class_of_each_domain_is_drawn_on_its_own() -> None:
    draws = [partition(20, 0, domain, name) for domain in ("amazon", "dslr") for name in ("TV", "Table")]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])


@pytest.mark.parametrize(
    ("name", "domain", "folder"),
    [
        ("office31", 0, "amazon"),
        ("office31", 0, "Amazon/images"),
        ("office31", 1, "DSLR/images"),
        ("office31", 2, "Webcam"),
        ("officehome", 0, "Art/images"),
        ("officehome", 3, "Real World"),
        ("officehome", 3, "RealWorld"),
        ("officehome", 3, "Real"),
    ],
)
def test_variants_of_office_folders(tmp_path: Path, trees: Trees, name: str, domain: int, folder: str) -> None:
    for index, usual in enumerate(DOMAINS[name]):
        place = tmp_path / (folder if index == domain else usual)
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(trees(name) / usual)
    variant, usual_one = read(name, tmp_path), read(name, trees(name))
    assert same(variant, usual_one)
    assert variant.provenance == usual_one.provenance


def test_what_is_not_a_class_or_an_image_is_passed_over(tmp_path: Path, trees: Trees) -> None:
    view(trees("office31"), tmp_path, "dslr/images/TV")
    (tmp_path / "dslr/images/TV/Thumbs.db").touch()
    (tmp_path / "dslr/images/.thumbnails").mkdir()
    (tmp_path / "dslr/images/readme.txt").touch()
    assert same(read("office31", tmp_path), read("office31", trees("office31")))


def test_a_file_of_one_class_does_not_move_the_others(tmp_path: Path, trees: Trees) -> None:
    view(trees("office31"), tmp_path, "dslr/images/Table")
    added = files_of(1, 2)
    (tmp_path / f"dslr/images/Table/frame_{added:04d}.jpg").write_bytes(jpeg(office_colour(1, 2, added)))
    before, after = (office_split(read("office31", root)) for root in (trees("office31"), tmp_path))

    def others(split: list[list[list[Member]]]) -> list[list[tuple[int, Member]]]:
        return [[(d, m) for d, members in enumerate(part) for m in members if (d, m[0]) != (1, 2)] for part in split]

    assert others(before) == others(after)
    assert sum(member == (2, added) for part in after for member in part[1]) == 1


# NYUv2


def scene_indices(source: Source) -> list[int]:
    """The index of each scene, told from its image; its labels, depth and normals must be those of that scene."""
    indices = (source.images[:, 0, 0, 0] // 10).tolist()
    for row, index in enumerate(indices):
        expected = scene(index)
        assert torch.equal(source.images[row], torch.tensor([10 * index, 3, 200]).expand(4, 6, 3))
        assert source.targets[0][row].tolist() == expected["label"].tolist()
        for task, kind in ((1, "depth"), (2, "normal")):
            assert source.targets[task][row].tolist() == np.moveaxis(expected[kind], -1, 0).tolist()
    return indices


@pytest.mark.parametrize(("dtype", "size"), [("float32", None), ("float64", (4, 6))])
def test_scenes_come_back(tmp_path: Path, dtype: str, size: tuple[int, int] | None) -> None:
    write_nyuv2(tmp_path, dtype)
    splits = read("nyuv2", tmp_path, DataSettings(size))
    (train,), (validation,), (test,) = parts(splits)
    assert [len(source) for source in (train, validation, test)] == [12, 3, 11]
    assert splits.provenance["counts"] == {"train": 12, "validation": 3, "test": 11}
    assert sorted(scene_indices(train) + scene_indices(validation)) == list(range(15))
    assert scene_indices(test) == list(range(11))  # by number: 10 is not between 1 and 2


def test_pixels_without_truth_are_kept_as_they_are(trees: Trees) -> None:
    (test,) = read("nyuv2", trees("nyuv2")).test
    labels, depth, normals = (test.targets[task] for task in range(3))
    assert (labels.dtype, depth.dtype, normals.dtype) == (torch.int64, torch.float32, torch.float32)
    assert (labels.shape, depth.shape, normals.shape) == ((11, 4, 6), (11, 1, 4, 6), (11, 3, 4, 6))
    assert (labels[:, 0, 0] == -1).all() and (labels == -1).sum() == 11
    assert (depth[:, 0, 0, 1] == 0).all() and (depth == 0).sum() == 11
    assert (normals[:, :, 1, 1] == 0).all() and (normals == 0).all(dim=1).sum() == 11
    assert labels[7, 3, 5] == 7
    assert depth[7, 0, 3, 5] == 2.75
    assert normals[7, :, 3, 5].tolist() == [0, -1, 0]


# CelebA


@pytest.mark.parametrize("layout", ["official", "flat", "png"])
def test_faces_come_back_with_their_attributes(tmp_path: Path, layout: str) -> None:
    write_celeba(tmp_path, layout)
    splits = read("celeba", tmp_path)
    for part, (source,) in enumerate(parts(splits)):
        members = [index for index, its in enumerate(PARTS) if its == part]
        colours = torch.tensor([celeba_colour(index) for index in members])
        assert source.images.shape == (len(members), 4, 6, 3)
        assert (source.images.int() - colours[:, None, None]).abs().max() <= (0 if layout == "png" else TOLERANCE)
        attributes = torch.stack([source.targets[task] for task in range(40)], dim=1)
        assert attributes.tolist() == celeba_attributes()[members].tolist()
    assert splits.provenance["counts"] == {"train": 5, "validation": 3, "test": 2}


def test_attributes_of_a_known_face(trees: Trees) -> None:
    (train,) = read("celeba", trees("celeba")).train
    row = [index for index, part in enumerate(PARTS) if part == 0].index(KNOWN_ROW)
    tasks = DATASETS["celeba"].tasks
    assert {tasks[task].label for task, values in train.targets.items() if values[row] == 1} == set(KNOWN_ATTRIBUTES)
    assert {i: tasks[i].key for i in (5, 15, 20, 31, 39)} == dict(
        zip((5, 15, 20, 31, 39), map(str.lower, KNOWN_ATTRIBUTES), strict=True)
    )


# Where the folder is, and what a seed draws


@pytest.mark.parametrize(
    ("name", "place", "marker"),
    [
        ("office31", "office31", "amazon"),
        ("office31", "Office-31", "Amazon"),
        ("office31", "office-31/original_images", "amazon"),
        ("officehome", "OfficeHomeDataset_10072016", "Art"),
        ("officehome", "office_home/OfficeHomeDataset_10072016", "Art"),
        ("nyuv2", "NYUv2", "train/image"),
        ("nyuv2", "nyuv2/nyuv2_mtan", "train/image"),
        ("celeba", "CelebA", "Anno/list_attr_celeba.txt"),
        ("celeba", "celeba", "list_attr_celeba.txt"),
        ("celeba", "celeba/celeba", "list_attr_celeba.txt"),
    ],
)
def test_folders_are_found_also_one_level_below(tmp_path: Path, name: str, place: str, marker: str) -> None:
    assert find(name, tmp_path) is None
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "readme.txt").touch()
    assert find(name, tmp_path) is None
    (tmp_path / place / marker).mkdir(parents=True)
    assert find(name, tmp_path) == obtain(name, tmp_path) == tmp_path / place


@every_data_set
def test_what_is_found_below_is_read(tmp_path: Path, name: str, trees: Trees) -> None:
    below = tmp_path / DATASETS[name].folder[0] / "unpacked"
    below.parent.mkdir()
    below.symlink_to(trees(name))
    assert same(read(name, obtain(name, tmp_path)), read(name, trees(name)))


@pytest.mark.parametrize("there", [True, False])
@every_data_set
def test_an_absent_data_set_says_how_to_supply_it(tmp_path: Path, name: str, there: bool) -> None:
    root = tmp_path / "data"
    if there:
        (root / DATASETS[name].folder[0]).mkdir(parents=True)
    with pytest.raises(DataMissing) as caught:
        obtain(name, root)
    info = DATASETS[name]
    for part in (name, info.folder[0], info.markers[0], str(root), info.how, "--data-root", "MTL_DATA", "found none"):
        assert part in str(caught.value)
    assert root.exists() == there


def test_embedded_data_made_by_another_process_meanwhile_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(folder: Path) -> None:
        (folder / "plain").mkdir(parents=True)  # the other process is done
        with written_whole(folder):
            pytest.fail("written over")

    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], make=late))
    assert obtain("digits", tmp_path) == tmp_path / "digits"


def test_other_things_in_the_place_of_embedded_data_stay(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "mine").write_text("kept")
    with pytest.raises(DataMissing, match=f"digits: expected plain in {re.escape(str(tmp_path))}.* move it away"):
        obtain("digits", tmp_path)
    assert (tmp_path / "digits" / "mine").read_text() == "kept"


def test_a_data_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataMissing, match=re.escape(str(tmp_path / "data"))):
        obtain("digits", tmp_path / "data")


@every_data_set
def test_a_seed_is_a_split(name: str, trees: Trees) -> None:
    first, again, other = (read(name, trees(name), replace(SETTINGS, split_seed=seed)) for seed in (1, 1, 2))
    assert same(first, again)
    assert first.provenance == again.provenance
    official = name == "celeba"
    assert same(first, other) == official
    assert (first.provenance["digest"] == other.provenance["digest"]) == official
    assert first.provenance["counts"] == other.provenance["counts"]


# Files to tensors, once


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
        read(name, trees(name), DataSettings(image_size=(5, 5)))


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
    assert decoded(tmp_path, files, first_byte, "byte").tolist() == [[0], [1], [2]]
    time = files[1].stat().st_mtime_ns
    files[1].write_bytes(content)
    os.utime(files[1], ns=(time, time + later))
    assert decoded(tmp_path, files, first_byte, "byte").tolist() == [[0], [9], [2]]


def test_another_recipe_or_another_choice_of_files_is_another_cache(tmp_path: Path, files: list[Path]) -> None:
    decoded(tmp_path, files, first_byte, "byte")
    assert decoded(tmp_path, files, lambda path: first_byte(path) + 1, "more").tolist() == [[1], [2], [3]]
    assert decoded(tmp_path, files[::-1], first_byte, "byte").tolist() == [[2], [1], [0]]
    assert decoded(tmp_path, files, refuse, "byte").tolist() == [[0], [1], [2]]


def test_writing_to_what_was_read_does_not_change_the_cache(tmp_path: Path, files: list[Path]) -> None:
    decoded(tmp_path, files, first_byte, "byte").fill_(7)
    assert decoded(tmp_path, files, refuse, "byte").tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_an_interrupted_decoding_leaves_nothing(tmp_path: Path, files: list[Path], error: type[BaseException]) -> None:
    def interrupted(path: Path) -> NDArray[np.generic]:
        if path == files[2]:
            assert list((tmp_path / CACHE).iterdir())
            raise error
        return first_byte(path)

    with pytest.raises(error):
        decoded(tmp_path, files, interrupted, "byte")
    assert list((tmp_path / CACHE).iterdir()) == []
    assert decoded(tmp_path, files, first_byte, "byte").tolist() == [[0], [1], [2]]


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[Path]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=f"{re.escape(str(tmp_path / CACHE))}: .*No space left"):
        decoded(tmp_path, files, first_byte, "byte")
    assert list((tmp_path / CACHE).iterdir()) == []


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
    first = re.escape(str(trees("nyuv2") / "train/image/0.npy"))
    with pytest.raises(DataError, match=f"{first}: expected an array of 6×4×3, found 4×6×3"):
        read("nyuv2", trees("nyuv2"), DataSettings(image_size=(6, 4)))


# What is wrong is named


Spoil = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def emptied(path: Path) -> None:
    for child in path.iterdir():
        removed(child)


def renamed(name: str) -> Spoil:
    return lambda path: path.rename(path.with_name(name))


def doubled(name: str) -> Spoil:
    return lambda path: path.with_name(name).symlink_to(path)


def filled(content: bytes) -> Spoil:
    return lambda path: path.write_bytes(content)


def saved(array: NDArray[np.generic]) -> Spoil:
    return lambda path: np.save(path, array)


def valued(value: float) -> Spoil:
    """One pixel changed."""

    def spoil(path: Path) -> None:
        array = np.load(path)
        array[2, 3] = value
        np.save(path, array)

    return spoil


def edited(pattern: str, substitute: str) -> Spoil:
    """The one place of a text file that matches changed; ^ and $ are ends of a line."""

    def spoil(path: Path) -> None:
        text, count = re.subn(pattern, substitute, path.read_text(), flags=re.MULTILINE)
        assert count == 1
        path.write_text(text)

    return spoil


@dataclass(frozen=True)
class Fault:
    """What is done to which file, and the message: "<named>: expected <expected>", `named` usually that file."""

    place: str
    spoil: Spoil
    expected: str
    named: str | None = None


OFFICE_IMAGE, HOME_IMAGE = "amazon/images/TV/frame_0002.jpg", "Art/TV/frame_0000.jpg"
IMAGE, LABEL, DEPTH, NORMAL = "val/image/2.npy", "train/label/3.npy", "val/depth/10.npy", "train/normal/0.npy"
FACE = "Img/img_align_celeba/000003.jpg"
ATTRIBUTE_FILE, PARTITION_FILE = "Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt"
HEADER = "the 40 attribute names of CelebA in line 2, found"
ROW, ROW_2 = "a file name and 40 values of 1 or -1, found", f"{ATTRIBUTE_FILE}:4"
PLACE, PLACE_4 = "a file name and 0, 1 or 2, found", f"{PARTITION_FILE}:4"

FAULTS: dict[str, dict[str, Fault]] = {
    "office31": {
        "truncated image": Fault(OFFICE_IMAGE, cut, "a readable image, found"),
        "class missing": Fault("webcam/images/TV", removed, "31 class folders, found 30", "webcam/images"),
        "class in one domain only": Fault(
            "dslr/images/TV", renamed("Vision"), "the same classes in amazon and dslr, found 'TV' in only one", ""
        ),
        "empty domain": Fault(
            "amazon/images/TV", lambda path: emptied(path.parent), "31 class folders, found 0", "amazon/images"
        ),
        "too few images": Fault(
            "dslr/images/back_pack_26/frame_0001.jpg",
            removed,
            "at least 5 images to split, found 4",
            "dslr/images/back_pack_26",
        ),
    },
    "officehome": {
        "empty image": Fault(HOME_IMAGE, filled(b""), "a readable image, found"),
        "text for an image": Fault(HOME_IMAGE, filled(b"<html>"), "a readable image, found"),
        "spare class": Fault("Clipart/TV", doubled("Vision"), "65 class folders, found 66", "Clipart"),
        "class in one domain only": Fault(
            "Product/TV", renamed("Vision"), "the same classes in art and product, found 'TV' in only one", ""
        ),
        "domain missing": Fault(
            "Real_World", removed, "a folder Real_World or Real World or RealWorld or Real, found none", ""
        ),
    },
    "nyuv2": {
        "truncated npy": Fault(DEPTH, cut, "a readable .npy file, found"),
        "empty npy": Fault(DEPTH, filled(b""), "a readable .npy file, found"),
        "damaged header": Fault(DEPTH, filled(b"\x93NUMPY\x01\x00\x06\x00{'a'(\n"), "a readable .npy file, found"),
        "archive for npy": Fault(DEPTH, filled(b"PK\x03\x04" + bytes(99)), "a readable .npy file, found"),
        "pickled npy": Fault(DEPTH, saved(np.array([None])), "a readable .npy file, found"),
        "no channels": Fault(DEPTH, saved(np.ones((4, 6))), "an array of 4×6×1, found 4×6"),
        "channels first": Fault(NORMAL, saved(np.ones((3, 4, 6))), "an array of 4×6×3, found 3×4×6"),
        "other size": Fault(IMAGE, saved(np.ones((5, 6, 3))), "an array of 4×6×3, found 5×6×3"),
        "label too high": Fault(LABEL, valued(13), "whole labels from -1 to 12, found 13"),
        "label too low": Fault(LABEL, valued(-2), "whole labels from -1 to 12, found -2"),
        "label in between": Fault(LABEL, valued(2.5), "whole labels from -1 to 12, found 2.5"),
        "label not a number": Fault(LABEL, valued(np.nan), "whole labels from -1 to 12, found nan"),
        "image in bytes": Fault(IMAGE, valued(255), "image values in [0, 1], found 0.0117647 to 255"),
        "image too dark": Fault(IMAGE, valued(-0.5), "image values in [0, 1], found -0.5 to 0.784314"),
        "image not a number": Fault(IMAGE, valued(np.nan), "image values in [0, 1], found nan"),
        "depth not a number": Fault(DEPTH, valued(np.nan), "finite values, found nan"),
        "infinite normal": Fault(NORMAL, valued(np.inf), "finite values, found inf"),
        "label missing": Fault(LABEL, removed, "a file, found none"),
        "last image missing": Fault("train/image/14.npy", removed, "a file, found none"),
        "test part missing": Fault("val", removed, "files 0.npy, 1.npy, ..., found none", "val/image"),
    },
    "celeba": {
        "truncated image": Fault(FACE, cut, "a readable image, found"),
        "image missing": Fault(FACE, removed, "a file, found none"),
        "images missing": Fault("Img/img_align_celeba", removed, "Img/img_align_celeba or", ""),
        "partition missing": Fault(PARTITION_FILE, removed, f"{PARTITION_FILE} or", ""),
        "empty file": Fault(ATTRIBUTE_FILE, filled(b""), f"{HEADER} '0 names'"),
        "bytes for text": Fault(ATTRIBUTE_FILE, filled(b"10\n\xff\xfe\x80\n"), HEADER),
        "count missing": Fault(ATTRIBUTE_FILE, edited(r"^10\n", ""), f"{HEADER} '000001.jpg'"),
        "other name": Fault(ATTRIBUTE_FILE, edited(" Male ", " Female "), f"{HEADER} 'Female'"),
        "a name less": Fault(ATTRIBUTE_FILE, edited(" Young$", ""), f"{HEADER} '39 names'"),
        "a name more": Fault(ATTRIBUTE_FILE, edited(" Young$", " Young Old"), f"{HEADER} '41 names'"),
        "row missing": Fault(ATTRIBUTE_FILE, edited(r"^000004.*\n", ""), "10 rows as line 1 says, found 9"),
        "zero for -1": Fault(ATTRIBUTE_FILE, edited(r"^(000002.*) -?1$", r"\1 0"), f"{ROW} '0'", ROW_2),
        "a value less": Fault(ATTRIBUTE_FILE, edited(r"^(000002.*) -?1$", r"\1"), f"{ROW} 40 fields", ROW_2),
        "no part for an image": Fault(PARTITION_FILE, edited(r"^000004.*\n", ""), "a row for 000004.jpg, found none"),
        "part for no image": Fault(
            PARTITION_FILE,
            edited(r"\Z", "000011.jpg 0\n"),
            "only images that list_attr_celeba.txt names, found 000011.jpg",
        ),
        "fourth part": Fault(PARTITION_FILE, edited("^(000004.*) 2$", r"\1 3"), f"{PLACE} '000004.jpg 3'", PLACE_4),
        "part in words": Fault(PARTITION_FILE, edited("^(000004.*) 2$", r"\1 x"), f"{PLACE} '000004.jpg x'", PLACE_4),
        "no part in a row": Fault(PARTITION_FILE, edited("^(000004.*) 2$", r"\1"), f"{PLACE} '000004.jpg'", PLACE_4),
        "empty part": Fault(
            PARTITION_FILE,
            filled(b"".join(b"%06d.jpg %d\n" % (index + 1, index % 2) for index in range(len(PARTS)))),
            "images in part 2 of list_eval_partition.txt, found none",
            "",
        ),
    },
}


@pytest.mark.parametrize(
    ("name", "fault"),
    [pytest.param(name, fault, id=f"{name}-{key}") for name in FAULTS for key, fault in FAULTS[name].items()],
)
def test_what_is_wrong_is_named(tmp_path: Path, trees: Trees, name: str, fault: Fault) -> None:
    place = Path(fault.place)
    view(trees(name), tmp_path, str(place.parent if place.suffix else place))
    fault.spoil(tmp_path / fault.place)
    with pytest.raises(DataError) as caught:
        read(name, tmp_path)
    named = tmp_path / (fault.place if fault.named is None else fault.named)
    assert str(caught.value).startswith(f"{named}: expected {fault.expected}")
    assert ", found " in str(caught.value)
    assert not list(tmp_path.rglob(f"{CACHE}/.*"))
