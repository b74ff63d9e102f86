"""Settings as JSON, and settings from JSON: with their class and all of their fields, so that no default decides.

Only the classes listed here are built. An object of a user's own is named, with its settings where it has any, and
asked for when the file is loaded.
"""

import dataclasses
import math
from typing import Any

import numpy as np

import lateral.graph
import lateral.sheet  # noqa: F401 # both list themselves in GEOMETRIES
from lateral.engine import Numerics
from lateral.fields import plain
from lateral.geometry import GEOMETRIES
from lateral.model import Model
from lateral.network import MLP, RBFNetwork
from lateral.objective import OBJECTIVES
from lateral.readout import Readout
from lateral.step_network import StepNetwork
from lateral.tissue import Tissue

__all__ = ["check_own", "decode", "describe", "encode", "own_parts", "rebuild"]

OURS = (MLP, RBFNetwork, StepNetwork, *GEOMETRIES.values(), Tissue, Readout, Numerics, Model)
KINDS = {kind.__name__: kind for kind in OURS}
# What older files do not say: there was no choice, or it takes no part in a simulation.
NOT_SAID = {
    "Graph": dict.fromkeys(("positions", "names", "areas", "outlines")),
    "Readout": {"thresholds": None, "classifier": None},
    "Model": {"patterns": "auto"},
    "StepNetwork": {"highest": 8.0},
}
MAY_BE_OWN = ("network", "geometry", "objective", "relaxation", "classifier", "engine")


def describe(value: Any) -> Any:
    """Settings as a dict with their type, plain values as they are, and anything else by its name."""
    for name, objective in OBJECTIVES.items():
        if type(value) is type(objective) and value == objective:
            return name
    if type(value) in KINDS.values():
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__} | fields
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return [describe(entry) for entry in value]
    described = plain(value)
    by_name = isinstance(described, str) and not isinstance(value, str)
    if by_name or isinstance(described, dict):
        return {"own": f"{type(value).__module__}.{type(value).__qualname__}", "settings": described}
    return described


def rebuild(described: Any, name: str, own: dict[str, Any]) -> Any:
    """What `describe` described, with the user's own objects in their places.

    Raises:
        ValueError, KeyError, TypeError: if it is not such a description, or a class refuses a value.
    """
    if own.get(name) is not None:
        return own[name]
    if isinstance(described, list):
        return tuple(rebuild(entry, "", own) for entry in described)
    if not isinstance(described, dict):
        return described
    kind = KINDS.get(described["type"])
    if kind is None:
        raise ValueError(f"the type {described['type']!r:.80} is unknown")
    described = NOT_SAID.get(kind.__name__, {}) | described
    _check_names(described, {"type", *(f.name for f in dataclasses.fields(kind))}, kind.__name__)
    return kind(**{name: rebuild(value, name, own) for name, value in described.items() if name != "type"})


def own_parts(model: Model) -> dict[str, Any]:
    """The objects of a model that are a user's own, by the name under which `load_run` asks for them."""
    parts = {name: getattr(model, name) for name in MAY_BE_OWN}
    return {name: part for name, part in parts.items() if "own" in (describe(part) or ())}


def check_own(described: Any, own: dict[str, Any], path: Any, name: str = "") -> None:
    """That each object of a user's own is given, and is the one that the file was made with.

    Raises:
        ValueError: which, and what to do.
        TypeError: for an object that no model has a place for.
    """
    if unknown := own.keys() - set(MAY_BE_OWN):
        raise TypeError(f"load_run takes {', '.join(MAY_BE_OWN)}, not {min(unknown)!r}")
    if not isinstance(described, dict):
        return
    if own.get(name) is not None:
        given, was = plain(own[name]), described.get("settings")
        if isinstance(was, dict) and given != was:  # a class that only moved to another module is the same
            raise ValueError(f"{path} was trained with {name} {was}, got {given}")
    elif name in MAY_BE_OWN and described.keys() == {"own", "settings"}:
        raise ValueError(f"{path} was trained with {described['own']}: pass it as {name}=...")
    else:
        for inner, value in described.items():
            check_own(value, own, path, inner)


def encode(value: Any, name: str) -> Any:
    """Settings and numbers of any kind as strict JSON, which has no infinity: that is `{"float": "inf"}`.

    Raises:
        ValueError: for what JSON has no word for, with its `name`.
    """
    return _strict(plain(value), name)


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, list):
        return [decode(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return float(value["float"]) if value.keys() == {"float"} else {key: decode(x) for key, x in value.items()}


def _strict(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        if unnamed := [key for key in value if not isinstance(key, str)]:
            raise ValueError(f"{name} must have names that are strings, got {unnamed[0]!r}")
        return {key: _strict(entry, f"{name}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, list):
        return [_strict(entry, name) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if value is None or isinstance(value, (str, int)):
        return value
    raise ValueError(f"{name} holds a {type(value).__name__}, which no file can keep")


def _check_names(described: dict[str, Any], names: set[str], of: str) -> None:
    if missing := names - described.keys():
        raise ValueError(f"{of} lacks {min(missing)!r}")
    if unknown := described.keys() - names:
        raise ValueError(f"{of} has an unknown field {min(unknown)!r}")
