"""Dynamics: a row of identical cells that see only the average of their neighbours (notebook 01).

Cell i has a state `s_i` in [0, 1] and sees `s̄_i`, the mean state of its neighbours. All cells follow one rule,

    ds_i = f(s̄_i) dt + σ dW_i,     clipped to [0, 1],

integrated by Euler–Maruyama. Time has no unit: it is measured in the time that a cell at unit rate needs from 0
to 1. `f` is any function from an array of neighbour means to rates of the same shape (`lateral.rules`).

`lateral.tissue` holds the tissue as a value and one step as plain as it can be written, `lateral.geometry` says who
sees whom, `lateral.engine` computes many steps fast, and this file is what users call. Public arrays are
`(replicate, cell)`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral.checks import check_kind, check_real, check_unit_interval
from lateral.engine import Numerics, simulate
from lateral.fields import documented, sort_settings
from lateral.geometry import Geometry, check_geometry, row_with_ends
from lateral.tissue import Tissue

__all__ = ["neighbour_mean", "run_multiple_replicates", "run_trajectories"]

_TISSUE, _NUMERICS = Tissue(), Numerics()


def neighbour_mean(
    states: ArrayLike, boundary: str = "free", edge_value: ArrayLike = 0.0, *, geometry: Geometry | None = None
) -> Array:
    """Mean state of the neighbours of each cell.

    Args:
        states: states in [0, 1]; cells on the last axis, any number of axes before it.
        boundary: what the two edge cells of a row see. `"free"`: their one neighbour; `"ring"` (3 cells or more): each
            other; `"pinned"`: a ghost neighbour of fixed state `edge_value` beyond each end.
        edge_value: state of the ghost neighbours, in [0, 1].
        geometry: any other tissue instead of a row.

    A lone cell with free ends has no neighbour: nothing inhibits it, and it sees 0.

    Returns:
        An array of the shape of `states`.
    """
    states = check_real("states", states)
    if states.ndim < 1 or states.shape[-1] < 1:
        raise ValueError(f"states must have cells on the last axis, got shape {states.shape}")
    n_cells = states.shape[-1]
    geometry = row_with_ends(n_cells, boundary, edge_value) if geometry is None else geometry
    check_geometry("geometry", geometry, n_cells)
    states = check_unit_interval("states", states).astype(float)
    return jnp.moveaxis(geometry.mean(jnp.moveaxis(states, -1, 0)), 0, -1)


@documented(Tissue, Numerics)
def run_multiple_replicates(
    f: Callable,
    *,
    n_replicates: int,
    key: Array,
    tissue: Tissue | None = None,
    numerics: Numerics | None = None,
    initial_states: ArrayLike | None = None,
    refine: int = 1,
    first_replicate: ArrayLike = 0,
    **settings: Any,
) -> Float[Array, "replicate cell"]:
    """Simulate independent replicates of a tissue and return their final states.

    Args:
        f: regulatory function, from neighbour means (an array of any shape) to rates of the same shape, each of which
            depends on its own neighbour mean alone: a function of NumPy or `jax.numpy`, a `lateral` regulatory
            function, or any callable pytree, whose numbers are traced. A new f compiles nothing, except with
            `n_knots=None`, where f must be built from `jax.numpy`.
        n_replicates: independent tissues, R >= 1.
        key: random key, `jax.random.key(seed)`. A replicate's noise depends on the key and its own index only.
        tissue: the tissue as a value, `lateral.Tissue()` by default.
        numerics: how it is computed, `lateral.Numerics()` by default.
        initial_states: `(cell,)` or `(replicate, cell)` in [0, 1], instead of the start of the tissue.
        refine: split each step into this many on the *same* Brownian path, to see what the time step does.
        first_replicate: number of the first replicate, even: replicates 100 to 149 of a larger ensemble are those
            with `n_replicates=50, first_replicate=100`.
        **settings: any setting of `lateral.Tissue` (`n_cells`, `boundary`, `edge_value` or `geometry`, `n_steps`,
            `dt`, `noise_strength`, `start`) and of `lateral.Numerics` (`n_knots`, `rounds`, `recompute_every`,
            `engine`).

    Returns:
        Final states in [0, 1], `(replicate, cell)`.

    Raises:
        ValueError: for a setting outside its range, arrays of wrong shape, or an f that is no rule (`lateral.rules`),
            before anything is traced.

    Example:
        states = run_multiple_replicates(
            TanhInhibition(), n_cells=7, n_replicates=50, n_steps=1000, dt=0.01, noise_strength=0.1, key=key
        )
    """
    tissue, numerics = _values(tissue, numerics, settings)
    return simulate(
        f,
        tissue,
        n_replicates=n_replicates,
        key=key,
        numerics=numerics,
        initial_states=initial_states,
        refine=refine,
        first_replicate=first_replicate,
    )


@documented(Tissue, Numerics)
def run_trajectories(
    f: Callable,
    *,
    n_replicates: int,
    key: Array,
    tissue: Tissue | None = None,
    numerics: Numerics | None = None,
    initial_states: ArrayLike | None = None,
    refine: int = 1,
    first_replicate: ArrayLike = 0,
    every: int = 1,
    **settings: Any,
) -> Float[Array, "replicate time cell"]:
    """The same simulation as `run_multiple_replicates`, with the states on the way.

    Args:
        every: keep every so many steps; `n_steps` must be a multiple of it.

    All other arguments are those of `run_multiple_replicates`, and the last time of the result equals its result.

    Returns:
        States at times 0, every * dt, ..., n_steps * dt, shape `(replicate, n_steps // every + 1, cell)`.
    """
    tissue, numerics = _values(tissue, numerics, settings)
    return simulate(
        f,
        tissue,
        n_replicates=n_replicates,
        key=key,
        numerics=numerics,
        initial_states=initial_states,
        refine=refine,
        first_replicate=first_replicate,
        every=every,
    )


def _values(tissue, numerics, settings: dict[str, Any]) -> tuple[Tissue, Numerics]:
    """Tissue and numerics with loose settings put where they belong."""
    tissue = _TISSUE if tissue is None else check_kind("tissue", tissue, Tissue)
    numerics = _NUMERICS if numerics is None else check_kind("numerics", numerics, Numerics)
    return sort_settings(settings, tissue, numerics, of="a simulation")
