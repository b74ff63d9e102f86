"""Training runs and their files: one `.npz` with a JSON header, versioned, without pickle.

A file is written beside its destination and moved there when it is complete, so that an interruption leaves the
old file or the new one, never half of one. Loading executes nothing that the file brings along.
"""

import dataclasses
import json
import os
import platform
import zipfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from lateral.engine import Numerics
from lateral.fields import plain
from lateral.files import whole_file
from lateral.geometry import GEOMETRIES
from lateral.migration import migrated
from lateral.model import Model
from lateral.network import MLP, RBFNetwork, RegulatoryFunction
from lateral.objective import OBJECTIVES
from lateral.readout import Readout
from lateral.tissue import Tissue

__all__ = ["Run", "load_run", "save_run"]

_FORMAT = "lateral-run"
_VERSION = 3
# What can be written and rebuilt; everything else is named, and asked for when the file is loaded.
_KINDS = {kind.__name__: kind for kind in (MLP, RBFNetwork, *GEOMETRIES.values(), Tissue, Readout, Numerics, Model)}


def _versions() -> dict[str, str]:
    packages = ("lateral", "jax", "jaxlib", "numpy", "optax")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


@dataclass(frozen=True)
class Run:
    """A training run: what was trained, how, and what came out.

    Attributes:
        method: `"evolution"`, `"backprop"` (gradients through the dynamics), `"score"` (noise weighed by outcome),
            `"finite-differences"`, `"combination"`, or a user's own name.
        params: the trained parameters, a pytree of arrays.
        model: the `Model` that was trained.
        history: one array for each quantity recorded, one entry for each epoch or generation.
        settings: settings of the training itself (epochs, learning rate, ...), plain JSON values.
        seed: the seed of the run's key, if it was made from one.
        versions: of the packages that the run was made with.
        initial_params: the parameters that training started from.
    """

    method: str
    params: Any
    model: Model
    history: dict[str, np.ndarray] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int | np.integer | None = None
    versions: dict[str, str] = field(default_factory=_versions)
    initial_params: Any = None

    @property
    def regulatory_function(self) -> RegulatoryFunction:
        """The complete f, all scaling and bounds included: arrays of any shape in, rates of that shape out."""
        return RegulatoryFunction(self.model.network, self.params)

    @property
    def initial_regulatory_function(self) -> RegulatoryFunction | None:
        """The same before training, None where the run does not know."""
        return None if self.initial_params is None else RegulatoryFunction(self.model.network, self.initial_params)


def save_run(path: str | os.PathLike, run: Run) -> Path:
    """Write a run to one file, completely or not at all, and return its path.

    Raises:
        ValueError: if `run` is not a `Run`, or holds parameters in containers other than dict, list and tuple.
        OSError: if the file cannot be written.
    """
    if not isinstance(run, Run):
        raise ValueError(f"run must be a lateral.Run, got {type(run).__name__}")
    path = Path(path)
    leaves: list[np.ndarray] = []
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "method": run.method,
        "seed": plain(run.seed),
        "settings": plain(run.settings),
        "versions": run.versions,
        "model": _describe(run.model),
        "params": _take_apart(run.params, leaves),
        "initial_params": _take_apart(run.initial_params, leaves),
    }
    arrays = {f"param_{i}": leaf for i, leaf in enumerate(leaves)}
    arrays |= {f"history_{name}": np.asarray(values) for name, values in run.history.items()}
    text = json.dumps(header, allow_nan=False)
    with whole_file(path) as file:
        np.savez(file, header=np.array(text), **arrays)
    return path


def load_run(path: str | os.PathLike, network: Any = None, **own: Any) -> Run:
    """Read a run that `save_run` wrote, of this version or an earlier one.

    Args:
        path: the file.
        network: the network of a run that was trained with the user's own; ours is rebuilt from the file.
        **own: likewise `geometry`, `objective`, `relaxation` or `engine` of the user's own.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a run, is damaged, comes from a newer version, or needs `network` or another object.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            contents = {name: file[name] for name in file.files}
        header = json.loads(str(contents["header"]))
        if header["format"] != _FORMAT:
            raise KeyError("format")
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a complete run file of lateral: {error}") from error
    if header["version"] > _VERSION:
        raise ValueError(
            f"{path} has format version {header['version']}, this lateral reads up to {_VERSION}: update it"
        )
    own = {"network": network} | own
    try:
        history = {name.removeprefix("history_"): x for name, x in contents.items() if name.startswith("history_")}
        if header["version"] < _VERSION:
            header, history = migrated(header, history)
        return Run(
            method=header["method"],
            params=_put_together(header["params"], contents),
            model=_rebuild(header["model"], "model", own, path),
            history=history,
            settings=header["settings"],
            seed=header["seed"],
            versions=header["versions"],
            initial_params=_put_together(header.get("initial_params"), contents),
        )
    except KeyError as error:
        raise ValueError(f"{path} is not a complete run file of lateral: it lacks {error}") from error


def _describe(value: Any) -> Any:
    """Settings as a dict with their type, plain values as they are, and anything else by its name."""
    for name, objective in OBJECTIVES.items():
        if type(value) is type(objective) and value == objective:
            return name
    if type(value) in _KINDS.values():
        fields = {f.name: _describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__} | fields
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return [_describe(entry) for entry in value]
    described = plain(value)
    by_name = isinstance(described, str) and not isinstance(value, str)
    if by_name or isinstance(described, dict):
        return {"own": f"{type(value).__module__}.{type(value).__qualname__}", "settings": described}
    return described


def _rebuild(described: Any, name: str, own: dict[str, Any], path: Path) -> Any:
    if own.get(name) is not None:
        given, was = plain(own[name]), described.get("settings") if isinstance(described, dict) else None
        if isinstance(was, dict) and given != was:  # a class that only moved to another module is the same
            raise ValueError(f"{path} was trained with {name} {was}, got {given}")
        return own[name]
    if isinstance(described, list):
        return tuple(_rebuild(entry, "", own, path) for entry in described)
    if not isinstance(described, dict):
        return described
    if "own" in described:
        raise ValueError(f"{path} was trained with {described['own']}: pass it as {name}=...")
    fields = {name: value for name, value in described.items() if name != "type"}
    return _KINDS[described["type"]](**{name: _rebuild(value, name, own, path) for name, value in fields.items()})


def _take_apart(tree, leaves: list):
    """The nesting of `tree` as JSON, with its arrays moved to `leaves`."""
    if isinstance(tree, dict):
        if not all(isinstance(name, str) for name in tree):
            raise ValueError("parameters in a dict need names that are strings")
        return {"dict": {name: _take_apart(value, leaves) for name, value in tree.items()}}
    if type(tree) in (list, tuple):
        return {type(tree).__name__: [_take_apart(value, leaves) for value in tree]}
    if tree is None:
        return None
    leaf = np.asarray(tree)
    if leaf.dtype.kind not in "biuf":
        raise ValueError(f"parameters must be dicts, lists and tuples of real arrays, got {type(tree).__name__}")
    leaves.append(leaf)
    return len(leaves) - 1


def _put_together(nesting, contents: dict):
    if nesting is None:
        return None
    if isinstance(nesting, int):
        return jnp.asarray(contents[f"param_{nesting}"])
    kind, values = next(iter(nesting.items()))
    if kind == "dict":
        return {name: _put_together(value, contents) for name, value in values.items()}
    return (tuple if kind == "tuple" else list)(_put_together(value, contents) for value in values)
