"""Trees of tiny JPEGs with the folders, names and counts of Office-31 and Office-Home."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

# Images of a class in a domain where there are few: one of them is in validation.
_FEW = 6
_SIDE = 32


@dataclass(frozen=True)
class Tree:
    """What the files of a data set are called, and how many there are.

    domains: images by folder of a domain.
    classes: names of the class folders.
    pattern: of a file name, given its number in its folder, from 1.
    """

    domains: Mapping[str, int]
    classes: tuple[str, ...]
    pattern: str

    @property
    def images(self) -> int:
        return sum(self.domains.values())

    def few(self, validated: int) -> Tree:
        """The same domains and classes with few images, but at least `validated` of the first domain in validation."""
        first, *others = self.domains
        in_validation = math.ceil(validated / len(self.classes))  # of each class, which is a fifth of its images
        counts = {first: 5 * in_validation, **dict.fromkeys(others, _FEW)}
        return replace(self, domains={domain: count * len(self.classes) for domain, count in counts.items()})


_OFFICE31 = (
    "back_pack", "bike", "bike_helmet", "bookcase", "bottle", "calculator", "desk_chair", "desk_lamp",
    "desktop_computer", "file_cabinet", "headphones", "keyboard", "laptop_computer", "letter_tray", "mobile_phone",
    "monitor", "mouse", "mug", "paper_notebook", "pen", "phone", "printer", "projector", "punchers", "ring_binder",
    "ruler", "scissors", "speaker", "stapler", "tape_dispenser", "trash_can",
)  # fmt: skip
_OFFICEHOME = (
    "Alarm_Clock", "Backpack", "Batteries", "Bed", "Bike", "Bottle", "Bucket", "Calculator", "Calendar", "Candles",
    "Chair", "Clipboards", "Computer", "Couch", "Curtains", "Desk_Lamp", "Drill", "Eraser", "Exit_Sign", "Fan",
    "File_Cabinet", "Flipflops", "Flowers", "Folder", "Fork", "Glasses", "Hammer", "Helmet", "Kettle", "Keyboard",
    "Knives", "Lamp_Shade", "Laptop", "Marker", "Monitor", "Mop", "Mouse", "Mug", "Notebook", "Oven", "Pan",
    "Paper_Clip", "Pen", "Pencil", "Postit_Notes", "Printer", "Push_Pin", "Radio", "Refrigerator", "Ruler", "Scissors",
    "Screwdriver", "Shelf", "Sink", "Sneakers", "Soda", "Speaker", "Spoon", "TV", "Table", "Telephone", "ToothBrush",
    "Toys", "Trash_Can", "Webcam",
)  # fmt: skip

TREES: Mapping[str, Tree] = {
    "office31": Tree({"amazon/images": 2817, "dslr/images": 498, "webcam/images": 795}, _OFFICE31, "frame_{:04d}.jpg"),
    "officehome": Tree({"Art": 2427, "Clipart": 4365, "Product": 4439, "Real_World": 4357}, _OFFICEHOME, "{:05d}.jpg"),
}


def write_tree(folder: Path, tree: Tree) -> None:
    """Writes <folder>/<domain>/<class>/<image>, the images of a domain spread evenly over its classes.

    Every image is another: 32×32 pixels, a few soft colours that are drawn for it.
    """
    draw = np.random.default_rng(0)
    for domain, images in tree.domains.items():
        for label, name in enumerate(tree.classes):
            place = folder / domain / name
            place.mkdir(parents=True)
            for number in range(len(range(label, images, len(tree.classes)))):
                (place / tree.pattern.format(number + 1)).write_bytes(_tiny_jpeg(draw))


def _tiny_jpeg(draw: np.random.Generator) -> bytes:
    colours = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    stream = BytesIO()
    colours.resize((_SIDE, _SIDE)).save(stream, "JPEG")
    return stream.getvalue()
