"""What the apps save: tables of columns, in files that overwrite none."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lateral.storage.files import whole_file

__all__ = ["EXPORTS", "cell_columns", "free_path", "write_table"]

EXPORTS = Path("exports")  # in the folder of the notebook; git ignores it


def cell_columns(rows) -> dict[str, np.ndarray]:
    """Columns of a table, by name, from an array with cells on its last axis."""
    return {f"cell_{number}": column for number, column in enumerate(np.asarray(rows).T, 1)}


def free_path(stem: str, ending: str) -> Path:
    """`exports/STEM-NUMBER.ENDING` with the first number of which there is no file yet, with any ending."""
    number = 1
    while any(EXPORTS.glob(f"{stem}-{number}[._]*")):
        number += 1
    return EXPORTS / f"{stem}-{number}.{ending}"


def write_table(path: Path, columns: Mapping[str, Sequence]) -> Path:
    """Write columns of equal length as CSV, completely or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True))
    with whole_file(path) as file:
        file.write(text.getvalue().encode())
    return path
