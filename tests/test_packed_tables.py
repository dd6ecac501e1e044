"""The small columns of parquet files of Office-Home and CelebA: what is read, and what is named as wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from data_trees import CLASSES, PARTS, Trees, read, same, write_celeba_parquet, write_office_parquet

from datasets.contract import DataError
from datasets.fingerprint import fingerprint
from datasets.office import OFFICEHOME_DOMAINS
from datasets.office_table import OfficeTable, read_table

Table = pyarrow.Table
FIRST, SECOND = (f"data/train-{number:05d}-of-00002.parquet" for number in range(2))
DOMAINS = ["Real World", "Art", "Product", "Clipart"]


@pytest.fixture(scope="module")
def packed_home(trees: Trees, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    write_office_parquet(root, trees("officehome"), "officehome")
    return root


@pytest.fixture
def home(packed_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed_home, tmp_path / "home"))


def changed(file: Path, change: Callable[[Table], Table]) -> None:
    pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(file)), file)


def with_column(name: str, values: Callable[[list[object]], list[object]]) -> Callable[[Table], Table]:
    def change(table: Table) -> Table:
        column = table.schema.get_field_index(name)
        return table.set_column(column, name, pyarrow.array(values(table[name].to_pylist())))

    return change


def with_features(features: object) -> Callable[[Table], Table]:
    content = features if isinstance(features, bytes) else json.dumps({"info": {"features": features}}).encode()
    return lambda table: table.replace_schema_metadata({b"huggingface": content})


def table_in(root: Path) -> OfficeTable:
    return read_table(root, [(*domain.folders, domain.key) for domain in OFFICEHOME_DOMAINS])


def test_domains_may_be_numbers_of_names(home: Path, packed_home: Path) -> None:
    features = {"label": {"names": CLASSES["officehome"]}, "domain": {"names": DOMAINS}}
    for name in (FIRST, SECOND):
        changed(home / name, with_column("domain", lambda names: [DOMAINS.index(str(one)) for one in names]))
        changed(home / name, with_features(features))
    assert table_in(home).names == table_in(packed_home).names


def test_names_of_classes_may_be_in_one_file_and_must_not_differ(home: Path, packed_home: Path) -> None:
    changed(home / FIRST, lambda table: table.replace_schema_metadata({}))
    found, usual = table_in(home), table_in(packed_home)
    assert found.names == usual.names and np.array_equal(found.labels, usual.labels)
    shutil.copy(packed_home / FIRST, home / FIRST)
    changed(home / SECOND, with_features({"label": {"names": CLASSES["officehome"][::-1]}}))
    with pytest.raises(DataError) as caught:
        table_in(home)
    assert str(caught.value).startswith(f"{home / SECOND}: expected the names of label as in the files before, found ")


@pytest.mark.parametrize("features", [b"{bad", b"[]", {"label": {}}, {"label": {"names": "a"}}], ids=str)
def test_metadata_of_another_form_are_no_names(home: Path, features: object) -> None:
    for name in (FIRST, SECOND):
        changed(home / name, with_features(features))
    with pytest.raises(DataError, match="expected the names of each label, as Hugging Face stores them, found only"):
        table_in(home)


def test_images_without_fields_have_no_names(home: Path) -> None:
    for name in (FIRST, SECOND):
        changed(home / name, with_column("image", lambda cells: [cell["bytes"] for cell in cells]))  # type: ignore[index]
    assert not table_in(home).named


def test_images_of_one_name_in_a_class_keep_the_order_of_rows(home: Path) -> None:
    changed(home / FIRST, lambda table: pyarrow.concat_tables([table, table.slice(0, 1)]))
    assert not table_in(home).named


def test_a_file_without_rows_is_passed_over(home: Path, packed_home: Path) -> None:
    both = pyarrow.concat_tables([pyarrow.parquet.read_table(packed_home / name) for name in (FIRST, SECOND)])
    pyarrow.parquet.write_table(both, home / FIRST)
    changed(home / SECOND, lambda table: table.slice(0, 0))
    assert table_in(home).names == table_in(packed_home).names


def test_faces_are_ordered_by_their_names(trees: Trees, tmp_path: Path) -> None:
    write_celeba_parquet(tmp_path, trees("celeba"), "valid", -1)
    changed(tmp_path / "train-00000-of-00001.parquet", lambda table: table.take([3, 0, 4, 1, 2]))
    found, usual = read("celeba", tmp_path), read("celeba", trees("celeba"))
    assert same(found, usual) and found.provenance == usual.provenance and fingerprint(found) == fingerprint(usual)


def test_0_and_minus_1_for_no_are_not_mixed(trees: Trees, tmp_path: Path) -> None:
    write_celeba_parquet(tmp_path, trees("celeba"), "valid", -1)
    file = tmp_path / "train-00000-of-00001.parquet"
    changed(file, with_column("Male", lambda values: [0, *[1] * (PARTS.count(0) - 1)]))
    with pytest.raises(DataError, match="expected 1 and either 0 or -1, found both"):
        read("celeba", tmp_path)
