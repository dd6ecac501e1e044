"""A small data set of drawn faces with CelebA's 40 attributes, written in CelebA's official layout.

The labels are not judgements of pictures: attributes are sampled first, from the model below, and then drawn. Shares
and dependencies resemble CelebA's, except that no attribute is rarer than about 6 %, so that a small training part can
teach each of them. What CelebA leaves to taste is given a visible rule here: an `Attractive` face is a symmetric one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets.celeba import ATTRIBUTES
from datasets.embedded.atomic_folder import atomic_folder
from datasets.embedded.face_drawing import draw
from datasets.embedded.face_shapes import Attributes

MAKER_VERSION = 1  # raise it with every change that changes a picture or an attribute

PART_SIZES = (1400, 300, 300)  # train, validation, test: the 0, 1, 2 of list_eval_partition.txt
SEED = 2015  # CelebA's year
JPEG_QUALITY = 95

MALE = 0.42
YOUNG = (0.84, 0.62)  # of women, of men
# Probabilities that depend on sex and age only: of young women, older women, young men, older men.
BY_SEX_AND_AGE: Mapping[str, tuple[float, float, float, float]] = {
    "Arched_Eyebrows": (0.45, 0.35, 0.10, 0.08),
    "Attractive": (0.70, 0.35, 0.42, 0.15),
    "Bags_Under_Eyes": (0.10, 0.30, 0.25, 0.42),
    "Big_Lips": (0.32, 0.22, 0.18, 0.14),
    "Big_Nose": (0.10, 0.25, 0.32, 0.50),
    "Blurry": (0.08, 0.08, 0.08, 0.08),
    "Bushy_Eyebrows": (0.08, 0.06, 0.27, 0.22),
    "Chubby": (0.05, 0.13, 0.11, 0.22),
    "Eyeglasses": (0.05, 0.12, 0.12, 0.22),
    "Heavy_Makeup": (0.66, 0.50, 0.00, 0.00),
    "Narrow_Eyes": (0.11, 0.12, 0.13, 0.13),
    "Oval_Face": (0.33, 0.25, 0.25, 0.18),
    "Pale_Skin": (0.11, 0.09, 0.06, 0.05),
    "Pointy_Nose": (0.38, 0.28, 0.20, 0.16),
    "Smiling": (0.54, 0.50, 0.42, 0.40),
    "Wearing_Earrings": (0.34, 0.30, 0.03, 0.01),
    "Wearing_Hat": (0.07, 0.06, 0.14, 0.09),
    "Wearing_Necklace": (0.22, 0.18, 0.04, 0.02),
    "Wearing_Necktie": (0.00, 0.00, 0.18, 0.28),
}
BALD = (0.00, 0.00, 0.10, 0.34)
RECEDING = (0.02, 0.06, 0.08, 0.45)  # of those who are not bald and wear no hat
BANGS = (0.23, 0.20, 0.09, 0.05)  # of those whose hair neither recedes nor is missing
HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")  # with the remaining probability: no label
HAIR_COLOUR_CHANCES = (
    (0.25, 0.26, 0.31, 0.01),
    (0.14, 0.24, 0.20, 0.30),
    (0.38, 0.10, 0.30, 0.02),
    (0.22, 0.06, 0.22, 0.44),
)
HAIR_SHAPES = ("Straight_Hair", "Wavy_Hair")
HAIR_SHAPE_CHANCES = ((0.26, 0.46), (0.22, 0.40), (0.24, 0.18), (0.20, 0.12))
BEARDED_MEN = 0.48


def make(folder: Path) -> None:
    """Writes Anno, Eval and Img of the faces into `folder`, completely or not at all.

    Raises:
        FileExistsError: the folder is not empty; it is left unchanged.
    """
    with atomic_folder(folder, MAKER_VERSION) as unfinished:
        _write(unfinished)


def face(index: int) -> tuple[Attributes, NDArray[np.uint8]]:
    """The attributes and the picture (HEIGHT, WIDTH, 3) of one face."""
    rng = np.random.default_rng((SEED, index))  # one per face, so that no face depends on those before it
    attributes = sample_attributes(rng)
    return attributes, draw(attributes, rng)


def sample_attributes(rng: np.random.Generator) -> Attributes:
    """Whether each attribute holds, in CelebA's order, for one face drawn from this module's population."""

    def happens(probability: float) -> bool:
        return bool(rng.random() < probability)

    male = happens(MALE)
    young = happens(YOUNG[male])
    kind = 2 * male + (not young)  # column of the tables above
    has = dict.fromkeys(ATTRIBUTES, False) | {"Male": male, "Young": young}
    has |= {name: happens(chances[kind]) for name, chances in BY_SEX_AND_AGE.items()}

    has["High_Cheekbones"] = happens(0.72 if has["Smiling"] else 0.22)
    has["Mouth_Slightly_Open"] = happens(0.70 if has["Smiling"] else 0.28)
    has["Wearing_Lipstick"] = not male and happens(0.95 if has["Heavy_Makeup"] else 0.45)
    has["Rosy_Cheeks"] = not male and happens(0.20 if has["Heavy_Makeup"] else 0.02)
    has["Double_Chin"] = happens(0.60 if has["Chubby"] else 0.04)

    # What a hat would hide completely does not occur with one.
    has["Bald"] = not has["Wearing_Hat"] and happens(BALD[kind])
    has["Receding_Hairline"] = not (has["Wearing_Hat"] or has["Bald"]) and happens(RECEDING[kind])
    has["Bangs"] = not (has["Bald"] or has["Receding_Hairline"]) and happens(BANGS[kind])
    colour = _pick(HAIR_COLOURS, HAIR_COLOUR_CHANCES[kind], rng)
    shape = _pick(HAIR_SHAPES, HAIR_SHAPE_CHANCES[kind], rng)
    has |= {name: True for name in (colour, shape) if name is not None and not has["Bald"]}

    bearded = male and happens(BEARDED_MEN)
    has["No_Beard"] = not bearded
    # Bearded without any of the first three is a full beard, for which CelebA has no name.
    has["5_o_Clock_Shadow"] = bearded and happens(0.50)
    has["Mustache"] = bearded and happens(0.42)
    has["Goatee"] = bearded and happens(0.42)
    has["Sideburns"] = male and happens(0.36 if bearded else 0.07)
    return has


def _pick(names: tuple[str, ...], chances: tuple[float, ...], rng: np.random.Generator) -> str | None:
    """One of the names, or None with the remaining probability."""
    position = int(np.searchsorted(np.cumsum(chances), rng.random(), side="right"))
    return names[position] if position < len(names) else None


def _write(folder: Path) -> None:
    images = folder / "Img" / "img_align_celeba"
    for directory in (folder / "Anno", folder / "Eval", images):
        directory.mkdir(parents=True)
    labels, partition = [], []
    parts = np.repeat(range(len(PART_SIZES)), PART_SIZES)
    for index, part in enumerate(parts):
        name, (attributes, picture) = f"{index + 1:06d}.jpg", face(index)
        Image.fromarray(picture).save(images / name, quality=JPEG_QUALITY)
        labels.append(" ".join([name, *(f"{1 if attributes[key] else -1:2d}" for key in ATTRIBUTES)]))
        partition.append(f"{name} {part}")
    _write_lines(folder / "Anno" / "list_attr_celeba.txt", [str(len(labels)), " ".join(ATTRIBUTES), *labels])
    _write_lines(folder / "Eval" / "list_eval_partition.txt", partition)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
