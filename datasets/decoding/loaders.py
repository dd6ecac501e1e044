"""Loaders: functions from a source file to an array. They can be pickled, since they are sent to worker processes.

Imports no torch, since those processes need none.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets.decoding.prepared import Array
from datasets.errors import DataError, forbidden


def image_loader(size: tuple[int, int] | None) -> Callable[[Path], Array]:
    """A function from an image file to (H, W, 3) uint8, resized to `size` (height, width) if one is given."""
    return _ImageLoader(size)


def image_content_loader(size: tuple[int, int] | None) -> Callable[[bytes], Array]:
    """The same from the content of an image file. It raises ValueError, "expected ..., found ..."."""
    return _ContentLoader(size)


def npy_loader(convert: Callable[[Array], Array], shape: tuple[int | None, ...]) -> Callable[[Path], Array]:
    """A function from a .npy file of `shape` (None: any extent) to the array that `convert` returns.

    convert: a function at the top level of a module. It raises ValueError, "expected ..., found ...", if the values are
        invalid.
    """
    return _NpyLoader(convert, shape)


@dataclass(frozen=True)
class _ImageLoader:
    size: tuple[int, int] | None

    def __call__(self, path: Path) -> Array:
        try:
            content = path.read_bytes()
        except PermissionError as error:
            raise forbidden(path) from error
        except OSError as error:
            raise DataError(f"{path}: expected a readable image, found {error.strerror}; replace the file.") from error
        try:
            return decoded_image(content, self.size)
        except ValueError as error:
            raise DataError(f"{path}: {error}; replace the file.") from error


@dataclass(frozen=True)
class _ContentLoader:
    size: tuple[int, int] | None

    def __call__(self, content: bytes) -> Array:
        return decoded_image(content, self.size)


def decoded_image(content: bytes, size: tuple[int, int] | None) -> Array:
    """The image (H, W, 3) uint8 in an encoded file, resized to `size` (height, width) if one is given.

    Raises:
        ValueError: "expected a readable image, found ...".
    """
    try:
        rgb = _rgb(Image.open(io.BytesIO(content)))
    except UnidentifiedImageError as error:  # its message names an object in memory
        found = f"something else, beginning with {content[:16]!r}" if content else "a file of 0 bytes"
        raise ValueError(f"expected a readable image, found {found}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"expected a readable image, found {error}") from error
    if size is not None and rgb.size != (size[1], size[0]):
        rgb = rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


@dataclass(frozen=True)
class _NpyLoader:
    convert: Callable[[Array], Array]
    shape: tuple[int | None, ...]

    def __call__(self, path: Path) -> Array:
        try:
            with path.open("rb") as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
        except PermissionError as error:
            raise forbidden(path) from error
        except (OSError, ValueError, TokenError) as error:  # TokenError: a damaged header
            raise DataError(f"{path}: expected a readable .npy file, found {error}; replace the file.") from error
        pairs = zip(array.shape, self.shape, strict=False)
        if len(array.shape) != len(self.shape) or not all(wanted in (None, found) for found, wanted in pairs):
            expected = "×".join("any" if extent is None else str(extent) for extent in self.shape)
            raise DataError(f"{path}: expected an array of {expected}, found {'×'.join(map(str, array.shape))}.")
        try:
            return self.convert(array)
        except ValueError as error:
            raise DataError(f"{path}: {error}; replace the file.") from error
