"""python -m bench.data prepare: decodes a data set once, for all runs, and shows how far it is."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bench.cli.options import INTERRUPTED
from bench.spec.lookup import lookup
from datasets import DATASETS, obtain
from datasets.contract import DataSettings
from datasets.decoding.prepare import Preparation, preparing
from datasets.decoding.prepare import Progress as Decoded


class DecodingProgress:
    """A bar for each array on a terminal, and a line at its start; a context manager around the decoding."""

    def __init__(self, console: Console, only_bars: bool = False) -> None:
        self.console = console
        self.only_bars = only_bars
        self.files = 0
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.current: TaskID | None = None

    def __enter__(self) -> DecodingProgress:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, now: Decoded) -> None:
        if self.current is None:
            if not self.only_bars:
                self.console.print(_opening(now), markup=False, highlight=False, soft_wrap=True)
            self.current = self.bars.add_task(now.what, total=now.total)
        self.bars.update(self.current, completed=now.done)
        if now.done == now.total:
            self.files += now.total - now.kept
            self.bars.remove_task(self.current)
            self.current = None


def _opening(now: Decoded) -> str:
    kept = f", {now.kept:,} of them are decoded" if now.kept else ""
    return (
        f"{now.what}: {now.total:,} files{kept}; needs {now.needed / 2**30:.2f} GiB in {now.folder}, "
        f"{now.free / 2**30:.1f} GiB are free"
    )


def prepare(name: str, root: Path, workers: int | None, console: Console) -> int:
    """0, or 130 where it was interrupted.

    Raises:
        UnknownName: there is no such data set. DataError: it is absent or faulty, or the disk is full.
    """
    info = DATASETS[lookup(DATASETS, "data set", name)]
    folder = obtain(name, root)
    with DecodingProgress(console) as progress:
        try:
            with preparing(Preparation(workers, progress)):
                info.read(folder, DataSettings(info.image_size))
        except KeyboardInterrupt:
            progress.bars.stop()
            console.print("Interrupted: what is decoded is kept; the same command goes on with the rest.")
            return INTERRUPTED
    done = f"{progress.files:,} files decoded" if progress.files else "nothing to do, all files were decoded before"
    console.print(f"{info.label}: {done}. Every run reads them from {folder}.")
    return 0
