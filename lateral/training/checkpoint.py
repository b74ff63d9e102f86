"""Checkpoints: where a training stands, as a file from which it goes on bit for bit."""

import dataclasses
import hashlib
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lateral.checks import check_key, check_number
from lateral.fields import plain
from lateral.storage.description import describe, encode

__all__ = ["Checkpoint", "check_checkpoint", "differences", "digest", "identity_of", "packed", "take_up"]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file in which a training keeps what it has reached; the name of the file alone means the defaults.

    During training the file is an unfinished run, from which `load_run` reads the best parameters so far. The same call
    with the same settings takes it up. When training has ended, the file is the finished run, which the same call
    returns.

    Attributes:
        path: the file. What stands there must be a run of the same training.
        seconds: the shortest time between two writes, > 0; a write comes at the end of a chunk.
        fresh: start anew and replace what stands there.
        seed: of the key, to be recorded in the run.

    Raises:
        ValueError: if something else stands at `path`, or nothing can be written there.
    """

    path: str | os.PathLike
    seconds: float = 10.0
    fresh: bool = False
    seed: int | None = None

    def __post_init__(self):
        if not isinstance(self.path, str | os.PathLike):
            raise ValueError(f"checkpoint must be the path of a file, got {self.path!r}")
        check_number("seconds", self.seconds, above=0.0)


def check_checkpoint(checkpoint: str | os.PathLike | Checkpoint | None) -> Checkpoint | None:
    """A path as a `Checkpoint`."""
    return checkpoint if checkpoint is None or isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)


def identity_of(method: str, model: Any, key: jax.Array, start: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """What makes two trainings the same, as JSON.

    Args:
        method: what trains.
        model: what is trained.
        key: its random key.
        start: parameters that were given, or None.
        settings: of the training, as a run records them.
    """
    key = check_key(key)
    identity = {
        "method": method,
        "model": describe(model),
        "settings": plain(settings),
        "key": [str(jax.random.key_impl(key)), jax.random.key_data(key).tolist()],
        "initial_params": None if start is None else digest(start),
        "precision": str(jnp.result_type(float)),
    }
    return encode(identity, "identity")


def digest(tree: Any) -> str:
    """A fingerprint of all numbers of a pytree."""
    sha = hashlib.sha256()
    for leaf in _arrays(tree):
        sha.update(f"{leaf.dtype.str}{leaf.shape}".encode() + np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()[:16]


def packed(parts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Where the parts stand, as JSON and arrays."""
    numbers, arrays = {}, {}
    for name, part in parts.items():
        done = [] if part.checks_at is None else [list(check) for check in part.checks_at.done]
        best = None if part.checks_at is None else part.checks_at.best
        history = part.at.history
        stands = {"n_done": part.at.n_done, "stopped": part.stopped, "ended": part.ended}
        numbers[name] = stands | {"recorded": sorted(history), "checks": done, "best": best}
        own = {f"leaf_{i}": leaf for i, leaf in enumerate(_arrays(part.at.carry))}
        own |= {f"record_{key}": values for key, values in history.items()}
        if best is not None:
            own |= {f"best_{i}": leaf for i, leaf in enumerate(_arrays(part.checks_at.best_params))}
        arrays |= {f"{name}/{key}": value for key, value in own.items()}
    return numbers, arrays


def take_up(
    training: Any, checks: Any, numbers: dict[str, Any], arrays: dict[str, np.ndarray], path: Any
) -> tuple[bool, bool]:
    """Put a training and its checks where they were; whether it was to stop there, and whether it had ended."""
    try:
        numbers = {"stopped": False} | numbers  # files of earlier versions do not say
        for name, kind in (("n_done", int), ("stopped", bool), ("ended", bool), ("checks", list)):
            if type(numbers[name]) is not kind:
                raise ValueError(f"its {name!r} must be of type {kind.__name__}")
        carry = _like(training.at.carry, [arrays[f"leaf_{i}"] for i in range(_count(arrays, "leaf_"))])
        records = {key.removeprefix("record_"): x for key, x in arrays.items() if key.startswith("record_")}
        if sorted(records) != numbers["recorded"] or any(x.shape != (numbers["n_done"],) for x in records.values()):
            raise ValueError("its history does not fit its number of steps")
        training.take_up(carry, numbers["n_done"], records)
        if checks is not None:
            n_best = _count(arrays, "best_")
            best = _like(training.initial_params, [arrays[f"best_{i}"] for i in range(n_best)]) if n_best else None
            number, done = numbers["best"], [tuple(check) for check in numbers["checks"]]
            if any([type(value) for value in check] != [float, float] for check in done):
                raise ValueError("its checks are not pairs of numbers")
            fits = number is None if best is None else type(number) is int and 0 <= number < len(done)
            if not fits:
                raise ValueError("its best parameters are not there")
            checks.take_up(done, number, best)
        return numbers["stopped"], numbers["ended"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no complete checkpoint of this training: {error}") from error


def _arrays(tree) -> list[np.ndarray]:
    return [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(tree)]


def _like(tree, arrays: list[np.ndarray]):
    """Arrays in the places of the leaves of `tree`."""
    leaves, treedef = jax.tree.flatten(tree)
    if [(x.shape, x.dtype) for x in arrays] != [(x.shape, x.dtype) for x in _arrays(tree)]:
        raise ValueError("its arrays are not those of this state")
    made = [
        jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else jnp.asarray(new)
        for old, new in zip(leaves, arrays, strict=True)
    ]
    return jax.tree.unflatten(treedef, made)


def _count(arrays: dict, prefix: str) -> int:
    return sum(name.startswith(prefix) for name in arrays)


def _is_key(x) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def differences(then: Any, now: Any, name: str = "") -> list[str]:
    """In words, what differs between two nested dicts."""
    if isinstance(then, dict) and isinstance(now, dict) and then.get("type") == now.get("type"):
        names = dict.fromkeys([*then, *now])
        each = (differences(then.get(key), now.get(key), f"{name}.{key}" if name else key) for key in names)
        return [difference for of_one in each for difference in of_one]
    return [] if then == now else [f"{name} is {_short(then)} there and {_short(now)} here"]


def _short(value: Any) -> str:
    return value["type"] if isinstance(value, dict) and "type" in value else repr(value)
