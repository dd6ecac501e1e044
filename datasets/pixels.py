"""Pixels: files decoded once into one array on disk, which every later run memory-maps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.decoding.loaders import image_loader as image_loader
from datasets.decoding.loaders import npy_loader as npy_loader
from datasets.decoding.prepare import prepare_array
from datasets.decoding.prepared import Array as Array
from datasets.decoding.prepared import stamps_of

CACHE = ".decoded"
# Part of a cache's key. Change it together with the stored format, so that older caches aren't used.
_FORMAT = "1"
DIGEST = 16  # bytes of the hash of a row


class Stored(NamedTuple):
    """An array on disk.

    values: (N, ...), memory-mapped.
    digests: (N, 16) uint8, a hash of the content of each row.
    """

    values: Tensor
    digests: NDArray[np.uint8]


def decoded(
    root: Path, paths: Sequence[Path], load: Callable[[Path], Array], recipe: str, what: str = "files"
) -> Stored:
    """All files as one array (N, ...), memory-mapped from a cache under `root`.

    load: picklable, since other processes may call it.
    recipe: describes what `load` does; part of the cache's key, so that every image size has its own cache.
    what: what the files are, for the progress that a user sees.

    Only files that changed in size or time are decoded again. After an interruption the next call continues.

    Raises:
        DataError: a file can't be read, or differs in shape or type from the first one; or the cache can't be written.
    """
    stamps = stamps_of(paths)
    target = root / CACHE / f"{_key(root, paths, recipe)}.npy"
    prepare_array(paths, load, stamps, target, what)
    return mapped(target)


def mapped(path: Path) -> Stored:
    """The array (N, ...) of a .npy file, memory-mapped."""
    # Copy on write: torch expects a writable array, and the file must never change.
    values = np.load(path, mmap_mode="c")
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=DIGEST).digest() for row in values)
    return Stored(torch.from_numpy(values), np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST))


def _key(root: Path, paths: Sequence[Path], recipe: str) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {recipe}".encode())
    for path in paths:
        digest.update(f"{path.relative_to(root)}\n".encode())
    return digest.hexdigest()[:16]
