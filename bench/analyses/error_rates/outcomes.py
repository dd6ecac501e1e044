"""The simulated studies of each problem, their table and their record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from scipy.stats import binomtest

from bench.analyses.error_rates.pools import Pool
from bench.analyses.error_rates.simulation import Design, Scenario, Tally, simulate
from bench.reporting.inference.power import detectable_difference, seeds_needed
from bench.reporting.tables.table import Cell, Column, Group, Head, Row, Table

POINT = 0.01  # of accuracy; of a log gain, about 1 %

# What is true in the simulations of each part of the table.
SCENARIOS = {
    "equal": Scenario(settings_matter=False),
    "tuned": Scenario(settings_matter=True),
    "equal_planted": Scenario(settings_matter=False, difference=POINT),
    "tuned_planted": Scenario(settings_matter=True, difference=POINT),
}


@dataclass(frozen=True)
class Outcome:
    """The tallies of a problem by scenario.

    needed: seeds with which the paired test finds POINT at 80 %; at the level of Holm's first step, too.
    detectable: the difference that the design's seeds find.
    """

    pool: Pool
    tallies: Mapping[str, Tally]
    needed: int
    needed_holm: int
    detectable: float


def outcome(pool: Pool, design: Design, difference: float, simulations: int, seed: int) -> Outcome:
    """All scenarios of a problem. difference: that is planted."""
    scenarios = {
        name: Scenario(one.settings_matter, difference if one.difference else 0.0) for name, one in SCENARIOS.items()
    }
    tallies = {name: simulate(pool, design, one, simulations, seed) for name, one in scenarios.items()}
    step = design.level / design.methods
    return Outcome(
        pool,
        tallies,
        seeds_needed(POINT, pool.paired_sd, level=design.level),
        seeds_needed(POINT, pool.paired_sd, level=step),
        detectable_difference(pool.paired_sd, design.seeds, level=design.level),
    )


HEADS = (
    ("equal", "false_either", "better"),
    ("equal", "worse", "worse"),
    ("equal", "best_lost", "best unmarked"),
    ("tuned", "false_either", "better, settings"),
    ("tuned", "lucky", "better, methods"),
    ("tuned", "worse", "worse"),
    ("tuned", "best_lost", "best unmarked"),
    ("equal_planted", "found", "> EW"),
    ("equal_planted", "found_tuned", "> tuned EW"),
    ("tuned_planted", "found_tuned", "> tuned EW, tuned"),
)


def error_table(outcomes: Sequence[Outcome], design: Design, difference: float, simulations: int, seed: int) -> Table:
    """A row for each problem: shares (%) of simulated studies with 95 % intervals."""
    groups = (Group("no setting matters", 3), Group("settings matter", 4), Group("power", 3), Group("", 3))
    last = (
        Head("seeds for one point", identity={"metric": "seeds_needed"}),
        Head("with Holm", identity={"metric": "seeds_needed_holm"}),
        Head("detectable", identity={"metric": "detectable_difference", "unit": "%"}),
    )
    heads = [Head(text, identity={"task": scenario, "metric": key, "unit": "%"}) for scenario, key, text in HEADS]
    luck = "with" if design.luck else "without"
    caption = (
        f"Shares (%) of {simulations:,} simulated studies without differences between methods in which some row gets a "
        f"wrong verdict, with 95 % intervals, and of studies in which one method is better by {100 * difference:g} "
        f"points (or % of a log gain) in which it is found. {design.methods} methods with {design.trials} trials each, "
        f"EW beside them, {design.seeds} seeds, level {100 * design.level:g} %, {luck} the luck of tuning. better: any "
        "verdict of that kind. settings: the selected settings are not better. methods: better than tuned EW, although "
        "all methods are equal. best unmarked: the best row is marked as separable from the best. seeds for one point, "
        f"detectable: power 80 %, one pair of rows without luck. Seed {seed}."
    )
    return Table(
        "error_rates", "tab:error-rates", caption, "Problem", groups,
        tuple(Column(head) for head in (*heads, *last)), tuple(_row(one) for one in outcomes),
    )  # fmt: skip


def _row(one: Outcome) -> Row:
    shares = [
        _share(getattr(one.tallies[scenario], key), one.tallies[scenario].simulations) for scenario, key, _ in HEADS
    ]
    notes = [f"{len(one.pool.rows)} rows with {len(one.pool.seeds)} seeds; settings vary as {one.pool.effects_from}"]
    if one.pool.left_out:
        notes.append(f"left out, as they lack seeds: {', '.join(one.pool.left_out)}")
    last = (
        Cell(str(one.needed), float(one.needed)),
        Cell(str(one.needed_holm), float(one.needed_holm)),
        Cell(f"{100 * one.detectable:.2f}", one.detectable),
    )
    return Row(Head(one.pool.label, tuple(notes), {"variant": one.pool.data}), (*shares, *last))


def _share(count: int, of: int) -> Cell:
    """A share and the interval of Clopper and Pearson."""
    interval = binomtest(count, of).proportion_ci()
    return Cell(f"{100 * count / of:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]", count / of)


def record(outcomes: Sequence[Outcome], design: Design, difference: float, simulations: int, seed: int) -> str:
    """Everything that is needed to repeat the simulations, and their counts, as JSON."""
    content = {
        "seed": seed,
        "simulations": simulations,
        "design": asdict(design),
        "difference": difference,
        "problems": {one.pool.data: _content(one) for one in outcomes},
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _content(one: Outcome) -> dict[str, object]:
    pool = one.pool
    return {
        "rows": pool.rows,
        "seeds": pool.seeds,
        "left_out": pool.left_out,
        "effects_from": pool.effects_from,
        "tuning_seeds": pool.tuning_seeds,
        "effects_sd": float(pool.effects.std()),
        "paired_sd": pool.paired_sd,
        "test_grid": pool.test_grid,
        "validation_grid": pool.validation_grid,
        "seeds_needed": one.needed,
        "seeds_needed_holm": one.needed_holm,
        "detectable_difference": one.detectable if math.isfinite(one.detectable) else None,
        "tallies": {name: asdict(tally) for name, tally in one.tallies.items()},
    }
