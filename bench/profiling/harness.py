"""Contestants that take turns: the same rounds of one process for all, so that noise of the machine hits all alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.engine.device import peak_memory_mib, reset_peak_memory
from methods.contract import Evaluations

# Every contestant's first turns, in which memory is found and optimizers set up.
WARMUP = 2
# Whoever is slower than that takes one call a turn.
_TURN_SECONDS = 0.1
_MOST_CALLS = 5


@dataclass(frozen=True)
class Turn:
    """seconds: in all. ahead: seconds of the way ahead, where it is told apart. evaluations: of the field."""

    seconds: float
    evaluations: Evaluations
    ahead: float | None = None


@dataclass(frozen=True)
class Contestant:
    """One of several ways to do the same thing, within a setting; `take_turn` does it once."""

    setting: str
    name: str
    take_turn: Callable[[], Turn]


@dataclass(frozen=True)
class Lap:
    """A turn that counts. milliseconds, ahead and back in ms; peak_mib: memory that the turn took, on accelerators."""

    question: str
    setting: str
    contestant: str
    round: int
    milliseconds: float
    ahead: float | None
    back: float | None
    evaluations_ahead: int
    evaluations_back: int
    peak_mib: float | None


def race(question: str, contestants: Sequence[Contestant], rounds: int, device: torch.device) -> list[Lap]:
    """All laps, contestant by contestant: each takes a turn in every round, in random order."""
    laps: list[list[Lap]] = [[] for _ in contestants]
    for index, which in order_of_turns(len(contestants), rounds, WARMUP):
        contestant = contestants[which]
        turn, peak = _with_peak_memory(partial(quickest, contestant.take_turn), device)
        if index >= 0:
            laps[which].append(_lap(question, contestant, index, turn, peak))
    return [lap for own in laps for lap in own]


def order_of_turns(contestants: int, rounds: int, warmup: int) -> Iterator[tuple[int, int]]:
    """(round, contestant) turn by turn: everybody once a round, in an order drawn anew; warm-up rounds are below 0."""
    order = random.Random(0)
    for index in range(-warmup, rounds):
        for which in order.sample(range(contestants), contestants):
            yield index, which


def quickest(take_turn: Callable[[], Turn]) -> Turn:
    """The quickest of a few calls in a row: what disturbs a short one, like another's caches, only ever adds."""
    turns = [take_turn()]
    while len(turns) < _MOST_CALLS and sum(turn.seconds for turn in turns) < _TURN_SECONDS:
        turns.append(take_turn())
    return min(turns, key=lambda turn: turn.seconds)


def _lap(question: str, contestant: Contestant, index: int, turn: Turn, peak: float | None) -> Lap:
    return Lap(
        question,
        contestant.setting,
        contestant.name,
        index,
        1e3 * turn.seconds,
        None if turn.ahead is None else 1e3 * turn.ahead,
        None if turn.ahead is None else 1e3 * (turn.seconds - turn.ahead),
        *turn.evaluations,
        peak,
    )


def _with_peak_memory(take_turn: Callable[[], Turn], device: torch.device) -> tuple[Turn, float | None]:
    """A turn, and the MiB that it took at its peak; None on a CPU, where only the whole process can be told."""
    if device.type == "cpu":
        return take_turn(), None
    reset_peak_memory(device)
    before = peak_memory_mib(device)
    turn = take_turn()
    after = peak_memory_mib(device)
    return turn, None if before is None or after is None else after - before


class TurnProgress:
    """What a person sees of a long race: a bar of turns on a terminal, a line per heat where output is piped."""

    def __init__(self, console: Console, turns: int) -> None:
        self.console = console
        self.start = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self.bar = self.bars.add_task("", total=turns)

    def __enter__(self) -> TurnProgress:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def say(self, line: str) -> None:
        """A line above the bar."""
        self.console.print(f"{time.monotonic() - self.start:5.0f} s  {line}", markup=False, highlight=False)

    def turn(self, whose: str) -> None:
        """The next turn begins."""
        self.bars.update(self.bar, advance=1, description=whose)
