"""flowtimes: six tasks that read one heavy-ball flow at six known times. A positive control for NORMAL.

The data is made from NORMAL's own equations, so it shows that the implementation can find positions that are there. It
is no evidence that real tasks lie on a flow.

Items x ∈ R²⁷ are Gaussian and stored as 3×3 pictures of three channels, rounded to 256 levels; the teacher sees the
rounded values. Its features start at z(0) = E x ∈ R⁸, at rest, and follow

    dz/dt = −q        dq/dt = −γ q + g(z) + ξ z        q(0) = 0

The label of the task at time t is the largest entry of C z(t), with one readout C for all tasks.

g is of the form of NORMAL's, two layers of width 8 with a LeakyReLU between them: g(z) = Q Ω² (LeakyReLU(Qᵀz + 1) − 1),
with Q orthogonal and frequencies Ω from 0.5 to 2 per unit of time. Where Qᵀz > −1, in five cases out of six, it is the
linear spring A z with A = Q Ω² Qᵀ; beyond, it is soft.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.contract import DataError, DataSettings, Source, Splits, Task, refuse
from datasets.embedded.atomic_folder import atomic_folder
from datasets.losses import class_prior, cross_entropy
from datasets.metrics import CLASSES as ACCURACY

MAKER_VERSION = 1  # raise it with every change that changes an item or a label

PART_SIZES = (2000, 1000, 3000)  # train, validation, test
PARTS = ("train", "validation", "test")
ITEMS = sum(PART_SIZES)
SIDE, CHANNELS, WIDTH, CLASSES = 3, 3, 8, 10
SEED = 2023  # the year of NORMAL's paper

# In the order of the tasks: shuffled, so that the order of the tasks says nothing.
TIMES = (1.5, 3.0, 0.5, 2.5, 1.0, 2.0)
# The negative control: all tasks at the mean of these times, so that they are one task six times.
ONE_TIME = (1.75,) * 6

GAMMA = 0.047  # sigmoid(−3), where NORMAL's γ starts
XI = 0.1  # NORMAL's default
FREQUENCIES = (0.5, 2.0)
SHIFT, LEAK = 1.0, 0.01
STEP = 0.05

# Pixels in [0, 1] with this mean and deviation are N(0, 1) after the data set's normalisation; ±4 deviations fit.
MEAN, DEVIATION = 0.5, 0.125

IMAGES_FILE, LABELS_FILE = "images.npy", "labels.npy"

Vectors = NDArray[np.float64]  # (N, 27) or (N, 8)


def flow_tasks(keys: Sequence[str], labels: Sequence[str]) -> tuple[Task, ...]:
    """One classification task per time."""
    return tuple(
        Task(key, label, CLASSES, cross_entropy, ACCURACY, lambda batches: class_prior(batches, CLASSES))
        for key, label in zip(keys, labels, strict=True)
    )


TASKS = flow_tasks([f"t{time:g}".replace(".", "_") for time in TIMES], [f"t = {time:g}" for time in TIMES])
ONE_TIME_TASKS = flow_tasks([f"copy_{i}" for i in range(1, 7)], [f"t = 1.75, copy {i}" for i in range(1, 7)])


def make(folder: Path) -> None:
    """Writes images.npy (6000, 3, 3, 3) uint8 and labels.npy (6000, 6) uint8, completely or not at all.

    Raises:
        FileExistsError: the folder is not empty; it is left unchanged.
    """
    _make(folder, TIMES)


def make_one_time(folder: Path) -> None:
    """The same items with all six tasks at time 1.75.

    Raises:
        FileExistsError: as of `make`.
    """
    _make(folder, ONE_TIME)


def _make(folder: Path, times: Sequence[float]) -> None:
    with atomic_folder(folder, MAKER_VERSION) as unfinished:
        images = pictures(ITEMS)
        np.save(unfinished / IMAGES_FILE, images)
        np.save(unfinished / LABELS_FILE, labels_of(images, times))


def pictures(items: int) -> NDArray[np.uint8]:
    """The first items, (N, 3, 3, 3)."""
    drawn = np.random.default_rng([SEED, 0]).normal(MEAN, DEVIATION, size=(items, SIDE, SIDE, CHANNELS))
    return np.round(255 * np.clip(drawn, 0, 1)).astype(np.uint8)


def inputs_of(images: NDArray[np.uint8]) -> Vectors:
    """x (N, 27) as networks see it after normalisation: channel by channel, each row by row."""
    normalised = (images / 255 - MEAN) / DEVIATION
    return normalised.transpose(0, 3, 1, 2).reshape(len(images), -1)


def labels_of(images: NDArray[np.uint8], times: Sequence[float]) -> NDArray[np.uint8]:
    """The class (N, m) of each item for the tasks at these times."""
    states = states_at(inputs_of(images) @ encoder().T, times)
    return np.stack([(z @ readout().T).argmax(axis=1) for z in states], axis=1).astype(np.uint8)


def encoder() -> Vectors:
    """E (8, 27), with entries of variance 1/27, so that z(0) has variance 1."""
    inputs = SIDE * SIDE * CHANNELS
    return np.random.default_rng([SEED, 1]).normal(0, inputs**-0.5, size=(WIDTH, inputs))


def modes() -> Vectors:
    """Q (8, 8), orthogonal; its columns are the directions of the frequencies."""
    orthogonal: Vectors = np.linalg.qr(np.random.default_rng([SEED, 2]).normal(size=(WIDTH, WIDTH))).Q
    return orthogonal


def readout() -> Vectors:
    """C (10, 8), the rows (cos kθ, sin kθ, …, cos 4kθ, sin 4kθ) with θ = 2π/10: equally long, almost a simplex."""
    angles = 2 * np.pi / CLASSES * np.outer(np.arange(CLASSES), np.arange(1, WIDTH // 2 + 1))
    return np.stack([np.cos(angles), np.sin(angles)], axis=2).reshape(CLASSES, WIDTH)


def spring(z: Vectors) -> Vectors:
    """g at z (N, 8)."""
    directions = modes()
    shifted = z @ directions + SHIFT
    bent = np.where(shifted > 0, shifted, LEAK * shifted) - SHIFT
    return (bent * np.linspace(*FREQUENCIES, WIDTH) ** 2) @ directions.T


def states_at(z: Vectors, times: Sequence[float], force: Callable[[Vectors], Vectors] = spring) -> list[Vectors]:
    """z(t) (N, 8) at each of `times`, which are multiples of STEP, by the classical Runge-Kutta method."""

    def slope(state: Vectors) -> Vectors:
        z, q = state
        return np.stack([-q, -GAMMA * q + force(z) + XI * z])

    state = np.stack([z, np.zeros_like(z)])
    path = [z]
    for _ in range(round(max(times) / STEP)):
        k1 = slope(state)
        k2 = slope(state + STEP / 2 * k1)
        k3 = slope(state + STEP / 2 * k2)
        k4 = slope(state + STEP * k3)
        state = state + STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path.append(state[0])
    return [path[round(time / STEP)] for time in times]


def read_flowtimes(root: Path, settings: DataSettings) -> Splits:
    """A random partition of all items, drawn with `data.split_seed`.

    Raises:
        DataError: a file can't be read, or isn't what `make` writes; or a setting has no use here.
    """
    refuse(settings, ("splits", "protocol", "metrics_batch", "augment"), "data sets of the flowtimes kind")
    if settings.image_size not in (None, (SIDE, SIDE)):
        raise DataError(f"data.image_size: expected null, found {settings.image_size}; items have no other size.")
    images = torch.from_numpy(_array(root / IMAGES_FILE, (ITEMS, SIDE, SIDE, CHANNELS)))
    labels = torch.from_numpy(_array(root / LABELS_FILE, (ITEMS, len(TIMES)))).long()
    targets = {task: labels[:, task].contiguous() for task in range(len(TIMES))}
    order = torch.from_numpy(np.random.default_rng([settings.split_seed, ITEMS]).permutation(ITEMS))
    parts = [rows.sort().values for rows in order.split(PART_SIZES)]
    train, validation, test = ((Source(images, targets, rows),) for rows in parts)
    provenance = {
        "rule": "random partition of all items",
        "seed": settings.split_seed,
        "counts": dict(zip(PARTS, PART_SIZES, strict=True)),
        "digest": hashlib.sha256(b"".join(rows.numpy().tobytes() for rows in parts)).hexdigest()[:16],
    }
    return Splits(train, validation, test, provenance)


def _array(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        array: NDArray[np.uint8] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path}: expected an array, found none ({reason}); delete the folder, and it is made again."
        ) from error
    if array.shape != shape or array.dtype != np.uint8:
        raise DataError(
            f"{path}: expected uint8 of shape {shape}, found {array.dtype} of shape {array.shape}; delete the folder, "
            "and it is made again."
        )
    return array
