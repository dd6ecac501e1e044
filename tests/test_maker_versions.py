"""Embedded data is what its maker's version says: a change of numbers without a new version fails here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets import DATASETS
from datasets.embedded import digits, faces, flowtimes, rooms

# Per data set and version: a digest of what is exact, and a number for each array of the first few samples.
# After an intended change, raise the maker's version and add the values that the failing test prints.
GOLDEN: dict[tuple[str, int], tuple[str, list[float]]] = {
    ("digits", 1): ("ea1959470b14b4fb", [
        78.0468, 81.6183, 91.2014, 67.3313, 72.4938, 88.9008, 82.8614, 74.1465, 91.6033, 87.0792, 90.9317,
        133.2606, 124.6896, 150.3344, 139.4666, 156.6282, 102.6085, 104.0604, 140.2441, 138.1075, 127.9566,
        111.9752, 115.2428, 137.2586, 123.2795, 126.3836, 115.4666, 130.7192, 142.3484, 128.3847, 92.9155,
        78.6308, 89.2713, 89.7309, 85.1336, 142.7639, 91.0679, 81.1868, 80.2796, 131.3789,
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
    """The first forty pictures have all digits and all four domains; names of all files."""
    made = list(islice(digits.pictures(), 40))
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
