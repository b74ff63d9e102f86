"""Who touches whom in a tissue of one's own: readers of edge lists, of matrices of contacts, and of places of cells.

    graph = lateral.read_edges("edges.csv", cells="cells.csv")

An edge list has a line `i,j` or `i,j,weight` for each contact: cell i sees cell j. A matrix has a row for each cell
that sees and a column for each that is seen. Cells are called by numbers or names. Tables may be separated by commas,
semicolons, tabs or spaces, and may have a line of names above them. What is wrong is named with its line.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lateral.checks import check_choice
from lateral.geometry import Geometry
from lateral.graph import Graph, checked_edges
from lateral.sheet import Sheet
from lateral.tables import SEPARATORS, content_of, is_array, lines_of, number_of, real_array, split, text_of

__all__ = ["Cells", "geometry_of", "read_cells", "read_contacts", "read_edges"]

# What the first two columns may be called in a line of names.
ENDS = {"i", "j", "from", "to", "source", "target", "sender", "receiver", "cell", "neighbour", "neighbor"}
ENDS |= {f"{name}{gap}{end}" for name in ("cell", "id", "node") for gap in ("", "_", " ") for end in "12abij"}


class Cells(NamedTuple):
    """Cells as a table lists them.

    Attributes:
        names: of the cells, in the order of the table, which numbers them.
        positions: their places (x, y), `(cell, 2)`.
        areas: their areas; None where the table has none.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    areas: np.ndarray | None = None


def read_cells(path: str | os.PathLike) -> Cells:
    """Read the places of cells: a table `cell,x,y`, with further columns only below a line of names.

    Raises:
        ValueError: for a cell that is there twice, or a place that is no number, with its line.
        OSError: if it cannot be read.
    """
    rows = _rows(path, at_least=3)
    first = [entry.lower() for entry in rows[0][1]]
    columns = {"cell": 0, "x": 1, "y": 2}
    if number_of(first[1]) is None:
        if not {"x", "y"} <= set(first):
            raise ValueError(f"{path}, line {rows[0][0]}: the names must be cell, x, y, got {', '.join(first)}")
        columns = {name: first.index(name) for name in ("x", "y", "area") if name in first}
        columns["cell"] = next((i for i, name in enumerate(first) if name in ("cell", "id", "name", "label")), 0)
        rows = rows[1:]
    elif len(first) > 3:
        raise ValueError(f"{path} has {len(first)} columns: name them in a first line, cell,x,y,...")
    lines = {}
    for number, entries in rows:
        name = _label(entries[columns["cell"]])
        if name in lines:
            raise ValueError(f"{path}, line {number}: cell {name} is already in line {lines[name]}")
        lines[name] = number
    numbers = {
        name: np.array([_number(entries[column], name, path, number) for number, entries in rows])
        for name, column in columns.items()
        if name != "cell"
    }
    return Cells(tuple(lines), np.stack([numbers["x"], numbers["y"]], axis=1), numbers.get("area"))


def read_edges(
    path: str | os.PathLike,
    cells: str | os.PathLike | Cells | None = None,
    *,
    normalise: str = "rows",
    one_way: bool = False,
    isolated: str = "refuse",
) -> Graph:
    """Read a tissue from the list of its contacts, `i,j` or `i,j,weight`.

    A list holds each contact once, or each both ways with two weights: i is the cell that sees, and j the one that it
    sees. Without a table of cells the smallest number must be 0 or 1 for the numbers to count the cells; other numbers
    and words are names, in their order.

    Args:
        path: a text file, or `"-"` for standard input.
        cells: a table of the cells that there are, see `read_cells`, or what it returned.
        normalise: what becomes of the weights, see `lateral.Graph.from_edges`.
        one_way: allow a cell that is seen and does not see.
        isolated: what becomes of a cell without any contact: `"refuse"` it with the whole table, `"keep"` it, so that
            it sees 0, or `"drop"` it.

    Raises:
        ValueError: for an unknown cell, an edge that is there twice, a weight that is negative or no number, some
            contacts with and some without their opposite, a cell without contact; with its line.
        OSError: if it cannot be read.
    """
    rows = _rows(path, at_least=2, at_most=3)
    if _are_names_of_ends(rows):
        rows = rows[1:]
    if not rows:
        raise ValueError(f"{path} holds no edges, only a line of names")
    known = _cells(cells)
    ends = [[_label(entry) for entry in entries[:2]] for _, entries in rows]
    names = known.names if known is not None else _names_of({end for pair in ends for end in pair})
    numbers = {name: cell for cell, name in enumerate(names)}
    for (number, _), pair in zip(rows, ends, strict=True):
        for end in pair:
            if end not in numbers:
                raise ValueError(f"{path}, line {number}: cell {end} is not in the table of cells")
    edges = np.array([[numbers[end] for end in pair] for pair in ends])
    weighted = len(rows[0][1]) == 3
    weights = [_number(entries[2], "the weight", path, number) if weighted else 1.0 for number, entries in rows]

    def place(k: int) -> str:
        return f"{path}, line {rows[k][0]}"

    return _tissue(path, edges, weights, names, known, place, weighted, (normalise, one_way, isolated))


def read_contacts(
    path: str | os.PathLike,
    cells: str | os.PathLike | Cells | None = None,
    *,
    normalise: str = "rows",
    one_way: bool = False,
    isolated: str = "refuse",
) -> Graph:
    """Read a tissue from a dense matrix of contacts, of which 0 is none: a table, or a NumPy file (`.npy`).

    A row is a cell that sees, a column one that is seen; names may stand above the columns and beside the rows. All
    arguments are those of `read_edges`.

    Raises:
        ValueError: as `read_edges`, and for a matrix that is not square.
        OSError: if it cannot be read.
    """
    content = content_of(path)
    if is_array(content):
        matrix, names = real_array(content, path, "(cell, cell)").astype(float), None
    else:
        matrix, names = _matrix(_rows(path, 1, content=content), path)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"{path} must have a row and a column for each cell, got {matrix.shape[0]} x {matrix.shape[1]}"
        )
    if not np.isfinite(matrix).all():
        raise ValueError(f"{path} must hold finite numbers, got {matrix[~np.isfinite(matrix)][0]}")
    known = _cells(cells)
    if known is not None:
        if names is not None and set(names) != set(known.names):
            unknown = sorted(set(names) ^ set(known.names))[0]
            raise ValueError(f"{path}: cell {unknown} is not in both the matrix and the table of cells")
        if len(known.names) != len(matrix):
            raise ValueError(f"{path} must have as many cells as the table, {len(known.names)}, got {len(matrix)}")
        order = [names.index(name) for name in known.names] if names is not None else range(len(matrix))
        matrix, names = matrix[np.ix_(order, order)], known.names
    names = tuple(map(str, range(len(matrix)))) if names is None else names
    edges = np.argwhere(matrix != 0.0)

    def place(k: int) -> str:
        return f"{path}, row of cell {names[edges[k][0]]}, column of cell {names[edges[k][1]]}"

    weights = matrix[tuple(edges.T)]
    return _tissue(path, edges, weights, names, known, place, True, (normalise, one_way, isolated))


def geometry_of(text: str) -> Geometry:
    """What the command line calls a geometry: `square:6x6`, `hexagonal:6x6:periodic`, or the file of an edge list."""
    found = re.fullmatch(r"(square|hexagonal):(\d+)x(\d+)(:periodic)?", text)
    if found:
        kind, rows, columns, periodic = found.groups()
        return Sheet(int(rows), int(columns), kind, bool(periodic))
    if not Path(text).is_file():
        raise ValueError(f"a geometry is such as square:6x6, hexagonal:6x6:periodic or EDGES.csv, got {text!r}")
    return read_edges(text)


def _tissue(path, edges, weights, names, known: Cells | None, place, weighted: bool, options) -> Graph:
    normalise, one_way, isolated = options
    check_choice("isolated", isolated, ("refuse", "keep", "drop"))
    edges, weights = checked_edges(edges, np.array(weights), len(names), one_way, place, names.__getitem__)
    touched = np.zeros(len(names), bool)
    touched[edges.ravel()] = True
    if isolated == "refuse" and not touched.all():
        alone = [names[cell] for cell in np.flatnonzero(~touched)]
        shown = f"{', '.join(alone[:5])}{' and others' if len(alone) > 5 else ''}"
        raise ValueError(
            f'{path}: no contact of cell {shown}: say isolated="drop" to leave out {len(alone)} of {len(names)} cells, '
            'or isolated="keep"'
        )
    kept = np.flatnonzero(touched) if isolated == "drop" else np.arange(len(names))
    drawn = {"names": [names[cell] for cell in kept]}
    if known is not None:
        drawn |= {"positions": known.positions[kept], "areas": None if known.areas is None else known.areas[kept]}
    edges = np.searchsorted(kept, edges)
    given = weights if weighted else None
    return Graph.from_edges(edges, len(kept), given, one_way=True, normalise=normalise, **drawn)


def _cells(cells) -> Cells | None:
    return cells if cells is None or isinstance(cells, Cells) else read_cells(cells)


def _names_of(labels: set[str]) -> tuple[str, ...]:
    """Names in their order; numbers that begin at 0 or 1 count the cells, those without an edge too."""
    if not all(label.isdecimal() for label in labels):
        return tuple(sorted(labels))
    numbers = sorted(map(int, labels))
    return tuple(map(str, range(numbers[0], numbers[-1] + 1) if numbers[0] <= 1 else numbers))


def _are_names_of_ends(rows) -> bool:
    """Whether the first line names the columns."""
    first, rest = rows[0][1], [entries for _, entries in rows[1:]]
    if len(first) == 3:
        return number_of(first[2]) is None and number_of(first[0]) is None
    numbered = bool(rest) and all(_label(entry).isdecimal() for entries in rest for entry in entries[:2])
    words = all(number_of(entry) is None for entry in first)
    return words and (numbered or {entry.lower() for entry in first} <= ENDS)


def _matrix(rows, path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The numbers, and the names above and beside them."""
    first, width = rows[0][1], len(rows[-1][1])
    corner = number_of(first[0]) is None and len(rows) == width
    above = corner or number_of(first[-1]) is None or len(rows) == width + 1
    beside = number_of(rows[-1][1][0]) is None or (above and len(rows) == width)
    body = rows[above:]
    values = [[_number(entry, "a contact", path, number) for entry in entries[beside:]] for number, entries in body]
    over = [_label(entry) for entry in first[beside:]] if above else None
    left = [_label(entries[0]) for _, entries in body] if beside else None
    if over is not None and left is not None and over != left:
        raise ValueError(f"{path}: the names above the columns must be those beside the rows, in the same order")
    names = left if over is None else over
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"{path}: the names of the cells must differ")
    return np.array(values), None if names is None else tuple(names)


def _rows(path, at_least: int, at_most: int | None = None, content: bytes | None = None):
    """Numbers and entries of the lines of a table."""
    lines = lines_of(text_of(content_of(path) if content is None else content, path))
    if not lines:
        raise ValueError(f"{path} is empty")
    by_separator = {separator: [(number, split(line, separator)) for number, line in lines] for separator in SEPARATORS}
    rows = next((rows for rows in by_separator.values() if len(rows[-1][1]) >= max(at_least, 2)), by_separator[","])
    width = len(rows[-1][1])
    if width < at_least or (at_most is not None and width > at_most):
        expected = at_least if at_most is None else f"{at_least} or {at_most}"
        raise ValueError(f"{path}, line {rows[-1][0]}: {expected} entries are expected, got {width}")
    if len(rows[0][1]) == width - 1 and len(rows) > 1:  # as R writes names of rows: without a name of their own
        rows[0] = (rows[0][0], ["", *rows[0][1]])
    for number, entries in rows:
        if len(entries) != width:
            raise ValueError(f"{path}, line {number}: {len(entries)} entries, but {width} in the last line")
    return rows


def _label(entry: str) -> str:
    """What a cell is called; a whole number without the point that a spreadsheet may have given it."""
    value = number_of(entry)
    return str(int(value)) if value is not None and value == value // 1 and abs(value) < 2**53 else entry


def _number(entry: str, what: str, path, line: int) -> float:
    value = number_of(entry)
    if value is None or not np.isfinite(value):
        raise ValueError(f"{path}, line {line}: {what} must be a finite number, got {entry!r}")
    return value
