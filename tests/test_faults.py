"""The list of faults names tests that exist."""

import ast
import pathlib

import pytest

from tests import faults

TESTS = pathlib.Path(__file__).parent


@pytest.mark.parametrize("test", faults.ALL)
def test_every_test_of_a_fault_exists(test):
    file, _, name = test.partition("::")
    functions = [
        node.name
        for node in ast.parse((TESTS / file).read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]
    assert any(function.startswith(name or "test_") for function in functions), name


def test_there_are_36_faults():
    assert len(faults.ROWS) == 36
    assert all(row.tests or row.missing for row in faults.ROWS)
