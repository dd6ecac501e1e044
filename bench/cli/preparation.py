"""The command python -m bench.data prepare: decodes a data set once, for all runs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bench.cli.options import INTERRUPTED
from bench.cli.progress import DecodingProgress
from bench.spec.lookup import lookup
from datasets import DATASETS, obtain
from datasets.contract import DataSettings
from datasets.decoding.prepare import Preparation, preparing


def prepare(name: str, root: Path, workers: int | None, console: Console) -> int:
    """Returns 0, or 130 if interrupted.

    Raises:
        UnknownName: there is no such data set.
        DataError: the data set is absent or damaged, or the disk is full.
    """
    info = DATASETS[lookup(DATASETS, "data set", name)]
    folder = obtain(name, root)
    with DecodingProgress(console) as progress:
        try:
            with preparing(Preparation(workers, progress)):
                info.read(folder, DataSettings(info.image_size))
        except KeyboardInterrupt:
            progress.bars.stop()
            console.print("Interrupted. Decoded files are saved; run the same command again to decode the rest.")
            return INTERRUPTED
    done = f"{progress.files:,} files decoded" if progress.files else "nothing to do, all files are already decoded"
    console.print(f"{info.label}: {done}. Every run reads them from {folder}.")
    return 0
