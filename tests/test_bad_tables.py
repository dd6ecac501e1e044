"""What is wrong with CelebA's re-packed tables, and with lists and images in any layout, is named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from data_trees import read, same, write_celeba

from datasets.contract import DataError

ATTRIBUTES, PARTITION = "list_attr_celeba.csv", "list_eval_partition.csv"
IMAGES = "img_align_celeba/img_align_celeba"

Spoil = Callable[[Path], object]


def edited(name: str, pattern: str, substitute: str) -> Spoil:
    """The one place of a table that matches changed; ^ and $ are ends of a line."""

    def spoil(root: Path) -> None:
        text, count = re.subn(pattern, substitute, (root / name).read_text(), flags=re.MULTILINE)
        assert count == 1
        (root / name).write_text(text)

    return spoil


def without_images(*numbers: int) -> Spoil:
    def spoil(root: Path) -> None:
        for number in numbers:
            (root / IMAGES / f"{number:06d}.jpg").unlink()

    return spoil


ROW = "expected a file name and 40 values of 1 or -1, found"
ERRORS: dict[str, tuple[Spoil, str]] = {
    "a row of attributes missing": (
        edited(ATTRIBUTES, r"^000004.*\n", ""),
        f"/{PARTITION}: expected only images that {ATTRIBUTES} names, found 000004.jpg",
    ),
    "a row of attributes twice": (
        edited(ATTRIBUTES, r"^(000004.*\n)", r"\1\1"),
        f"/{ATTRIBUTES}:6: expected each image once, found 000004.jpg again",
    ),
    "a value missing": (edited(ATTRIBUTES, r"^(000004.*),-?1$", r"\1"), f"/{ATTRIBUTES}:5: {ROW} 40 fields"),
    "a value that is none": (edited(ATTRIBUTES, r"^(000004.*),-?1$", r"\1,2"), f"/{ATTRIBUTES}:5: {ROW} '2'"),
    "0 and -1 for no": (edited(ATTRIBUTES, r"^(000004.*),-?1$", r"\1,0"), f"/{ATTRIBUTES}:5: {ROW} '0'"),
    "another attribute": (
        edited(ATTRIBUTES, ",Male,", ",Female,"),
        f"/{ATTRIBUTES}: expected the 40 attribute names of CelebA in line 1, found 'Female'",
    ),
    "no header": (
        edited(ATTRIBUTES, r"\Aimage_id.*\n", ""),
        f"/{ATTRIBUTES}: expected the 40 attribute names of CelebA in line 1, found ",
    ),
    "a row of the partition missing": (
        edited(PARTITION, r"^000004.*\n", ""),
        f"/{PARTITION}: expected a row for 000004.jpg, found none",
    ),
    "a row of the partition twice": (
        edited(PARTITION, r"^(000004.*\n)", r"\1\1"),
        f"/{PARTITION}:6: expected each image once, found 000004.jpg again",
    ),
    "a fourth part": (
        edited(PARTITION, r"^(000004.jpg),2$", r"\1,3"),
        f"/{PARTITION}:5: expected a file name and 0, 1 or 2, found '000004.jpg,3'",
    ),
    "no partition": (
        lambda root: (root / PARTITION).unlink(),
        ": expected Eval/list_eval_partition.txt or list_eval_partition.txt or ",
    ),
    "a folder for a table": (
        lambda root: ((root / PARTITION).unlink(), (root / PARTITION).mkdir()),
        f"/{PARTITION}: expected a text file, found none (Is a directory)",
    ),
    "an absent image": (
        without_images(3),
        f"/{IMAGES}/000003.jpg: expected a file, found none, though {PARTITION} names it; unpack the images again.",
    ),
    "absent images": (
        without_images(3, 5, 6),
        f"/{IMAGES}/000003.jpg: expected a file, found none, though {PARTITION} names it (2 more are missing: "
        "000005.jpg, 000006.jpg); unpack ",
    ),
}


def test_errors_in_tables_are_named_with_file_and_line(tmp_path: Path) -> None:
    write_celeba(tmp_path / "intact", "re-packed")
    for number, (name, (spoil, message)) in enumerate(ERRORS.items()):
        root = tmp_path / str(number)
        shutil.copytree(tmp_path / "intact", root)
        spoil(root)
        with pytest.raises(DataError) as caught:
            read("celeba", root)
        assert str(caught.value).startswith(f"{root}{message}"), name
        assert re.search(r"; (download|copy|unpack) ", str(caught.value)), name


def test_tables_with_quotes_and_0_for_no_are_read(tmp_path: Path) -> None:
    write_celeba(tmp_path / "intact", "re-packed")
    shutil.copytree(tmp_path / "intact", tmp_path / "other")
    for name in (ATTRIBUTES, PARTITION):
        lines = (tmp_path / "other" / name).read_text().replace("-1", "0").splitlines()
        quoted = [",".join(f'"{field}"' for field in line.split(",")) for line in lines]
        (tmp_path / "other" / name).write_text("\n".join(quoted))
    assert same(read("celeba", tmp_path / "other"), read("celeba", tmp_path / "intact"))
