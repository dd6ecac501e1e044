"""Embedded data is what its maker's version says: a change of numbers without a new version fails here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets import DATASETS
from datasets.embedded import digits, faces, flowtimes, rooms

# Per data set and version: a digest of what is exact, and a number for each array of the first few samples.
# After an intended change, raise the maker's version and add the values that the failing test prints.
GOLDEN: dict[tuple[str, int], tuple[str, list[float]]] = {
    ("digits", 2): ("b903ddb98e10f724", [
        58.4544, 121.0975, 75.8105, 44.6453, 127.6245, 76.8012, 188.9526, 142.1549, 43.8844, 178.4657, 73.4058,
        48.5043, 124.1118, 60.9234, 116.4479, 123.4132, 51.7887, 150.1181, 55.8732, 45.6664, 131.3019, 73.4630,
        119.5529, 147.3796, 79.8126, 147.8238, 79.5455, 66.2058, 134.3160, 82.9971, 161.4952, 131.9433, 44.7995,
        146.6013, 44.4796, 53.9637, 132.8170, 75.4968, 166.5028, 132.9271,
    ]),
    ("rooms", 1): ("43399d6da818a7a8", [
        0.5582, 6.7720, 2.8164, -0.0813, 0.4963, 6.6264, 2.8690, -0.2367, 0.4366, 6.4577, 3.3780, -0.1351,
        0.4647, 7.6192, 2.5081, -0.1378,
    ]),
    ("faces", 1): ("e323b1ad0344d2e6", [
        115.5619, 146.9428, 118.2406, 112.4376, 127.8272, 93.6327, 144.7011, 120.0589, 108.9385, 152.4073,
    ]),
    ("flowtimes", 1): ("ff46a608b8cf4072", [124.8819, 4.2582]),
    ("flowtimes_one", 1): ("fb5f6b12fab9c5d0", [124.8819, 4.3367]),
}  # fmt: skip

# Pixels run from 0 to 255 in digits and faces, and to a few units in rooms. A pixel in fifty may differ by one step, as
# another processor may round it; what a maker draws may not.
TOLERANCES = {"digits": 0.02, "rooms": 1e-4, "faces": 0.02, "flowtimes": 1e-4, "flowtimes_one": 1e-4}

Numbers = tuple[str, list[float]]


def projection(array: NDArray[np.generic]) -> float:
    """A mean of the array"s values with fixed random weights."""
    values = array.astype(np.float64).ravel()
    return float(values @ np.random.default_rng(0).normal(1, 1, len(values)) / len(values))


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def digits_numbers() -> Numbers:
    """Every third of the first pictures: all digits, domains and views; names of these files."""
    made = list(islice(digits.pictures(), 0, 120, 3))
    assert {Path(name).stem[-1] for name, _ in made} == {str(view) for view in range(digits.VIEWS)}
    assert {name.split("/")[2] for name, _ in made} == {str(label) for label in range(digits.CLASSES)}
    assert {name.split("/")[0] for name, _ in made} == set(digits.STYLES)
    return digest([name for name, _ in made]), [projection(pixels) for _, pixels in made]


def rooms_numbers() -> Numbers:
    made = [rooms.render(seed) for seed in ((0, 0), (0, 100), (1, 0), (1, 79))]
    arrays = [array for room in made for array in vars(room).values()]
    return digest(rooms.SPLITS, [array.shape for array in arrays]), [projection(array) for array in arrays]


def faces_numbers() -> Numbers:
    """All attributes occur in the first two hundred faces; ten of them are drawn."""
    attributes = []
    for index in range(200):
        attributes.append(faces.sample_attributes(np.random.default_rng((faces.SEED, index))))
    assert all(any(face[name] for face in attributes) for name in attributes[0])
    made = [faces.face(index) for index in range(10)]
    assert [face for face, _ in made] == attributes[:10]
    return digest(faces.PART_SIZES, faces.JPEG_QUALITY, attributes), [projection(picture) for _, picture in made]


def flowtimes_numbers() -> Numbers:
    return _numbers_at(flowtimes.TIMES)


def flowtimes_one_numbers() -> Numbers:
    return _numbers_at(flowtimes.ONE_TIME)


def _numbers_at(times: tuple[float, ...]) -> Numbers:
    """Items are rounded and labels decided by large margins, so those of the first hundred are exact."""
    images = flowtimes.pictures(100)
    labels = flowtimes.labels_of(images, times)
    shown = (times, flowtimes.PART_SIZES, images.tolist(), labels.tolist())
    return digest(shown), [projection(images), projection(labels)]


NUMBERS: dict[str, Callable[[], Numbers]] = {
    "digits": digits_numbers,
    "rooms": rooms_numbers,
    "faces": faces_numbers,
    "flowtimes": flowtimes_numbers,
    "flowtimes_one": flowtimes_one_numbers,
}


def test_every_maker_is_here() -> None:
    assert {name for name, info in DATASETS.items() if info.make is not None} == set(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_those_of_the_version(name: str) -> None:
    key = (name, DATASETS[name].maker_version)
    exact, projections = NUMBERS[name]()
    found = f"{key}: {(exact, [round(number, 4) for number in projections])}"
    assert key in GOLDEN, f"no values for {key}; add {found}"
    expected_exact, expected = GOLDEN[key]
    same = exact == expected_exact and np.allclose(projections, expected, rtol=0, atol=TOLERANCES[name])
    assert same, f"{name} changed: raise datasets.embedded.{name}.MAKER_VERSION and add {found}"
