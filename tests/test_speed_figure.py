"""Figures of measured steps: what is drawn, and where."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from speed_factory import example_cells, make_cell, make_speed, make_workload, series_record

from bench.records.speed import OURS, SpeedRecord
from bench.reporting.speed.figure import BASELINE_DASHES, KNOWN, colours, line_styles, steps_figure
from bench.reporting.speed.scaling import scaling_figure


@pytest.fixture
def example() -> SpeedRecord:
    return make_speed(example_cells())


def bars(figure: Figure, panel: int = 0) -> dict[str, list[float]]:
    """Widths by colour, from the top."""
    found: dict[str, list[float]] = {}
    for bar in sorted(figure.axes[panel].patches, key=lambda bar: float(bar.get_y())):  # type: ignore[attr-defined]
        found.setdefault(to_hex(bar.get_facecolor()), []).append(bar.get_width())  # type: ignore[attr-defined]
    return found


def test_bars_are_as_long_as_steps_take(example: SpeedRecord) -> None:
    figure = steps_figure(example)
    assert figure is not None
    found = bars(figure)
    assert found[KNOWN[OURS]] == pytest.approx([10, 18, 40, 14])
    assert found[KNOWN["LibMTL"]] == pytest.approx([15, 36, 75]) and found[KNOWN["TorchJD"]] == pytest.approx([12])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["EW", "MGDA", "CAGRAD", "NORMAL"]
    baseline_lines = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert baseline_lines == pytest.approx([8, 20])
    assert [text.get_text() for text in axes.texts] == ["TorchJD failed"]
    assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > 75
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        "ours",
        "LibMTL",
        "TorchJD",
        "autograd baseline, one backward pass",
        "autograd baseline, one per task",
    ]


def test_a_panel_for_each_workload_with_the_same_rows() -> None:
    workloads = [make_workload("office"), make_workload("celeba", label="forty tasks on one input")]
    more = [make_cell("upgrad", OURS, [5], workload="celeba"), make_cell("ew", OURS, [900], "one", workload="celeba")]
    figure = steps_figure(make_speed([make_cell("ew", OURS, [10], "one"), *more], workloads))
    assert figure is not None and len(figure.axes) == 2
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["EW", "UPGRAD"]
    assert bars(figure, 0)[KNOWN[OURS]] == pytest.approx([10])
    assert bars(figure, 1)[KNOWN[OURS]] == pytest.approx([900, 5])


def test_a_bar_that_goes_on_says_how_far() -> None:
    """One of twenty takes a hundred times as long, and the others stay legible."""
    cells = [make_cell(f"m{place}", OURS, [10 + place / 10]) for place in range(19)]
    figure = steps_figure(make_speed([*cells, make_cell("slow", OURS, [1234])]))
    assert figure is not None
    axes = figure.axes[0]
    assert axes.get_xlim()[1] < 20 and [text.get_text() for text in axes.texts] == ["1,234 ▸"]
    assert max(bars(figure)[KNOWN[OURS]]) == pytest.approx(1234)


def test_the_figure_grows_with_the_methods() -> None:
    def height(n: int) -> float:
        figure = steps_figure(make_speed([make_cell(f"m{place}", OURS, [10]) for place in range(n)]))
        assert figure is not None
        return float(figure.get_figheight())

    assert height(24) - height(12) == pytest.approx(height(36) - height(24)) and height(24) > 1.5 * height(12)


def test_candidates_have_the_same_colours_everywhere(example: SpeedRecord) -> None:
    alone = make_speed([make_cell("ew", "TorchJD", [1]), make_cell("ew", "another", [1])])
    assert colours(alone)["TorchJD"] == colours(example)["TorchJD"]
    assert len(set(colours(alone).values())) == 3


def drawn(figure: Figure, panel: int) -> dict[tuple[str, Any], dict[float, float]]:
    """Points by colour and marker; the baselines have none."""
    return {
        (str(line.get_color()), line.get_marker() if line.get_marker() != "None" else line.get_linestyle()): dict(
            zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True)
        )
        for line in figure.axes[panel].lines
    }


def test_scaling_lines_are_the_medians_by_size() -> None:
    figure = scaling_figure(series_record())
    assert figure is not None and len(figure.axes) == 2
    times, memory = drawn(figure, 0), drawn(figure, 1)
    assert times[KNOWN[OURS], "o"] == pytest.approx({1: 5, 4: 5, 16: 5})
    assert times[KNOWN[OURS], "s"] == pytest.approx({1: 5, 4: 20, 16: 80})
    assert times[KNOWN["LibMTL"], "s"] == pytest.approx({1: 10, 4: 40, 16: 160})
    baselines = [line for line in figure.axes[0].lines if line.get_marker() == "None"]
    assert [list(map(float, line.get_ydata())) for line in baselines] == [
        pytest.approx([4, 4, 4]),
        pytest.approx([4.5, 18, 72]),
    ]
    assert memory[KNOWN["LibMTL"], "s"] == pytest.approx({1: 60, 4: 240, 16: 960}) and len(memory) == 4
    assert figure.axes[0].get_yscale() == "log" and figure.axes[1].get_xscale() == "log"
    bands = [band.get_datalim(figure.axes[0].transData) for band in figure.axes[0].collections]
    assert max(band.y1 for band in bands) == pytest.approx(16 * 11)


def test_every_measured_size_is_named_and_no_names_overlap() -> None:
    sizes = (60_700, 11_200_000, 12_000_000, 14_000_000, 23_500_000)
    workloads = [make_workload(f"p{n}", "parameters", parameters=n) for n in sizes]
    workloads += [make_workload(f"m{n}", "tasks", tasks=n) for n in (1, 2, 100, 101)]
    cells = [make_cell("ew", OURS, [5], "one", workload=workload.key) for workload in workloads]
    figure = scaling_figure(make_speed(cells, workloads))
    assert figure is not None
    figure.draw_without_rendering()
    names = {axes.get_xlabel(): axes.get_xticklabels() for axes in figure.axes}
    shown = {axis: [name.get_text().strip() for name in of] for axis, of in names.items()}
    assert shown == {
        "Number of tasks": ["1", "2", "100", "101"],
        "Number of shared parameters": ["60.7 k", "11.2 M", "12 M", "14 M", "23.5 M"],
    }
    for of in names.values():
        spans = [(lines_above(name), name.get_window_extent()) for name in of]
        for (line, one), (other_line, other) in itertools.combinations(spans, 2):
            assert line != other_line or one.x1 < other.x0


def lines_above(name: Text) -> int:
    """The empty lines that a label begins with."""
    return name.get_text().count("\n")


def test_lines_are_told_apart_in_grey(example: SpeedRecord) -> None:
    looks = [str(look["linestyle"]) for look in line_styles(example).values()]
    assert len(set(looks)) == len(looks) == 3
    assert not set(looks) & {str(dashes) for dashes in BASELINE_DASHES.values()}


def test_scaling_in_both_without_memory() -> None:
    workloads = [
        make_workload("m4", "tasks"),
        *(make_workload(f"p{n}", "parameters", parameters=n) for n in (1000, 3000)),
    ]
    figure = scaling_figure(
        make_speed([make_cell("ew", OURS, [5], "one", workload=s.key) for s in workloads], workloads)
    )
    assert figure is not None and len(figure.axes) == 2
    assert [axes.get_xlabel() for axes in figure.axes] == ["Number of tasks", "Number of shared parameters"]
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["1 k", "3 k"]
