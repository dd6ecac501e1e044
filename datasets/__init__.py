"""The table of data sets that methods are compared on; those of the paper come first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.archives import unpacking
from datasets.celeba import ATTRIBUTES, IMAGE_FOLDERS, PARTITION_FILES, read_celeba
from datasets.celeba import TASKS as CELEBA_TASKS
from datasets.contract import DataError, DataMissing, DatasetInfo, Recipe
from datasets.downloads import ORIGINS
from datasets.embedded import digits, faces, flowtimes, rooms
from datasets.embedded.atomic_folder import noted_version
from datasets.errors import forbidden, not_written
from datasets.finding import find_folder, packed
from datasets.inventory import celeba_inventory, office_counts, office_inventory
from datasets.nyuv2 import COLUMNS as NYUV2_COLUMNS
from datasets.nyuv2 import TASKS as NYUV2_TASKS
from datasets.nyuv2 import read_nyuv2
from datasets.office import (
    OFFICE31_CLASSES,
    OFFICE31_DOMAINS,
    OFFICEHOME_CLASSES,
    OFFICEHOME_DOMAINS,
    domain_tasks,
    office_reader,
)
from datasets.scene_inventory import nyuv2_inventory

PARQUET = ("data/train-*.parquet", "train-*.parquet")

_OFFICE_RECIPE = Recipe(epochs=100, batch_size=64, lr=1e-4, weight_decay=1e-5)
_CENTRED: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
_IF_POOLED = "images of the official test set are in every part, so numbers are not comparable with published ones"
# What the positive control and its negative counterpart have in common.
_FLOWTIMES: dict[str, Any] = {
    "kind": "single-input",
    "markers": (flowtimes.LABELS_FILE,),
    "backbone": "linear",
    "backbone_weights": "none",
    "head": "frozen_readout",
    "recipe": Recipe(epochs=80, batch_size=200, lr=1e-2),
    "selection": "accuracy",
    "image_size": None,
    "read": flowtimes.read_flowtimes,
    "maker_version": flowtimes.MAKER_VERSION,
    "source": "this suite",
    "published": {
        "images": (flowtimes.ITEMS,),
        "train / validation / test": flowtimes.PART_SIZES,
        "height / width": (flowtimes.SIDE, flowtimes.SIDE),
    },
    "mean": (flowtimes.MEAN,) * 3,
    "std": (flowtimes.DEVIATION,) * 3,
    "control": True,
}

DATASETS: dict[str, DatasetInfo] = {
    "office31": DatasetInfo(
        label="Office-31",
        kind="multi-input",
        tasks=domain_tasks(OFFICE31_DOMAINS, OFFICE31_CLASSES),
        folder=(
            "office31",
            "office-31",
            "Office31",
            "Office-31",
            "office_31",
            "domain_adaptation_images",
            "Original_images",
        ),
        markers=("amazon",),
        traces=("dslr", "webcam"),
        backbone="resnet18",
        backbone_weights="imagenet",
        head="linear",
        recipe=_OFFICE_RECIPE,
        selection="accuracy",
        image_size=(224, 224),
        read=office_reader(OFFICE31_DOMAINS, OFFICE31_CLASSES),
        how=ORIGINS["office31"].summary,
        origin=ORIGINS["office31"],
        source="Saenko, Kulis, Fritz, Darrell: Adapting visual category models to new domains (ECCV 2010)",
        inventory=office_inventory(OFFICE31_DOMAINS, OFFICE31_CLASSES),
        published=office_counts(OFFICE31_CLASSES, amazon=(1680, 552, 585), dslr=(287, 89, 122), webcam=(466, 149, 180)),
    ),
    "officehome": DatasetInfo(
        label="Office-Home",
        kind="multi-input",
        tasks=domain_tasks(OFFICEHOME_DOMAINS, OFFICEHOME_CLASSES),
        folder=(
            "officehome",
            "office-home",
            "office_home",
            "OfficeHome",
            "Office-Home",
            "OfficeHomeDataset_10072016",
            "OfficeHomeDataset",
            "OfficeHome_raw",
        ),
        markers=("Art", *PARQUET),
        traces=("Clipart", "Product", "Real_World"),
        columns=("domain", "label"),
        backbone="resnet18",
        backbone_weights="imagenet",
        head="linear",
        recipe=_OFFICE_RECIPE,
        selection="accuracy",
        image_size=(224, 224),
        read=office_reader(OFFICEHOME_DOMAINS, OFFICEHOME_CLASSES),
        how=ORIGINS["officehome"].summary,
        origin=ORIGINS["officehome"],
        source="Venkateswara, Eusebio, Chakraborty, Panchanathan: Deep hashing network (CVPR 2017)",
        inventory=office_inventory(OFFICEHOME_DOMAINS, OFFICEHOME_CLASSES),
        published=office_counts(
            OFFICEHOME_CLASSES,
            art=(1435, 465, 527),
            clipart=(2596, 846, 923),
            product=(2635, 860, 944),
            real_world=(2586, 846, 925),
        ),
    ),
    "nyuv2": DatasetInfo(
        label="NYUv2",
        kind="single-input",
        tasks=NYUV2_TASKS,
        folder=("nyuv2", "NYUv2", "nyu_v2", "NYU_v2"),
        markers=("train/image", *PARQUET),
        traces=("val/image", "test/image"),
        columns=tuple(NYUV2_COLUMNS.values()),
        backbone="resnet18_dilated",
        backbone_weights="imagenet",
        head="aspp",
        recipe=Recipe(epochs=200, batch_size=8, lr=1e-4, weight_decay=1e-5, lr_decay_every=100, lr_decay=0.5),
        selection="gain",
        image_size=(288, 384),
        read=read_nyuv2,
        how=ORIGINS["nyuv2"].summary,
        origin=ORIGINS["nyuv2"],
        source="Silberman, Hoiem, Kohli, Fergus: Indoor segmentation and support inference (ECCV 2012)",
        inventory=nyuv2_inventory,
        if_pooled=_IF_POOLED,
        published={"train: images": (795,), "val: images": (654,), "height / width": (288, 384)},
    ),
    "celeba": DatasetInfo(
        label="CelebA",
        kind="single-input",
        tasks=CELEBA_TASKS,
        folder=("celeba", "CelebA", "celeba-dataset"),
        markers=(
            "Anno/list_attr_celeba.txt",
            "list_attr_celeba.txt",
            "list_attr_celeba.csv",
            "Anno/list_attr_celeba.csv",
            *PARQUET,
        ),
        traces=(*PARTITION_FILES, *IMAGE_FOLDERS),
        columns=tuple(ATTRIBUTES),
        backbone="resnet18_64",
        backbone_weights="none",
        head="linear",
        version=2,
        recipe=Recipe(epochs=15, batch_size=256, lr=3e-4),
        selection="accuracy",
        image_size=(64, 64),
        read=read_celeba,
        how=ORIGINS["celeba"].summary,
        origin=ORIGINS["celeba"],
        source="Liu, Luo, Wang, Tang: Deep learning face attributes in the wild (ICCV 2015)",
        inventory=celeba_inventory,
        if_pooled=f"{_IF_POOLED}; identities overlap between parts",
        published={"images": (202_599,), "train / validation / test": (162_770, 19_867, 19_962)},
    ),
    "digits": DatasetInfo(
        label="Digits",
        kind="multi-input",
        tasks=domain_tasks(digits.DOMAINS, digits.CLASSES),
        folder=("digits",),
        markers=("plain",),
        backbone="small",
        backbone_weights="none",
        head="linear",
        recipe=Recipe(epochs=30, batch_size=64, lr=1e-2, lr_decay_every=10, lr_decay=0.3),
        selection="accuracy",
        image_size=None,
        read=office_reader(digits.DOMAINS, digits.CLASSES, digits.item_of),
        make=digits.make,
        maker_version=digits.MAKER_VERSION,
        how="Made on this machine from scikit-learn's handwritten digits.",
        source="Alpaydin, Kaynak: Optical recognition of handwritten digits (UCI, 1998), as shipped by scikit-learn",
        inventory=office_inventory(digits.DOMAINS, digits.CLASSES, digits.item_of),
        published=office_counts(digits.CLASSES, **{domain.key: digits.PART_SIZES for domain in digits.DOMAINS}),
        version=4,
        **_CENTRED,
    ),
    "rooms": DatasetInfo(
        label="Rooms",
        kind="single-input",
        tasks=NYUV2_TASKS,
        folder=("rooms",),
        markers=("train/image",),
        backbone="small_dense",
        backbone_weights="none",
        head="conv",
        recipe=Recipe(epochs=45, batch_size=8, lr=5e-3, lr_decay_every=15, lr_decay=0.3),
        selection="gain",
        image_size=(rooms.HEIGHT // 2, rooms.WIDTH // 2),
        read=read_nyuv2,
        make=rooms.make,
        maker_version=rooms.MAKER_VERSION,
        how="Made on this machine: ray-cast furnished rooms.",
        source="this suite",
        inventory=nyuv2_inventory,
        published={
            "train: images": (rooms.SPLITS["train"],),
            "val: images": (rooms.SPLITS["val"],),
            "height / width": (rooms.HEIGHT, rooms.WIDTH),
        },
        version=2,
        **_CENTRED,
    ),
    "faces": DatasetInfo(
        label="Faces",
        kind="single-input",
        tasks=CELEBA_TASKS,
        folder=("faces",),
        markers=("Anno/list_attr_celeba.txt",),
        backbone="small_face",
        backbone_weights="none",
        head="linear",
        recipe=Recipe(epochs=15, batch_size=32, lr=1e-2, lr_decay_every=5, lr_decay=0.3),
        selection="accuracy",
        image_size=(16, 16),
        read=read_celeba,
        make=faces.make,
        maker_version=faces.MAKER_VERSION,
        how="Made on this machine: drawn faces with 40 visible attributes.",
        source="this suite",
        inventory=celeba_inventory,
        published={"images": (sum(faces.PART_SIZES),), "train / validation / test": faces.PART_SIZES},
        version=3,
        **_CENTRED,
    ),
    "flowtimes": DatasetInfo(
        label="Flowtimes",
        tasks=flowtimes.TASKS,
        folder=("flowtimes",),
        make=flowtimes.make,
        how="Made on this machine: a control, labels read from one heavy-ball flow at six times.",
        **_FLOWTIMES,
    ),
    "flowtimes_one": DatasetInfo(
        label="Flowtimes, one time",
        tasks=flowtimes.ONE_TIME_TASKS,
        folder=("flowtimes_one",),
        make=flowtimes.make_one_time,
        how="Made on this machine: the negative control of flowtimes, all six tasks at one time.",
        **_FLOWTIMES,
    ),
}


def find(name: str, root: Path) -> Path | None:
    """The folder of a data set: in the data root, below its own folder there, or the root itself. None if not found.

    Raises:
        DataError: a folder can't be listed.
    """
    try:
        return find_folder(DATASETS[name], root)
    except PermissionError as error:
        raise forbidden(Path(error.filename)) from error


def obtain(name: str, root: Path) -> Path:
    """The folder of a data set. Embedded data is made if it isn't there.

    Raises:
        DataMissing: it was not found and can't be made; the message says how to get it, or how to unpack it.
        DataError: it is embedded data of another version, or can't be made there.
    """
    info = DATASETS[name]
    folder = find(name, root)
    if folder is None and info.make is not None:
        place = root / info.folder[0]
        try:
            info.make(place)
        except FileExistsError as error:  # another process may have made it in the meantime
            if find(name, root) is None:
                raise DataMissing(f"{name}: expected {info.markers[0]} in {place}, found none. {error}") from error
        except OSError as error:
            raise not_written(place, f"make {name}", error, "another data root with --data-root or MTL_DATA") from error
        folder = find(name, root)
    if folder is None:
        raise _missing(name, root)
    version = noted_version(folder)
    if info.make is not None and version != info.maker_version:
        found = f"version {version}" if version else "an unknown version"
        raise DataError(
            f"{folder}: expected {name} of version {info.maker_version}, found {found}; delete the folder, and it is "
            "made again."
        )
    return folder


def _missing(name: str, root: Path) -> DataMissing:
    info = DATASETS[name]
    expected = f"{name}: expected a folder {' or '.join(info.folder[:2])} with {info.markers[0]} in {root}"
    archives = packed(info, root)
    if archives:
        return DataMissing(f"{expected}, found it packed; {unpacking(archives)}")
    return DataMissing(f"{expected}, found none. {info.how} Set another data root with --data-root or MTL_DATA.")
