"""Run files of earlier versions, brought up to this one.

Version 3 knew nothing of the machine, of evaluations and of trainings that go on. Version 2 kept the settings of the
model in one flat list, with the ends of a row by name, called every training by gradient "backprop", and recorded the
objective of an evolved population as a utility.
"""

from typing import Any

__all__ = ["CHECKSUM_SINCE", "OLDEST", "VERSION", "migrated"]

OLDEST, VERSION, CHECKSUM_SINCE = 2, 4, 4
METHODS_BY_ESTIMATOR = {"Pathwise": "backprop", "Score": "score", "FiniteDifferences": "finite-differences",
                        "Combination": "combination"}  # fmt: skip
PARTS = {
    "Tissue": ("n_steps", "dt", "noise_strength", "start"),
    "Readout": ("threshold", "relaxation", "soft_bandwidth", "soft_width"),
    "Numerics": ("n_knots", "rounds", "recompute_every"),
}
OTHERS_OF_MODEL = ("n_replicates", "objective", "n_cells", "boundary", "edge_value")
SINCE_FOUR = {"platform": {}, "finished": True, "identity": {}, "evaluation": None, "progress": None}


def migrated(header: dict[str, Any], history: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and history of a file of any version that is known, as the present one writes them.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: if they are not what that version wrote.
    """
    if header["version"] == 2:
        header, history = _from_two(header, history)
    if header["version"] == 3:
        if known := header.keys() & SINCE_FOUR.keys():
            raise ValueError(f"{min(known)!r} is unknown to version 3")
        header = header | SINCE_FOUR | {"version": 4}
    return header, history


def _from_two(header: dict[str, Any], history: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    of_two = header["model"]
    if wrong := of_two.keys() ^ {*OTHERS_OF_MODEL, *(name for names in PARTS.values() for name in names)}:
        raise ValueError(f"the setting {min(wrong)!r} of the model is unknown or missing")
    parts = {kind: {"type": kind} | {name: of_two[name] for name in names} for kind, names in PARTS.items()}
    parts["Tissue"]["geometry"] = _geometry(of_two)
    model = {"type": "Model", "network": _network(header["network"]), "tissue": parts["Tissue"]}
    model |= {"readout": parts["Readout"], "numerics": parts["Numerics"] | {"engine": "table"}}
    model |= {name: of_two[name] for name in ("n_replicates", "objective")}
    method = header["method"]
    if method == "evolution":
        history = _history_of_evolution(history, of_two["objective"])
    elif method == "backprop":
        method = _method(header["settings"])
    kept = {name: value for name, value in header.items() if name != "network"}
    return {"initial_params": None} | kept | {"version": 3, "model": model, "method": method}, history


def _geometry(of_two: dict[str, Any]) -> dict[str, Any]:
    kind = {"free": "Row", "ring": "Ring", "pinned": "Pinned"}[of_two["boundary"]]
    ghosts = {"left": of_two["edge_value"], "right": of_two["edge_value"]} if kind == "Pinned" else {}
    return {"type": kind, "n_cells": of_two["n_cells"]} | ghosts


def _network(of_two: dict[str, Any]) -> dict[str, Any]:
    return {"own": of_two["type"], "settings": of_two["type"]} if "." in of_two["type"] else of_two


def _method(settings: dict[str, Any]) -> str:
    if "method" in settings:  # of a session, by the name of its estimator
        return "backprop" if settings["method"] == "pathwise" else settings["method"]
    return METHODS_BY_ESTIMATOR.get(settings.get("gradient", {}).get("estimator"), "backprop")


def _history_of_evolution(history: dict[str, Any], objective: str) -> dict[str, Any]:
    """What was called a utility is the objective; for the objective of the ensemble it is both."""
    names = {"best_utility": "objective", "mean_utility": "mean_objective", "utility": "objective"}
    history = {names.get(name, name): values for name, values in history.items()}
    return history | ({"utility": history["objective"]} if objective == "ensemble" else {})
