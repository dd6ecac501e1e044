"""The command python -m bench.data prepare: decodes a data set once, for all runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.cli.progress import DecodingProgress
from bench.engine.signals import exit_code
from bench.spec.lookup import lookup
from datasets import DATASETS, obtain
from datasets.contract import DataError, DatasetInfo, DataSettings
from datasets.decoding.places import array_folders
from datasets.decoding.prepare import Preparation, preparing


def prepare(
    name: str, root: Path, preparation: Preparation, image_size: Sequence[int | None] | None, console: Console
) -> int:
    """Returns 0, or the exit code of a command that a signal stopped.

    preparation: how; the progress is reported on the console.
    image_size: height and width, or None alone for the size on disk; None for the size that runs use by default.

    Raises:
        UnknownName: there is no such data set.
        DataError: the data set is absent or damaged, or the disk is full.
    """
    info = DATASETS[lookup(DATASETS, "data set", name)]
    size = given_size(info, image_size)
    folder = obtain(name, root)
    with DecodingProgress(console) as progress:
        try:
            with preparing(replace(preparation, report=progress)):
                info.read(folder, DataSettings(size))
        except KeyboardInterrupt as stop:
            progress.bars.stop()
            console.print("Interrupted. Decoded files are saved; run the same command again to decode the rest.")
            return exit_code(stop)
    done = f"{progress.files:,} files decoded" if progress.files else "nothing to do, all files are already decoded"
    present = [str(place) for place in array_folders(folder, preparation.cache) if any(place.glob("*.npy"))]
    console.print(f"{info.label}: {done}. Every run reads the arrays in {' and '.join(present)}.")
    return 0


def given_size(info: DatasetInfo, given: Sequence[int | None] | None) -> tuple[int, int] | None:
    """The size that --image-size asks for; that of the data set's runs if it isn't given.

    Raises:
        DataError: it is neither two numbers nor "none".
    """
    match given:
        case None:
            return info.image_size
        case [None]:
            return None
        case [int(height), int(width)]:
            return height, width
    found = " ".join("none" if extent is None else str(extent) for extent in given)
    raise DataError(f"--image-size: expected height and width, or none, found {found}.")
