"""Graphs from edges and matrices, and readers of tissues that people bring: what is read, and what is refused where."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import lateral
from lateral import Graph, Model, read_cells, read_contacts, read_edges

CONTACTS = np.array([[0.0, 2.0, 1.0, 0.0], [2.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 5.0], [0.0, 0.0, 5.0, 0.0]])
EDGES, LENGTHS = [(0, 1), (0, 2), (2, 3)], [2.0, 1.0, 5.0]
BY_ROWS = CONTACTS / CONTACTS.sum(axis=1, keepdims=True)


# --- edges and matrices


@pytest.mark.slow
def test_edges_and_a_matrix_of_contacts_are_the_same_tissue():
    for graph in (Graph.from_edges(EDGES, weights=LENGTHS), Graph.from_matrix(CONTACTS)):
        np.testing.assert_allclose(graph.matrix(), BY_ROWS)
        assert graph.pairs.tolist() == [list(edge) for edge in EDGES]
    unweighted = Graph.from_edges(EDGES)
    assert unweighted == Graph([(1, 2), (0,), (0, 3), (2,)]) and unweighted.weights is None
    for geometry in oracles.GEOMETRIES.values():
        np.testing.assert_allclose(Graph.from_matrix(geometry.matrix(), normalise="none").matrix(), geometry.matrix())


def test_weights_add_up_to_1_or_keep_their_ratios_or_stay():
    np.testing.assert_allclose(Graph.from_matrix(CONTACTS, normalise="largest").matrix(), CONTACTS / 6.0)
    np.testing.assert_allclose(Graph.from_matrix(CONTACTS / 8.0, normalise="none").matrix(), CONTACTS / 8.0)


def test_edges_both_ways_keep_both_weights_and_edges_one_way_stay_one_way():
    both = Graph.from_edges([(0, 1), (1, 0)], weights=[0.5, 0.25], normalise="none")
    np.testing.assert_allclose(both.matrix(), [[0.0, 0.5], [0.25, 0.0]])
    one_way = Graph.from_edges([(0, 1), (2, 1)], one_way=True)
    assert one_way.neighbours == ((1,), (), (1,))
    none = Graph.from_edges([(0, 1), (1, 2)], weights=[0.0, 2.0])
    assert none.neighbours == ((), (2,), (1,)), "a weight of 0 is no contact"


@pytest.mark.slow
def test_what_is_drawn_travels_along_and_changes_nothing(tmp_path, float32):
    drawn = dict(positions=[(0, 0), (1, 0), (0, 1), (1, 2.5)], names="abcd", areas=[1, 2, 3, 4])
    drawn |= {"outlines": [[(0, 0), (1, 0), (0, 1)]] * 4}
    graph = Graph.from_edges(EDGES, weights=LENGTHS, **drawn)
    assert graph.names == ("a", "b", "c", "d") and graph.positions[3] == (1.0, 2.5)
    plain = Graph.from_edges(EDGES, weights=LENGTHS)
    settings = dict(n_replicates=6, n_steps=50, key=jax.random.key(0))
    ours, theirs = (
        lateral.run_multiple_replicates(lateral.TanhInhibition(), geometry=g, **settings) for g in (graph, plain)
    )
    np.testing.assert_array_equal(ours, theirs)
    model = Model(geometry=graph)
    run = lateral.Run("evolution", model.network.init(jax.random.key(0)), model)
    loaded = lateral.load_run(lateral.save_run(tmp_path / "run.npz", run)).model.geometry
    assert (
        loaded == graph and hash(loaded.neighbours) == hash(graph.neighbours) and loaded.areas == (1.0, 2.0, 3.0, 4.0)
    )


def test_a_state_that_is_not_finite_is_seen_by_neighbours_only(nan_allowed):
    """A place in the lists that is not taken has weight 0, and 0 times NaN is NaN."""
    seen = Graph.from_edges(EDGES).mean(jnp.asarray([[0.5], [np.nan], [0.5], [0.5]]))
    assert np.isnan(seen[:, 0]).tolist() == [True, True, False, False]  # of cell 1 its own place


MISTAKES = {
    "not pairs": (lambda: Graph.from_edges([[0, 1, 2]]), r"whole numbers, \(edge, 2\), got int64 of shape \(1, 3\)"),
    "halves": (lambda: Graph.from_edges([[0.5, 1.0]]), "whole numbers"),
    "an unknown cell": (lambda: Graph.from_edges(EDGES, 3), r"edges\[2\]: cells are numbered from 0 to 2, got 3"),
    "a loop": (lambda: Graph.from_edges([(0, 1), (1, 1)]), r"edges\[1\]: cell 1 cannot be its own neighbour"),
    "twice": (lambda: Graph.from_edges([*EDGES, (0, 2)]), r"edges\[3\]: 0 and 2 are already in edges\[1\]"),
    "negative": (lambda: Graph.from_edges(EDGES, weights=[1, -2, 3]), r"edges\[1\]: a weight must be >= 0, got -2"),
    "too few weights": (lambda: Graph.from_edges(EDGES, weights=[1.0]), r"finite numbers of shape \(3,\)"),
    "half both ways": (
        lambda: Graph.from_edges([(0, 1), (1, 0), (1, 2)]),
        r"edges\[2\]: 1 sees 2, but not the other way round.*one_way=True",
    ),
    "more than 1": (lambda: Graph.from_matrix(CONTACTS, normalise="none"), "cell 2 add up to 6.*normalise"),
    "another way": (lambda: Graph.from_matrix(CONTACTS, normalise="no"), "'rows', 'largest', 'none'"),
    "no square": (lambda: Graph.from_matrix(CONTACTS[:2]), r"\(cell, cell\), got float64 of shape \(2, 4\)"),
    "names alike": (lambda: Graph.from_edges(EDGES, names="abca"), "names must differ, got 'a' twice"),
    "places missing": (lambda: Graph.from_edges(EDGES, positions=[(0, 0)]), "positions must hold one entry.*4.*got 1"),
    "no place": (lambda: Graph.from_edges(EDGES, positions=[(0, 0, 0)] * 4), "positions must hold finite numbers"),
    "no area": (lambda: Graph.from_edges(EDGES, areas=[1, 1, 1, -1]), "areas must be >= 0, got -1"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused(name):
    mistake, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        mistake()


# --- files


@pytest.fixture
def table(tmp_path):
    """A file of some text."""

    def write(text: str, name: str = "table.csv", encoding: str = "utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


CELLS = "cell,x,y\n0,0,0\n1,1,0\n2,0,1\n3,1,1\n"
READABLE = {
    "with a line of names": "i,j,weight\n0,1,2\n0,2,1\n2,3,5\n",
    "without": "0,1,2\n0,2,1\n2,3,5\n",
    "both ways": "0,1,2\n0,2,1\n2,3,5\n1,0,2\n2,0,1\n3,2,5\n",
    "numbered from 1": "cell_a;cell_b;length\n1;2;2,0\n1;3;1,0\n3;4;5,0\n",
    "by names": "from\tto\tcontact\nA\tB\t2\nA\tC\t1\nC\tD\t5\n",
    "by names in quotes": '"A","B",2\n"A","C",1\n"C","D",5\n',
    "by names of a segmentation": "101 102 2\n101 2000 1\n2000 3001 5\n",
    "as pandas writes whole numbers beside gaps": "i,j,weight\n0.0,1.0,2\n0.0,2.0,1\n2.0,3.0,5\n",
    "with a comment and empty lines": "# contacts\n\n0,1,2\n0,2,1\n\n2,3,5\n",
    "of Windows, in UTF-16": "\ufeffi;j;w\r\n0;1;2\r\n0;2;1\r\n2;3;5\r\n",
}


@pytest.mark.parametrize("name", READABLE)
def test_an_edge_list_is_read_as_programs_write_it(name, table):
    path = table(READABLE[name], encoding="utf-16-le" if "UTF-16" in name else "utf-8")
    np.testing.assert_allclose(read_edges(path).matrix(), BY_ROWS)


def test_edges_without_weights_are_the_mean_of_the_neighbours(table):
    for text in ("0,1\n0,2\n2,3\n", "cell 1,cell 2\n0,1\n0,2\n2,3\n", "b,a\nb,c\nc,d\n"):
        graph = read_edges(table(text))
        assert graph.weights is None and len(graph.pairs) == 3
    assert graph.names == ("a", "b", "c", "d")


def test_cells_bring_their_names_places_and_areas(table):
    cells = table("label,area,y,x\nD,4,1.5,1\nC,3,1,0\nA,1,0,0\nB,2,0,1\n", "cells.csv")
    graph = read_edges(table(READABLE["by names"]), cells)
    assert graph.names == ("D", "C", "A", "B") and graph.positions[0] == (1.0, 1.5) and graph.areas[:2] == (4.0, 3.0)
    order = [2, 3, 1, 0]  # of A, B, C, D in the table
    np.testing.assert_allclose(graph.matrix()[np.ix_(order, order)], BY_ROWS)
    assert read_edges(table(READABLE["by names"]), read_cells(cells)) == graph
    assert read_cells(table("7,0.5,1\n9,1,1\n")).names == ("7", "9")


def test_a_cell_without_contact_is_kept_or_dropped(table):
    cells = table(CELLS + "4,9,9\n5,8,8\n", "cells.csv")
    edges = table("i,j,weight\n0,1,2\n0,2,1\n2,5,5\n")
    kept, dropped = (read_edges(edges, cells, isolated=how) for how in ("keep", "drop"))
    assert kept.n_cells == 6 and kept.neighbours[4] == ()
    assert dropped.names == ("0", "1", "2", "5") and dropped.positions[3] == (8.0, 8.0)
    np.testing.assert_allclose(dropped.matrix(), BY_ROWS)
    with pytest.raises(ValueError, match=r'no contact of cell 3, 4: say isolated="drop" to leave out 2 of 6'):
        read_edges(edges, cells)
    with pytest.raises(ValueError, match="no contact of cell 1"):
        read_edges(table("0,2\n2,3\n"))


MATRICES = {
    "numbers": "0,2,1,0\n2,0,0,0\n1,0,0,5\n0,0,5,0\n",
    "spaces": "0 2 1 0\n2 0 0 0\n1 0 0 5\n0 0 5 0\n",
    "names above": "a,b,c,d\n0,2,1,0\n2,0,0,0\n1,0,0,5\n0,0,5,0\n",
    "numbers above": "0,1,2,3\n0,2,1,0\n2,0,0,0\n1,0,0,5\n0,0,5,0\n",
    "names above and beside": ",a,b,c,d\na,0,2,1,0\nb,2,0,0,0\nc,1,0,0,5\nd,0,0,5,0\n",
    "names beside": "a,0,2,1,0\nb,2,0,0,0\nc,1,0,0,5\nd,0,0,5,0\n",
    "as R writes it": '"a" "b" "c" "d"\n"a" 0 2 1 0\n"b" 2 0 0 0\n"c" 1 0 0 5\n"d" 0 0 5 0\n',
    "each contact once": "0;2;1;0\n0;0;0;0\n0;0;0;5\n0;0;0;0\n",
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_matrix_is_read_as_programs_write_it(name, table):
    graph = read_contacts(table(MATRICES[name]))
    np.testing.assert_allclose(graph.matrix(), BY_ROWS)
    assert graph.names == (tuple("abcd") if '"a"' in MATRICES[name] or "a," in MATRICES[name] else tuple("0123"))


def test_a_matrix_takes_the_order_of_the_table_of_cells(table, tmp_path):
    cells = table("cell,x,y\nd,3,0\nb,1,0\na,0,0\nc,2,0\n", "cells.csv")
    graph = read_contacts(table(MATRICES["names above"]), cells)
    order = [3, 1, 0, 2]
    np.testing.assert_allclose(graph.matrix(), BY_ROWS[np.ix_(order, order)])
    np.save(tmp_path / "matrix.npy", CONTACTS)
    np.testing.assert_allclose(read_contacts(tmp_path / "matrix.npy").matrix(), BY_ROWS)


WRONG = {
    "an unknown cell": ("0,1\n0,7\n", {"cells": CELLS}, r"line 2: cell 7 is not in the table of cells"),
    "an asymmetric list": ("0,1\n1,0\n1,2\n", {}, r"line 3: 1 sees 2, but not the other way round"),
    "a negative weight": ("i,j,w\n0,1,1\n1,2,-3\n", {}, r"line 3: a weight must be >= 0, got -3"),
    "a weight that is none": ("0,1,1\n1,2,long\n", {}, r"line 2: the weight must be a finite number, got 'long'"),
    "an edge twice": ("0,1\n1,2\n0,1\n", {}, r"line 3: 0 and 1 are already in .*line 1"),
    "a loop": ("0,1\n2,2\n", {}, r"line 2: cell 2 cannot be its own neighbour"),
    "a missing entry": ("0,1,1\n1,2\n0,2,1\n", {}, r"line 2: 2 entries, but 3 in the last line"),
    "a table of four": ("0,1,1,1\n", {}, r"line 1: 2 or 3 entries are expected, got 4"),
    "one column": ("0\n1\n", {}, r"2 or 3 entries are expected, got 1"),
    "nothing": ("\n", {}, "is empty"),
    "names only": ("i,j\n", {}, "only a line of names"),
    "cells twice": ("0,1\n", {"cells": "0,1,1\n0,2,2\n"}, r"cells.csv, line 2: cell 0 is already in line 1"),
    "no place": ("0,1\n", {"cells": "0,1,?\n1,1,1\n"}, r"cells.csv, line 1: y must be a finite number, got '\?'"),
    "no names of columns": ("0,1\n", {"cells": "0,1,2,3\n"}, r"4 columns: name them"),
    "other names": ("0,1\n", {"cells": "cell,lat,lon\n0,1,2\n"}, r"must be cell, x, y, got cell, lat, lon"),
    "what to do": ("0,1\n", {"isolated": "ignore"}, "isolated must be one of 'refuse', 'keep', 'drop'"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_wrong_is_refused_with_its_line(name, table):
    text, settings, message = WRONG[name]
    if "cells" in settings:
        settings = settings | {"cells": table(settings["cells"], "cells.csv")}
    with pytest.raises(ValueError, match=message):
        read_edges(table(text), **settings)


WRONG_MATRICES = {
    "no square": ("0,1,1\n1,0,1\n", {}, "a row and a column for each cell, got 2 x 3"),
    "a negative contact": ("0,-1\n-1,0\n", {}, "row of cell 0, column of cell 1: a weight must be >= 0, got -1"),
    "a word": ("0,1\nx,0\n", {}, "x"),
    "an asymmetric one": ("0,1,1\n1,0,0\n0,0,0\n", {}, "row of cell 0, column of cell 2: 0 sees 2, but not the other"),
    "a cell on the diagonal": ("1,1\n1,0\n", {}, "cell 0 cannot be its own neighbour"),
    "another order beside": (",a,b\nb,0,1\na,1,0\n", {}, "in the same order"),
    "other cells": ("a,b\n0,1\n1,0\n", {"cells": "a,0,0\nc,1,1\n"}, "cell b is not in both"),
    "an isolated cell": ("0,1,0\n1,0,0\n0,0,0\n", {}, "no contact of cell 2"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", WRONG_MATRICES)
def test_a_matrix_that_is_wrong_is_refused(name, table):
    text, settings, message = WRONG_MATRICES[name]
    if "cells" in settings:
        settings = settings | {"cells": table(settings["cells"], "cells.csv")}
    with pytest.raises(ValueError, match=message):
        read_contacts(table(text), **settings)
