"""Runs weightings on the toy problem and writes a figure for each and a table of all."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.analyses.toy.descent import TOLERANCE, Trajectory, descend
from bench.analyses.toy.figure import Panel, toy_figure
from bench.analyses.toy.problem import SCALINGS, Points, front, losses_and_gradients
from bench.analyses.toy.table import Outcome, scaling_title, toy_csv, toy_table
from bench.records.files import atomic_write_text
from bench.records.names import inside
from bench.reporting.figures.style import save
from bench.reporting.render import latex, markdown
from bench.reporting.tables.table import Table
from methods import WEIGHTINGS


@dataclass(frozen=True)
class Recipe:
    """Steps and learning rate of every trajectory, the seed of methods that draw, the momentum of the weights."""

    steps: int
    lr: float
    seed: int
    momentum: float = 0.0

    def __str__(self) -> str:
        mean = f", momentum {self.momentum:g} of weights (none where the Jacobian is read)" if self.momentum else ""
        return (
            f"Adam, learning rate {self.lr:g}, {self.steps} steps{mean}; a start reaches the front if its last "
            f"(L1, L2) lies within {TOLERANCE:g} of it."
        )


def all_trajectories(names: Sequence[str], recipe: Recipe, jobs: int) -> Iterator[tuple[str, tuple[Trajectory, ...]]]:
    """Name and trajectories of each weighting, in the order in which they finish."""
    if jobs == 1 or len(names) == 1:
        yield from ((name, _trajectories(name, recipe)) for name in names)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = {pool.submit(_trajectories, name, recipe): name for name in names}
        for done in as_completed(running):
            yield running[done], done.result()


def _trajectories(name: str, recipe: Recipe) -> tuple[Trajectory, ...]:
    return descend(WEIGHTINGS[name].factory(), recipe.steps, recipe.lr, recipe.seed, momentum=recipe.momentum)


def write_figure(out: Path, name: str, trajectories: Sequence[Trajectory]) -> tuple[Path, ...]:
    """<out>/<name>.pdf and .png."""
    panels = [_panel([t for t in trajectories if t.scaling == scaling], scaling) for scaling in SCALINGS]
    return save(toy_figure(WEIGHTINGS[name].label, panels), inside(out, name.replace(":", "-")))


def write_tables(out: Path, found: Mapping[str, Sequence[Trajectory]], recipe: Recipe) -> Table:
    """Writes toy.md and toy.tex with a row per weighting, toy.csv with a line per trajectory; returns the table."""
    outcomes = [_outcome(name, trajectory) for name, trajectories in found.items() for trajectory in trajectories]
    table = toy_table(outcomes, str(recipe))
    texts = {"toy.md": markdown(table), "toy.tex": latex(table), "toy.csv": toy_csv(outcomes)}
    for name, text in texts.items():
        atomic_write_text(out / name, text)
    return table


def _panel(trajectories: Sequence[Trajectory], scaling: tuple[float, float]) -> Panel:
    def surface(points: Points) -> Points:
        return np.asarray(losses_and_gradients(points)[0] @ np.array(scaling))

    line = front()
    return Panel(
        title=scaling_title(scaling),
        surface=surface,
        front=line,
        least=line[np.argmin(surface(line))],
        paths=[t.path for t in trajectories],
        reached=[t.reached for t in trajectories],
    )


def _outcome(name: str, trajectory: Trajectory) -> Outcome:
    end, losses = trajectory.path[-1].tolist(), trajectory.losses.tolist()
    return Outcome(
        method=name,
        label=WEIGHTINGS[name].label,
        scaling=trajectory.scaling,
        start=trajectory.start,
        end=(end[0], end[1]),
        losses=(losses[0], losses[1]),
        distance=trajectory.distance,
        steps=trajectory.steps,
        balance=trajectory.balance,
        diverged_at=len(trajectory.path) - 1 if trajectory.diverged else None,
        solver_fallbacks=trajectory.solver_fallbacks,
    )
