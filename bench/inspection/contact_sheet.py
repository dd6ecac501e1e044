"""A contact sheet: some images of a data set with their labels, as a run sees them, on one page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from bench.records.files import atomic_write
from datasets.contract import DatasetInfo, Source, Split

# Images per domain; scenes; faces per row and per column.
PER_DOMAIN = 8
SCENES = 5
FACES = (6, 3)
# Inches.
CELL = 1.5
DPI = 130
# Of K. Kelly, "Twenty-two colors of maximum contrast" (1965); unlabelled pixels are black.
SEGMENT_COLOURS = (
    "#f3c300", "#875692", "#f38400", "#a1caf1", "#be0032", "#c2b280", "#008856", "#e68fac", "#0067a5", "#654522",
    "#604e97", "#848482", "#8db600",
)  # fmt: skip
NOTHING = "black"
DEPTHS = matplotlib.colormaps["viridis"].with_extremes(bad=NOTHING)

Grid = list[list[Axes]]


def write_sheet(info: DatasetInfo, split: Split, classes: Sequence[str], seed: int, title: str, path: Path) -> None:
    """Draws images with their labels, chosen by seed, into a PNG. Only the chosen ones are read.

    classes: the names of the labels; empty to show their numbers.
    """
    rng = np.random.default_rng(seed)
    with matplotlib.rc_context({"font.size": 7, "figure.constrained_layout.use": True, "text.parse_math": False}):
        if info.kind == "multi-input":
            figure = _domains(info, split, classes, rng)
        elif any(target.ndim > 1 for target in split[0].targets.values()):
            figure = _scenes(info, split[0], classes, rng)
        else:
            figure = _attributes(info, split[0], rng)
        figure.suptitle(title, fontsize=9)
        atomic_write(path, lambda temporary: figure.savefig(temporary, format="png", dpi=DPI))


def _domains(info: DatasetInfo, split: Split, classes: Sequence[str], rng: np.random.Generator) -> Figure:
    """A row per domain; under each image the name of its class."""
    figure, grid = _grid(len(split), PER_DOMAIN, CELL * 1.15, CELL)
    for (task, source), row in zip(enumerate(split), grid, strict=True):
        for index, axes in zip(_varied(source, task, PER_DOMAIN, rng), row, strict=False):
            _draw(axes, source.images[index])
            axes.set_xlabel(_name(classes, int(source.targets[task][index])))
        row[0].set_ylabel(f"{info.tasks[task].key.replace('_', ' ')}: {len(source)}", fontsize=8)
    return figure


def _attributes(info: DatasetInfo, source: Source, rng: np.random.Generator) -> Figure:
    """Under each image, the names of its attributes."""
    columns, rows = FACES
    chosen = _chosen(source, columns * rows, rng)
    figure, grid = _grid(math.ceil(len(chosen) / columns), columns, CELL * 1.75, CELL * 1.35)
    for index, axes in zip(chosen, (axes for row in grid for axes in row), strict=False):
        _draw(axes, source.images[index])
        values = [int(source.targets[number][index]) for number in range(len(info.tasks))]
        # Attributes that hold, or the class of each task that has several.
        held = [
            task.label if task.outputs == 1 else f"{task.label}: {value}"
            for task, value in zip(info.tasks, values, strict=True)
            if value or task.outputs > 1
        ]
        axes.set_xlabel(_in_lines(held), fontsize=5.5)
    return figure


def _scenes(info: DatasetInfo, source: Source, classes: Sequence[str], rng: np.random.Generator) -> Figure:
    """A row per scene: the image, then the target of each task; below them, the meaning of the colours."""
    height, width = source.images.shape[1:3]
    chosen = _chosen(source, SCENES, rng)
    figure, grid = _grid(len(chosen), 1 + len(info.tasks), CELL * 1.5 * height / width, CELL * 1.5)
    depths = [target[chosen] for target in source.targets.values() if _is_depth(target)]
    scale = Normalize(0, max((float(depth.max()) for depth in depths), default=1.0))
    for row, index in zip(grid, chosen, strict=True):
        _draw(row[0], source.images[index])
        row[0].set_ylabel(str(index))
        for number, axes in enumerate(row[1:]):
            _draw_map(axes, source.targets[number], index, info.tasks[number].outputs, scale)
    for heading, axes in zip(("Image", *(task.label for task in info.tasks)), grid[0], strict=True):
        axes.set_title(heading)
    for number, axes in enumerate(grid[-1][1:]):
        _explain(figure, axes, source.targets[number], classes, info.tasks[number].outputs, scale)
    return figure


def _explain(
    figure: Figure, axes: Axes, targets: Tensor, classes: Sequence[str], outputs: int, scale: Normalize
) -> None:
    """Adds the meaning of the colours below the lowest map of a task."""
    if targets.ndim == 3:
        patches = [Patch(color=_segment_colour(label), label=_name(classes, label)) for label in range(outputs)]
        patches.append(Patch(color=NOTHING, label="no label"))
        figure.legend(handles=patches, loc="outside lower center", ncols=7, frameon=False)
    elif _is_depth(targets):
        bar = figure.colorbar(ScalarMappable(scale, DEPTHS), ax=axes, location="bottom", aspect=25, pad=0.02)
        bar.set_label("m; black: not measured")
    else:
        axes.set_xlabel("red: x, green: y, blue: z;\nblack: unknown")


def _grid(rows: int, columns: int, height: float, width: float) -> tuple[Figure, Grid]:
    figure = Figure(figsize=(columns * width, rows * height + 0.5))
    grid: Grid = [list(row) for row in figure.subplots(rows, columns, squeeze=False)]
    for axes in (axes for row in grid for axes in row):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return figure, grid


def _chosen(source: Source, most: int, rng: np.random.Generator) -> list[int]:
    """Rows of the arrays of a source."""
    places = sorted(rng.choice(len(source), size=min(most, len(source)), replace=False).tolist())
    rows: list[int] = source.rows_at(torch.tensor(places, dtype=torch.long)).tolist()
    return rows


def _varied(source: Source, task: int, most: int, rng: np.random.Generator) -> list[int]:
    """Rows of the arrays of a source, of as many different classes as possible."""
    seen: Counter[int] = Counter()
    ranked: list[tuple[int, int, int]] = []
    for row in source.rows_at(torch.from_numpy(rng.permutation(len(source)))).tolist():
        label = int(source.targets[task][row])
        ranked.append((seen[label], len(ranked), row))  # first images of all classes before second ones
        seen[label] += 1
    return sorted(row for _, _, row in sorted(ranked)[:most])


def _draw(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.numpy(), interpolation="nearest")


def _draw_map(axes: Axes, targets: Tensor, index: int, outputs: int, scale: Normalize) -> None:
    """Labels (N, H, W), depths (N, 1, H, W) in metres, or unit vectors (N, 3, H, W), each with gaps shown black."""
    target = targets[index]
    if targets.ndim == 3:
        colours = ListedColormap([NOTHING, *map(_segment_colour, range(outputs))])
        axes.imshow(target.numpy() + 1, cmap=colours, vmin=0, vmax=outputs, interpolation="nearest")
    elif _is_depth(targets):
        depth = target[0].float()
        gaps = torch.where(depth > 0, depth, torch.nan)
        axes.imshow(gaps.numpy(), cmap=DEPTHS, norm=scale, interpolation="nearest")
    else:
        vectors = target.float().movedim(0, -1)
        known = (vectors != 0).any(dim=-1, keepdim=True)
        axes.imshow(torch.where(known, (vectors + 1) / 2, 0).clamp(0, 1).numpy(), interpolation="nearest")


def _is_depth(targets: Tensor) -> bool:
    return targets.ndim == 4 and targets.shape[1] == 1


def _segment_colour(label: int) -> str:
    return SEGMENT_COLOURS[label % len(SEGMENT_COLOURS)]


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label].replace("_", " ") if label < len(classes) else str(label)


def _in_lines(words: Sequence[str], width: int = 40) -> str:
    """The words, separated by commas and broken into lines."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word}, "
    return "\n".join(lines).strip().rstrip(",") or "none"
