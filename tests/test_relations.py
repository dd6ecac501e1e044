"""Task positions beside task relations: the statistics by hand, and the command on real little runs."""

from __future__ import annotations

import csv
import itertools
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from record_factory import make_record, write_runs
from scipy.stats import kstest, spearmanr

from bench import relations, run
from bench.__main__ import COMMANDS
from bench.analyses.relations.agreement import (
    MOST_ENUMERATED,
    RANDOM_PERMUTATIONS,
    Agreement,
    Measure,
    Numbers,
    agreement,
    mean_cosines,
    pair_names,
    permutations,
    phi_coefficients,
    position_distances,
    relate,
    square,
    tree_order,
)
from bench.analyses.relations.figure import maps_figure, tree_figure
from bench.analyses.relations.page import relations_page
from bench.records.record import Record, TaskRecord
from bench.records.store import COSINES, read_records, run_folder, write_csv
from bench.spec.study import load_study
from datasets import DATASETS, find
from datasets.contract import DataSettings

FILES = {
    "relations.md", "relations.csv", "pairs.csv", "dendrogram.pdf", "dendrogram.png", "heatmap.pdf", "heatmap.png",
}  # fmt: skip


def of_pairs(matrix: Numbers) -> Numbers:
    return np.array([matrix[i, j] for i, j in itertools.combinations(range(len(matrix)), 2)])


def random_pairs(generator: np.random.Generator, m: int) -> Numbers:
    return generator.random(math.comb(m, 2))


def test_the_p_value_is_that_of_full_enumeration() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        first, second = random_pairs(generator, 4), random_pairs(generator, 4)
        rho = spearmanr(first, second).statistic
        matrix = square(first)
        others = [
            spearmanr(of_pairs(matrix[np.ix_(order, order)]), second).statistic
            for order in itertools.permutations(range(4))
        ]
        found = agreement(first, second)
        assert found.rho == pytest.approx(rho)
        assert found.p == pytest.approx(sum(abs(other) >= abs(rho) - 1e-9 for other in others) / 24)
        assert (found.permutations, found.exact, found.tasks) == (24, True, 4)


def test_p_values_of_unrelated_measures_are_uniform() -> None:
    generator = np.random.default_rng(1)
    ps = [agreement(random_pairs(generator, 6), random_pairs(generator, 6)).p for _ in range(400)]
    assert kstest(ps, "uniform").pvalue > 0.01


def test_p_values_stay_uniform_where_pairs_depend_on_each_other() -> None:
    """Distances of points on a line: permuting pairs instead of tasks would find far too many small p-values."""
    generator = np.random.default_rng(2)
    ps = [
        agreement(position_distances(generator.random(7)), position_distances(generator.random(7))).p
        for _ in range(300)
    ]
    assert 0.02 < np.mean(np.array(ps) < 0.05) < 0.09


def test_ties_are_ranked_as_scipy_does() -> None:
    first, second = np.array([1.0, 1, 2, 3, 3, 3]), np.array([2.0, 1, 1, 5, 5, 4])
    assert agreement(first, second).rho == pytest.approx(spearmanr(first, second).statistic)


@pytest.mark.parametrize("m", [3, 5, 12])
def test_a_monotone_relation_gives_one_and_the_least_p(m: int) -> None:
    first = random_pairs(np.random.default_rng(m), m)
    for sign in (1, -1):
        found = agreement(first, sign * np.exp(3 * first))
        assert found.rho == pytest.approx(sign)
        assert found.p == pytest.approx(found.least_p)
    assert found.least_p == pytest.approx({3: 1 / 3, 5: 1 / 120, 12: 1e-4}[m])


def test_the_order_of_the_tasks_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    first, second = random_pairs(generator, 5), random_pairs(generator, 5)
    order = np.ix_([3, 0, 4, 1, 2], [3, 0, 4, 1, 2])
    turned = agreement(of_pairs(square(first)[order]), of_pairs(square(second)[order]))
    assert (turned.rho, turned.p) == pytest.approx((agreement(first, second).rho, agreement(first, second).p))
    assert agreement(second, first).p == pytest.approx(agreement(first, second).p)


def test_random_permutations_are_permutations_and_the_same_every_time() -> None:
    drawn = permutations(MOST_ENUMERATED + 1)
    assert drawn.shape == (RANDOM_PERMUTATIONS, MOST_ENUMERATED + 1)
    assert (np.sort(drawn, axis=1) == np.arange(MOST_ENUMERATED + 1)).all()
    generator = np.random.default_rng(4)
    first, second = random_pairs(generator, 40), random_pairs(generator, 40)
    found = agreement(first, second)
    permutations.cache_clear()
    assert agreement(first, second) == found and found.p * (RANDOM_PERMUTATIONS + 1) == pytest.approx(
        round(found.p * (RANDOM_PERMUTATIONS + 1))
    )


def test_tasks_without_a_defined_pair_are_left_out() -> None:
    generator = np.random.default_rng(5)
    first, second = square(random_pairs(generator, 5)), square(random_pairs(generator, 5))
    expected = agreement(of_pairs(first[:4, :4]), of_pairs(second[:4, :4]))
    second[4, :4] = second[:4, 4] = np.nan
    found = agreement(of_pairs(first), of_pairs(second))
    assert found == Agreement(expected.rho, expected.p, 4, 24, True, left_out=(4,))


@pytest.mark.parametrize("flat", [np.zeros(6), np.full(6, np.nan), np.array([np.nan, 1, 2, 3, 4, 5])])
def test_what_does_not_vary_or_is_not_defined_has_no_correlation(flat: Numbers) -> None:
    found = agreement(np.arange(6.0), flat)
    assert math.isnan(found.rho) and math.isnan(found.p)


def test_phi_is_numpy_s_correlation() -> None:
    labels = (np.random.default_rng(6).random((5, 60)) < 0.3).astype(np.float64)
    labels[1] = 1 - labels[0]
    np.testing.assert_allclose(phi_coefficients(labels), of_pairs(np.corrcoef(labels)))
    assert phi_coefficients(labels)[0] == pytest.approx(-1)
    labels[4] = 0
    assert np.isnan(square(phi_coefficients(labels))[4, :4]).all()


def test_cosines_are_averaged_over_the_looks_that_have_them() -> None:
    looks = np.array([[0.5, np.nan, np.nan], [0.1, 0.4, np.nan]])
    np.testing.assert_allclose(mean_cosines(looks), [0.3, 0.4, np.nan])


def test_distances_and_pairs_have_one_order() -> None:
    np.testing.assert_allclose(position_distances(np.array([1.0, 1.5, 3.0])), [0.5, 2.0, 1.5])
    assert pair_names(["a", "b", "c"]) == ["a|b", "a|c", "b|c"]
    assert tree_order(position_distances(np.array([5.0, 1.0, 4.9, 1.2]))) in ([1, 3, 2, 0], [0, 2, 3, 1])


def test_seeds_that_moved_alike_agree() -> None:
    positions = {
        0: np.array([1.0, 1.1, 1.4, 2.0]),
        1: np.array([3.0, 3.2, 3.8, 5.0]),
        2: np.array([2.0, 1.0, 1.9, 1.1]),
    }
    found = relate("toy", "Toy", dict.fromkeys("abcd", ""), positions, [])
    assert found.between_seeds[0, 1].rho == pytest.approx(1) and found.between_seeds[0, 1].p == pytest.approx(1 / 24)
    assert found.between_seeds[0, 2].rho == pytest.approx(
        spearmanr(position_distances(positions[0]), position_distances(positions[2])).statistic
    )
    assert set(found.between_seeds) == {(0, 1), (0, 2), (1, 2)}


def page_of(positions: Numbers, likeness: Numbers) -> str:
    """The page of two equal seeds."""
    tasks = {f"t{place}": f"Task {place}" for place in range(len(positions))}
    measure = Measure("cosine_ew", "Likeness", "Likeness", "tasks with more likeness", {0: likeness, 1: likeness})
    return relations_page(relate("toy", "Toy", tasks, {0: positions, 1: positions}, [measure]))


def test_the_page_says_what_the_numbers_say() -> None:
    positions = np.array([1.0, 1.1, 1.3, 1.7, 2.5])
    near = page_of(positions, -position_distances(positions))
    assert "Tasks with more likeness lie closer to each other, as the claim says: ρ = −1.00, p = 0.008" in near
    assert "ρ is negative in 2 of 2 (p < 0.05 in 2)" in near and "more than by chance" in near
    far = page_of(positions, position_distances(positions))
    assert "lie further from each other, the opposite of the claim: ρ = 1.00" in far
    unrelated = page_of(positions, random_pairs(np.random.default_rng(0), 5))
    assert "Nothing that can be told from chance" in unrelated and "claim:" not in unrelated
    constant = page_of(np.ones(5), random_pairs(np.random.default_rng(0), 5))
    assert "There is no rank correlation" in constant


def test_a_row_that_lacks_a_seed_says_so() -> None:
    tasks = dict.fromkeys("abcd", "")
    positions = {seed: np.array([1.0, 1.1, 1.4, 2.0]) + seed for seed in range(3)}
    values = {seed: np.arange(6.0) for seed in (0, 2)}
    found = relate("toy", "Toy", tasks, positions, [Measure("cosine_ew", "Likeness", "", "tasks", values)])
    page = relations_page(found)
    assert "Likeness<sup>a</sup>" in page and "<sup>a</sup> without seed 1" in page
    assert "(mean over seeds 0, 2)" in page and found.comparisons[0].mean is not None


def test_the_page_says_when_there_are_too_few_tasks() -> None:
    positions = np.array([1.0, 1.1, 1.4])
    page = page_of(positions, -position_distances(positions))
    assert "With 3 tasks there are only 6 permutations, and no p-value below 0.33 can come out" in page
    assert "as the claim says" not in page and "more than by chance" not in page
    assert "can come out" not in page_of(np.arange(4.0), np.arange(6.0))


@pytest.mark.parametrize("m", [3, 40])
def test_figures_name_every_task(m: int) -> None:
    generator = np.random.default_rng(7)
    tasks = {f"t{place}": f"Task {place}" for place in range(m)}
    measure = Measure("cosine_ew", "Likeness", "Likeness", "", {0: random_pairs(generator, m)})
    found = relate("toy", "Toy", tasks, {0: generator.random(m)}, [measure])
    for figure in (tree_figure(found), maps_figure(found)):
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert sorted(labels) == sorted(tasks.values())


@pytest.fixture(scope="module")
def results(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of an epoch that looked at their cosines, on digits and faces, with two seeds."""
    folder = tmp_path_factory.mktemp("results")
    what = ["--method", "normal", "ew", "--data", "digits", "faces", "--seeds", "0", "1", "--epochs", "1"]
    how = ["--device", "cpu", "--jobs", "1", "--results", str(folder), "--data-root", str(data_root)]
    assert run.main([*what, "--set", "train.cosines_every=10", *how]) == 0
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def the_runs(results: Path, data: str, method: str) -> list[Record]:
    """Both seeds."""
    found = [record for record in read_records(results) if (record.data, record.method) == (data, method)]
    assert [record.seed for record in found] == [0, 1]
    return found


def test_from_runs_to_pages(results: Path, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert relations.main(["--results", str(results), "--out", str(tmp_path), "--data-root", str(data_root)]) == 0
    printed = capsys.readouterr().out
    for name in ("digits", "faces"):
        assert {path.name for path in (tmp_path / name).iterdir()} == FILES
        assert str(tmp_path / name) in printed
    rows = table(tmp_path / "digits" / "relations.csv")
    found = {(row["comparison"], row["seeds"]) for row in rows}
    each = {(name, seeds) for name in ("cosine_normal", "cosine_ew") for seeds in ("0", "1", "0 1")}
    assert found == each | {("label_correlation", ""), ("distance_other_seed", "0 1")}
    assert {row["permutations"] for row in rows if row["rho"]} == {"24"}
    page = (tmp_path / "digits" / "relations.md").read_text(encoding="utf-8")
    assert "confound" in page and "Missing. Every task has images of its own" in page
    _check_pairs_of_faces(results, data_root, tmp_path)


def _check_pairs_of_faces(results: Path, data_root: Path, out: Path) -> None:
    """A pair's numbers against what the run left, and the labels against the data."""
    pair = next(p for p in table(out / "faces" / "pairs.csv") if (p["first"], p["second"]) == ("male", "no_beard"))
    for record in the_runs(results, "faces", "normal"):
        distance = abs(record.positions["male"] - record.positions["no_beard"])
        assert float(pair[f"distance/seed-{record.seed}"]) == pytest.approx(distance)
    for method, column in (("normal", "cosine_normal"), ("ew", "cosine_ew")):
        looks = []
        for record in the_runs(results, "faces", method):
            seen = table(run_folder(results, "faces", record.variant, record.seed) / COSINES)
            looks.append([float(look["male|no_beard"]) for look in seen])
        assert float(pair[column]) == pytest.approx(np.mean(looks))
    folder = find("faces", data_root)
    assert folder is not None
    (images,) = DATASETS["faces"].read(folder, DataSettings((32, 32))).train
    keys = [task.key for task in DATASETS["faces"].tasks]
    male, no_beard = (images.targets[keys.index(key)].numpy() for key in ("male", "no_beard"))
    assert float(pair["label_correlation"]) == pytest.approx(np.corrcoef(male, no_beard)[0, 1])
    assert float(pair["label_association"]) == pytest.approx(abs(np.corrcoef(male, no_beard)[0, 1]))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("celeba", "The data set was not found on the machine"),
        ("nyuv2", "not every task here has such a label"),
        ("officehome", "Every task has images of its own"),
    ],
)
def test_what_is_missing_is_said(name: str, reason: str, tmp_path: Path, data_root: Path) -> None:
    """A run of NORMAL alone, from a machine with the real data."""
    info = DATASETS[name]
    tasks = {task.key: task.label for task in info.tasks}
    record = make_record(
        method="NORMAL",
        positions={key: 1 + 0.01 * place for place, key in enumerate(tasks)},
        settings={"train": {"cosines_every": 25}, "data": {"image_size": [64, 64], "split_seed": 0}},
    ).model_copy(
        update={
            "data": name,
            "tasks": [TaskRecord(key=key, label=label, metrics=[]) for key, label in tasks.items()],
        }
    )
    write_runs(tmp_path, [record])
    pairs = pair_names(list(tasks))
    looks = [(0, *np.linspace(-0.1, 0.3, len(pairs)))]
    write_csv(run_folder(tmp_path, name, "normal", 0) / COSINES, ("step", *pairs), looks)
    arguments = ["--results", str(tmp_path), "--out", str(tmp_path / "out"), "--data-root", str(data_root)]
    assert relations.main(arguments) == 0
    page = (tmp_path / "out" / name / "relations.md").read_text(encoding="utf-8")
    assert reason in page and "No finished run of EW" in page and f"--study relations --data {name}` makes one" in page
    assert "it takes runs of NORMAL with two seeds or more, found seed 0" in page


def test_no_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert relations.main(["--results", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "expected records of runs, found none" in message and "bench.run --study relations" in message


def test_no_runs_of_normal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, [make_record("digits", "EW"), make_record("digits", "UW")])
    assert relations.main(["--results", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "expected runs of NORMAL, found EW, UW" in message and message.count("\n") == 1


def test_runs_that_never_looked_at_their_cosines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, [make_record("digits", "NORMAL")])
    assert relations.main(["--results", str(tmp_path)]) == 2
    assert "found none with train.cosines_every > 0" in capsys.readouterr().err


def test_a_run_whose_cosines_are_gone(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results / "digits", copy / "digits")
    gone = run_folder(copy, "digits", the_runs(results, "digits", "ew")[0].variant, 0) / COSINES
    gone.unlink()
    assert relations.main(["--results", str(copy), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert str(gone) in message and "bench.run --study relations" in message and message.count("\n") == 1


def test_two_variants_of_normal_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"train": {"cosines_every": 5}}
    records = [make_record("digits", "NORMAL", variant=key, settings=settings) for key in ("normal@1", "normal@2")]
    write_runs(tmp_path, records)
    assert relations.main(["--results", str(tmp_path)]) == 2
    assert "found normal@1, normal@2" in capsys.readouterr().err


def test_a_data_set_without_records_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert relations.main(["--results", str(results), "--data", "digit"]) == 2
    assert "Did you mean 'digits'?" in capsys.readouterr().err


def test_the_command_and_its_study_are_there() -> None:
    assert "bench.relations" in COMMANDS
    study = load_study("relations")
    assert study.methods == ["normal", "ew"] and study.set["train.cosines_every"] > 0
