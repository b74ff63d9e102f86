"""What a notebook says of its findings, and how the numbers that it prints are compared."""

import nbformat
import numpy as np
import pytest
from notebook_numbers import near, within_of

from lateral import check


@pytest.mark.parametrize(
    ("holds", "value", "said"),
    [
        (True, 0.61412, "✓ it scores: 0.614"),
        (np.bool_(False), np.float32(0.5), "✗ it scores: expected at the default settings; here 0.5"),
        (np.array([True, True]), [0.25, 1234], "✓ it scores: 0.25, 1,234"),
        (np.array([True, False]), None, "✗ it scores: expected at the default settings"),
        (True, {"left": 0.1, "right": np.array([1.0, 2.0])}, "✓ it scores: left 0.1, right 1, 2"),
        (True, "0101", "✓ it scores: 0101"),
        (True, None, "✓ it scores"),
        (float("nan") > 0.0, float("nan"), "✗ it scores: expected at the default settings; here nan"),
    ],
)
def test_a_finding_is_printed_and_never_raises(capsys, holds, value, said):
    check("it scores", holds, value)
    assert capsys.readouterr().out == said + "\n"


@pytest.mark.parametrize(
    ("ours", "stored", "equal"),
    [
        ("U = 0.614", "U = 0.616", True),
        ("0.5", "0.50003", True),
        ("0.5", "0.6", False),
        ("0.000", "0.001", True),  # the last digit
        ("U = 0.614", "U = 0.629", False),
        ("U = 0.614", "V = 0.614", False),
        ("63.4%", "62.8%", True),
        ("63%", "68%", False),
        ("7 cells", "8 cells", False),  # a count
        ("pattern 0101010", "pattern 0101011", False),
        ("[0.4666 0.462]", "[0.4667 0.4621]", True),
        ("[0.4666 0.462]", "[0.4666]", False),
        ("bound: 9.2e-06", "bound: 9.3e-06", True),
        ("bound: 9.2e-06", "bound: 9.2e-05", False),
        ("-0.000", "0.000", True),
        ("1,024.5", "1,025.0", True),
        ("✓ most: 0.61", "✗ most: 0.61", False),
        ("version 0.10.2", "version 0.10.3", False),  # no number
        ("nan", "0.5", False),
    ],
)
def test_printed_numbers_are_compared_as_numbers(ours, stored, equal):
    assert (near(ours, stored) == stored) is equal


def test_a_cell_may_have_a_tolerance_of_its_own():
    cell = nbformat.v4.new_code_cell(metadata={"tags": ["within-0.3"]})
    assert within_of(cell) == 0.3 and within_of(nbformat.v4.new_code_cell()) == 0.02
    assert near("U = 0.5", "U = 0.6", within_of(cell)) == "U = 0.6"
