"""What the page says first: which rows of each problem are better than EW."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison
from bench.reporting.inference.verdicts import Word
from bench.reporting.overall import overall_unit
from bench.reporting.sections import Analysis
from bench.reporting.separable import power_sentence
from bench.reporting.tables.verdicts import number

# In the order of the page: the class of each verdict in the style sheet, and its title.
TONES: Mapping[Word, tuple[str, str]] = {
    "better than tuned EW": ("best", "Better than tuned EW"),
    "better than EW": ("better", "Better than EW"),
    "not separable": ("same", "Not separable"),
    "worse": ("worse", "Worse"),
    "runs lost": ("lost", "Runs lost, so not tested"),
    "too few seeds": ("few", "Too few seeds to tell"),
    "reference": ("reference", "Reference"),
    "no reference": ("few", "No EW to compare with"),
}
ORDER = tuple(TONES)
CONTROL = "A control: the problem is built so that the answer is known."


@dataclass(frozen=True)
class Chip:
    """A row. index: of its data. change: its difference from EW as printed; empty if there is none."""

    index: int
    label: str
    change: str


@dataclass(frozen=True)
class Group:
    """The rows with the same verdict, the largest difference first."""

    tone: str
    title: str
    chips: tuple[Chip, ...]


@dataclass(frozen=True)
class Card:
    """The verdicts on one problem in a few words.

    anchor: of its section. name: of the problem. title: of the study's table; empty without one.
    control: what the reader of a control should know; empty for others. power: what its seeds can detect.
    headline: counts all rows. groups: of the rows that are shown but EW itself. hidden: which others there are.
    """

    anchor: str
    name: str
    title: str
    facts: str
    control: str
    headline: str
    tone: str
    groups: tuple[Group, ...]
    power: str
    hidden: str

    @property
    def rows(self) -> int:
        """How many rows are in its groups."""
        return sum(len(group.chips) for group in self.groups)


def card(analysis: Analysis, anchor: str, first: int) -> Card:
    """The card of a problem. first: index of its first row among those of the page."""
    comparison, contrasts = analysis.comparison, analysis.contrasts
    unit = overall_unit(comparison)
    found: dict[Word, list[tuple[float, Chip]]] = {}
    for place, variant in enumerate(comparison.shown):
        contrast = contrasts.rows[variant.label]
        over = contrast.over_ew
        text = "" if over is None else number(over.value, unit)
        chip = Chip(first + place, variant.label, f"+{text}" if over is not None and over.value > 0 else text)
        found.setdefault(contrast.verdict.word, []).append((-over.value if over is not None else 0.0, chip))
    groups = tuple(
        Group(*TONES[word], tuple(chip for _, chip in sorted(found[word], key=lambda pair: pair[0])))
        for word in ORDER
        if word in found and word != "reference"
    )
    counts = Counter(contrasts.rows[variant.label].verdict.word for variant in comparison.variants)
    title = comparison.label.partition(": ")[2] if comparison.part else ""
    headline, tone = headline_of(counts)
    control = CONTROL if comparison.control else ""
    facts, power, hidden = _facts(comparison, title), power_sentence(comparison), comparison.hidden_rows
    return Card(anchor, comparison.problem, title, facts, control, headline, tone, groups, power, hidden)


def _facts(comparison: Comparison, title: str) -> str:
    counts = {"row": len(comparison.variants), "seed": len(comparison.seeds), "task": len(comparison.tasks)}
    texts = [f"{number} {name}{'s' * (number != 1)}" for name, number in counts.items()]
    unit = "points" if overall_unit(comparison) == PERCENT else "log gain" if comparison.selection == "gain" else ""
    return ". ".join(filter(None, [title, f"{', '.join(texts)}{f'; differences in {unit}' if unit else ''}"]))


def headline_of(counts: Mapping[Word, int]) -> tuple[str, str]:
    """The verdicts in a few words, and the class of the most important one."""
    good: Sequence[Word] = ("better than tuned EW", "better than EW")
    texts = [f"{counts[word]} {word}" for word in good if word in counts]
    if texts:
        return _with_worse(texts, counts), TONES[good[0] if good[0] in counts else good[1]][0]
    if "not separable" in counts or "worse" in counts:
        return _with_worse(["None better than EW"], counts), "worse" if "worse" in counts else "same"
    if "runs lost" in counts:
        return "Runs lost, no verdicts", "lost"
    return ("Too few seeds to tell" if "too few seeds" in counts else "No EW to compare with"), "few"


def _with_worse(texts: Sequence[str], counts: Mapping[Word, int]) -> str:
    return ", ".join([*texts, *([f"{counts['worse']} worse"] if "worse" in counts else [])])


def tone_of(text: str) -> str:
    """The class of a verdict as printed in a table; empty if it is none."""
    word = verdict_word(text)
    return TONES[word][0] if word else ""


def verdict_word(text: str) -> Word | None:
    """The verdict as printed in a table, without the number that may follow it."""
    return next((word for word in ORDER if text == word or text.startswith(f"{word} (")), None)
