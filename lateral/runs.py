"""Training runs and their files: one `.npz` with a JSON header, versioned, without pickle.

`save_run` writes a file beside its destination and moves it there when it is complete, so that an interruption leaves
the old file or the new one, never half of one. Loading executes nothing that the file brings along, fills nothing in
from the defaults of today, and gives the rule that was saved or says what is wrong.
"""

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lateral.checks import check_kind
from lateral.fields import plain
from lateral.model import Model
from lateral.network import RegulatoryFunction
from lateral.storage.archive import complete, read_archive, storable, write_archive
from lateral.storage.description import check_own, decode, describe, encode, rebuild
from lateral.storage.machine import this_platform
from lateral.storage.migration import CHECKSUM_SINCE, OLDEST, VERSION, migrated
from lateral.storage.parameters import check_storable, drawn_shapes, put_together, take_apart

__all__ = ["Progress", "Run", "check_storable", "load_progress", "load_run", "save_run"]

_FORMAT = "lateral-run"
# Of a header, what each field is.
_FIELDS = {
    "format": (str,),
    "version": (int,),
    "method": (str,),
    "seed": (int, type(None)),
    "settings": (dict,),
    "versions": (dict,),
    "platform": (dict,),
    "finished": (bool,),
    "identity": (dict,),
    "evaluation": (dict, type(None)),
    "model": (dict,),
    "params": (dict, int, type(None)),
    "initial_params": (dict, int, type(None)),
    "progress": (dict, type(None)),
}


def _versions() -> dict[str, str]:
    packages = ("lateral", "jax", "jaxlib", "numpy", "optax")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


@dataclass(frozen=True)
class Run:
    """A training run: what was trained, how, and what came out.

    Attributes:
        method: `"evolution"`, `"backprop"` (gradients through the dynamics), `"score"` (noise weighed by outcome),
            `"finite-differences"`, `"combination"`, or a user's own name.
        params: the trained parameters, a pytree of arrays; to be saved they are in dicts, lists and tuples, or in
            whatever containers `model.network.init` draws them.
        model: the `Model` that was trained.
        history: one array for each quantity recorded, one entry for each epoch or generation.
        settings: settings of the training itself (epochs, learning rate, ...), plain JSON values.
        seed: the seed of the run's key, if it was made from one.
        versions: of the packages that the run was made with.
        initial_params: the parameters that training started from.
        evaluation: plain numbers measured on fresh replicates, by name; None where none were.
        platform: what the run was made on: `machine`, `processor`, its vector instructions (`features`), `system`, the
            `backend` and `device` of JAX, and `precision`, `"float32"` or `"float64"`; empty for files of version 3.
        finished: False for a training that was interrupted and can go on.
        identity: what a training compares before it takes up a checkpoint, plain JSON values.
    """

    method: str
    params: Any
    model: Model
    history: dict[str, np.ndarray] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int | np.integer | None = None
    versions: dict[str, str] = field(default_factory=_versions)
    initial_params: Any = None
    evaluation: dict[str, Any] | None = None
    platform: dict[str, str] = field(default_factory=this_platform)
    finished: bool = True
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def regulatory_function(self) -> RegulatoryFunction:
        """The complete f, all scaling and bounds included: arrays of any shape in, rates of that shape out."""
        return RegulatoryFunction(self.model.network, self.params)

    @property
    def initial_regulatory_function(self) -> RegulatoryFunction | None:
        """The same before training, None where the run does not know."""
        return None if self.initial_params is None else RegulatoryFunction(self.model.network, self.initial_params)

    def __repr__(self):
        n_steps = max((len(values) for values in self.history.values()), default=0)
        seed = "" if self.seed is None else f", seed {self.seed}"
        unfinished = "" if self.finished else ", not finished"
        if self.evaluation is None:
            found = "not yet: lateral.evaluate(run.regulatory_function, run.model, key=key)"
        else:
            names = ("utility", "utility_se", "alternation")
            found = ", ".join(f"{name} {self.evaluation[name]:.3g}" for name in names if name in self.evaluation)
            found += ", utility a lower bound" if self.evaluation.get("lower_bound") else ""
        return (
            f"Run by {self.method!r}{seed}, {n_steps} epochs or generations{unfinished}\n"
            f"  rule       run.regulatory_function: {self.regulatory_function!r}\n"
            f"  training   run.history: {', '.join(self.history) or 'nothing'}\n"
            f"  evaluated  {found}\n"
            f"  to keep it lateral.save_run(path, run); to see it lateral.plotting.plot_run(run, key=key)"
        )


class Progress(NamedTuple):
    """What a checkpoint holds besides a run.

    Attributes:
        identity, finished: those of the run.
        made_with: its versions and its platform.
        facts: JSON values, None for a run that was saved without progress.
        arrays: arrays by name.
    """

    identity: dict[str, Any]
    finished: bool
    made_with: dict[str, dict[str, str]]
    facts: dict[str, Any] | None
    arrays: dict[str, np.ndarray]

    def __repr__(self):
        return f"Progress(finished={self.finished}, arrays: {', '.join(self.arrays) or 'none'})"


def save_run(path: str | os.PathLike, run: Run, progress: tuple[dict, dict[str, Any]] | None = None) -> Path:
    """Write a run to one file, completely or not at all, and return its path.

    Args:
        path: the file; a link is followed, a file that is there is replaced and keeps its mode.
        run: what is saved.
        progress: of a training that will go on, JSON values and arrays by name; see `load_progress`.

    Raises:
        ValueError: before anything is written, if `run` is not a `Run`, or holds what a file cannot keep: parameters
            that are not finite, or in containers other than dict, list and tuple which `network.init` does not make,
            a history of unequal lengths, objects in place of numbers.
        OSError: if the file cannot be written.
    """
    if not isinstance(run, Run):
        raise ValueError(f"run must be a lateral.Run, got {type(run).__name__}")
    leaves: list[np.ndarray] = []
    facts, arrays_of_progress = (None, {}) if progress is None else progress
    drawn = drawn_shapes(run.model.network)
    header = {
        "format": _FORMAT,
        "version": VERSION,
        "method": run.method,
        "seed": plain(run.seed),
        "settings": encode(run.settings, "settings"),
        "versions": run.versions,
        "platform": run.platform,
        "finished": run.finished,
        "identity": encode(run.identity, "identity"),
        "evaluation": encode(run.evaluation, "evaluation"),
        "model": encode(describe(run.model), "model"),
        "params": take_apart(run.params, drawn, leaves),
        "initial_params": None if run.initial_params is None else take_apart(run.initial_params, drawn, leaves),
        "progress": encode(facts, "progress"),
    }
    _check_header(header)
    history = {name: storable(f"history[{name!r}]", values) for name, values in run.history.items()}
    _check_history(history)
    arrays = {f"param_{i}": leaf for i, leaf in enumerate(leaves)}
    arrays |= {f"history_{name}": values for name, values in history.items()}
    arrays |= {f"progress_{name}": values for name, values in arrays_of_progress.items()}
    write_archive(path, header, arrays)
    return Path(path)


def load_run(path: str | os.PathLike, network: Any = None, **own: Any) -> Run:
    """Read a run that `save_run` wrote, of this version or an earlier one.

    Args:
        path: the file.
        network: the network of a run that was trained with the user's own; ours is rebuilt from the file.
        **own: likewise `geometry`, `objective`, `relaxation` or `engine` of the user's own.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it cannot be read.
        ValueError: if it is not a run, is damaged, comes from a newer version, or needs `network` or another object.
    """
    path = Path(path)
    header, history, arrays = _read(path)
    own = {"network": network} | own
    with complete(path):
        described = decode(header["model"])
    check_own(described, own, path)
    with complete(path):
        model = check_kind("model", rebuild(described, "model", own), Model)
        drawn = drawn_shapes(model.network)
        given = own["network"] is not None
        said = (
            f"{path} was trained with another network than the given one, whose parameters" if given else "parameters"
        )
        progress = _taken(arrays, "progress_")
        initial = header["initial_params"]
        run = Run(
            method=header["method"],
            params=put_together(header["params"], drawn, arrays, said),
            model=model,
            history=history,
            settings=decode(header["settings"]),
            seed=header["seed"],
            versions=header["versions"],
            initial_params=None if initial is None else put_together(initial, drawn, arrays, said),
            evaluation=decode(header["evaluation"]),
            platform=header["platform"],
            finished=header["finished"],
            identity=decode(header["identity"]),
        )
        if arrays or (header["progress"] is None and progress):
            raise ValueError(f"it holds {min([*arrays, *progress])!r}, which belongs to nothing")
    return run


def load_progress(path: str | os.PathLike) -> Progress:
    """How far a training had come, as `save_run` was given it; the run itself is not built.

    Raises:
        ValueError, OSError: as `load_run`.
    """
    path = Path(path)
    header, _, arrays = _read(path)
    with complete(path):
        facts = {"versions": header["versions"], "platform": header["platform"]}
        progress = None if header["progress"] is None else decode(header["progress"])
        return Progress(decode(header["identity"]), header["finished"], facts, progress, _taken(arrays, "progress_"))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Header and history as the present version writes them, and all other arrays."""
    header, arrays = read_archive(path, lambda header: _version(header, path) >= CHECKSUM_SINCE)
    with complete(path):
        _version(header, path)
        history = _taken(arrays, "history_")
        header, history = migrated(header, history)
        _check_header(header)
        _check_history(history)
    return header, history, arrays


def _taken(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, without it; they are no longer in `arrays`."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays.pop(name) for name in names}


def _version(header: dict[str, Any], path: Path) -> int:
    version = header.get("version")
    if header.get("format") != _FORMAT:
        raise ValueError("it does not say that it is one")
    if type(version) is not int or version < OLDEST:
        raise ValueError(f"its version must be a whole number from {OLDEST} to {VERSION}, got {version!r:.80}")
    if version > VERSION:
        raise ValueError(f"{path} has format version {version}, this lateral reads up to {VERSION}: update it")
    return version


def _check_header(header: dict[str, Any]) -> None:
    if missing := _FIELDS.keys() - header.keys():
        raise ValueError(f"it lacks {min(missing)!r}")
    if unknown := header.keys() - _FIELDS.keys():
        raise ValueError(f"it has an unknown field {min(unknown)!r}")
    for name, kinds in _FIELDS.items():
        if type(header[name]) not in kinds:
            expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ValueError(f"{name} must be {expected}, got {header[name]!r:.80}")
    for name in ("versions", "platform"):
        if not all(isinstance(text, str) for text in [*header[name], *header[name].values()]):
            raise ValueError(f"{name} must hold strings, got {header[name]!r:.80}")


def _check_history(history: dict[str, np.ndarray]) -> None:
    shapes = {name: values.shape for name, values in history.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise ValueError(f"history must hold arrays of one dimension and of the same length, got {shapes!r:.200}")
