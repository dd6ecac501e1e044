"""Ways to damage a data set, and the message that names each damage."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data_trees import PARTS
from numpy.typing import NDArray

Change = Callable[[Path], object]


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


def renamed(name: str) -> Change:
    return lambda path: path.rename(path.with_name(name))


def doubled(name: str) -> Change:
    return lambda path: path.with_name(name).symlink_to(path)


def filled(content: bytes) -> Change:
    return lambda path: path.write_bytes(content)


def saved(array: NDArray[np.generic]) -> Change:
    return lambda path: np.save(path, array)


def valued(value: float) -> Change:
    """One pixel changed."""

    def change(path: Path) -> None:
        array = np.load(path)
        array[2, 3] = value
        np.save(path, array)

    return change


def changed(change: Callable[[NDArray[np.float64]], NDArray[np.generic]]) -> Change:
    """The whole array changed."""
    return lambda path: np.save(path, change(np.load(path)))


def scaled(rows: int, columns: int) -> Change:
    """All arrays in the folders of a part repeated so many times in height and width."""

    def change(part: Path) -> None:
        for folder in part.iterdir():
            arrays = {path.name: np.load(path) for path in folder.glob("*.npy")}
            removed(folder)  # it may be a link to the tree that other tests read
            folder.mkdir()
            for name, array in arrays.items():
                np.save(folder / name, array.repeat(rows, axis=0).repeat(columns, axis=1))

    return change


def edited(pattern: str, substitute: str) -> Change:
    """The only match in a text file replaced; ^ and $ are the ends of a line."""

    def change(path: Path) -> None:
        text, count = re.subn(pattern, substitute, path.read_text(), flags=re.MULTILINE)
        assert count == 1
        path.write_text(text)

    return change


def copied_with_a_change(name: str) -> Change:
    """A second file in the folder above, whose first line says another part."""

    def change(path: Path) -> None:
        first, *rest = path.read_text().splitlines(keepends=True)
        (path.parent.parent / name).write_text("".join([first.replace(" 0", " 1"), *rest]))

    return change


@dataclass(frozen=True)
class Damage:
    """A change to a file or folder, and the error message "<named>: expected <expected>".

    named: what the message begins with, if it is not `place`.
    """

    place: str
    change: Change
    expected: str
    named: str | None = None


OFFICE_IMAGE, HOME_IMAGE = "amazon/images/TV/frame_0002.jpg", "Art/TV/frame_0000.jpg"
IMAGE, LABEL, DEPTH, NORMAL = "val/image/2.npy", "train/label/3.npy", "val/depth/10.npy", "train/normal/0.npy"
FACE = "Img/img_align_celeba/000003.jpg"
ATTRIBUTE_FILE, PARTITION_FILE = "Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt"
SIZE, RATIO = "height, width and channels", "height and width in the ratio of 4 to 6"
RANGE, METRES = "image values in [0, 1], found", "depths from 0 to 20 m, found"
LABELS, UNIT = "whole labels from -1 to 12, found", "unit normals with components from -1 to 1"
HEADER = "the 40 attribute names of CelebA in line 2, found"
ROW, ROW_2 = "a file name and 40 values of 1 or -1, found", f"{ATTRIBUTE_FILE}:4"
PLACE, PLACE_4 = "a file name and 0, 1 or 2, found", f"{PARTITION_FILE}:4"

DAMAGES: dict[str, dict[str, Damage]] = {
    "office31": {
        "truncated image": Damage(OFFICE_IMAGE, cut, "a readable image, found"),
        "class missing": Damage("webcam/images/TV", removed, "31 class folders, found 30", "webcam/images"),
        "class in one domain only": Damage(
            "dslr/images/TV", renamed("Vision"), "the same classes in amazon and dslr, found 'TV' in only one", ""
        ),
        "empty domain": Damage(
            "amazon/images/TV", lambda path: emptied(path.parent), "31 class folders, found none", "amazon/images"
        ),
        "too few images": Damage(
            "dslr/images/back_pack_26/frame_0001.jpg",
            removed,
            "at least 5 images to split, found 4",
            "dslr/images/back_pack_26",
        ),
    },
    "officehome": {
        "empty image": Damage(HOME_IMAGE, filled(b""), "a readable image, found a file of 0 bytes"),
        "text for an image": Damage(
            HOME_IMAGE, filled(b"<html>"), "a readable image, found something else, beginning with b'<html>'"
        ),
        "spare class": Damage("Clipart/TV", doubled("Vision"), "65 class folders, found 66", "Clipart"),
        "class in one domain only": Damage(
            "Product/TV", renamed("Vision"), "the same classes in art and product, found 'TV' in only one", ""
        ),
        "domain missing": Damage(
            "Real_World",
            removed,
            "4 domains, Art, Clipart, Product, Real_World, found only Art and Clipart and Product; unpack Real_World",
            "",
        ),
    },
    "nyuv2": {
        "truncated npy": Damage(DEPTH, cut, "a readable .npy file, found"),
        "empty npy": Damage(DEPTH, filled(b""), "a readable .npy file, found"),
        "damaged header": Damage(DEPTH, filled(b"\x93NUMPY\x01\x00\x06\x00{'a'(\n"), "a readable .npy file, found"),
        "archive for npy": Damage(DEPTH, filled(b"PK\x03\x04" + bytes(99)), "a readable .npy file, found"),
        "pickled npy": Damage(DEPTH, saved(np.array([None])), "a readable .npy file, found"),
        "no channels": Damage(DEPTH, saved(np.ones((4, 6))), "an array of any×any×1, found 4×6"),
        "channels first": Damage(NORMAL, saved(np.ones((3, 4, 6))), "an array of any×any×3, found 3×4×6"),
        "other size": Damage(IMAGE, saved(np.ones((5, 6, 3))), f"{SIZE} 4×6×3, found 5×6×3"),
        "labels of another size": Damage(
            LABEL, saved(np.ones((8, 12))), f"{SIZE} 4×6, found 8×12 (all kinds of all scenes must"
        ),
        "other aspect ratio": Damage("train", scaled(2, 1), f"{RATIO}, found 8×6; crop", ""),
        "label too high": Damage(LABEL, valued(13), f"{LABELS} 13"),
        "labels from 1": Damage(
            LABEL, saved(np.arange(24.0).reshape(4, 6) % 14), f"{LABELS} 13 (classes numbered from 1?"
        ),
        "255 for no label": Damage(LABEL, valued(255), f"{LABELS} 255 (255 for pixels without a label? store -1)"),
        "label too low": Damage(LABEL, valued(-2), f"{LABELS} -2"),
        "label in between": Damage(LABEL, valued(2.5), f"{LABELS} 2.5"),
        "label not a number": Damage(LABEL, valued(np.nan), f"{LABELS} nan"),
        "image in bytes": Damage(IMAGE, valued(255), f"{RANGE} 0.0117647 to 255"),
        "images in bytes": Damage(
            IMAGE,
            changed(lambda a: np.round(255 * a)),
            f"{RANGE} 3 to 200 (stored as 0 to 255? divide by",
        ),
        "image too dark": Damage(IMAGE, valued(-0.5), f"{RANGE} -0.5 to 0.784314"),
        "image not a number": Damage(IMAGE, valued(np.nan), f"{RANGE} nan"),
        "depth in millimetres": Damage(
            DEPTH,
            changed(lambda a: 1000 * a),
            f"{METRES} 0 to 3500 (in millimetres? divide by 1000)",
        ),
        "depth of 8 bit": Damage(
            DEPTH, changed(lambda a: a / a.max() * 255), f"{METRES} 0 to 255 (in centimetres, or scaled to 0 to 255?"
        ),
        "depth in centimetres": Damage(DEPTH, changed(lambda a: 100 * a), f"{METRES} 0 to 350 (in centimetres, or"),
        "complex depth": Damage(
            DEPTH, changed(lambda a: a.astype(complex)), "whole or floating-point numbers, found the type complex128"
        ),
        "labels true or false": Damage(
            LABEL, changed(lambda a: a > 3), "whole or floating-point numbers, found the type bool"
        ),
        "labels in words": Damage(
            LABEL, changed(lambda a: a.astype("U4")), "whole or floating-point numbers, found the type <U4"
        ),
        "normals as signed bytes": Damage(NORMAL, changed(lambda a: -127 * abs(a)), f"{UNIT}, found -127 to -0"),
        "leading zeros": Damage(
            LABEL, renamed("0003.npy"), "a file, found none, but 0003.npy; number the files from 0 to 14"
        ),
        "negative depth": Damage(DEPTH, valued(-1), f"{METRES} -1 to 3.5 (negative where unknown? store 0)"),
        "normals from 0 to 1": Damage(
            NORMAL, changed(lambda a: (a + 1) / 2), f"{UNIT}, found them coded as 0 to 1 (decode them: 2·x - 1)"
        ),
        "normals from 0 to 255": Damage(
            NORMAL, changed(lambda a: np.round(255 * (a + 1) / 2)), f"{UNIT}, found them coded as 0 to 255 (decode them"
        ),
        "depth not a number": Damage(DEPTH, valued(np.nan), "finite values, found nan"),
        "infinite normal": Damage(NORMAL, valued(np.inf), "finite values, found inf"),
        "label missing": Damage(LABEL, removed, "a file, found none"),
        "last image missing": Damage("train/image/14.npy", removed, "a file, found none"),
        "test part missing": Damage("val", removed, "a folder val or a folder test beside", ""),
    },
    "celeba": {
        "truncated image": Damage(FACE, cut, "a readable image, found"),
        "empty image": Damage(FACE, filled(b""), "a readable image, found a file of 0 bytes"),
        "image missing": Damage(FACE, removed, "a file, found none"),
        "images missing": Damage("Img/img_align_celeba", removed, "Img/img_align_celeba or", ""),
        "partition missing": Damage(PARTITION_FILE, removed, f"{PARTITION_FILE} or", ""),
        "two lists": Damage(
            PARTITION_FILE, copied_with_a_change("list_eval_partition.txt"), "a copy of", "list_eval_partition.txt"
        ),
        "empty file": Damage(ATTRIBUTE_FILE, filled(b""), f"{HEADER} no '5_o_Clock_Shadow'"),
        "bytes for text": Damage(ATTRIBUTE_FILE, filled(b"10\n\xff\xfe\x80\n"), HEADER),
        "count missing": Damage(ATTRIBUTE_FILE, edited(r"^10\n", ""), f"{HEADER} '000001.jpg'"),
        "other name": Damage(ATTRIBUTE_FILE, edited(" Male ", " Female "), f"{HEADER} 'Female', which is none of"),
        "a name less": Damage(ATTRIBUTE_FILE, edited(" Young$", ""), f"{HEADER} no 'Young'"),
        "a name more": Damage(ATTRIBUTE_FILE, edited(" Young$", " Young Old"), f"{HEADER} 'Old', which is none"),
        "row missing": Damage(ATTRIBUTE_FILE, edited(r"^000004.*\n", ""), "10 rows as line 1 says, found 9"),
        "zero for -1": Damage(ATTRIBUTE_FILE, edited(r"^(000002.*) -?1$", r"\1 0"), f"{ROW} '0'", ROW_2),
        "a value less": Damage(ATTRIBUTE_FILE, edited(r"^(000002.*) -?1$", r"\1"), f"{ROW} 40 fields", ROW_2),
        "no part for an image": Damage(PARTITION_FILE, edited(r"^000004.*\n", ""), "a row for 000004.jpg, found none"),
        "part for no image": Damage(
            PARTITION_FILE,
            edited(r"\Z", "000011.jpg 0\n"),
            "only images that list_attr_celeba.txt names, found 000011.jpg",
        ),
        "fourth part": Damage(PARTITION_FILE, edited("^(000004.*) 2$", r"\1 3"), f"{PLACE} '000004.jpg 3'", PLACE_4),
        "part in words": Damage(PARTITION_FILE, edited("^(000004.*) 2$", r"\1 x"), f"{PLACE} '000004.jpg x'", PLACE_4),
        "no part in a row": Damage(PARTITION_FILE, edited("^(000004.*) 2$", r"\1"), f"{PLACE} '000004.jpg'", PLACE_4),
        "empty part": Damage(
            PARTITION_FILE,
            filled(b"".join(b"%06d.jpg %d\n" % (index + 1, index % 2) for index in range(len(PARTS)))),
            "images in part 2 of list_eval_partition.txt, found none",
            "",
        ),
    },
}
