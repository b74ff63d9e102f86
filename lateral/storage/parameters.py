"""Parameters as numbered arrays and their nesting, and back; held against what the network draws itself.

Dicts, lists and tuples are written down. Any other container (a NamedTuple, a subclass, a registered dataclass) is left
to the network: if `network.init` makes the same structure, that is what the arrays are put back into.
"""

from typing import Any

import jax
import numpy as np

from lateral.storage.archive import storable

__all__ = ["check_storable", "drawn_shapes", "put_together", "take_apart"]


class _NotPlain(Exception):
    """A container that JSON has no word for."""


def check_storable(params: Any, network: Any) -> None:
    """That a run with these parameters can be saved and loaded again; call it before training.

    Args:
        params: a pytree of real numbers.
        network: where it has `init(key) -> params`, `params` must have that structure and those shapes.

    Raises:
        ValueError: which type, shape or number cannot be kept.
    """
    take_apart(params, drawn_shapes(network), [])


def drawn_shapes(network: Any) -> Any:
    """Shapes of the parameters that `network.init(key)` draws; None where it draws none."""
    if not callable(getattr(network, "init", None)):
        return None
    key = jax.random.key(0)
    try:
        try:
            return jax.eval_shape(network.init, key)
        except jax.errors.JAXTypeError:  # it draws by NumPy: only a real key will do
            return jax.tree.map(np.asarray, network.init(key))
    except Exception:  # a user's code, which may take something else; training did not call it then
        return None


def take_apart(params: Any, drawn: Any, leaves: list[np.ndarray]) -> Any:
    """The nesting of `params` as JSON, with its arrays moved to `leaves`.

    Args:
        params: as of `check_storable`.
        drawn: `drawn_shapes` of the network.
        leaves: longer afterwards by the arrays of `params`.

    Raises:
        ValueError: as `check_storable`.
    """
    first = len(leaves)
    try:
        nesting = _nesting(params, leaves)
    except _NotPlain as error:
        del leaves[first:]
        if drawn is None or jax.tree.structure(params) != jax.tree.structure(drawn):
            raise ValueError(str(error)) from None
        leaves.extend(_leaf(leaf) for leaf in jax.tree.leaves(params))
        nesting = {"leaves": list(range(first, len(leaves)))}
    _check_fit(params, drawn, "parameters")
    if not all(map(_is_finite, leaves[first:])):
        raise ValueError("parameters must be finite")
    return nesting


def put_together(nesting: Any, drawn: Any, arrays: dict[str, np.ndarray], said: str = "parameters") -> Any:
    """What `take_apart` took apart, in the precision of now; takes each `param_...` that it needs out of `arrays`.

    A message that they do not fit what is `drawn` begins with `said`.

    Raises:
        ValueError, KeyError, TypeError: if the nesting or the arrays do not fit each other or the network.
    """
    if isinstance(nesting, dict) and nesting.keys() == {"leaves"}:
        params = jax.tree.unflatten(jax.tree.structure(drawn), [_cast(number, arrays) for number in nesting["leaves"]])
    else:
        params = _nested(nesting, arrays)
    _check_fit(params, drawn, said)
    return params


def _nesting(tree: Any, leaves: list[np.ndarray]) -> Any:
    if tree is None:
        return None
    if type(tree) is dict:
        if not all(isinstance(name, str) for name in tree):
            raise _NotPlain("parameters in a dict need names that are strings")
        return {"dict": {name: _nesting(value, leaves) for name, value in tree.items()}}
    if type(tree) in (list, tuple):
        return {type(tree).__name__: [_nesting(value, leaves) for value in tree]}
    leaves.append(_leaf(tree))
    return len(leaves) - 1


def _leaf(value: Any) -> np.ndarray:
    if not isinstance(value, (bool, int, float, np.ndarray, np.generic, jax.Array)):
        kind = type(value).__name__
        raise _NotPlain(
            f"parameters must be dicts, lists and tuples of real arrays, got {kind}: "
            f"a run cannot be loaded again with a {kind} unless network.init(key) returns the same"
        )
    return storable("a parameter", value)


def _nested(nesting: Any, arrays: dict[str, np.ndarray]) -> Any:
    if nesting is None:
        return None
    if not isinstance(nesting, dict):
        return _cast(nesting, arrays)
    kind, *others = nesting
    if others or kind not in ("dict", "list", "tuple"):
        raise ValueError("its parameters are in a container that is unknown")
    if kind == "dict":
        return {name: _nested(value, arrays) for name, value in nesting["dict"].items()}
    return (list if kind == "list" else tuple)(_nested(value, arrays) for value in nesting[kind])


def _cast(number: Any, arrays: dict[str, np.ndarray]) -> jax.Array:
    """One array in the working precision, given up by `arrays` so that there are no two of all of them."""
    if type(number) is not int:
        raise ValueError(f"{number!r} is no number of an array")
    array = arrays.pop(f"param_{number}")
    if not _is_finite(array):
        raise ValueError("its parameters are not finite")
    with np.errstate(over="ignore"):
        cast = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    if not (cast is array or (_is_finite(cast) if array.dtype.kind == "f" else (cast == array).all())):
        raise ValueError(f'its parameters exceed {cast.dtype}: load it with jax.config.update("jax_enable_x64", True)')
    return jax.device_put(cast)  # without a copy where the array lies as JAX wants it, unlike jnp.asarray


def _is_finite(array: np.ndarray) -> bool:
    """Without an array of truth values, which would take a quarter of the memory."""
    return array.size == 0 or bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def _check_fit(params: Any, drawn: Any, said: str) -> None:
    if drawn is None:
        return
    if jax.tree.structure(params) != jax.tree.structure(drawn):
        raise ValueError(f"{said} must have the structure of those that network.init(key) draws")
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(drawn), strict=True):
        if np.shape(ours) != np.shape(theirs):
            raise ValueError(
                f"{said} must have the shapes of those that network.init(key) draws, "
                f"got {np.shape(ours)} for {np.shape(theirs)}"
            )
