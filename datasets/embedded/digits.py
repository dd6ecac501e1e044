"""digits: the 1,797 handwritten digits that scikit-learn ships, as four domains in the layout of Office-31.

Each digit is used in one domain only, so that a domain is about as small as DSLR.
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

MAKER_VERSION = 1  # raise it with every change that changes a picture or a file name

SIDE = 16
CLASSES = 10

Ink = NDArray[np.float64]  # (16, 16) in [0, 1]
Picture = NDArray[np.float64]  # (16, 16, 3) in [0, 1]


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
    """Rotated by up to 25° and covered with noise."""
    from scipy import ndimage

    rotated = ndimage.rotate(ink, rng.uniform(-25, 25), reshape=False, order=1)
    return np.repeat(rotated[..., None], 3, axis=2) + rng.normal(0, 0.2, size=(SIDE, SIDE, 3))


STYLES: Mapping[str, Callable[[Ink, np.random.Generator], Picture]] = {
    "plain": plain,
    "inverted": inverted,
    "outline": outline,
    "noisy": noisy,
}
DOMAINS = tuple(Domain(name, name.capitalize(), (name,)) for name in STYLES)


def make(folder: Path) -> None:
    """Writes <folder>/<domain>/images/<digit>/<number>.png, completely or not at all.

    Raises:
        FileExistsError: the folder is not empty; it is left unchanged.
    """
    with atomic_folder(folder, MAKER_VERSION) as unfinished:
        for name, pixels in pictures():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def pictures() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The path of every file below the folder, and its pixels (16, 16, 3)."""
    from scipy import ndimage
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    styles = list(STYLES.items())
    seen = [0] * CLASSES
    for index, (pixels, label) in enumerate(zip(images.reshape(-1, 8, 8) / 16, labels, strict=True)):
        # The images of a class go to the domains in turn, so that every domain has every class equally often.
        name, style = styles[seen[label] % len(styles)]
        seen[label] += 1
        ink = np.clip(ndimage.zoom(pixels, SIDE / 8, order=1), 0, 1)
        picture = np.clip(style(ink, np.random.default_rng([1797, index])), 0, 1)
        yield f"{name}/images/{label}/{index:04d}.png", np.round(picture * 255).astype(np.uint8)
