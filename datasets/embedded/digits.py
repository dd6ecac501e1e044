"""digits: the 1,797 handwritten digits that scikit-learn ships, as four domains in the layout of Office-31.

Every domain has every digit, drawn in its style from several slightly different views. All images of a digit have its
number in their names, and splits keep them together (`item_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets.embedded.atomic_folder import atomic_folder
from datasets.office import Domain

# scipy and scikit-learn are imported where digits are made, since they are slow to import and needed only once.

MAKER_VERSION = 2  # raise it with every change that changes a picture or a file name

SIDE = 8
CLASSES = 10
VIEWS = 2  # images of each digit in each domain
PART_SIZES = (2148, 710, 736)  # images of a domain in train, validation and test

Ink = NDArray[np.float64]  # (8, 8) in [0, 1]
Picture = NDArray[np.float64]  # (8, 8, 3) in [0, 1]


def plain(ink: Ink, rng: np.random.Generator) -> Picture:
    """White on black."""
    del rng
    return np.repeat(ink[..., None], 3, axis=2)


def inverted(ink: Ink, rng: np.random.Generator) -> Picture:
    """Dark ink on a coloured ground."""
    ground, colour = rng.uniform(0.45, 1.0, size=3), rng.uniform(0.0, 0.35, size=3)
    return ground + ink[..., None] * (colour - ground)


def outline(ink: Ink, rng: np.random.Generator) -> Picture:
    """Only the edges of the strokes, in a bright colour on grey."""
    from scipy import ndimage

    slopes = ndimage.gaussian_gradient_magnitude(ink, sigma=0.6)
    edges: NDArray[np.float64] = np.clip(slopes / slopes.max(), 0, 1)[..., None]
    return 0.35 + edges * (rng.uniform(0.5, 1.0, size=3) - 0.35)


def noisy(ink: Ink, rng: np.random.Generator) -> Picture:
    """Covered with noise."""
    return np.repeat(ink[..., None], 3, axis=2) + rng.normal(0, 0.25, size=(SIDE, SIDE, 3))


STYLES: Mapping[str, Callable[[Ink, np.random.Generator], Picture]] = {
    "plain": plain,
    "inverted": inverted,
    "outline": outline,
    "noisy": noisy,
}
TURNS = {"plain": 8.0, "inverted": 8.0, "outline": 8.0, "noisy": 25.0}  # degrees to either side, at most
DOMAINS = tuple(Domain(name, name.capitalize(), (name,)) for name in STYLES)


def item_of(path: Path) -> str:
    """The number of the digit that an image shows."""
    return path.stem.partition("-")[0]


def make(folder: Path) -> None:
    """Writes <folder>/<domain>/images/<digit>/<number>-<view>.png, completely or not at all.

    Raises:
        FileExistsError: the folder is not empty; it is left unchanged.
    """
    with atomic_folder(folder, MAKER_VERSION) as unfinished:
        for name, pixels in pictures():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def pictures() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The path of every file below the folder, and its pixels (8, 8, 3)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for index, (pixels, label) in enumerate(zip(images.reshape(-1, SIDE, SIDE) / 16, labels, strict=True)):
        for domain, (name, style) in enumerate(STYLES.items()):
            for view in range(VIEWS):
                rng = np.random.default_rng([1797, index, domain, view])
                picture = np.clip(style(seen(pixels, TURNS[name], rng), rng), 0, 1)
                yield f"{name}/images/{label}/{index:04d}-{view}.png", np.round(picture * 255).astype(np.uint8)


def seen(ink: Ink, turn: float, rng: np.random.Generator) -> Ink:
    """A view of a digit: turned by up to `turn` degrees, scaled a little, and moved by less than a pixel."""
    from scipy import ndimage

    angle = np.deg2rad(rng.uniform(-turn, turn))
    sine, cosine = np.sin(angle), np.cos(angle)
    matrix = rng.uniform(0.9, 1.15) * np.array([[cosine, -sine], [sine, cosine]])
    middle = (SIDE - 1) / 2
    offset = middle + rng.uniform(-0.7, 0.7, size=2) - matrix @ (middle, middle)
    view: Ink = ndimage.affine_transform(ink, matrix, offset, order=1)
    return view
