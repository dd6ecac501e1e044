"""Tables of numbers are read as pandas reads them, whatever they hold."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas
import pytest

from bench.records.store import RecordError
from bench.records.tables import NumberTable, read_numbers, read_table


def same(path: Path) -> bool:
    """Whether both readers find the same numbers, to the last bit, or refuse the file in the same words."""
    try:
        frame = read_table(path, ["epoch"])
    except RecordError as error:
        with pytest.raises(RecordError) as other:
            read_numbers(path, ["epoch"])
        return str(error) == str(other.value)
    table = read_numbers(path, ["epoch"])
    assert table is not None and frame is not None
    numbers = frame.select_dtypes("number")
    values = numbers.to_numpy(dtype=np.float64)
    return table.columns == tuple(numbers.columns) and np.array_equal(table.values, values, equal_nan=True)


def test_numbers_as_training_writes_them(tmp_path: Path) -> None:
    path, draw = tmp_path / "curve.csv", random.Random(0)
    for scale in (1e-300, 1e-8, 1.0, 1e17, 1e300):
        rows = [[epoch, draw.gauss(0, scale), draw.random() * scale, None] for epoch in range(200)]
        pandas.DataFrame(rows, columns=["epoch", "a", "b/c", "empty"]).to_csv(path, index=False)
        assert same(path)


CONTENTS = {
    "empty cells": "epoch,a\n1,\n,2\n",
    "infinite and not a number": "epoch,a\n1,inf\n2,nan\n3,-inf\n4,NaN\n",
    "no rows": "epoch,a\n",
    "no end": "epoch,a\n1,2",
    "carriage returns": "epoch,a\r\n1,2\r\n",
    "blank lines": "epoch,a\n1,2\n\n3,4\n",
    "one column": "epoch\n1\n\n2\n",
    "quoted names": '"epoch","a,b"\n1,2\n',
    "equal names": "epoch,a,a\n1,2,3\n",
    "a name missing": "epoch,\n1,2\n",
    "a column of text": "epoch,a\n1,x\n2,y\n",
    "text among numbers": "epoch,a\n1,2\nx,4\n",
    "two points": "epoch,a\n1,2.3.4\n",
    "underscores": "epoch,a\n1_0,2\n",
    "a short row": "epoch,a\n1\n2,3\n",
    "a long row": "epoch,a\n1,2,3\n",
    "a long and a short row": "epoch,a\n1,2,3\n4\n",
    "exponents": "epoch,a\n1,1e5\n2,-2.5E-3\n3,+4\n",
    "only signs": "epoch,a\n1,-\n2,e\n",
    "huge exponents": "epoch,a\n1,1e999\n2,1e-999\n",
    "truth": "epoch,a\nTrue,1\n",
    "another column": "step,a\n1,2\n",
    "nothing": "",
}


@pytest.mark.parametrize("name", CONTENTS)
def test_odd_tables(tmp_path: Path, name: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_bytes(CONTENTS[name].encode())
    assert same(path)


def test_what_is_no_table(tmp_path: Path) -> None:
    assert read_numbers(tmp_path / "none.csv", ["epoch"]) is None
    (tmp_path / "bytes.csv").write_bytes(b"epoch,a\n\xff,1\n")
    assert same(tmp_path / "bytes.csv")
    (tmp_path / "folder.csv").mkdir()
    assert same(tmp_path / "folder.csv")


def test_columns() -> None:
    table = NumberTable(("a", "b"), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert len(table) == 2 and "b" in table and "c" not in table
    assert table["b"].tolist() == [2, 4] and table.of(["b", "a"]).tolist() == [[2, 1], [4, 3]]
