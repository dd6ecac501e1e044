"""What the paper's tables look like: rows, columns and heads as printed, and what of a record each column shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from bench.records.record import PERCENT, Direction, MetricRecord
from bench.reporting.tables.table import Group

# What a column shows besides the score of one task.
AVERAGE, GAIN = "average", "all"

ACCURACY = MetricRecord(key="accuracy", label="Accuracy", direction="higher", unit=PERCENT)
DELTA = MetricRecord(key="delta_b", label="Δ_b", direction="higher", unit=PERCENT)
LABELS = {"office31": "Office-31", "officehome": "Office-Home", "nyuv2": "NYUv2", "celeba": "CelebA"}
N_TASKS = {"office31": 3, "officehome": 4, "nyuv2": 3, "celeba": 40}


@dataclass(frozen=True)
class PaperColumn:
    """A column of a table of the paper.

    data, task: keys in records. The task is AVERAGE for a mean over all tasks, and GAIN for Δ_b.
    metric: what is shown, in the unit of the records.
    csv: name of the column in the file of the printed numbers.
    head, group, supergroup: as printed, from bottom to top.
    as_share: whether the paper prints a share as it is, 0.93 instead of 93 %.
    """

    data: str
    task: str
    metric: MetricRecord
    csv: str
    head: str
    group: str
    supergroup: str = ""
    as_share: bool = False

    @property
    def unit(self) -> str:
        """As printed."""
        return "" if self.as_share else self.metric.unit

    @property
    def scale(self) -> int:
        """What the paper multiplies the values of records by."""
        return 100 if self.unit == PERCENT else 1

    @property
    def printed_name(self) -> str:
        """The column in a sentence."""
        return f"{self.head.rstrip(' ↑↓')} on {LABELS[self.data]}"


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    number: in the paper. file: of the printed numbers.
    rows: label of each row by its name in that file; empty if the names are those of methods.
    what: what it shows, for captions. remark: a sentence on how it is computed.
    """

    number: int
    file: str
    what: str
    stub: str
    columns: tuple[PaperColumn, ...]
    rows: Mapping[str, str]
    remark: str = ""

    @property
    def name(self) -> str:
        """The name of its files, without ending; also that of the table of a study which it shows."""
        return f"table{self.number}"

    @property
    def data(self) -> tuple[str, ...]:
        """Its data sets."""
        return tuple(dict.fromkeys(column.data for column in self.columns))

    @property
    def groups(self) -> tuple[Group, ...]:
        """The heads above those of the columns; none if all are empty."""
        return _groups([(column.supergroup, column.group) for column in self.columns])

    @property
    def supergroups(self) -> tuple[Group, ...]:
        """The heads above the groups; none if all are empty."""
        return _groups([(column.supergroup, column.supergroup) for column in self.columns])


def _groups(heads: list[tuple[str, str]]) -> tuple[Group, ...]:
    """One group for neighbours with the same (head above, head)."""
    groups = tuple(Group(head, len(list(same))) for (_, head), same in groupby(heads))
    return groups if any(group.text for group in groups) else ()


def _accuracy(data: str, group: str, **heads: str) -> tuple[PaperColumn, ...]:
    """Accuracies of the tasks with these keys, and their average."""
    tasks = [PaperColumn(data, key, ACCURACY, f"{data}/{head}", head, group) for key, head in heads.items()]
    return (*tasks, PaperColumn(data, AVERAGE, ACCURACY, f"{data}/Avg", "Avg", group))


def _dense(task: str, key: str, csv: str, head: str, group: str, above: str = "", unit: str = "") -> PaperColumn:
    """A metric of NYUv2; the arrow in its head is its direction."""
    direction: Direction = "lower" if head.endswith("↓") else "higher"
    metric = MetricRecord(key=key, label=head, direction=direction, unit=unit)
    return PaperColumn("nyuv2", task, metric, f"{task}/{csv}", head, group, above, as_share=unit == PERCENT)


OFFICE = (
    *_accuracy("office31", "Office-31", amazon="A", dslr="D", webcam="W"),
    *_accuracy("officehome", "Office-Home", art="Ar", clipart="Cl", product="Pr", real_world="Rw"),
)
_ANGLE, _WITHIN, _NORMAL = "Angle distance", "Within t°", "Surface normal"
NYUV2 = (
    _dense("segmentation", "miou", "mIoU", "mIoU ↑", "", "Segmentation", PERCENT),
    _dense("segmentation", "pixel_accuracy", "PixAcc", "Pix Acc ↑", "", "Segmentation", PERCENT),
    _dense("depth", "absolute_error", "AbsErr", "Abs Err ↓", "", "Depth", "m"),
    _dense("depth", "relative_error", "RelErr", "Rel Err ↓", "", "Depth"),
    _dense("normal", "mean_angle", "Mean", "Mean ↓", _ANGLE, _NORMAL, "°"),
    _dense("normal", "median_angle", "Median", "Median ↓", _ANGLE, _NORMAL, "°"),
    _dense("normal", "within_11.25", "11.25", "11.25 ↑", _WITHIN, _NORMAL, PERCENT),
    _dense("normal", "within_22.5", "22.5", "22.5 ↑", _WITHIN, _NORMAL, PERCENT),
    _dense("normal", "within_30", "30", "30 ↑", _WITHIN, _NORMAL, PERCENT),
    PaperColumn("nyuv2", GAIN, DELTA, "delta_percent", "Δ_b (%) ↑", ""),
)
# The rows of Table 4, by their names in its file; the labels are those of the study `ablation`.
ABLATIONS = {
    "constant identical positions": "Constant and identical positions",
    "constant different positions": "Constant but different positions",
    "positive positions p=exp(nu)": "Positive positions, p = exp(ν)",
    "first-order NODE": "First-order NODE",
    "added task-shared layers": "Added task-shared layers",
    "added task-specific layers": "Added task-specific layers",
    "NORMAL": "NORMAL",
}

TABLE1 = PaperTable(
    1, "table1_office", "Classification accuracy (%) on Office-31 and Office-Home", "Method", OFFICE, {}
)
TABLE2 = PaperTable(
    2, "table2_nyuv2", "Scores of the three tasks of NYUv2", "Method", NYUV2, {},
    "Δ_b: relative gain over EW, mean over the metrics of a task, then over tasks; ours is paired by seed.",
)  # fmt: skip
TABLE3 = PaperTable(
    3, "table3_celeba", "Mean classification accuracy (%) over the 40 tasks of CelebA", "Method",
    _accuracy("celeba", ""), {},
)  # fmt: skip
TABLE4 = PaperTable(
    4, "table4_ablation", "Ablations: classification accuracy (%) on Office-31 and Office-Home", "Setting", OFFICE,
    ABLATIONS,
)  # fmt: skip
TABLES = (TABLE1, TABLE2, TABLE3, TABLE4)
