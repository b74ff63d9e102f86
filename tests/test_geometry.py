"""Geometries under shared laws: each is the dense map that is written down for it in `oracles`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from lateral import Graph, Pinned, Ring, Row, Tissue, alternation, estimate_utility, neighbour_mean
from lateral.geometry import GEOMETRIES


@pytest.fixture(params=oracles.GEOMETRIES)
def geometry(request):
    return oracles.GEOMETRIES[request.param]


def numbers(*shape):
    return jnp.asarray(np.random.default_rng(0).uniform(size=shape))


def test_every_kind_is_tried_here():
    kinds = {type(geometry) for geometry in oracles.GEOMETRIES.values()}
    assert set(GEOMETRIES.values()) < kinds and oracles.Chain in kinds


@pytest.mark.slow
def test_the_neighbour_mean_is_the_dense_map(geometry):
    matrix, offset = oracles.dense(geometry)
    states = numbers(geometry.n_cells, 6)
    np.testing.assert_allclose(geometry.mean(states), matrix @ states + offset[:, None], atol=1e-12)
    np.testing.assert_allclose(geometry.mean(states[:, 0]), matrix @ states[:, 0] + offset, atol=1e-12)
    pairs = jax.lax.complex(states[:, :3], states[:, 3:])
    np.testing.assert_allclose(geometry.linear(pairs), matrix @ np.asarray(pairs), atol=1e-12)
    np.testing.assert_allclose(neighbour_mean(states.T, geometry=geometry), geometry.mean(states).T, atol=1e-12)
    np.testing.assert_allclose(geometry.matrix(), matrix, atol=1e-7)


def test_seeing_is_transposed_to_being_seen(geometry):
    matrix, _ = oracles.dense(geometry)
    cotangents = numbers(geometry.n_cells, 3) - 0.5
    np.testing.assert_allclose(geometry.transpose(cotangents), matrix.T @ cotangents, atol=1e-12)


def test_the_neighbour_mean_of_states_is_a_state(geometry):
    """The rows of W are not negative, and at states 0 and 1 the mean lies in [0, 1]."""
    matrix, _ = oracles.dense(geometry)
    assert (matrix >= 0.0).all()
    for state in (0.0, 1.0):
        seen = geometry.mean(jnp.full((geometry.n_cells, 1), state))
        assert ((seen >= 0.0) & (seen <= 1.0 + 1e-12)).all()


def test_pairs_are_the_cells_of_which_one_sees_the_other_each_once(geometry):
    matrix, _ = oracles.dense(geometry)
    seen = (matrix + matrix.T) > 0.0
    expected = {(i, j) for i, j in itertools.combinations(range(geometry.n_cells), 2) if seen[i, j]}
    assert len(geometry.pairs) == len(expected)
    assert {(min(pair), max(pair)) for pair in geometry.pairs.tolist()} == expected


def test_symmetries_leave_the_map_unchanged_and_form_a_group(geometry):
    matrix, _ = oracles.dense(geometry)
    permutations = geometry.symmetries
    assert permutations[0].tolist() == list(range(geometry.n_cells))
    for p in permutations:
        np.testing.assert_array_equal(matrix[np.ix_(p, p)], matrix)
    known = {tuple(p) for p in permutations}
    assert len(known) == len(permutations)
    assert {tuple(p[q]) for p in permutations for q in permutations} == known


def test_rows_and_rings_declare_all_their_symmetries():
    """By trying all permutations of few cells."""
    for geometry in (Row(5), Ring(5), Pinned(4, 0.5, 0.5)):
        matrix, _ = oracles.dense(geometry)
        cells = itertools.permutations(range(geometry.n_cells))
        all_of_them = {p for p in cells if (matrix[np.ix_(p, p)] == matrix).all()}
        assert {tuple(p) for p in geometry.symmetries} == all_of_them


def test_the_alternation_of_any_geometry_is_a_share_of_its_pairs():
    star = Graph(oracles.STAR)
    fates = np.array([[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert float(alternation(fates, geometry=star)) == pytest.approx((2 + 3 + 0) / 9)
    assert float(estimate_utility(fates, geometry=star).alternation) == pytest.approx(5 / 9)


def test_a_graph_is_the_row_or_ring_that_it_describes():
    row = Graph([[1], [0, 2], [1, 3], [2]])
    ring = Graph([[3, 1], [0, 2], [1, 3], [2, 0]])
    states = numbers(4, 5)
    np.testing.assert_allclose(row.mean(states), Row(4).mean(states), atol=1e-12)
    np.testing.assert_allclose(ring.mean(states), Ring(4).mean(states), atol=1e-12)
    assert {tuple(sorted(p)) for p in ring.pairs.tolist()} == {tuple(sorted(p)) for p in Ring(4).pairs.tolist()}


def test_the_old_names_of_the_ends_of_a_row_stand_for_geometries():
    assert Tissue(n_cells=5).geometry == Row(5)
    assert Tissue(n_cells=5, boundary="ring").geometry == Ring(5)
    assert Tissue(n_cells=5, boundary="pinned", edge_value=0.25).geometry == Pinned(5, 0.25, 0.25)
    assert Tissue(geometry=Ring(5)).changed(n_cells=6).geometry == Ring(6)
    assert Tissue(geometry=Pinned(5, 0.25, 0.25)).changed(n_cells=6).geometry == Pinned(6, 0.25, 0.25)


MISTAKES = {
    "a ring of two": (lambda: Ring(2), "a ring needs n_cells >= 3, got 2"),
    "a ghost beyond 1": (lambda: Pinned(3, left=1.5), "left must be <= 1, got 1.5"),
    "no cell": (lambda: Row(0), "n_cells must be >= 1, got 0"),
    "no list": (lambda: Graph([]), "must hold a list for at least one cell"),
    "an unknown cell": (lambda: Graph([[1], [2]]), r"neighbours\[1\] must name other cells from 0 to 1"),
    "a cell that sees itself": (lambda: Graph([[0], [0]]), r"neighbours\[0\] must name other cells"),
    "a neighbour twice": (lambda: Graph([[1, 1], [0]]), "each once"),
    "negative weights": (lambda: Graph([[1], [0]], [[-0.5], [1.0]]), r"weights\[0\] must be >= 0, got -0.5"),
    "weights above 1": (lambda: Graph([[1], [0]], [[1.5], [1.0]]), r"weights\[0\] must add up to at most 1.*1.5"),
    "weights that are missing": (lambda: Graph([[1], [0]], [[1.0], []]), "one weight for each neighbour"),
    "not a geometry": (lambda: Tissue(geometry=7), "geometry must be a geometry such as lateral.Row"),
    "cells of a graph": (lambda: Tissue(geometry=Graph([[1], [0]]), n_cells=3), "settings of a row"),
    "other cells": (lambda: alternation(np.zeros((2, 3)), geometry=Row(4)), "as many cells as the patterns, 3, got 4"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused(name):
    mistake, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        mistake()
