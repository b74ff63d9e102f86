"""Split any object into arrays to trace and the rest to keep static.

A regulatory function may be a plain closure, a pytree of arrays (a table, a network with its parameters), or a
mixture (a pytree that also holds an activation function). `partition` lets all of them cross `jax.jit` the same
way: numbers are traced, so that new parameters never recompile; functions are static and compared by identity.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Static",
    "as_floats",
    "combine",
    "partition",
    "register_settings",
]


class Static(NamedTuple):
    """What is left of an object without its arrays; hashable, to be a static argument of `jax.jit`."""

    treedef: Any
    rest: tuple


def partition(tree) -> tuple[list, Static]:
    """The arrays and numbers of `tree`, and everything else."""
    leaves, treedef = jax.tree.flatten(tree)
    arrays, rest = [], []
    for leaf in leaves:
        traced = _is_number(leaf)
        rest.append(_TRACED if traced else _hashable(leaf))
        if traced:
            arrays.append(leaf)
    return arrays, Static(treedef, tuple(rest))


def combine(arrays, static: Static):
    """The inverse of `partition`."""
    remaining = iter(arrays)
    leaves = [next(remaining) if leaf is _TRACED else _original(leaf) for leaf in static.rest]
    return jax.tree.unflatten(static.treedef, leaves)


def register_settings(*static_fields: str):
    """Class decorator: make a frozen dataclass a pytree whose numbers are traced.

    Fields named here are static; of the others, arrays and numbers (at any depth) are traced and the rest, such as
    a network that is a plain Python object, is static too. Rebuilding it inside a transformation runs no checks.
    """

    def register(cls):
        names = [field.name for field in dataclasses.fields(cls) if field.name not in static_fields]

        def flatten(settings):
            arrays, static = partition([getattr(settings, name) for name in names])
            return arrays, (static, tuple(getattr(settings, name) for name in static_fields))

        def unflatten(aux, arrays):
            static, static_values = aux
            settings = object.__new__(cls)
            for name, value in zip([*names, *static_fields], [*combine(arrays, static), *static_values], strict=True):
                object.__setattr__(settings, name, value)
            return settings

        jax.tree_util.register_pytree_node(cls, flatten, unflatten)
        return cls

    return register


def as_floats(tree: Any) -> Any:
    """All numbers of a pytree as floating-point arrays."""
    return jax.tree.map(lambda x: jnp.asarray(x, float), tree)


class _Traced:
    def __repr__(self):
        return "traced"


_TRACED = _Traced()


class _ByIdentity:
    """An unhashable object as a static one: equal only to itself."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, _ByIdentity) and self.value is other.value

    def __hash__(self):
        return id(self.value)


def _hashable(leaf):
    try:
        hash(leaf)
        return leaf
    except TypeError:
        return _ByIdentity(leaf)


def _original(leaf):
    return leaf.value if isinstance(leaf, _ByIdentity) else leaf


def _is_number(leaf) -> bool:
    if type(leaf) in (float, int):  # nearly all are, and to ask whether something is an array takes longer
        return True
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float)) and not isinstance(leaf, bool)
