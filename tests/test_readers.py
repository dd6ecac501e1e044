"""The readers of the real data sets, on small trees in each layout they accept: contents, splits, places."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_trees import (
    CELEBA_LAYOUTS,
    CLASSES,
    DOMAINS,
    KNOWN_ATTRIBUTES,
    KNOWN_ROW,
    PARTS,
    SETTINGS,
    TOLERANCE,
    Member,
    Trees,
    celeba_attributes,
    celeba_colour,
    every_data_set,
    every_office,
    files_of,
    jpeg,
    office_colour,
    office_split,
    parts,
    read,
    same,
    scene,
    tensors,
    view,
    write_celeba,
    write_nyuv2,
    write_parquet,
)
from pydantic import TypeAdapter
from synthetic_splits import random_splits

from datasets import DATASETS, find, obtain
from datasets.contract import DataError, DataMissing, DataSettings, Source, Splits
from datasets.embedded import digits
from datasets.embedded.atomic_folder import atomic_folder
from datasets.office import memberships, partition, views_of_items
from datasets.separate_parts import refuse_empty_parts


@pytest.fixture
def without_rights() -> Iterator[Callable[..., Path]]:
    """A function that makes a folder which this process may not list, and others, in a new root: its answer."""
    root, before = Path(tempfile.mkdtemp()), os.geteuid()
    root.chmod(0o755)

    def make(place: str, *others: str) -> Path:
        for folder in (place, *others):
            (root / folder).mkdir(parents=True)
        (root / place).chmod(0)
        if before == 0:  # who may do everything must become somebody else
            os.seteuid(65534)
        return root

    yield make
    os.seteuid(before)
    for folder in root.rglob("*"):
        folder.chmod(0o755)
    shutil.rmtree(root)


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


def test_all_images_of_an_item_are_in_one_part_of_all_domains() -> None:
    """Also if a domain lacks some of the images, which would shift a partition of its own."""
    every = [Path(f"{item:04d}-{view}.png") for item in range(40) for view in range(2)]
    listings = [{"3": every}, {"3": every[1:-5:3]}]
    drawn = memberships(["plain", "noisy"], listings, 7, digits.item_of)
    items = [
        {
            digits.item_of(listing["3"][index])
            for listing, of in zip(listings, drawn, strict=True)
            for index in of["3"][part]
        }
        for part in range(3)
    ]
    assert list(map(len, items)) == [24, 8, 8] and len(set.union(*items)) == 40
    for listing, of in zip(listings, drawn, strict=True):
        assert sorted(index for members in of["3"] for index in members) == list(range(len(listing["3"])))
    assert views_of_items(listings, drawn, digits.item_of) is None
    for whole, views in ((every, 2), (every[::2], 1), (every[:-1], None), ([*every[::2], *every[1::2]], None)):
        same = [{"3": whole}, {"3": whole}]
        parts = memberships(["plain", "noisy"], same, 7, digits.item_of)
        all_test = [{"3": ([], [], list(range(len(whole))))}] * 2
        assert views_of_items(same, all_test, digits.item_of) == views
        assert views is None or views_of_items(same, parts, digits.item_of) == views


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


@pytest.mark.parametrize(("folder", "marked"), [("data", True), ("data", False), ("", True)])
def test_the_parquet_form_is_the_same_scenes(tmp_path: Path, trees: Trees, folder: str, marked: bool) -> None:
    write_parquet(tmp_path, folder, marked)
    for settings in (SETTINGS, DataSettings(None), replace(SETTINGS, split_seed=3)):
        packed, single = read("nyuv2", tmp_path, settings), read("nyuv2", trees("nyuv2"), settings)
        assert same(packed, single)
        assert [t.dtype for t in tensors(packed)] == [t.dtype for t in tensors(single)]
        assert packed.provenance == single.provenance


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_the_published_protocol_trains_on_all_and_validates_on_none(tmp_path: Path, form: str) -> None:
    (write_nyuv2 if form == "npy" else write_parquet)(tmp_path)
    heldout = read("nyuv2", tmp_path)
    published = read("nyuv2", tmp_path, replace(SETTINGS, protocol="published"))
    (train,), (validation,), (test,) = parts(published)
    assert scene_indices(train) == list(range(15))
    assert scene_indices(test) == list(range(11))
    assert len(validation) == 0
    (usual,) = heldout.validation
    shapes = {0: usual.images.shape[1:], **{1 + task: target.shape[1:] for task, target in usual.targets.items()}}
    assert {0: validation.images.shape[1:], **{1 + t: v.shape[1:] for t, v in validation.targets.items()}} == shapes
    assert all(len(target) == 0 for target in validation.targets.values())
    assert published.provenance["counts"] == {"train": 15, "validation": 0, "test": 11}
    assert str(published.provenance["rule"]).startswith("published: all training images train")
    assert published.provenance["digest"] != heldout.provenance["digest"]


def test_rooms_have_the_published_protocol_too(trees: Trees) -> None:
    published = replace(SETTINGS, protocol="published")
    assert same(read("rooms", trees("nyuv2"), published), read("nyuv2", trees("nyuv2"), published))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("office31", "protocol", "published"),
        ("officehome", "metrics_batch", 2),
        ("celeba", "protocol", "published"),
        ("celeba", "metrics_batch", 2),
        ("celeba", "splits", "lists"),
        ("nyuv2", "splits", "lists"),
    ],
)
def test_settings_for_other_data_sets_are_refused(trees: Trees, name: str, setting: str, value: object) -> None:
    settings = TypeAdapter(DataSettings).validate_python({"image_size": (4, 6), setting: value})
    with pytest.raises(DataError, match=rf"^data\.{setting}: expected .*, found {value!r}; .*leave it out\.$"):
        read(name, trees(name), settings)


def test_pixels_without_truth_are_kept_as_they_are(trees: Trees) -> None:
    (test,) = read("nyuv2", trees("nyuv2")).test
    labels, depth, normals = (test.targets[task] for task in range(3))
    assert (labels.dtype, depth.dtype, normals.dtype) == (torch.int8, torch.float32, torch.float32)
    assert (labels.shape, depth.shape, normals.shape) == ((11, 4, 6), (11, 1, 4, 6), (11, 3, 4, 6))
    assert (labels[:, 0, 0] == -1).all() and (labels == -1).sum() == 11
    assert (depth[:, 0, 0, 1] == 0).all() and (depth == 0).sum() == 11
    assert (normals[:, :, 1, 1] == 0).all() and (normals == 0).all(dim=1).sum() == 11
    assert labels[7, 3, 5] == 7
    assert depth[7, 0, 3, 5] == 2.75
    assert normals[7, :, 3, 5].tolist() == [0, -1, 0]


@pytest.mark.parametrize("layout", CELEBA_LAYOUTS)
def test_faces_come_back_with_their_attributes(tmp_path: Path, layout: str) -> None:
    write_celeba(tmp_path, layout)
    splits = read("celeba", tmp_path)
    for part, (source,) in enumerate(parts(splits)):
        members = [index for index, its in enumerate(PARTS) if its == part]
        colours = torch.tensor([celeba_colour(index) for index in members])
        assert source.images.shape == (len(members), 4, 6, 3)
        assert (source.images.int() - colours[:, None, None]).abs().max() <= (0 if "png" in layout else TOLERANCE)
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


@pytest.mark.parametrize(
    ("name", "place", "marker"),
    [
        ("office31", "office31", "amazon"),
        ("office31", "Office-31", "Amazon"),
        ("office31", "office-31/original_images", "amazon"),
        ("office31", "domain_adaptation_images", "amazon"),
        ("office31", "office31/download/unpacked", "amazon"),
        ("officehome", "OfficeHomeDataset_10072016", "Art"),
        ("officehome", "office_home/OfficeHomeDataset_10072016", "Art"),
        ("nyuv2", "NYUv2", "train/image"),
        ("nyuv2", "nyuv2/nyuv2_mtan", "train/image"),
        ("nyuv2", "nyuv2", "data/train-00000-of-00010-6afcb8a4b1e0b3a5.parquet"),
        ("nyuv2", "nyuv2/snapshots/0123456789", "data/train-00000-of-00010.parquet"),
        ("nyuv2", "NYUv2", "train-00000-of-00010.parquet"),
        ("celeba", "CelebA", "Anno/list_attr_celeba.txt"),
        ("celeba", "celeba", "list_attr_celeba.txt"),
        ("celeba", "celeba/celeba", "list_attr_celeba.txt"),
        ("celeba", "celeba/archive", "list_attr_celeba.csv"),
    ],
)
def test_folders_are_found_also_two_levels_below(tmp_path: Path, name: str, place: str, marker: str) -> None:
    assert find(name, tmp_path) is None
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "readme.txt").touch()
    assert find(name, tmp_path) is None
    (tmp_path / place / marker).mkdir(parents=True)
    assert find(name, tmp_path) == obtain(name, tmp_path) == tmp_path / place


@every_data_set
def test_folders_are_looked_for_no_deeper(tmp_path: Path, name: str) -> None:
    info = DATASETS[name]
    (tmp_path / info.folder[0] / "a/b/c" / info.markers[0]).mkdir(parents=True)
    assert find(name, tmp_path) is None


def test_a_folder_that_cannot_be_listed_is_named(without_rights: Callable[..., Path]) -> None:
    root = without_rights("officehome/unpacked")
    with pytest.raises(DataError) as caught:
        find("officehome", root)
    assert str(caught.value).startswith(f"{root / 'officehome/unpacked'}: expected a folder that can be listed, found")
    assert "Permission denied" in str(caught.value)


def test_a_class_folder_that_cannot_be_listed_is_named(without_rights: Callable[..., Path]) -> None:
    root = without_rights("Art/TV", *DOMAINS["officehome"][1:])
    with pytest.raises(DataError, match=re.escape(f"{root / 'Art/TV'}: expected a folder that can be listed")):
        read("officehome", root)


@every_data_set
def test_what_is_found_below_is_read(tmp_path: Path, name: str, trees: Trees) -> None:
    below = tmp_path / DATASETS[name].folder[0] / "unpacked/again"
    below.parent.mkdir(parents=True)
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
        with atomic_folder(folder, digits.MAKER_VERSION) as faster:  # the other process
            (faster / "plain").mkdir()
        with atomic_folder(folder, digits.MAKER_VERSION):
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


def empty(splits: Splits, part: str, place: int) -> Splits:
    """The splits without the images of one source of a part."""
    sources = list(getattr(splits, part))
    sources[place] = replace(sources[place], rows=torch.empty(0, dtype=torch.long))
    return replace(splits, **{part: tuple(sources)})


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_an_empty_part_is_refused_unless_the_protocol_has_none(part: str) -> None:
    """Of one source of several, too: without validation a run would report the mean of its last epochs on test."""
    for name in ("digits", "rooms"):
        splits = random_splits(DATASETS[name])
        place = len(splits.train) - 1
        refuse_empty_parts(splits, SETTINGS, "here")
        with pytest.raises(
            DataError, match=f"^here: expected images in the part {part}.*, found none; add more images"
        ):
            refuse_empty_parts(empty(splits, part, place), SETTINGS, "here")
    published = replace(SETTINGS, protocol="published")
    for part in ("train", "test"):
        with pytest.raises(DataError, match=part):
            refuse_empty_parts(empty(random_splits(DATASETS["rooms"], validation=False), part, 0), published, "here")
    refuse_empty_parts(random_splits(DATASETS["rooms"], validation=False), published, "here")


@pytest.mark.parametrize("per_seed", [False, True])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_so_few_scenes_that_none_validates(images: int, per_seed: bool, tmp_path: Path, trees: Trees) -> None:
    for kind in ("image", "label", "depth", "normal"):
        for part in ("train", "val"):
            (tmp_path / part / kind).mkdir(parents=True)
            for index in range(images):
                (tmp_path / part / kind / f"{index}.npy").symlink_to(trees("nyuv2") / part / kind / f"{index}.npy")
    settings = replace(SETTINGS, split_per_seed=per_seed)
    inventory = DATASETS["nyuv2"].inventory
    assert inventory is not None
    if images == 3:
        assert len(read("nyuv2", tmp_path, settings).validation[0]) == 1 and not inventory(tmp_path, settings).errors
        return
    with pytest.raises(
        DataError, match=f"at least 3 training images, .* found {images}; .*protocol=published"
    ) as error:
        read("nyuv2", tmp_path, settings)
    assert str(error.value) in inventory(tmp_path, settings).errors
