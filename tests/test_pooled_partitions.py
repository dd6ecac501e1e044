"""A partition per seed for data with an official test set: all images, each once, in parts of the official sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import for_every
from data_trees import SETTINGS, Trees, parts, read, same, write_celeba_parquet, write_parquet

from bench.run import main as run
from bench.spec.data_seen import CurrentData, SeenData, data_remarks
from bench.spec.resolve import RunSpec, resolve
from datasets import DATASETS
from datasets.contract import Splits
from datasets.fingerprint import PARTS, WHOLE, fingerprint
from datasets.pooling import drawn_parts

PER_SEED = replace(SETTINGS, split_per_seed=True)
KINDS = ("nyuv2", "celeba")


def pooled(name: str, root: Path, seed: int) -> Splits:
    return DATASETS[name].read(root, replace(PER_SEED, split_seed=seed))


def rows(splits: Splits) -> list[list[int]]:
    """The rows of the shared arrays in each part."""
    return [source.rows_at(torch.arange(len(source))).tolist() for (source,) in parts(splits)]


@for_every("name", KINDS)
def test_partitions_are_disjoint_exhaustive_and_of_the_official_sizes(name: str, trees: Trees) -> None:
    root = trees(name)
    official = DATASETS[name].read(root, SETTINGS)
    drawn = [pooled(name, root, seed) for seed in (0, 1, 0)]
    sizes = [len(source) for (source,) in parts(official)]
    assert len(set(sizes)) > 1
    for splits in drawn:
        assert [len(part) for part in rows(splits)] == sizes
        assert sorted(row for part in rows(splits) for row in part) == list(range(sum(sizes)))
        assert all(part == sorted(part) for part in rows(splits))
        assert splits.provenance["counts"] == official.provenance["counts"]
    assert rows(drawn[0]) == rows(drawn[2]) != rows(drawn[1])
    digests = [splits.provenance["digest"] for splits in (*drawn, official)]
    assert digests[0] == digests[2] and len(set(digests)) == 3
    assert [splits.provenance["seed"] for splits in drawn] == [0, 1, 0]
    rule = str(drawn[0].provenance["rule"])
    assert rule.startswith("pooled: all images") and "official test set" in rule and "in every part" in rule


@for_every("name", KINDS)
def test_the_pooled_images_are_those_of_the_official_parts(name: str, trees: Trees) -> None:
    """With their targets: the fingerprint of the whole has each row's image and targets."""
    root = trees(name)
    marks = [
        fingerprint(splits)
        for splits in (DATASETS[name].read(root, SETTINGS), *(pooled(name, root, s) for s in (0, 1)))
    ]
    assert len({mark[WHOLE] for mark in marks}) == 1
    for part in PARTS:
        assert len({mark[part] for mark in marks}) == 3


@for_every("name", KINDS)
def test_all_parts_share_one_array_on_disk(name: str, trees: Trees) -> None:
    splits = pooled(name, trees(name), 0)
    (train,), (validation,), (test,) = parts(splits)
    for other in (validation, test):
        assert other.images.data_ptr() == train.images.data_ptr()
        assert all(other.targets[task].data_ptr() == target.data_ptr() for task, target in train.targets.items())
    assert len(train.images) == sum(len(source) for (source,) in parts(splits))


def test_parquet_files_give_the_partition_of_other_files(trees: Trees, tmp_path: Path) -> None:
    write_parquet(tmp_path / "nyuv2")
    write_celeba_parquet(tmp_path / "celeba", trees("celeba"), "valid", no=-1)
    for name in KINDS:
        packed, usual = (read(name, root, PER_SEED) for root in (tmp_path / name, trees(name)))
        assert packed.provenance == usual.provenance
        assert same(packed, usual)


def test_a_partition_is_uniform() -> None:
    """Each image is in each part as often as the sizes say: chi-squared over 2,000 seeds."""
    sizes = (5, 2, 3)
    counts = np.zeros((10, 3))
    for seed in range(2000):
        counts[np.arange(10), drawn_parts(sizes, seed)] += 1
    expected = 2000 * np.array(sizes) / 10
    assert (((counts - expected) ** 2 / expected).sum(axis=1) < 20).all()  # 2 degrees of freedom: p = 5e-5


@for_every("name", ["rooms", "faces", *KINDS])
def test_all_methods_draw_the_same_partition_and_seeds_another(name: str) -> None:
    def spec(method: str, seed: int) -> RunSpec:
        return resolve(name, method, seed=seed, assignments={"data.split_per_seed": True, "data.split_seed": 3})

    assert {spec(method, 2).data_settings.split_seed for method in ("ew", "normal", "mgda")} == {5}
    assert spec("ew", 0).data_settings.split_seed == 3


def test_it_is_said_that_numbers_are_not_comparable() -> None:
    settings = {name: resolve(name, "ew", assignments={"data.split_per_seed": True}) for name in DATASETS}
    seen = {(name, spec.data_settings): SeenData({}, "", {}) for name, spec in settings.items()}
    remarks = data_remarks(CurrentData(seen, {}), [])
    assert [remark.partition(":")[0] for remark in remarks] == list(KINDS)
    assert all("not comparable with published ones" in remark for remark in remarks)
    assert "identities overlap between parts" in remarks[1]
    usual = {(name, resolve(name, "ew").data_settings): SeenData({}, "", {}) for name in DATASETS}
    assert data_remarks(CurrentData(usual, {}), []) == []


def test_the_command_says_so(trees: Trees, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "celeba").symlink_to(trees("celeba"))
    words = ["--data", "celeba", "--method", "ew", "--set", "backbone.weights=none", "--data-root", str(data)]
    words += ["--results", str(tmp_path / "results"), "--dry-run"]
    for assignment, said in (("data.split_per_seed=true", True), ("data.split_per_seed=false", False)):
        run([*words, "--set", assignment])
        assert ("not comparable with published ones" in " ".join(capsys.readouterr().out.split())) == said
