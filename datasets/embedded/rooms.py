"""A small data set in the on-disk layout of the MTAN-preprocessed NYUv2: ray-cast furnished rooms.

World: x, y along the walls, z up, metres; the camera stands near the wall y = 0. Camera: x right, y down, z forward.
Depth is z-depth, the distance along the viewing axis z, not along the ray. Valid depth and normals are exact;
only the image has noise. P pixels, H = 48, W = 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from datasets.embedded.atomic_folder import atomic_folder
from datasets.embedded.furniture import SHAPES, Floats, Solid, furnish, rotation

Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]
Pixels = NDArray[np.float32]

MAKER_VERSION = 1  # raise it with every change that changes an array

HEIGHT, WIDTH = 48, 64
FOCAL = 51.9  # pixels: NYUv2's camera has 519 at a width of 640
SPLITS = {"train": 192, "val": 80}  # images; "val" is the official test set of this layout


@dataclass(frozen=True)
class Room:
    """One image and what it shows, all float32.

    image: (H, W, 3) in [0, 1], whole steps of 1/255. label: (H, W) index in CLASSES, -1 unlabelled.
    depth: (H, W, 1) z-depth in metres, 0 missing. normal: (H, W, 3) unit vectors in camera coordinates that point
    towards the camera, all-zero invalid.
    """

    image: Pixels
    label: Pixels
    depth: Pixels
    normal: Pixels


@dataclass(frozen=True)
class Look:
    """The appearance of a class.

    colours: possible sRGB base colours, hexadecimal.
    cells: (3,) cells of its pattern per metre.
    contrast: of the pattern.
    glow: least brightness, of what emits light.
    """

    colours: str
    cells: tuple[float, float, float] = (0, 0, 0)
    contrast: float = 0.0
    glow: float = 0.0


LOOKS = {
    "bed": Look("e6dfd8 7a93b8 c98f9b a9b7a0", (6, 0, 0), 0.15),
    "books": Look("a04038 38588c 40704a b89a50", (22, 0, 0), 0.6),
    "ceiling": Look("f4f2ec e8e6e0", (0.8, 0.8, 0), 0.03),
    "chair": Look("2c2c30 5a3a24 b03a2e"),
    "floor": Look("8a6444 a8845c 6c5c54 9a948c", (5, 0.8, 0), 0.2),
    "furniture": Look("c8a070 704828 e2ddd2", (3, 3, 1), 0.1),
    "objects": Look("d8b040 3f7f4a c8503c 4a78b0 d8d8d8", (9, 9, 9), 0.3),
    "picture": Look("4a6a8a 8a5a4a 5a7a50 c0a060", (7, 7, 7), 0.9),
    "sofa": Look("5a5f6a 7c4a3c 4c6048 b8a890", (14, 14, 14), 0.1),
    "table": Look("9a6a3c c89058 4a3020", (2, 9, 0), 0.12),
    "tv": Look("0e0f12 181b22", (1, 1, 1), 0.3),
    "wall": Look("ded6c4 cfd8dc d8c8b0 b8c4b0", (6, 6, 0), 0.05),
    "window": Look("bcd8f0 d8ecf8 a8c8e0", (2, 2, 3), 0.15, 1.1),
}
CLASSES = tuple(LOOKS)
# Classes whose solids have different colours within a room; all solids of another class have one colour.
ASSORTED = ("books", "objects", "picture")


def rays() -> Floats:
    """(H, W, 3) viewing directions in camera coordinates with z = 1, so that z-depth times ray is the point seen."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    x, y = (columns - (WIDTH - 1) / 2) / FOCAL, (rows - (HEIGHT - 1) / 2) / FOCAL
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def entry(solid: Solid, origin: Floats, directions: Floats) -> Floats:
    """(P,) where rays from `origin` (3,) in `directions` (3, P) enter the solid, in lengths of their directions.

    Infinite for a ray that misses the solid or starts inside it.
    """
    to_unit = rotation(solid.yaw).T / solid.half[:, None]
    start, steps = to_unit @ (origin - solid.centre)[:, None], to_unit @ directions + 1e-15  # never 0
    near, far = np.zeros(steps.shape[1]), np.full(steps.shape[1], np.inf)
    for axes in SHAPES[solid.shape]:
        o, d = start[axes], steps[axes]
        if len(d) == 1:  # a slab: the same as below, but faster, and most solids have three
            middle, reach = -o[0] / d[0], 1 / np.abs(d[0])
        else:
            a, b, c = (d * d).sum(axis=0), (o * d).sum(axis=0), (o * o).sum(axis=0) - 1
            square = b * b - a * c
            middle, reach = -b / a, np.sqrt(np.where(square > 0, square, np.nan)) / a
        near, far = np.maximum(near, middle - reach), np.minimum(far, middle + reach)  # a miss is NaN: never near < far
    return np.where((near > 0) & (near < far), near, np.inf)


def cast(solids: Sequence[Solid], origin: Floats, directions: Floats) -> tuple[Floats, Indices]:
    """Of the first solid on each ray (P, 3): the distance (P,) in lengths of its direction, and its index (P,)."""
    directions = np.ascontiguousarray(directions.T)  # (3, P): sums over axes are fast
    entries = np.stack([entry(solid, origin, directions) for solid in solids])
    return entries.min(axis=0), entries.argmin(axis=0)


def outward(solid: Solid, points: Floats) -> Floats:
    """(P, 3) unit normals of the solid at points (P, 3) of its surface."""
    turn = rotation(solid.yaw)
    unit = (points - solid.centre) @ turn / solid.half
    groups = SHAPES[solid.shape]
    surface = np.argmax([np.linalg.norm(unit[:, axes], axis=1) for axes in groups], axis=0)  # the ball it lies on
    gradient = np.zeros_like(unit)
    for index, axes in enumerate(groups):
        gradient[surface == index, axes] = (unit / solid.half)[surface == index, axes]
    normals: Floats = gradient / np.linalg.norm(gradient, axis=1, keepdims=True) @ turn.T
    return normals


def colour(rng: Generator, label: str) -> Floats:
    """(3,) one of the class's base colours, slightly varied."""
    base = bytes.fromhex(str(rng.choice(LOOKS[label].colours.split())))
    return np.frombuffer(base, dtype=np.uint8) / 255 * rng.uniform(0.85, 1.15) + rng.normal(0, 0.03, 3)


def painted(rng: Generator, solid: Solid, base: Floats, points: Floats) -> Floats:
    """(P, 3) colour at points (P, 3) of the solid's surface: its base colour (3,) with a pattern of tinted cells."""
    look = LOOKS[solid.label]
    # Scaled and shifted a little, so that rounding doesn't alternate between two cells on a face at their boundary.
    local = (points - solid.centre) @ rotation(solid.yaw) * 0.999 + 0.013
    cell = np.floor(local * look.cells).astype(np.int64) @ (7, 13, 29) % 61
    tints = 0.5 * rng.uniform(-1, 1, (61, 3)) + 0.5 * rng.uniform(-1, 1, (61, 1))
    colours: Floats = base * (1 + look.contrast * tints[cell])
    return colours


def neighbours(flags: Flags) -> Flags:
    """(H, W) pixels that are flagged or touch a flagged one by an edge."""
    grown = flags.copy()
    grown[1:] |= flags[:-1]
    grown[:-1] |= flags[1:]
    grown[:, 1:] |= flags[:, :-1]
    grown[:, :-1] |= flags[:, 1:]
    return grown


def jumps(values: Floats | Indices, least: float) -> Flags:
    """(H, W) pixels whose value and that of the next pixel to the right or below are at least so far apart."""
    right, below = np.diff(values, axis=1, append=values[:, -1:]), np.diff(values, axis=0, append=values[-1:])
    return np.maximum(np.abs(right), np.abs(below)) >= least


def spots(rng: Generator, most: int) -> Flags:
    """(H, W) pixels in up to `most` random ellipses."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    flags = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    for _ in range(rng.integers(most + 1)):
        (row, column), (tall, wide) = rng.uniform(0, (HEIGHT, WIDTH)), rng.uniform(1.5, 5, 2)
        flags |= ((rows - row) / tall) ** 2 + ((columns - column) / wide) ** 2 < 1
    return flags


def flaws(rng: Generator, labels: Indices, depth: Floats, seen: Indices) -> tuple[Flags, Flags, Flags]:
    """Pixels (H, W) without a label, without a depth and without a normal, as annotators and sensors leave them.

    Labels are missing at edges of objects and in spots; depth at jumps, in spots and on glass; normals, which are
    derived from the depth around a pixel, where depth is missing and often beside it.
    """
    draws = rng.random((4, HEIGHT, WIDTH))
    unlabelled = (jumps(seen, 1) & (draws[0] < 0.12)) | spots(rng, 2)
    glass = np.isin(labels, [CLASSES.index("tv"), CLASSES.index("window")])
    no_depth = (jumps(np.log(depth), 0.12) & (draws[1] < 0.4)) | spots(rng, 3) | (glass & (draws[2] < 0.25))
    no_normal = no_depth | (neighbours(no_depth) & (draws[3] < 0.3))
    return unlabelled, no_depth, no_normal


def lit(solids: Sequence[Solid], light: Floats, points: Floats, normals: Floats, ambient: float) -> Floats:
    """(P,) light that reaches points (P, 3): Lambert's law for a lamp at `light` (3,), its shadows, and the ambient."""
    beams = points - light
    distance = np.linalg.norm(beams, axis=1)
    incidence = np.maximum(-(beams * normals).sum(axis=1) / distance, 0)
    shadowed = cast(solids, light, beams)[0] < 1 - 1e-6
    lamp = incidence / (1 + (distance / 4) ** 2) * np.where(shadowed, 0.3, 1)
    total: Floats = ambient * (1 + 0.1 * normals[:, 2]) + (1.25 - ambient) * lamp
    return total


def developed(rng: Generator, radiance: Floats) -> Pixels:
    """(H, W, 3) image from radiance (P, 3): exposure, white balance, sensor noise, 8 bits."""
    gain = rng.uniform(0.85, 1.15) * rng.normal(1, 0.04, 3)
    noise = rng.normal(0, 0.02, radiance.shape)
    image = np.round(np.clip(radiance * gain + noise, 0, 1) * 255) / 255
    return image.reshape(HEIGHT, WIDTH, 3).astype(np.float32)


def camera_axes(yaw: float, pitch: float) -> Floats:
    """(3, 3) the camera's x, y, z directions in the world as columns; angles in radians, pitch > 0 looks up."""
    right = rotation(yaw)[:, 0]
    forward = np.cos(pitch) * rotation(yaw)[:, 1] + (0, 0, np.sin(pitch))
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def render(seed: int | Sequence[int]) -> Room:
    """The room of a seed."""
    rng = np.random.default_rng(seed)
    size = rng.uniform((3.0, 3.4, 2.4), (5.0, 6.0, 2.9))
    eye = rng.uniform((0.3 * size[0], 0.25, 1.2), (0.7 * size[0], 0.5, 1.7))
    axes = camera_axes(yaw=rng.uniform(-0.55, 0.55), pitch=rng.uniform(-0.32, 0.02))
    solids = furnish(rng, size, eye)
    directions = rays().reshape(-1, 3) @ axes.T
    depth, seen = cast(solids, eye, directions)
    points = eye + depth[:, None] * directions

    palette = {label: colour(rng, label) for label in CLASSES}
    normals, colours = np.empty_like(points), np.empty_like(points)
    for index in np.unique(seen):
        solid, here = solids[index], seen == index
        base = colour(rng, solid.label) if solid.label in ASSORTED else palette[solid.label]
        normals[here] = outward(solid, points[here])
        colours[here] = painted(rng, solid, base, points[here])

    light = rng.uniform((0.25, 0.25, 0.8), (0.75, 0.75, 0.95)) * size
    brightness = lit(solids, light, points, normals, ambient=rng.uniform(0.4, 0.6))
    glow = np.array([LOOKS[solid.label].glow for solid in solids])[seen]
    image = developed(rng, colours * (np.maximum(brightness, glow) * np.exp(-0.04 * depth))[:, None])

    labels = np.array([CLASSES.index(solid.label) for solid in solids])[seen].reshape(HEIGHT, WIDTH)
    depth, seen, normals = depth.reshape(HEIGHT, WIDTH), seen.reshape(HEIGHT, WIDTH), normals @ axes
    unlabelled, no_depth, no_normal = flaws(rng, labels, depth, seen)
    return Room(
        image=image,
        label=np.where(unlabelled, -1, labels).astype(np.float32),
        depth=np.where(no_depth, 0, depth).astype(np.float32)[..., None],
        normal=np.where(no_normal[..., None], 0, normals.reshape(HEIGHT, WIDTH, 3)).astype(np.float32),
    )


def make(folder: Path) -> None:
    """Writes <folder>/{train,val}/{image,label,depth,normal}/<i>.npy, completely or not at all.

    Raises:
        FileExistsError: the folder is not empty; it is left unchanged.
    """
    with atomic_folder(folder, MAKER_VERSION) as unfinished:
        for split_id, (split, count) in enumerate(SPLITS.items()):
            for index in range(count):
                for kind, array in vars(render((split_id, index))).items():
                    path = unfinished / split / kind / f"{index}.npy"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    np.save(path, array)
