"""Pixels: files decoded once into one array on disk, which every later run memory-maps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets.decoding.loaders import image_loader as image_loader
from datasets.decoding.loaders import npy_loader as npy_loader
from datasets.decoding.places import CACHE as CACHE
from datasets.decoding.prepare import prepare_array
from datasets.decoding.prepared import Array as Array
from datasets.decoding.prepared import Digests, layout_in, marks_in
from datasets.decoding.rows import FileRows, RowSource
from datasets.errors import DataError

# Part of a cache's key. Change it together with what loaders return, so that older caches aren't used.
_FORMAT = "1"


class Stored(NamedTuple):
    """A prepared array.

    values: (N, ...), memory-mapped.
    digests: (N, 16), a hash of the content of each row: XXH3 of its bytes.
    """

    values: Tensor
    digests: Digests


def decoded(
    root: Path, paths: Sequence[Path], load: Callable[[Path], Array], recipe: str, what: str = "files"
) -> Stored:
    """All files as one array (N, ...), memory-mapped from where arrays of the data set in `root` are.

    load: picklable, since other processes may call it.
    recipe: describes what `load` does; part of the cache's key, so that every image size has its own cache.
    what: what the files are, for the progress that a user sees.

    Only files that changed in size or time are decoded again, and rows of the array that changed since they were
    decoded. After an interruption the next call continues.

    Raises:
        NotPrepared: the array isn't up to date, and nothing may be decoded.
        DataError: a file can't be read, or differs in shape or type from the first one; or the cache can't be written.
    """
    names = "".join(f"{path.relative_to(root)}\n" for path in paths)
    return stored(root, FileRows(paths, load), f"{recipe}{names}", what)


def stored(root: Path, source: RowSource, key: str, what: str) -> Stored:
    """The array of all rows of a source. key: tells it from other arrays of the data set in `root`."""
    digest = hashlib.sha256(f"{_FORMAT} {key}".encode(errors="surrogateescape")).hexdigest()[:16]
    return _mapped(prepare_array(source, root, f"{digest}.npy", what))


def _mapped(path: Path) -> Stored:
    with path.open("rb") as file:  # once, since another process may replace the file
        layout = layout_in(file)
        if layout is None:
            raise DataError(f"{path}: expected a prepared array, found a file of another length; delete it.")
        digests = np.ascontiguousarray(marks_in(file, layout).digests)
        # Copy on write: torch expects a writable array, and the file must never change.
        values = np.memmap(file, dtype=layout.dtype, mode="c", offset=layout.rows_at, shape=layout.shape)
    return Stored(torch.from_numpy(values), digests)
