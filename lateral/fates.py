"""Tables of fates as people bring them: a row for each tissue, a column for each cell.

Spreadsheets, pandas, R and NumPy write the same table in many ways: with commas, semicolons, tabs or spaces, with a
line of names above it, a column of numbers beside it, in quotes, as 0 and 1, TRUE and FALSE, 0 and 255, or two words.
`read_fates` reads a table that can mean only one thing. It refuses a table that could mean two, and says which option
settles it.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from lateral.checks import check_choice, check_size
from lateral.geometry import Geometry
from lateral.tables import SEPARATORS, content_of, is_array, lines_of, number_of, real_array, split, text_of

__all__ = ["FatesTable", "read_fates"]

INDEX_NAMES = {
    "",
    "unnamed: 0",
    "index",
    "replicate",
    "replicates",
    "tissue",
    "sample",
    "id",
    "row",
    "rownames",
    "name",
}
MISSING = {"", "na", "n/a", "nan", "null", "none", ".", "-"}
BOOLEANS = {"true": 1.0, "false": 0.0}
MANY = 10  # more kinds than that are no fates
N_DISTINCT = 3  # so many tissues at least tell an index from fates by its numbers alone


@dataclass(frozen=True)
class FatesTable:
    """What was read.

    Attributes:
        fates: 0 and 1, or whole numbers below `n_fates`, `(replicate, cell)`.
        said: in words, how the file was understood.
        n_fates: how many fates it may hold.
        names: of the cells, where a header gives them.
    """

    fates: np.ndarray
    said: str
    n_fates: int = 2
    names: tuple[str, ...] | None = None


def read_fates(
    path: str | os.PathLike,
    *,
    header: bool | None = None,
    index: bool | None = None,
    n_fates: int = 2,
    geometry: Geometry | None = None,
    missing: str = "refuse",
) -> FatesTable:
    """Read a table of fates, a row for each tissue and a column for each cell.

    Args:
        path: a text file in UTF-8 or UTF-16, a NumPy file (`.npy`), or `"-"` for standard input.
        header: whether the first line holds names of cells; None looks.
        index: whether the first column holds names or numbers of tissues; None looks.
        n_fates: how many kinds of fates there may be. A table with more is refused: most of them are misspelt.
        geometry: the tissue, whose cells the columns must be. Where it and a header name them, the columns are put into
            its order; otherwise they are taken to be in it.
        missing: what to do where the fate of a cell is missing (empty, NA, NaN...): `"refuse"` the table and name the
            place, or `"drop"` such tissues and count them.

    Returns:
        The fates. Whole numbers from 0 to `n_fates` - 1 are what they say; other numbers are counted by size, and
        words in the order of the alphabet. U does not depend on which is which.

    Raises:
        ValueError: if it is no such table, or could mean two; the message names line and column, and says what to do.
        OSError: if it cannot be read.
    """
    n_fates = check_size("n_fates", n_fates, 2)
    found = _read(path, header, index, n_fates, check_choice("missing", missing, ("refuse", "drop")) == "drop")
    return found if geometry is None else _in_order_of(geometry, found, path)


def _read(path, header: bool | None, index: bool | None, n_fates: int, drop: bool) -> FatesTable:
    content = content_of(path)
    if is_array(content):
        return _of_array(real_array(content, path, "(replicate, cell)"), path, n_fates, drop)
    rows, separator = _rows(text_of(content, path), path)
    header, index = _parts(rows, header, index, path)
    body = [(number, entries[index:]) for number, entries in rows[header:]]
    if not body or not body[0][1]:
        raise ValueError(f"{path} holds no fates")
    complete = [not drop or not any(entry.lower() in MISSING for entry in entries) for _, entries in body]
    body, left_out = list(compress(body, complete)), _left_out(complete, path)
    values = {entry: _value(entry) for _, entries in body for entry in entries}
    number, named = _numbers(body, values, index, path, n_fates)
    fates = np.array([[number[values[entry]] for entry in entries] for _, entries in body], float)
    details = [f"separated by {SEPARATORS[separator]}" if separator else "one column"]
    details += [f"line {rows[0][0]} is a header"] * header + ["column 1 is an index"] * index + named + left_out
    return FatesTable(fates, _said(fates, details), n_fates, tuple(rows[0][1][index:]) if header else None)


def _in_order_of(geometry: Geometry, table: FatesTable, path) -> FatesTable:
    """The table with its columns in the order of the cells of a tissue."""
    n_cells, names = table.fates.shape[1], geometry.names
    if n_cells != geometry.n_cells:
        raise ValueError(f"{path} must have a column for each of the {geometry.n_cells} cells, got {n_cells}")
    if names is None or table.names is None or set(table.names).isdisjoint(names):
        return table
    if unknown := sorted(set(table.names) ^ set(names)):
        raise ValueError(f"{path}: cell {unknown[0]} is not in both the header and the tissue")
    order = [table.names.index(name) for name in names]
    said = f"{table.said[:-1]}; columns by the names of the cells)"
    return replace(table, fates=table.fates[:, order], said=said, names=tuple(names))


def _rows(text: str, path) -> tuple[list[tuple[int, list[str]]], str]:
    """The numbers of the lines and their entries, and what separates them (nothing: a single column)."""
    lines = lines_of(text)
    if not lines:
        raise ValueError(f"{path} holds no fates")
    for separator in SEPARATORS:
        rows = [(number, split(line, separator)) for number, line in lines]
        counts = Counter(len(entries) for _, entries in rows)
        width, _ = counts.most_common(1)[0]
        if width > 1:
            return _rectangle(rows, width, path), separator
    entries = [entry for _, (entry,) in rows]
    packed = [re.fullmatch("[01]{2,}", entry) is not None for entry in entries]
    if packed[-1] and all(packed[1:]):  # fates without anything between them
        first = not packed[0]
        return _rectangle([(number, list(entry)) for number, (entry,) in rows[first:]], len(entries[-1]), path), ""
    return rows, ""


def _rectangle(rows, width: int, path):
    for number, entries in rows[1:]:
        if len(entries) != width:
            raise ValueError(f"{path}, line {number}: {len(entries)} entries, but {width} in most lines")
    first = rows[0][1]
    if len(first) == width - 1 and len(rows) > 1 and not all(isinstance(_value(entry), float) for entry in first):
        return [(rows[0][0], ["", *first]), *rows[1:]]  # as R writes names of rows: without a name of their own
    if len(first) != width:
        raise ValueError(f"{path}, line {rows[0][0]}: {len(first)} entries, but {width} in most lines")
    return rows


def _value(entry: str) -> float | str:
    """An entry as a number, if it is one or a truth value, else as a word."""
    word = entry.lower()
    if word in BOOLEANS:
        return BOOLEANS[word]
    if word in MISSING:
        return word
    value = number_of(entry)
    return entry if value is None else value


def _parts(rows, header: bool | None, index: bool | None, path) -> tuple[bool, bool]:
    """Whether there is a header, and an index."""
    first, rest = rows[0][1], [entries for _, entries in rows[1:]]
    may_be_named = index is None and header is not False and rest and len(first) > 1
    named = may_be_named and first[0].lower() in INDEX_NAMES
    if named and (header or _are_names(first[1:], [entries[1:] for entries in rest], path)):
        return True, True
    if index is None:
        index = _is_index([entries for _, entries in rows[1 if header is not False else 0 :]])
    if header is None:
        header = bool(rest) and _are_names(first[index:], [entries[index:] for entries in rest], path)
        if not rest and not any(isinstance(_value(entry), float) for entry in first):
            raise ValueError(f"{path} holds no fates, only a line of names")
    return header, index


def _is_index(rows: list[list[str]]) -> bool:
    """Whether the first column tells tissues apart, and holds no fates."""
    if len(rows) < N_DISTINCT or len(rows[0]) < 2:
        return False
    column, others = [entries[0] for entries in rows], {_value(entry) for entries in rows for entry in entries[1:]}
    return len(set(column)) == len(column) and not {_value(entry) for entry in column} <= others


def _are_names(first: list[str], rest: list[list[str]], path) -> bool:
    """Whether a first line holds names, or numbers, of the cells below it."""
    seen = {_value(entry) for entries in rest for entry in entries}
    values = [_value(entry) for entry in first]
    if any(isinstance(value, str) and value not in MISSING for value in values):
        return not set(values) & seen
    numbered = [list(np.arange(len(values)) + start) for start in (0.0, 1.0)]
    if len(values) < 2 or values not in numbered:
        return False
    if set(values) <= seen:
        raise ValueError(
            f"{path}: is the first line, {' '.join(first)}, a tissue, or does it number the cells? Say --no-header or "
            "--header (header=False or True)"
        )
    return True


def _numbers(body, values, index: bool, path, n_fates: int) -> tuple[dict, list[str]]:
    """The fate that each value means, and what is to be said about it."""
    counts = Counter(values[entry] for _, entries in body for entry in entries)
    places = [(number, column, entry) for number, entries in body for column, entry in enumerate(entries, 1 + index)]
    for number, column, entry in places:
        if entry.lower() in MISSING:
            raise ValueError(
                f"{path}, line {number}, column {column}: no fate, got {entry!r}: leave out such tissues by "
                '--missing drop (missing="drop")'
            )
    themselves = set(map(float, range(n_fates)))
    if set(counts) <= themselves:
        return {value: value for value in counts}, []
    alike = len({type(value) for value in counts}) == 1
    states = all(isinstance(value, float) for value in counts) and any(value != round(value) for value in counts)
    if 1 < len(counts) <= n_fates and alike and not (states and n_fates > 2):
        return _in_order(sorted(counts))
    if states:
        raise ValueError(f"{path} holds states, not fates: threshold them first, as `lateral.apply_threshold` does")
    usual = {value for value, _ in counts.most_common(n_fates)}
    usual = usual if alike and len(counts) > n_fates and not themselves <= set(counts) else themselves
    number, column, entry = next(place for place in places if values[place[2]] not in usual)
    *first, last = (_plain(value) for value in sorted(usual))
    wanted = f"{', '.join(first)} or {last}"
    more = f"; with {len(counts)} fates say --fates {len(counts)} (n_fates={len(counts)})"
    cure = more if alike and n_fates < len(counts) <= MANY else ""
    raise ValueError(f"{path}, line {number}, column {column}: a fate is {wanted}, got {entry!r}{cure}")


def _in_order(kinds: list) -> tuple[dict, list[str]]:
    words = [f"{_plain(value)} {'is ' if not i else ''}fate {i}" for i, value in enumerate(kinds)]
    if len(kinds) == 2:
        words = [f"{_plain(kinds[1])} is fate 1", f"{_plain(kinds[0])} fate 0"]
    return {value: float(i) for i, value in enumerate(kinds)}, [", ".join(words)]


def _plain(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else value


def _left_out(complete: Sequence[bool], path) -> list[str]:
    """What is to be said of tissues in which a fate is missing."""
    if not any(complete):
        raise ValueError(f"{path}: a fate is missing in every tissue: leave out the cells that are never seen")
    n_left_out = len(complete) - sum(complete)
    return [f"{n_left_out} left out, in which a fate is missing"] * bool(n_left_out)


def _of_array(array: np.ndarray, path, n_fates: int, drop: bool) -> FatesTable:
    complete = ~np.isnan(array).any(axis=1) if drop else np.ones(len(array), bool)
    array, left_out = array[complete], _left_out(complete.tolist(), path)
    found = np.unique(array)
    themselves = set(found.tolist()) <= set(range(n_fates))
    counted = 1 < len(found) <= n_fates and (n_fates == 2 or (found == np.round(found)).all())
    if not (themselves or counted) or not np.isfinite(found).all():
        shown = ", ".join(f"{value:g}" for value in found[:4].astype(float))
        number = "two" if n_fates == 2 else n_fates
        raise ValueError(f"{path} must hold {number} fates, got {shown}{', ...' if len(found) > 4 else ''}")
    if themselves:
        return FatesTable(array.astype(float), _said(array, ["a NumPy array", *left_out]), n_fates)
    fates = np.searchsorted(found, array).astype(float)
    details = ["a NumPy array", *_in_order([float(x) for x in found])[1], *left_out]
    return FatesTable(fates, _said(fates, details), n_fates)


def _said(fates: np.ndarray, details: list[str]) -> str:
    return f"{fates.shape[0]} tissues of {fates.shape[1]} cells ({'; '.join(details)})"
