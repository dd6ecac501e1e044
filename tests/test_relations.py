"""bench.relations: its statistics against scipy and by hand, its page, and the command on made-up and real runs."""

from __future__ import annotations

import csv
import io
import itertools
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_trees import write_celeba
from record_factory import ACCURACY, make_record, write_runs
from scipy.stats import kstest, rankdata, spearmanr

from bench import relations, run
from bench.__main__ import COMMANDS
from bench.analyses.relations.agreement import (
    BETWEEN_SEEDS,
    MAX_ENUMERATED_TASKS,
    RANDOM_PERMUTATIONS,
    Measure,
    Numbers,
    ceiling,
    mantel_test,
    partial_mantel_test,
    permutations,
    position_distances,
    relate,
    square,
    task_test,
)
from bench.analyses.relations.figure import dendrogram_figure, heatmap_figure
from bench.analyses.relations.measures import phi_coefficients, related, runs_with_cosines
from bench.analyses.relations.page import pairs_csv, relations_page
from bench.records.record import TaskRecord
from bench.records.store import COSINES, run_folder, write_csv
from bench.spec.study import load_study
from datasets import DATASETS
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
        found = mantel_test(first, second)
        assert found.rho == pytest.approx(rho)
        assert found.p == pytest.approx(sum(abs(other) >= abs(rho) - 1e-9 for other in others) / 24)
        assert (found.permutations, found.exact, found.tasks) == (24, True, 4)


def test_p_values_of_unrelated_measures_are_uniform() -> None:
    generator = np.random.default_rng(1)
    ps = [mantel_test(random_pairs(generator, 6), random_pairs(generator, 6)).p for _ in range(400)]
    assert kstest(ps, "uniform").pvalue > 0.01


def test_p_values_stay_uniform_where_pairs_depend_on_each_other() -> None:
    """Distances of points on a line: permuting pairs instead of tasks would find far too many small p-values."""
    generator = np.random.default_rng(2)
    ps = [
        mantel_test(position_distances(generator.random(7)), position_distances(generator.random(7))).p
        for _ in range(300)
    ]
    assert 0.02 < np.mean(np.array(ps) < 0.05) < 0.09


def test_ties_are_ranked_as_scipy_does() -> None:
    first, second = np.array([1.0, 1, 2, 3, 3, 3]), np.array([2.0, 1, 1, 5, 5, 4])
    assert mantel_test(first, second).rho == pytest.approx(spearmanr(first, second).statistic)


@pytest.mark.parametrize("m", [3, 5, 12])
def test_a_monotone_relation_gives_one_and_the_least_p(m: int) -> None:
    first = random_pairs(np.random.default_rng(m), m)
    for sign in (1, -1):
        found = mantel_test(first, sign * np.exp(3 * first))
        assert found.rho == pytest.approx(sign)
        assert found.p == pytest.approx(found.least_p)
    assert found.least_p == pytest.approx({3: 1 / 3, 5: 1 / 120, 12: 1e-4}[m])


def test_the_order_of_the_tasks_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    first, second = random_pairs(generator, 5), random_pairs(generator, 5)
    order = np.ix_([3, 0, 4, 1, 2], [3, 0, 4, 1, 2])
    turned = mantel_test(of_pairs(square(first)[order]), of_pairs(square(second)[order]))
    assert (turned.rho, turned.p) == pytest.approx((mantel_test(first, second).rho, mantel_test(first, second).p))
    assert mantel_test(second, first).p == pytest.approx(mantel_test(first, second).p)


def test_random_permutations_are_permutations_and_the_same_every_time() -> None:
    drawn = permutations(MAX_ENUMERATED_TASKS + 1)
    assert drawn.shape == (RANDOM_PERMUTATIONS, MAX_ENUMERATED_TASKS + 1)
    assert (np.sort(drawn, axis=1) == np.arange(MAX_ENUMERATED_TASKS + 1)).all()
    generator = np.random.default_rng(4)
    first, second = random_pairs(generator, 40), random_pairs(generator, 40)
    found = mantel_test(first, second)
    permutations.cache_clear()
    assert mantel_test(first, second) == found and found.p * (RANDOM_PERMUTATIONS + 1) == pytest.approx(
        round(found.p * (RANDOM_PERMUTATIONS + 1))
    )


def test_a_constant_or_undefined_measure_has_no_correlation() -> None:
    for flat in (np.zeros(6), np.full(6, np.nan), np.array([np.nan, 1, 2, 3, 4, 5])):
        found = mantel_test(np.arange(6.0), flat)
        assert math.isnan(found.rho) and math.isnan(found.p), flat


def test_phi_is_numpy_s_correlation() -> None:
    labels = (np.random.default_rng(6).random((5, 60)) < 0.3).astype(np.float64)
    labels[1] = 1 - labels[0]
    np.testing.assert_allclose(phi_coefficients(labels), of_pairs(np.corrcoef(labels)))
    assert phi_coefficients(labels)[0] == pytest.approx(-1)
    labels[4] = 0
    assert np.isnan(square(phi_coefficients(labels))[4, :4]).all()


def test_distances_are_a_condensed_matrix() -> None:
    np.testing.assert_allclose(position_distances(np.array([1.0, 1.5, 3.0])), [0.5, 2.0, 1.5])


def test_distances_are_compared_between_seeds() -> None:
    positions = {
        0: np.array([1.0, 1.1, 1.4, 2.0]),
        1: np.array([3.0, 3.2, 3.8, 5.0]),
        2: np.array([2.0, 1.0, 1.9, 1.1]),
    }
    found = relate("toy", "Toy", dict.fromkeys("abcd", ""), positions, []).agreements[BETWEEN_SEEDS]
    assert found[0, 1].rho == pytest.approx(1) and found[0, 1].p == pytest.approx(1 / 24)
    first, third = position_distances(positions[0]), position_distances(positions[2])
    assert found[0, 2].rho == pytest.approx(spearmanr(first, third).statistic)
    assert set(found) == {(0, 1), (0, 2), (1, 2)}


def page_of(positions: Mapping[int, Numbers], values: Mapping[int, Numbers], missing: str = "") -> str:
    tasks = {f"t{task}": f"Task {task}" for task in range(len(positions[0]))}
    measure = Measure("cosine_ew", "Similarity", values, missing)
    complete = Measure("cosine_normal", "Own cosine", {0: np.arange(math.comb(len(tasks), 2))})
    return relations_page(relate("toy", "Toy", tasks, positions, [complete, measure]))


def test_the_page_has_the_numbers() -> None:
    positions = np.array([1.0, 1.1, 1.3, 1.7, 2.5])
    both, similar = {0: positions, 1: positions}, -position_distances(positions)
    page = page_of(both, {0: similar, 1: similar})
    assert "| Similarity | −1.00 | 0.008 | −1.00 | 0.008 | −1.00 | 0.008 |" in page
    assert "5 tasks, 10 pairs, seeds 0, 1. Mean positions: from 1.000 (Task 0) to 2.500 (Task 4)." in page
    assert "from all 120 permutations" in page and "The smallest possible p-value is 0.008." in page
    assert "| 0 and 1 | 1.00 | 0.008 |" in page
    assert "| Similarity | -- | -- | −1.00 | 0.008 | -- | -- |" in page_of(both, {0: similar})
    assert "| Similarity | -- | -- | -- | -- |" in page_of({0: np.ones(5)}, {0: similar})
    page = page_of({0: positions}, {}, "no such runs")
    assert "| Similarity<sup>a</sup> | -- |" in page and "<sup>a</sup> no such runs." in page
    assert "needs two seeds or more" in page
    assert "random sample of 9,999 permutations" in page_of({0: np.arange(8.0)}, {0: np.arange(28.0)})


def test_figures_name_every_task() -> None:
    generator = np.random.default_rng(7)
    for m in (3, 40):
        tasks = {f"t{task}": f"Task {task}" for task in range(m)}
        measure = Measure("cosine_ew", "Similarity", {0: random_pairs(generator, m)})
        found = relate("toy", "Toy", tasks, {0: generator.random(m)}, [measure])
        orders = []
        for figure in (dendrogram_figure(found), heatmap_figure(found)):
            labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
            assert sorted(labels) == sorted(tasks.values()), m
            orders.append(labels)
        assert orders[0] == orders[1], m


@pytest.mark.slow
def test_statistics_page_and_figures_need_no_torch() -> None:
    modules = ["agreement", "page", "figure"]
    code = "import sys; " + "; ".join(f"import bench.analyses.relations.{name}" for name in modules)
    unwanted = "{'torch', 'methods', 'datasets'}"
    subprocess.run([sys.executable, "-c", f"{code}; assert not {unwanted} & set(sys.modules)"], check=True)


def write_made_runs(results: Path, problem: str, methods: Sequence[str] = ("NORMAL", "EW"), **fields: Any) -> None:
    """Two seeds of each method with positions and two samples of every cosine, the second of them undefined in part."""
    settings = {"train": {"cosines_every": 25}, "data": {"image_size": [32, 32], "split_seed": 0}}
    for method in methods:
        for seed in (0, 1):
            generator = np.random.default_rng([len(method), seed])
            first = make_record(problem, method, seed, settings=settings)
            keys = [task.key for task in first.tasks]
            positions = dict(zip(keys, generator.random(len(keys)).tolist(), strict=True))
            record = make_record(problem, method, seed, settings=settings, positions=positions).model_copy(
                update=fields
            )
            write_runs(results, [record])
            pairs = [f"{a}|{b}" for a, b in itertools.combinations(keys, 2)]
            samples = generator.uniform(-1, 1, (2, len(pairs)))
            samples[1, 0] = np.nan
            folder = run_folder(results, record.data, record.variant, seed)
            write_csv(folder / COSINES, ("step", *pairs), [(25 * i, *row) for i, row in enumerate(samples.tolist())])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_from_records_to_numbers(tmp_path: Path) -> None:
    """A pair's numbers against the files of the runs, and its label correlation against the data."""
    write_celeba(tmp_path / "celeba")
    splits = DATASETS["celeba"].read(tmp_path / "celeba", DataSettings((32, 32)))
    write_made_runs(tmp_path, "faces", data="celeba", splits=splits.provenance)
    (runs,) = runs_with_cosines(tmp_path, ["celeba"]).values()
    found = related(tmp_path, runs, tmp_path)
    pair = next(
        p for p in csv.DictReader(io.StringIO(pairs_csv(found))) if (p["first"], p["second"]) == ("male", "young")
    )
    samples: dict[str, list[float]] = {"normal": [], "ew": []}
    for run_ in runs:
        rows = table(run_folder(tmp_path, "celeba", run_.variant, run_.seed) / COSINES)
        samples[run_.method] += [float(row["male|young"]) for row in rows]
        if run_.method == "normal":
            distance = abs(run_.positions["male"] - run_.positions["young"])
            assert float(pair[f"distance/seed-{run_.seed}"]) == pytest.approx(distance)
    for method, values in samples.items():
        assert float(pair[f"cosine_{method}"]) == pytest.approx(np.mean(values))
    assert np.isfinite(found.measures[1].mean()).all()  # of an undefined sample, the other one counts
    (images,) = splits.train
    keys = [task.key for task in DATASETS["celeba"].tasks]
    male, young = (images.targets[keys.index(key)].numpy() for key in ("male", "young"))
    assert float(pair["label_correlation"]) == pytest.approx(np.corrcoef(male, young)[0, 1])
    assert float(pair["label_association"]) == pytest.approx(abs(np.corrcoef(male, young)[0, 1]))
    other = [one.model_copy(update={"splits": {"digest": "of another split"}}) for one in runs]
    assert "another split" in related(tmp_path, other, tmp_path).measures[3].missing


@pytest.mark.slow
def test_from_training_to_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    what = ["--method", "normal", "ew", "--data", "digits", "--seeds", "0", "--epochs", "1"]
    places = ["--results", str(tmp_path), "--data-root", str(tmp_path / "data")]
    assert run.main([*what, "--set", "train.cosines_every=2", "--device", "cpu", "--jobs", "1", *places]) == 0
    assert relations.main([*places, "--out", str(tmp_path / "out")]) == 0
    assert str(tmp_path / "out" / "digits" / "relations.md") in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out" / "digits").iterdir()} == FILES
    rows = table(tmp_path / "out" / "digits" / "relations.csv")
    assert [(row["comparison"], row["seeds"]) for row in rows] == [
        ("cosine_normal", "0"),
        ("cosine_ew", "0"),
        ("cosine_normal, given difficulty", "0"),
        ("cosine_ew, given difficulty", "0"),
        ("position and Test accuracy of EW", "0"),
        ("position and Last training loss of NORMAL", "0"),
    ]
    assert {row["permutations"] for row in rows} == {"24"}


def test_positions_beside_difficulty_agree_with_scipy() -> None:
    generator = np.random.default_rng(5)
    for m in (5, 12):
        first, second = generator.random(m), generator.random(m)
        found = task_test(first, second)
        assert found.rho == pytest.approx(spearmanr(first, second).statistic)
        if m == 5:
            others = [spearmanr(first[list(order)], second).statistic for order in itertools.permutations(range(m))]
            assert found.p == pytest.approx(np.mean([abs(other) >= abs(found.rho) - 1e-9 for other in others]))


def test_a_partial_correlation_is_that_of_the_residuals() -> None:
    """Of the ranks of both measures after a regression on the ranks of the third, here by numpy's least squares."""
    generator = np.random.default_rng(6)
    first, second, given = (random_pairs(generator, 6) for _ in range(3))
    ranks = [rankdata(values) for values in (first, second, given)]
    design = np.column_stack([np.ones(len(given)), ranks[2]])
    rest = [values - design @ np.linalg.lstsq(design, values, rcond=None)[0] for values in ranks[:2]]
    assert partial_mantel_test(first, second, given).rho == pytest.approx(np.corrcoef(*rest)[0, 1])


def test_what_difficulty_explains_is_taken_out() -> None:
    """Distances and another measure that both follow difficulty correlate, but not beyond it."""
    generator = np.random.default_rng(7)
    full, partial = [], []
    for _ in range(60):
        given = position_distances(generator.random(9))
        first, second = (given + 0.2 * random_pairs(generator, 9) for _ in range(2))
        full.append(mantel_test(first, second).p)
        partial.append(partial_mantel_test(first, second, given).p)
    assert np.mean(np.array(full) < 0.05) > 0.9
    assert np.mean(np.array(partial) < 0.05) < 0.2
    assert math.isnan(partial_mantel_test(given, second, given).rho)


def test_reliability_limits_what_can_be_seen() -> None:
    """Two noisy copies of one measure correlate as their reliabilities say (Spearman 1904)."""
    generator = np.random.default_rng(8)
    truth = generator.standard_normal(3000)
    noisy = [{seed: truth + sd * generator.standard_normal(3000) for seed in range(4)} for sd in (0.5, 1.5)]
    first, second = (Measure("", "", values) for values in noisy)
    assert first.reliability == pytest.approx(1 / 1.25, abs=0.03)
    seen = [spearmanr(first.values[seed], second.values[seed]).statistic for seed in range(4)]
    assert np.mean(seen) == pytest.approx(ceiling(first.reliability, second.reliability), abs=0.03)
    means = spearmanr(first.mean(), second.mean()).statistic
    assert means == pytest.approx(ceiling(first.reliability, second.reliability, 4), abs=0.03)
    assert math.isnan(ceiling(math.nan, 1.0)) and ceiling(-0.2, 1.0) == 0


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """Runs of NORMAL alone, from a machine with the real data."""
    reasons = {"celeba": "data set not found", "nyuv2": "needs binary labels", "officehome": "needs binary labels"}
    for name, reason in reasons.items():
        tasks = [TaskRecord(key=task.key, label=task.label, metrics=[ACCURACY]) for task in DATASETS[name].tasks]
        positions = {task.key: 1 + 0.01 * index for index, task in enumerate(tasks)}
        scores = {task.key: {"accuracy": 0.5} for task in tasks}
        parts = {"tasks": tasks, "positions": positions, "validation": scores, "test": scores, "last_test": scores}
        record = make_record(method="NORMAL", settings={"train": {"cosines_every": 25}}, **parts)
        write_runs(tmp_path, [record.model_copy(update={"data": name})])
        pairs = [f"{a.key}|{b.key}" for a, b in itertools.combinations(tasks, 2)]
        samples = [(0, *np.linspace(-0.1, 0.3, len(pairs)))]
        write_csv(run_folder(tmp_path, name, "normal", 0) / COSINES, ("step", *pairs), samples)
        page = relations_page(related(tmp_path, runs_with_cosines(tmp_path, [name])[name], tmp_path))
        assert reason in page and "no finished run of EW" in page and f"--study relations --data {name}" in page


def test_runs_of_ew_on_other_data_do_not_count(tmp_path: Path) -> None:
    write_made_runs(tmp_path, "digits", ["NORMAL"], fingerprint={"train": "a"})
    write_made_runs(tmp_path, "digits", ["EW"], fingerprint={"train": "b"})
    (runs,) = runs_with_cosines(tmp_path, ["digits"]).values()
    of_ew = related(tmp_path, runs, tmp_path).measures[2]
    assert not of_ew.values and "settings and data of NORMAL" in of_ew.missing


def test_without_usable_records_the_message_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for records in ([], [make_record("digits", "EW"), make_record("digits", "UW")], [make_record("digits", "NORMAL")]):
        write_runs(tmp_path, records)
        assert relations.main(["--results", str(tmp_path)]) == 2
        message = capsys.readouterr().err
        assert "expected finished runs of NORMAL with train.cosines_every > 0, found none" in message, records
        assert "bench.run --study relations" in message and message.count("\n") == 1


def test_missing_or_incomplete_cosines_name_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_made_runs(tmp_path, "digits")
    path = run_folder(tmp_path, "digits", "ew", 0) / COSINES
    for break_it in (lambda: path.write_text("step\n1\n"), path.unlink):
        break_it()
        assert relations.main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
        message = capsys.readouterr().err
        assert str(path) in message and "bench.run --study relations" in message and message.count("\n") == 1


def test_two_variants_of_normal_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for variant in ("normal@1", "normal@2"):
        write_made_runs(tmp_path, "digits", ["NORMAL"], variant=variant)
    assert relations.main(["--results", str(tmp_path)]) == 2
    assert "found normal@1, normal@2" in capsys.readouterr().err


def test_a_data_set_without_records_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_made_runs(tmp_path, "digits")
    assert relations.main(["--results", str(tmp_path), "--data", "digit"]) == 2
    assert "Did you mean 'digits'?" in capsys.readouterr().err


def test_the_command_and_its_study_are_listed() -> None:
    assert "bench.relations" in COMMANDS
    study = load_study("relations")
    assert study.methods == ["normal", "ew"] and study.set["train.cosines_every"] > 0
