"""Tables of fates as people bring them: read right, or refused with what to do."""

import io
import sys

import numpy as np
import pytest

from lateral.fates import read_fates

FATES = np.array([[0, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 1]])
PLAIN = "0,1,0\n1,0,1\n1,1,0\n0,0,1\n"


def table(separator=",", header=None, index=None, words=("0", "1"), quote=""):
    """The same fates, as someone else writes them."""
    rows = [[words[fate] for fate in row] for row in FATES]
    if index is not None:
        rows = [[name, *row] for name, row in zip(index, rows, strict=True)]
    rows = rows if header is None else [header, *rows]
    return "".join(separator.join(f"{quote}{entry}{quote}" for entry in row) + "\n" for row in rows)


# What is read, and what is said about it besides its size.
READ = {
    "plain": (PLAIN, "separated by commas"),
    "semicolons": (table(";"), "separated by semicolons"),
    "tabs": (table("\t"), "separated by tabs"),
    "spaces": (table(" "), "separated by spaces"),
    "several spaces": (table("   ").replace("\n", "  \n"), "separated by spaces"),
    "commas and spaces": (table(", "), "separated by commas"),
    "nothing between": (table(""), "one column"),
    "names": (table(header=["a", "b", "c"]), "line 1 is a header"),
    "names that might be truth values": (table(header=["e", "f", "t"]), "line 1 is a header"),
    "names in quotes": (table(header=["cell 1", "cell 2", "cell 3"], quote='"'), "line 1 is a header"),
    "single quotes": (table(quote="'"), "separated by commas"),
    "numbers of cells": (table(header=["0", "1", "2"]), "line 1 is a header"),
    "numbers of cells from 1": (table(header=["1", "2", "3"]), "line 1 is a header"),
    "pandas": (table(header=["", "0", "1", "2"], index="0123"), "line 1 is a header; column 1 is an index"),
    "pandas read once more": (table(header=["Unnamed: 0", "0", "1", "2"], index="0123"), "column 1 is an index"),
    "pandas without its header": (table(index="0123"), "column 1 is an index"),
    "R, write.csv": (table(header=["", "V1", "V2", "V3"], index="1234", quote='"'), "column 1 is an index"),
    "R, write.table": (
        "V1 V2 V3\n" + table(" ", index=['"1"', '"2"', '"3"', '"4"']),
        "separated by spaces; line 1 is a header; column 1 is an index",
    ),
    "our own export": (
        table(header=["replicate", "cell_1", "cell_2", "cell_3"], index="0123"),
        "line 1 is a header; column 1 is an index",
    ),
    "names of fish": (table(header=["fish", "a", "b", "c"], index=["x1", "x2", "y1", "y2"]), "column 1 is an index"),
    "names of fish alone": (table(index=["x1", "x2", "y1", "y2"]), "column 1 is an index"),
    "truth values": (table(words=("FALSE", "TRUE")), "separated by commas"),
    "truth values of Python": (table(words=("False", "True"), header=["a", "b", "c"]), "line 1 is a header"),
    "letters of R": (table(words=("F", "T"), header=["d", "e", "f"]), "T is fate 1, F fate 0"),
    "decimals": (table(words=("0.0", "1.0")), "separated by commas"),
    "decimal commas": (table(";", words=("0,0", "1,0")), "separated by semicolons"),
    "grey values": (table(words=("0", "255")), "255 is fate 1, 0 fate 0"),
    "grey values under numbers": (table(words=("0", "255"), header=["0", "1", "2"]), "line 1 is a header"),
    "one and two": (table(words=("1", "2")), "2 is fate 1, 1 fate 0"),
    "two words": (table(words=("off", "on")), "on is fate 1, off fate 0"),
    "two words under names": (table("\t", words=("hair", "support"), header=["a", "b", "c"]), "line 1 is a header"),
    "byte order mark": ("\ufeff" + PLAIN, "separated by commas"),
    "comments and empty lines": ("# made by hand\n\n" + PLAIN + "\n", "separated by commas"),
    "names under a comment": ("# made by hand\n" + table(header=["a", "b", "c"]), "line 2 is a header"),
    "line ends of Windows": (PLAIN.replace("\n", "\r\n"), "separated by commas"),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_is_read_however_it_is_written(name, encoding, tmp_path):
    text, said = READ[name]
    path = tmp_path / "fates.csv"
    path.write_bytes(text.encode(encoding))
    result = read_fates(path)
    np.testing.assert_array_equal(result.fates, FATES)
    assert result.said.startswith("4 tissues of 3 cells (") and said in result.said


@pytest.mark.parametrize("array", [FATES, FATES.astype(bool), FATES * 255.0, FATES.astype(np.uint8)])
def test_an_array_of_numpy_is_read(array, tmp_path):
    np.save(tmp_path / "fates.npy", array)
    np.testing.assert_array_equal(read_fates(tmp_path / "fates.npy").fates, FATES)


def test_standard_input_is_read(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PLAIN.encode())))
    np.testing.assert_array_equal(read_fates("-").fates, FATES)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="standard input is closed"):
        read_fates("-")


def test_one_tissue_and_one_cell_are_tables_too(tmp_path):
    (tmp_path / "one").write_text("0,1,1\n")
    assert read_fates(tmp_path / "one").fates.tolist() == [[0.0, 1.0, 1.0]]
    (tmp_path / "cell").write_text("x\n0\n1\n1\n")
    assert read_fates(tmp_path / "cell").fates.tolist() == [[0.0], [1.0], [1.0]]
    (tmp_path / "off").write_text("0,0\n0,0\n")
    assert read_fates(tmp_path / "off").fates.sum() == 0.0


@pytest.mark.parametrize("gap", ["", "NA", "nan", "."])
@pytest.mark.parametrize("header", [None, ["a", "b", "c"]])
def test_tissues_that_lack_a_fate_are_left_out_if_asked_for_and_counted(gap, header, tmp_path):
    lines = table(header=header).splitlines()
    lines[-2:-2] = [f"1,{gap},0", f"{gap},{gap},1"]
    path = tmp_path / "fates.csv"
    path.write_text("\n".join(lines))
    result = read_fates(path, missing="drop")
    np.testing.assert_array_equal(result.fates, FATES)
    assert result.said.startswith("4 tissues of 3 cells (")
    assert result.said.endswith("2 left out, in which a fate is missing)")
    with pytest.raises(ValueError, match=r"leave out such tissues by --missing drop \(missing=\"drop\"\)"):
        read_fates(path)


def test_rows_of_an_array_that_lack_a_fate_are_left_out_if_asked_for(tmp_path):
    np.save(tmp_path / "fates.npy", np.concatenate([FATES, [[0.0, np.nan, 1.0]]]))
    result = read_fates(tmp_path / "fates.npy", missing="drop")
    np.testing.assert_array_equal(result.fates, FATES)
    assert result.said == "4 tissues of 3 cells (a NumPy array; 1 left out, in which a fate is missing)"


def test_a_table_in_which_every_tissue_lacks_a_fate_is_refused(tmp_path):
    (tmp_path / "fates.csv").write_text("0,NA\n1,NA\n0,NA\n")
    np.save(tmp_path / "fates.npy", FATES * np.nan)
    for name in ("fates.csv", "fates.npy"):
        with pytest.raises(ValueError, match="missing in every tissue: leave out the cells that are never seen"):
            read_fates(tmp_path / name, missing="drop")
    with pytest.raises(ValueError, match="missing must be one of 'refuse', 'drop', got 'skip'"):
        read_fates(tmp_path / "fates.csv", missing="skip")


REFUSED = {
    "empty": ("\n", "holds no fates"),
    "names only": ("a,b,c\n", "holds no fates"),
    "two cells, numbered or not": ("0,1\n1,0\n0,1\n", "is the first line, 0 1, a tissue, or does it number the cells"),
    "a third number": ("0,1,1\n1,1,0\n0,2,1\n", "line 3, column 2: a fate is 0 or 1, got '2'"),
    "a third word": ("on,off\noff,on\non,of\n", "line 3, column 2: a fate is off or on, got 'of'"),
    "a word among numbers": ("0,0\n1,x\n0,1\n", "line 2, column 2: a fate is 0 or 1, got 'x'"),
    "nothing but 255": ("255,255\n255,255\n", "line 1, column 1: a fate is 0 or 1, got '255'"),
    "a missing fate": ("0,0\n1,NA\n0,1\n", "line 2, column 2: no fate, got 'NA'"),
    "an empty entry": ("0,0\n1,\n0,1\n", "line 2, column 2: no fate, got ''"),
    "states": ("0.1,0.9\n0.8,0.3\n", "holds states, not fates: threshold them first"),
    "ragged": ("0,1,0\n1,0\n1,1,1\n", "line 2: 2 entries, but 3 in most lines"),
    "ragged at the top": ("0,1\n1,0,0\n1,1,1\n", "line 1: 2 entries, but 3 in most lines"),
    "a column of conditions": ("0,1,wild\n1,0,wild\n1,1,mutant\n", "line 1, column 3: a fate is 0 or 1, got 'wild'"),
    "binary": ("0,1\0\n", "holds bytes of zero"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_of_two_fates_is_refused_with_its_place(name, tmp_path):
    text, message = REFUSED[name]
    path = tmp_path / "fates.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"fates\.csv") as caught:
        read_fates(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\3\4rest", "an archive or a workbook"),
        (b"0,1\n\xff\xff", "is not text in UTF-8 or UTF-16: see byte 4"),
        (b"\x93NUMPY", "is not a complete NumPy file"),
    ],
)
def test_files_of_other_kinds_are_refused(content, message, tmp_path):
    (tmp_path / "fates").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_fates(tmp_path / "fates")


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3), np.zeros((2, 2, 2)), np.array([["a"]]), FATES * np.nan])
def test_other_arrays_are_refused(array, tmp_path):
    np.save(tmp_path / "fates.npy", array)
    with pytest.raises(ValueError, match=r"fates\.npy must hold"):
        read_fates(tmp_path / "fates.npy")


def test_what_the_user_says_settles_it(tmp_path):
    path = tmp_path / "fates.csv"
    path.write_text("0,1\n1,0\n0,1\n")
    assert read_fates(path, header=False).fates.shape == (3, 2)
    assert read_fates(path, header=True).fates.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert read_fates(path, header=False, index=True).fates.tolist() == [[1.0], [0.0], [1.0]]
    path.write_text(table(index="0123"))
    with pytest.raises(ValueError, match="column 1: a fate is 0 or 1, got '2'"):
        read_fates(path, index=False)


# --- more than two fates


THREE = np.array([[1, 0, 2], [2, 0, 1], [1, 1, 0], [0, 2, 2]])


def written(words, separator=","):
    return "".join(separator.join(words[fate] for fate in row) + "\n" for row in THREE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("0", "1", "2"), "separated by commas)"),
        (("1", "2", "3"), "1 is fate 0, 2 fate 1, 3 fate 2"),
        (("hair", "mitotic", "support"), "hair is fate 0, mitotic fate 1, support fate 2"),
    ],
)
def test_three_fates_are_read_where_they_are_asked_for(words, said, tmp_path):
    path = tmp_path / "fates.csv"
    path.write_text(written(words))
    result = read_fates(path, n_fates=3)
    np.testing.assert_array_equal(result.fates, THREE)
    assert said in result.said and result.n_fates == 3
    with pytest.raises(ValueError, match=r"with 3 fates say --fates 3 \(n_fates=3\)"):
        read_fates(path)


def test_fewer_fates_than_asked_for_are_fates_too_and_more_are_not(tmp_path):
    path = tmp_path / "fates.csv"
    path.write_text(written(("a", "b", "c")))
    np.testing.assert_array_equal(read_fates(path, n_fates=5).fates, THREE)
    path.write_text("0,2,0\n2,0,2\n")
    assert read_fates(path, n_fates=3).fates.max() == 2.0  # numbers below K are what they say
    path.write_text(written(("a", "b", "c")) + "a,b,ab\n")
    with pytest.raises(ValueError, match="line 5, column 3: a fate is a, b or c"):
        read_fates(path, n_fates=3)
    path.write_text("0.1,0.9,0.5\n0.5,0.9,0.1\n")
    with pytest.raises(ValueError, match="holds states, not fates"):
        read_fates(path, n_fates=3)
    with pytest.raises(ValueError, match="n_fates must be >= 2, got 1"):
        read_fates(path, n_fates=1)


def test_an_array_of_three_fates_is_read(tmp_path):
    path = tmp_path / "fates.npy"
    for array in (THREE, THREE + 1, 10.0 * THREE):
        np.save(path, array)
        np.testing.assert_array_equal(read_fates(path, n_fates=3).fates, THREE)
    np.save(path, THREE)
    with pytest.raises(ValueError, match="must hold two fates, got 0, 1, 2"):
        read_fates(path)
    np.save(path, THREE / 2)
    with pytest.raises(ValueError, match="must hold 3 fates"):
        read_fates(path, n_fates=3)
