"""Split any object into arrays to trace and the rest to keep static.

A regulatory function may be a plain closure, a pytree of arrays (a table, a network with its parameters), or a
mixture (a pytree that also holds an activation function). `partition` lets all of them cross `jax.jit` the same
way: numbers are traced, so that new parameters never recompile; functions are static and compared by identity, and
objects of a class that JAX does not know by identity and by what their attributes are at the time of the call.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Static",
    "as_floats",
    "combine",
    "entries",
    "in_parts",
    "joined",
    "n_entries",
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
            return arrays, (static, tuple(_hashable(getattr(settings, name)) for name in static_fields))

        def unflatten(aux, arrays):
            static, static_values = aux
            settings = object.__new__(cls)
            values = [*combine(arrays, static), *map(_original, static_values)]
            for name, value in zip([*names, *static_fields], values, strict=True):
                object.__setattr__(settings, name, value)
            return settings

        jax.tree_util.register_pytree_node(cls, flatten, unflatten)
        return cls

    return register


def as_floats(tree: Any) -> Any:
    """All numbers of a pytree as floating-point arrays."""
    return jax.tree.map(lambda x: jnp.asarray(x, float), tree)


@partial(jax.jit, inline=True)  # one compilation instead of several for each leaf
def entries(tree: Any, index: Any) -> Any:
    """`leaf[index]` of every leaf of a pytree; the index is one number or an array of them."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def n_entries(tree: Any) -> int:
    """Of the leading axis, which all leaves have."""
    return jax.tree.leaves(tree)[0].shape[0]


def in_parts(tree: Any, n_parts: int) -> list[Any]:
    """The entries in at most so many parts; the last is filled up with the last entry: one shape, one compilation."""
    n = n_entries(tree)
    size = -(-n // n_parts)
    return [entries(tree, np.minimum(np.arange(first, first + size), n - 1)) for first in range(0, n, size)]


def joined(parts: list[Any], n: int) -> Any:
    """The first `n` entries of all parts."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:n], *parts)


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


class _AsItIs(_ByIdentity):
    """An object as it is now: another one when an attribute has changed."""

    def __init__(self, value):
        super().__init__(value)
        self.attributes = _token(vars(value))

    def __eq__(self, other):
        return super().__eq__(other) and isinstance(other, _AsItIs) and self.attributes == other.attributes

    def __hash__(self):
        return hash((id(self.value), self.attributes))


def _token(value):
    """Something hashable that changes when the value does; of other objects it is they themselves."""
    if isinstance(value, dict):
        return tuple((name, _token(entry)) for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_token, value))
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    return value if isinstance(value, (int, float, str)) else _ByIdentity(value)


def _hashable(leaf):
    try:
        hash(leaf)
    except TypeError:
        return _AsItIs(leaf) if hasattr(leaf, "__dict__") else _ByIdentity(leaf)
    by_identity = type(leaf).__hash__ is object.__hash__ and not isinstance(leaf, type)
    return _AsItIs(leaf) if by_identity and getattr(leaf, "__dict__", None) else leaf


def _original(leaf):
    return leaf.value if isinstance(leaf, _ByIdentity) else leaf


def _is_number(leaf) -> bool:
    if type(leaf) in (float, int):  # nearly all are, and to ask whether something is an array takes longer
        return True
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float)) and not isinstance(leaf, bool)
