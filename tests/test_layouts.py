"""Layouts that people have: the same data gives the same splits, and what is nearly right is named with what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from data_trees import (
    CLASSES,
    DOMAINS,
    SETTINGS,
    Trees,
    every_data_set,
    every_office,
    read,
    same,
    view,
    write_celeba,
    write_celeba_parquet,
    write_office_parquet,
    write_parquet,
)
from PIL import Image

from bench.run import main as run
from datasets import DATASETS, find, obtain
from datasets.contract import DataError, DataMissing, Splits
from datasets.embedded.atomic_folder import atomic_folder
from datasets.fingerprint import fingerprint
from datasets.office import OFFICE31_DOMAINS, OFFICEHOME_DOMAINS, domain_folders


def linked(tree: Path, root: Path, rename: Callable[[str], str] = str) -> Path:
    """A tree of an Office data set under a new root by links, its domains renamed."""
    root.mkdir(parents=True)
    for child in tree.iterdir():
        if child.is_dir() and not child.name.startswith("."):
            (root / rename(child.name)).symlink_to(child)
    return root


@cache
def usual(name: str, tree: Path) -> tuple[Splits, dict[str, str]]:
    """What is read from the tree of a data set that all tests share, which nobody changes."""
    splits = read(name, tree)
    return splits, fingerprint(splits)


def assert_the_same(name: str, root: Path, tree: Path) -> None:
    splits, (expected, prints) = read(name, root), usual(name, tree)
    assert same(splits, expected) and splits.provenance == expected.provenance
    assert fingerprint(splits) == prints


def names_below(root: Path) -> dict[str, int]:
    """The files below a folder with their sizes, without hidden ones."""
    files = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {str(name): path.stat().st_size for name, path in files.items() if not name.parts[0].startswith(".")}


def litter(root: Path) -> int:
    """What macOS and Windows leave in every folder, beside every file and class; the number of files."""
    count = 0
    for folder, names, files in list(os.walk(root)):
        place = Path(folder)
        (place / "__MACOSX").mkdir()
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", *(f"._{file}" for file in [*files, *names])):
            (place / name).write_bytes(b"Mac OS X")
            count += 1
        for file in files:
            (place / "__MACOSX" / file).write_bytes(b"Mac OS X")
    return count


@pytest.mark.parametrize(
    ("name", "own"),
    [("office31", "dslr/images/TV"), ("nyuv2", "val/image"), ("celeba", "Img/img_align_celeba"), ("celeba", "Anno")],
)
def test_leftovers_of_file_managers_are_passed_over(tmp_path: Path, name: str, own: str, trees: Trees) -> None:
    root = tmp_path / DATASETS[name].folder[0]
    view(trees(name), root, own)  # a folder of each level is littered
    assert litter(root) > 8
    assert find(name, tmp_path) == root
    assert_the_same(name, root, trees(name))
    inventory = DATASETS[name].inventory
    assert inventory is not None
    littered, clean = inventory(root, SETTINGS), inventory(trees(name), SETTINGS)
    assert littered.counts == clean.counts and list(littered.errors) == list(littered.remarks) == []


def test_leftovers_beside_parquet_files_are_passed_over(tmp_path: Path, trees: Trees) -> None:
    write_parquet(tmp_path / "nyuv2")
    litter(tmp_path)
    assert find("nyuv2", tmp_path) == tmp_path / "nyuv2"
    assert same(read("nyuv2", tmp_path / "nyuv2"), read("nyuv2", trees("nyuv2")))


def test_names_that_are_not_utf_8_are_read(tmp_path: Path, trees: Trees) -> None:
    name, own = "office31", "dslr/images/TV"
    view(trees(name), tmp_path, own)
    os.rename(tmp_path / own / "frame_0000.jpg", os.fsencode(tmp_path / own) + b"/frame_0000\xff.jpg")
    assert same(read(name, tmp_path), usual(name, trees(name))[0])


def test_what_macos_packs_beside_a_data_set_is_not_taken_for_it(tmp_path: Path, trees: Trees) -> None:
    (tmp_path / "office-home/__MACOSX/Art").mkdir(parents=True)
    root = linked(trees("officehome"), tmp_path / "office-home/unpacked")
    assert find("officehome", tmp_path) == root


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("officehome", "OfficeHome_raw"),
        ("officehome", "OfficeHomeDataset_10072016"),
        ("officehome", "office_home"),
        ("officehome", "OFFICE-HOME"),
        ("officehome", "Office Home/OfficeHomeDataset_10072016"),
        ("office31", "Original_images"),
        ("office31", "office31/Original_images"),
        ("office31", "OFFICE31"),
        ("office31", "domain_adaptation_images"),
    ],
)
def test_folders_by_any_of_their_names(tmp_path: Path, trees: Trees, name: str, place: str) -> None:
    root = linked(trees(name), tmp_path / place)
    assert find(name, tmp_path) == root


SPELLINGS = {"Art": "ART", "Clipart": "clipart", "Real_World": "Real World", "dslr": "DSLR", "webcam": "Webcam"}


@every_office
def test_domains_by_any_of_their_names(tmp_path: Path, trees: Trees, name: str) -> None:
    root = linked(trees(name), tmp_path / DATASETS[name].folder[0], lambda domain: SPELLINGS.get(domain, domain))
    assert find(name, tmp_path) == root
    assert_the_same(name, root, trees(name))
    for rename in (str.lower, str.upper):
        root = linked(trees(name), tmp_path / rename("Again") / DATASETS[name].folder[0], rename)
        assert find(name, root.parent) == root
        domains = OFFICEHOME_DOMAINS if name == "officehome" else OFFICE31_DOMAINS
        found, errors = domain_folders(root, domains)
        assert not errors and [place.parent if place.name == "images" else place for place in found.values()] == [
            root / rename(folder.split("/")[0]) for folder in DOMAINS[name]
        ]


@pytest.mark.parametrize("spelling", ["real", "Real", "real_world", "realworld", "REAL WORLD", "Real-World"])
def test_the_real_world_by_any_of_its_names(tmp_path: Path, trees: Trees, spelling: str) -> None:
    root = linked(trees("officehome"), tmp_path / "home", lambda name: spelling if name == "Real_World" else name)
    found, errors = domain_folders(root, OFFICEHOME_DOMAINS)
    assert not errors and found["real_world"] == root / spelling


def test_a_domain_that_is_there_twice_is_named(tmp_path: Path, trees: Trees) -> None:
    root = linked(trees("officehome"), tmp_path / "home")
    (root / "Real World").symlink_to(root / "Real_World")  # the same folder again
    assert domain_folders(root, OFFICEHOME_DOMAINS)[1] == []
    (root / "real").mkdir()
    with pytest.raises(DataError) as caught:
        read("officehome", root)
    assert str(caught.value) == (
        f"{root}: expected one folder of the domain Real_World, found Real_World and real; keep only one of them."
    )


@every_data_set
def test_the_data_root_may_be_the_data_set_itself(tmp_path: Path, trees: Trees, name: str) -> None:
    for folder in (*DATASETS[name].folder, "mine"):
        root = tmp_path / folder
        root.symlink_to(trees(name))
        assert find(name, root) == obtain(name, root) == root
        assert all(find(other, root) is None for other in DATASETS if other != name)


def test_a_data_root_named_like_the_data_set_is_searched_below(tmp_path: Path, trees: Trees) -> None:
    root = linked(trees("officehome"), tmp_path / "OfficeHome/unpacked/again")
    assert find("officehome", tmp_path / "OfficeHome") == root


def test_embedded_data_is_not_taken_for_the_real_data_set(tmp_path: Path) -> None:
    for folder in ("celeba", "mine"):
        with atomic_folder(tmp_path / folder, 1) as faces:
            write_celeba(faces)
        assert find("celeba", tmp_path / folder) is None
    assert find("celeba", tmp_path) is None


def test_parquet_files_in_a_data_root_are_told_by_their_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "mine")
    assert {name for name in DATASETS if find(name, tmp_path / "mine")} == {"nyuv2"}


@pytest.mark.parametrize("ending", [".JPG", ".webp", ".bmp", ".PNG"])
def test_images_of_other_endings(tmp_path: Path, trees: Trees, ending: str) -> None:
    name, own = "office31", "dslr/images/TV"
    view(trees(name), tmp_path, own)
    for path in list((tmp_path / own).iterdir()):
        path.unlink() if ending != ".JPG" else path.rename(path.with_suffix(ending))
        if ending != ".JPG":
            with Image.open(trees(name) / own / path.name) as image:
                image.save(path.with_suffix(ending), lossless=True)
    assert same(read(name, tmp_path), usual(name, trees(name))[0])


@pytest.mark.parametrize("ending", [".webp", ".bmp", ".JPG", ".PNG"])
def test_faces_of_other_endings(tmp_path: Path, trees: Trees, ending: str) -> None:
    folder = tmp_path / "Img/img_align_celeba"
    view(trees("celeba"), tmp_path, "Img/img_align_celeba")
    for path in list(folder.iterdir()):
        with Image.open(path) as image:
            pixels = image.copy()
        path.unlink()
        if ending == ".JPG":
            shutil.copy(trees("celeba") / "Img/img_align_celeba" / path.name, path.with_suffix(ending))
        else:
            pixels.save(path.with_suffix(ending), lossless=True)
    assert_the_same("celeba", tmp_path, trees("celeba"))


def test_the_test_part_of_nyuv2_by_its_other_name(tmp_path: Path, trees: Trees) -> None:
    view(trees("nyuv2"), tmp_path)
    (tmp_path / "val").rename(tmp_path / "test")
    assert_the_same("nyuv2", tmp_path, trees("nyuv2"))
    inventory = DATASETS["nyuv2"].inventory
    assert inventory is not None and inventory(tmp_path, SETTINGS).counts == inventory(trees("nyuv2"), SETTINGS).counts
    (tmp_path / "val").symlink_to(trees("nyuv2") / "val")
    for found in (str(_error("nyuv2", tmp_path)), *inventory(tmp_path, SETTINGS).errors):
        assert found.startswith(f"{tmp_path}: expected a folder val or a folder test, found both; keep")


def test_the_test_part_of_parquet_files_by_its_other_name(tmp_path: Path, trees: Trees) -> None:
    write_parquet(tmp_path)
    for file in list(tmp_path.glob("data/val-*")):
        file.rename(file.with_name(file.name.replace("val", "test")))
    assert_the_same("nyuv2", tmp_path, trees("nyuv2"))
    shutil.copy(next(tmp_path.glob("data/test-00000*")), tmp_path / "data/val-00000-of-00001.parquet")
    assert "expected files val-*.parquet or files test-*.parquet, found both" in str(_error("nyuv2", tmp_path))


def _error(name: str, root: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read(name, root)
    return caught.value


def packed(tree: Path, archive: Path) -> None:
    """A tree as an archive, whose top folder has a name of its own."""
    files = [path for path in tree.rglob("*") if path.is_file() and not any(p.startswith(".") for p in path.parts[2:])]
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in files:
                file.write(path, Path("top") / path.relative_to(tree))
    else:
        with tarfile.open(archive, "w:gz" if "gz" in archive.suffix else "w") as file:
            for path in files:
                file.add(path, Path("top") / path.relative_to(tree))


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("office31", "office31/it's packed.zip"),
        ("office31", "domain_adaptation_images.tar.gz"),
        ("office31", "Office 31/amazon & co.tgz"),
        ("nyuv2", "nyu_v2 (1).tar"),
        ("nyuv2", "NYUv2.zip"),
        ("celeba", "celeba-dataset.zip"),
    ],
)
def test_an_archive_is_named_with_the_command_that_unpacks_it(
    tmp_path: Path, trees: Trees, name: str, archive: str
) -> None:
    root = tmp_path / "data root"
    packed(trees(name), root / archive)
    with pytest.raises(DataMissing) as caught:
        obtain(name, root)
    message, command = str(caught.value).split("\n")
    assert message.startswith(f"{name}: expected a folder ") and message.endswith(f"unpack {root / archive}:")
    assert command.startswith("unzip -q " if archive.endswith(".zip") else ("tar -xf ", "mkdir -p "))
    subprocess.run(command, shell=True, check=True)
    assert names_below(obtain(name, root)) == names_below(trees(name))


def test_archives_of_other_data_sets_are_not_named(tmp_path: Path) -> None:
    for name in ("CelebA-HQ.zip", "CelebAMask-HQ.zip", "backup.zip", "._celeba.zip"):
        (tmp_path / name).touch()
    with pytest.raises(DataMissing) as caught:
        obtain("celeba", tmp_path)
    assert "unpack" not in str(caught.value)


def test_what_of_a_data_set_is_still_packed_is_named(tmp_path: Path, trees: Trees) -> None:
    root = tmp_path / "celeba"
    view(trees("celeba"), root, "Img")
    shutil.rmtree(root / "Img", ignore_errors=True)
    (root / "Img").mkdir()
    (root / "Img/img_align_celeba.zip").touch()
    folder = root / "Img"
    assert str(_error("celeba", root)).endswith(
        f"found only Anno/list_attr_celeba.txt and Eval/list_eval_partition.txt; unpack {folder}/img_align_celeba.zip:"
        f"\nunzip -q {folder}/img_align_celeba.zip -d {folder}"
    )


NEAR_MISSES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "two domains of four": (
        "officehome",
        ("Product", "Real_World"),
        "expected 4 domains, Art, Clipart, Product, Real_World, found only Art and Clipart; unpack Product and "
        "Real_World there.",
    ),
    "the first domain missing": ("officehome", ("Art",), "found only Clipart and Product and Real_World; unpack Art"),
    "one domain missing": (
        "office31",
        ("dslr",),
        "expected 3 domains, amazon, dslr, webcam, found only amazon and webcam; unpack dslr there.",
    ),
    "no test part": (
        "nyuv2",
        ("val",),
        "expected a folder val or a folder test beside the training part, found none; copy it there.",
    ),
    "no attributes": (
        "celeba",
        ("Anno",),
        "found only Eval/list_eval_partition.txt and Img/img_align_celeba; copy it there.",
    ),
    "only images": ("celeba", ("Anno", "Eval"), "found only Img/img_align_celeba; copy it there."),
}


@pytest.mark.parametrize("miss", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_what_is_nearly_there_is_listed(
    tmp_path: Path, trees: Trees, miss: tuple[str, tuple[str, ...], str], capsys: pytest.CaptureFixture[str]
) -> None:
    name, missing, message = miss
    root = tmp_path / name
    copy_function = os.symlink  # of files; folders are made
    shutil.copytree(trees(name), root, ignore=shutil.ignore_patterns(".*", *missing), copy_function=copy_function)
    assert find(name, tmp_path) == root
    error = str(_error(name, root))
    assert error.startswith(f"{root}: expected ") and message in error and error.count("\n") <= 1
    inventory = DATASETS[name].inventory
    assert inventory is not None and error in inventory(root, SETTINGS).errors
    assert (
        run(["--method", "ew", "--data", name, "--data-root", str(tmp_path), "--results", str(tmp_path / "results")])
        == 2
    )
    assert message in capsys.readouterr().err


def test_an_empty_domain_is_named(tmp_path: Path, trees: Trees) -> None:
    root = linked(trees("officehome"), tmp_path / "home", lambda name: "was" if name == "Clipart" else name)
    (root / "Clipart").mkdir()
    message = f"{root / 'Clipart'}: expected 65 class folders, found none; unpack that domain again."
    assert str(_error("officehome", root)) == message
    inventory = DATASETS["officehome"].inventory
    assert inventory is not None and message in inventory(root, SETTINGS).errors


def test_an_incomplete_copy_does_not_hide_a_complete_one(tmp_path: Path, trees: Trees) -> None:
    (tmp_path / "celeba/img_align_celeba").mkdir(parents=True)
    (tmp_path / "celeba/archive").symlink_to(trees("celeba"))
    assert find("celeba", tmp_path) == tmp_path / "celeba/archive"


def test_lists_name_domains_as_they_like(tmp_path: Path, trees: Trees) -> None:
    """Lists say amazon/..., the folder is called AMAZON."""
    name = "office31"
    root = linked(trees(name), tmp_path / name, str.upper)
    (tmp_path / "lists").mkdir()
    for domain in (folder.split("/")[0] for folder in DOMAINS[name]):
        names = [
            (f"{domain}/{c}/frame_000{i}.jpg", label, i) for label, c in enumerate(CLASSES[name]) for i in range(3)
        ]
        for part, ending in enumerate(("train", "val", "test")):
            lines = [f"{path} {label}" for path, label, index in names if index == part]
            (tmp_path / f"lists/{domain}_{ending}.txt").write_text("\n".join(lines))
    settings = replace(SETTINGS, splits=str(tmp_path / "lists"))
    assert same(read(name, root, settings), read(name, trees(name), settings))


def test_attributes_in_another_order_are_mapped_by_name(tmp_path: Path, trees: Trees) -> None:
    view(trees("celeba"), tmp_path, "Anno")
    path = tmp_path / "Anno/list_attr_celeba.txt"
    count, header, *rows = path.read_text().splitlines()
    names, order = header.split(), [(7 * column) % 40 for column in range(40)]
    shuffled = [" ".join(names[column] for column in order)]
    shuffled += [" ".join([row.split()[0], *(row.split()[1:][column] for column in order)]) for row in rows]
    path.write_text("\n".join([count, *shuffled]) + "\n")
    assert shuffled[0] != header
    assert_the_same("celeba", tmp_path, trees("celeba"))
    path.write_text("\n".join([count, shuffled[0].replace("Young", "Smiling"), *shuffled[1:]]) + "\n")
    assert "expected the 40 attribute names of CelebA in line 2, found no 'Young' and 'Smiling' twice" in str(
        _error("celeba", tmp_path)
    )


def test_office_from_parquet_files_is_office_from_folders(tmp_path: Path, trees: Trees) -> None:
    root = tmp_path / "officehome"
    write_office_parquet(root, trees("officehome"), "officehome")
    assert obtain("officehome", tmp_path) == find("officehome", root) == root and find("nyuv2", root) is None
    assert_the_same("officehome", root, trees("officehome"))
    inventory = DATASETS["officehome"].inventory
    assert inventory is not None
    assert inventory(root, SETTINGS).counts == inventory(trees("officehome"), SETTINGS).counts


def test_office_from_parquet_files_without_names_keeps_the_order_of_rows(tmp_path: Path, trees: Trees) -> None:
    name = "office31"  # has fewer images, and the same reader
    write_office_parquet(tmp_path, trees(name), name, named=False)
    splits, (expected, _) = read(name, tmp_path), usual(name, trees(name))
    assert "no names" in str(splits.provenance["order"])
    assert splits.provenance["counts"] == expected.provenance["counts"]
    inventory = DATASETS[name].inventory
    assert inventory is not None and "images are in the order of rows" in inventory(tmp_path, SETTINGS).remarks[0]
    by_lists = replace(SETTINGS, splits=str(tmp_path))
    with pytest.raises(DataError, match="expected images with different names, which the lists of data") as refused:
        read(name, tmp_path, by_lists)
    assert str(refused.value) in inventory(tmp_path, by_lists).errors


def test_lists_are_checked_against_the_images_in_parquet_files(tmp_path: Path, trees: Trees) -> None:
    name, lists = "office31", tmp_path / "lists"
    write_office_parquet(tmp_path, trees(name), name)
    lists.mkdir()
    for domain in (folder.split("/")[0] for folder in DOMAINS[name]):
        for index, ending in enumerate(("train", "val", "test")):
            lines = [f"{domain}/images/{c}/frame_000{index}.jpg {label}" for label, c in enumerate(CLASSES[name])]
            (lists / f"{domain}_{ending}.txt").write_text("\n".join(lines))
    inventory, settings = DATASETS[name].inventory, replace(SETTINGS, splits=str(lists))
    assert inventory is not None
    found = inventory(tmp_path, settings)
    assert not found.errors and found.counts["dslr: train / validation / test"] == (31, 31, 31)
    assert any("of dslr are in no list" in remark for remark in found.remarks)
    (lists / "dslr_test.txt").write_text((lists / "dslr_val.txt").read_text())
    with pytest.raises(DataError) as refused:
        read(name, tmp_path, settings)
    errors = inventory(tmp_path, settings).errors
    assert errors[0] == str(refused.value) and len(errors) == 31


@pytest.mark.parametrize(
    ("validation", "no", "folder"), [("valid", False, ""), ("validation", -1, "data"), ("valid", 0, "data")]
)
def test_celeba_from_parquet_files_is_celeba_from_lists(
    tmp_path: Path, trees: Trees, validation: str, no: int | bool, folder: str
) -> None:
    root = tmp_path / "celeba"
    write_celeba_parquet(root / folder, trees("celeba"), validation, no)
    assert obtain("celeba", tmp_path) == root
    assert_the_same("celeba", root, trees("celeba"))
    inventory = DATASETS["celeba"].inventory
    assert inventory is not None
    assert inventory(root, SETTINGS).counts == inventory(trees("celeba"), SETTINGS).counts
    next(root.rglob("test-*")).unlink()
    assert "expected files test-*.parquet, found none" in str(_error("celeba", root))
