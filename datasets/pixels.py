"""Pixels: files decoded once into one array on disk, which every later run maps into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.decoding.loaders import image_loader as image_loader
from datasets.decoding.loaders import npy_loader as npy_loader
from datasets.decoding.prepare import prepare_array
from datasets.decoding.prepared import Array as Array
from datasets.decoding.prepared import stamps_of

CACHE = ".decoded"
# Part of the key of a cache: whoever changes what is stored changes it, so that older caches are not taken for it.
_FORMAT = "1"


def decoded(root: Path, paths: Sequence[Path], load: Callable[[Path], Array], recipe: str) -> Tensor:
    """All files as one tensor (N, ...), memory-mapped from a cache under `root`.

    load: what can be pickled, since it goes to other processes where there is much to decode. recipe: names what
    `load` does, so that another image size gets another cache. Files that changed since (in size or time) are decoded
    again, and only they. An interruption leaves a part, with which the next call goes on.

    Raises:
        DataError: a file can't be read, or differs in shape or type from the first one; or the cache can't be written.
    """
    stamps = stamps_of(paths)
    target = root / CACHE / f"{_key(root, paths, recipe)}.npy"
    prepare_array(paths, load, stamps, target, what=recipe.partition(" ")[0])  # "image" of "image (32, 32)"
    return mapped(target)


def mapped(path: Path) -> Tensor:
    """The array (N, ...) of a .npy file, read from disk where it is used."""
    # Copy on write: torch wants a writable array, and nothing may ever change the file.
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _key(root: Path, paths: Sequence[Path], recipe: str) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {recipe}".encode())
    for path in paths:
        digest.update(f"{path.relative_to(root)}\n".encode())
    return digest.hexdigest()[:16]
