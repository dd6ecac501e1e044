"""Pixels: files decoded once into one array on disk, which every later run maps into memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datasets.contract import DataError

Array = NDArray[np.generic]

CACHE = ".decoded"


def image_loader(size: tuple[int, int] | None) -> Callable[[Path], Array]:
    """A function from an image file to (H, W, 3) uint8, squashed to `size` (height, width) where one is given."""

    def load(path: Path) -> Array:
        try:
            with Image.open(path) as image:
                rgb = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: expected a readable image, found {error}; replace the file.") from error
        if size is not None and rgb.size != (size[1], size[0]):
            rgb = rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(rgb)

    return load


def npy_loader(convert: Callable[[Array], Array], shape: tuple[int | None, ...]) -> Callable[[Path], Array]:
    """A function from a .npy file of `shape` (None: any extent) to what `convert` makes of it.

    convert raises ValueError, "expected ..., found ...", where the values are not as they should be.
    """

    def load(path: Path) -> Array:
        try:
            with path.open("rb") as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, TokenError) as error:  # TokenError: a damaged header
            raise DataError(f"{path}: expected a readable .npy file, found {error}; replace the file.") from error
        fits = len(array.shape) == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
        if not fits:
            expected = "×".join("any" if extent is None else str(extent) for extent in shape)
            raise DataError(f"{path}: expected an array of {expected}, found {'×'.join(map(str, array.shape))}.")
        try:
            return convert(array)
        except ValueError as error:
            raise DataError(f"{path}: {error}; replace the file.") from error

    return load


def decoded(root: Path, paths: Sequence[Path], load: Callable[[Path], Array], recipe: str) -> Tensor:
    """All files as one tensor (N, ...), memory-mapped from a cache under `root`.

    recipe: names what `load` does, so that another image size gets another cache. Files that changed since (in size
    or time) are decoded again. The cache is written under another name first, so an interruption leaves none.

    Raises:
        DataError: a file cannot be read, or differs in shape from the first one.
    """
    target = root / CACHE / f"{_digest(root, paths, recipe)}.npy"
    if not target.is_file():
        _decode(paths, load, target)
    # Copy on write: torch wants a writable array, and nothing may ever change the file.
    return torch.from_numpy(np.load(target, mmap_mode="c"))


def _digest(root: Path, paths: Sequence[Path], recipe: str) -> str:
    digest = hashlib.sha256(recipe.encode())
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: expected a file, found none ({error.strerror}).") from error
        digest.update(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _decode(paths: Sequence[Path], load: Callable[[Path], Array], target: Path) -> None:
    first = load(paths[0])
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.npy")
    try:
        target.parent.mkdir(exist_ok=True)
        stack = np.lib.format.open_memmap(temporary, mode="w+", dtype=first.dtype, shape=(len(paths), *first.shape))
        for index, path in enumerate(paths):
            array = first if index == 0 else load(path)
            if array.shape != first.shape:
                raise DataError(
                    f"{path}: expected {first.shape} like {paths[0].name}, found {array.shape}; "
                    "set `data.image_size` to bring all images to one size."
                )
            stack[index] = array
        stack.flush()
        os.replace(temporary, target)
    except OSError as error:
        raise DataError(f"{target.parent}: could not write the decoded images ({error.strerror}).") from error
    finally:
        temporary.unlink(missing_ok=True)
