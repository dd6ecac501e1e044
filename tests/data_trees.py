"""Small trees of the real data sets, in each layout that their readers accept, and what is in them."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datasets import DATASETS
from datasets.celeba import ATTRIBUTES
from datasets.contract import DataSettings, Source, Split, Splits
from datasets.embedded import digits
from datasets.embedded.atomic_folder import atomic_folder
from datasets.pixels import CACHE

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
SHARDS = {"train": 4, "val": 2}
COLUMNS = {"image": "image", "label": "segmentation", "depth": "depth", "normal": "normal"}
PART_NAMES = ("train", "validation", "test")
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


class Unregistered(pyarrow.ExtensionType):  # type: ignore[misc]
    """How the public files mark their arrays; who reads them without that package sees nested lists."""

    def __init__(self, storage: pyarrow.DataType) -> None:
        super().__init__(storage, "datasets.features.features.Array3DExtensionType")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"[]"


def columns_of(scenes: Sequence[Mapping[str, NDArray[np.generic]]], marked: bool = False) -> pyarrow.Table:
    """Scenes as in the public parquet files: channels first, float32, labels in int64, and noise."""
    columns = {}
    for kind, column in COLUMNS.items():
        rows = [np.moveaxis(one[kind], -1, 0) if one[kind].ndim == 3 else one[kind] for one in scenes]
        number = pyarrow.int64() if kind == "label" else pyarrow.float32()
        kept = pyarrow.list_(pyarrow.list_(number if kind == "label" else pyarrow.list_(number)))
        array = pyarrow.array([row.tolist() for row in rows], type=kept)
        extend = marked and kind != "label"
        columns[column] = pyarrow.ExtensionArray.from_storage(Unregistered(kept), array) if extend else array
    noise = pyarrow.array([[[[0.5] * 6] * 4]] * len(scenes))
    return pyarrow.table({**columns, "noise": noise})


def write_parquet(root: Path, folder: str = "data", marked: bool = True) -> None:
    """The parquet form, in several files with row groups of two scenes."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for part, count in SCENES.items():
        shares = np.array_split(range(count), SHARDS[part])
        for number, share in enumerate(shares):
            table = columns_of([scene(int(index)) for index in share], marked)
            name = f"{part}-{number:05d}-of-{len(shares):05d}-0123456789abcdef.parquet"
            pyarrow.parquet.write_table(table, root / folder / name, row_group_size=2)


def write_office_parquet(root: Path, tree: Path, name: str, named: bool = True) -> None:
    """An Office tree as Hugging Face stores it: shuffled rows in two files, names of classes beside the schema."""
    paths = [
        (path, domain.split("/")[0].replace("_", " "), label)
        for domain in DOMAINS[name]
        for label, class_name in enumerate(CLASSES[name])
        for path in sorted((tree / domain / class_name).iterdir())
    ]
    features = {"label": {"names": list(CLASSES[name]), "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    (root / "data").mkdir(parents=True)
    for shard, members in enumerate(np.array_split(np.random.default_rng(0).permutation(len(paths)), 2)):
        rows = [paths[index] for index in members]
        images = [{"bytes": p.read_bytes(), "path": p.name if named else None} for p, _, _ in rows]
        kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        table = pyarrow.table(
            {
                "image": pyarrow.array(images, type=kind),
                "domain": pyarrow.array([domain for _, domain, _ in rows]),
                "label": pyarrow.array([label for _, _, label in rows]),
            }
        )
        target = root / f"data/train-{shard:05d}-of-00002.parquet"
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), target)


def write_celeba_parquet(root: Path, tree: Path, validation: str, no: int | bool) -> None:
    """CelebA as Hugging Face stores it. no: the value of an attribute that a face hasn't."""
    root.mkdir(parents=True, exist_ok=True)
    for part, name in enumerate(("train", validation, "test")):
        members = [index for index, its in enumerate(PARTS) if its == part]
        files = [tree / f"Img/img_align_celeba/{index + 1:06d}.jpg" for index in members]
        values = celeba_attributes()[members]
        columns = {
            attribute: [type(no)(1) if value else no for value in values[:, column]]
            for column, attribute in reversed(list(enumerate(ATTRIBUTES)))
        }
        images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
        table = pyarrow.table({"image": images, "celeb_id": members, **columns})
        pyarrow.parquet.write_table(table, root / f"{name}-00000-of-00001.parquet")


def celeba_colour(index: int) -> Colour:
    return 20 + 20 * index, 220 - 20 * index, 100


def celeba_attributes() -> NDArray[np.bool_]:
    """(images, 40)"""
    attributes = np.random.default_rng(0).random((len(PARTS), len(ATTRIBUTES))) < 0.5
    attributes[KNOWN_ROW] = [name in KNOWN_ATTRIBUTES for name in ATTRIBUTES]
    return attributes


# Folders of attributes, partition and images; ending of the text files and of the images.
CELEBA_LAYOUTS = {
    "official": ("Anno", "Eval", "Img/img_align_celeba", "txt", "jpg"),
    "flat": ("", "", "img_align_celeba", "txt", "jpg"),
    "png": ("Anno", "Eval", "Img/img_align_celeba_png", "txt", "png"),
    "png under the usual name": ("", "", "img_align_celeba", "txt", "png"),
    "re-packed": ("", "", "img_align_celeba/img_align_celeba", "csv", "jpg"),
}


def write_celeba(root: Path, layout: str = "official") -> None:
    """As distributed, as torchvision keeps it ("flat"), with images that are not compressed, or as tables."""
    *places, text, ending = CELEBA_LAYOUTS[layout]
    annotations, evaluation, images = (root / place for place in places)
    for folder in (annotations, evaluation, images):
        folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index + 1:06d}.jpg" for index in range(len(PARTS))]
    signs = [["1" if has else "-1" for has in row] for row in celeba_attributes()]
    if text == "csv":
        lines = [
            f"image_id,{','.join(ATTRIBUTES)}",
            *(f"{n},{','.join(row)}" for n, row in zip(names, signs, strict=True)),
        ]
        members = ["image_id,partition", *map("{},{}".format, names, PARTS)]
    else:
        rows = [" ".join(f"{sign:>2}" for sign in row) for row in signs]
        lines = [str(len(names)), " ".join(ATTRIBUTES), *map("{} {}".format, names, rows)]
        members = list(map("{} {}".format, names, PARTS))
    (annotations / f"list_attr_celeba.{text}").write_text("\n".join(lines) + "\n")
    (evaluation / f"list_eval_partition.{text}").write_text("\n".join(members) + "\n")
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
    """The splits as a reader gives them, with their rows gathered."""
    splits = DATASETS[name].read(root, settings)
    return replace(splits, **{part: tuple(map(gathered, getattr(splits, part))) for part in PART_NAMES})


def gathered(source: Source) -> Source:
    """The source with only its own rows, in memory."""
    rows = source.rows_at(torch.arange(len(source)))
    return Source(source.images[rows], {task: target[rows] for task, target in source.targets.items()})


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


every_office = pytest.mark.parametrize("name", DOMAINS)
every_data_set = pytest.mark.parametrize("name", REAL)


def write_digits(root: Path) -> Path:
    """The embedded digits with five digits per class, in two views, instead of 180."""
    seen: Counter[Path] = Counter()
    folder = root / "digits"
    with atomic_folder(folder, digits.MAKER_VERSION) as unfinished:
        for name, pixels in digits.pictures():
            path = unfinished / name
            seen[path.parent] += 1
            if seen[path.parent] <= 10:
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
            if len(seen) == 40 and min(seen.values()) >= 10:
                break
    return folder
