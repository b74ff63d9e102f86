"""The model once more, as plain as possible, in NumPy: what the package is held against."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import lateral
from lateral.fields import settings, size


def threefry_2x32(key, counter, rounds):
    """Threefry-2x32 as Salmon et al. (2011) state it, one block of Python's unbounded integers at a time."""
    mask = 2**32 - 1
    schedule = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = (counter[0] + schedule[0]) & mask, (counter[1] + schedule[1]) & mask
    for number in range(rounds):
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[number % 8]
        x = (x + y) & mask
        y = ((y << turn | y >> (32 - turn)) & mask) ^ x
        if number % 4 == 3:
            x = (x + schedule[(number // 4 + 1) % 3]) & mask
            y = (y + schedule[(number // 4 + 2) % 3] + number // 4 + 1) & mask
    return x, y


def blocks(key, step, n_cells, n_replicates):
    """Both words of the block of each pair of replicates and each cell, `(pair, cell, word)`."""
    words = [int(word) for word in jax.random.key_data(key)]
    n_pairs = (n_replicates + 1) // 2
    counted = [threefry_2x32(words, (step, index), 13) for index in range(n_pairs * n_cells)]
    return np.array(counted, np.uint32).reshape(n_pairs, n_cells, 2)


def normals(key, step, n_cells, n_replicates, rounds=13):
    """Standard normal numbers `(replicate, cell)`: Box-Muller in double precision, or those of `jax.random`."""
    if rounds == 20:
        z = jax.random.normal(jax.random.fold_in(key, step), (n_replicates, n_cells), jnp.float32)
        return np.asarray(z, np.float64)
    word = blocks(key, step, n_cells, n_replicates).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((np.floor(word[..., 0] / 2.0) + 0.5) / 2.0**31))
    angle = 2.0 * np.pi * word[..., 1] / 2.0**32
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return z.reshape(-1, n_cells)[:n_replicates]


def uniforms(key, n_cells, n_replicates, rounds=13):
    """Uniform numbers of the start `(replicate, cell)`: the upper 23 bits of a word."""
    if rounds == 20:
        return np.asarray(jax.random.uniform(key, (n_replicates, n_cells), jnp.float32), np.float64)
    word = np.moveaxis(blocks(key, 0, n_cells, n_replicates), 2, 1).reshape(-1, n_cells)[:n_replicates]
    return (word >> np.uint32(9)) / 2.0**23


def neighbour_mean(row, boundary, edge_value):
    """One tissue, one cell at a time."""
    n = len(row)
    means = []
    for i in range(n):
        if boundary == "ring":
            neighbours = [row[(i - 1) % n], row[(i + 1) % n]]
        else:
            neighbours = [row[j] for j in (i - 1, i + 1) if 0 <= j < n]
            if boundary == "pinned":
                neighbours += [edge_value] * (2 - len(neighbours))
        means.append(sum(neighbours) / len(neighbours) if neighbours else 0.0)
    return means


@settings
class Chain(lateral.Geometry):
    """A user's own geometry with nothing but its map: each cell sees the one before it, the first sees 0."""

    n_cells: int = size(5, "cells in the chain")

    def linear(self, states):
        return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])


STAR = ((1, 2, 3), (0,), (0,), (0,))
ONE_WAY = ((1, 2), (0,), (), (0, 1, 2))
WEIGHTS = ((0.7, 0.1), (1.0,), (), (0.2, 0.3, 0.1))

# All geometries, under shared laws: the geometry, and for each cell what it sees, (neighbour, weight) and an offset.
GEOMETRIES = {
    "lone cell": lateral.Row(1),
    "row of two": lateral.Row(2),
    "row": lateral.Row(7),
    "ring of three": lateral.Ring(3),
    "ring": lateral.Ring(8),
    "lone pinned cell": lateral.Pinned(1, 0.3, 0.3),
    "pinned": lateral.Pinned(5, 0.3, 0.3),
    "pinned unlike": lateral.Pinned(5, 0.9, 0.2),
    "star": lateral.Graph(STAR),
    "one way": lateral.Graph(ONE_WAY, WEIGHTS),
    "contacts": lateral.Graph.from_edges([(0, 1), (1, 2), (0, 2), (2, 3)], 5, [2.0, 1.0, 0.5, 4.0]),
    "chain": Chain(5),
    "one square": lateral.Sheet(1, 1),
    "squares": lateral.Sheet(3, 4),
    "square of squares": lateral.Sheet(3, 3),
    "torus of squares": lateral.Sheet(3, 4, periodic=True),
    "ring of squares": lateral.Sheet(1, 5, periodic=True),
    "hexagons": lateral.Sheet(3, 4, "hexagonal"),
    "even rows of hexagons": lateral.Sheet(4, 2, "hexagonal"),
    "torus of hexagons": lateral.Sheet(4, 3, "hexagonal", periodic=True),
    "row of hexagons": lateral.Sheet(1, 4, "hexagonal"),
}


def dense(geometry):
    """W and b of a geometry, written down cell by cell."""
    n = geometry.n_cells
    matrix, offset = np.zeros((n, n)), np.zeros(n)
    for i in range(n):
        if isinstance(geometry, lateral.Graph):
            weights = geometry.weights[i] if geometry.weights else [1 / len(geometry.neighbours[i])] * n
            for j, w in zip(geometry.neighbours[i], weights, strict=False):
                matrix[i, j] += w
        elif isinstance(geometry, lateral.Sheet):
            there = touching(geometry, i)
            for j in there:
                matrix[i, j] += 1.0 / len(there)
        elif isinstance(geometry, Chain):
            if i:
                matrix[i, i - 1] = 1.0
        elif isinstance(geometry, lateral.Ring):
            matrix[i, (i - 1) % n] += 0.5
            matrix[i, (i + 1) % n] += 0.5
        else:
            there = [j for j in (i - 1, i + 1) if 0 <= j < n]
            pinned = isinstance(geometry, lateral.Pinned)
            for j in there:
                matrix[i, j] += 0.5 if pinned else 1.0 / len(there)
            if pinned:
                offset[i] = 0.5 * (geometry.left * (i == 0) + geometry.right * (i == n - 1))
    return matrix, offset


def touching(sheet, cell):
    """The cells whose centres are 1 away from that of a cell, across the seams of a periodic sheet too."""
    hexagonal = sheet.kind == "hexagonal"
    height = np.sqrt(3.0) / 2.0 if hexagonal else 1.0

    def centre(row, column):
        return np.array([column + (0.5 if hexagonal and row % 2 else 0.0), row * height])

    row, column = divmod(cell, sheet.columns)
    around_the_seams = (-1, 0, 1) if sheet.periodic else (0,)
    found = set()
    for other in range(sheet.n_cells):
        for down, right in itertools.product(around_the_seams, repeat=2):
            image = (other // sheet.columns + down * sheet.rows, other % sheet.columns + right * sheet.columns)
            if other != cell and abs(np.hypot(*(centre(*image) - centre(row, column))) - 1.0) < 1e-9:
                found.add(other)
    return sorted(found)


def euler_maruyama_on(geometry, f, initial, *, n_steps, dt, noise_strength, key, rounds=13):
    """The whole model on any geometry from given states, final states `(replicate, cell)`; f exactly."""
    noise_key = jax.random.split(key, 3)[1]
    (matrix, offset), states = dense(geometry), np.asarray(initial)
    for step in range(n_steps):
        z = normals(noise_key, step, states.shape[1], len(states), rounds)
        states = np.clip(states + f(states @ matrix.T + offset) * dt + noise_strength * np.sqrt(dt) * z, 0.0, 1.0)
    return states


def euler_maruyama(
    f,
    *,
    n_cells,
    n_replicates,
    n_steps,
    dt,
    noise_strength,
    key,
    boundary="free",
    edge_value=0.0,
    start=(0.4, 0.6),
    rounds=13,
    n_knots=None,
):
    """The whole model, `(replicate, time, cell)`; `f` is evaluated exactly."""
    start_key, noise_key, _ = jax.random.split(key, 3)
    states = start[0] + (start[1] - start[0]) * uniforms(start_key, n_cells, n_replicates, rounds)
    trajectory = [states]
    for step in range(n_steps):
        z = normals(noise_key, step, n_cells, n_replicates, rounds)
        rates = f(np.array([neighbour_mean(row, boundary, edge_value) for row in states]))
        states = np.clip(states + rates * dt + noise_strength * np.sqrt(dt) * z, 0.0, 1.0)
        trajectory.append(states)
    return np.stack(trajectory, axis=1)
