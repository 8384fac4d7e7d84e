import json
import math

import pytest

from unetjax.reporting import records
from unetjax.reporting.records import Record


def training(step):
    return Record(step, "train", {"loss": 1 / step, "learning_rate": 1e-5})


def write(path, steps):
    for step in steps:
        records.append(path, training(step))
    return path


def test_records_come_back_as_they_were_appended(tmp_path):
    path = tmp_path / "a b#ü.jsonl"
    written = [
        Record(0, "validation", {"iou": 0.1 + 0.2, "image": 'Zelle "ü"\n2'}),
        Record(2**40, "train", {"loss": math.inf, "low": -math.inf, "cells": 3}),
    ]
    for record in written:
        records.append(path, record)
    assert records.read(path) == written


def test_values_that_are_not_finite_are_standard_json(tmp_path):
    """A bare NaN is read by Python, and refused by JavaScript, jq and pandas."""
    path = tmp_path / "records.jsonl"
    records.append(path, Record(1, "train", {"loss": math.nan}))

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    assert math.isnan(records.read(path)[0].values["loss"])


def test_an_incomplete_last_line_is_ignored_and_replaced(tmp_path):
    """A kill while writing may truncate the last line anywhere."""
    path = write(tmp_path / "records.jsonl", [1, 2])
    content = path.read_bytes()
    for size in range(content.index(b"\n") + 1, len(content)):
        path.write_bytes(content[:size])
        assert records.read(path) == [training(1)]
        records.append(path, training(3))
        assert records.read(path) == [training(1), training(3)]


def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path):
    expected = write(tmp_path / "whole.jsonl", range(1, 9)).read_bytes()
    path = write(tmp_path / "resumed.jsonl", range(1, 7))
    with path.open("ab") as file:
        file.write(b'{"step": 7, "ki')

    records.truncate_after(path, 4)  # the last checkpoint
    assert [record.step for record in records.read(path)] == [1, 2, 3, 4]
    write(path, range(5, 9))
    assert path.read_bytes() == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "resumed.jsonl",
        "whole.jsonl",
    ]


def test_truncating_keeps_the_bytes_of_earlier_lines(tmp_path):
    """Lines are not rewritten: another version may format numbers differently."""
    path = tmp_path / "records.jsonl"
    path.write_text('{"kind":"train",  "step":1}\n{"step":2,"kind":"train"}\n')
    records.truncate_after(path, 1)
    assert path.read_text() == '{"kind":"train",  "step":1}\n'


def test_a_file_without_later_steps_is_not_written_again(tmp_path):
    path = write(tmp_path / "records.jsonl", [1, 2])
    inode = path.stat().st_ino
    records.truncate_after(path, 2)
    assert path.stat().st_ino == inode


def test_a_missing_file_has_no_records_and_is_not_created(tmp_path):
    path = tmp_path / "records.jsonl"
    records.truncate_after(path, 3)
    assert records.read(path) == []
    assert not path.exists()


@pytest.mark.parametrize(
    "line",
    [
        *("junk", "[1, 2]", '{"step": 2}', '{"step": 1, "kind": "a", "x": []}'),
        '{"step": 1e999, "kind": "a"}',
        pytest.param("[" * 100_000, id="nested"),
    ],
)
def test_a_line_that_is_not_a_record_is_named(tmp_path, line):
    path = write(tmp_path / "records.jsonl", [1])
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(ValueError, match=r"records\.jsonl, line 2, is not a record"):
        records.read(path)


def test_a_value_cannot_have_the_name_of_a_field(tmp_path):
    path = tmp_path / "records.jsonl"
    with pytest.raises(
        ValueError, match=r"cannot have a value named 'step', .* rename"
    ):
        records.append(path, Record(1, "train", {"step": 2}))
    assert not path.exists()


def test_csv_has_a_column_for_every_name():
    text = records.to_csv([training(4), Record(4, "validation", {"iou": math.nan})])
    assert text.splitlines() == [
        "step,kind,loss,learning_rate,iou",
        "4,train,0.25,1e-05,",
        "4,validation,,,nan",
    ]
