"""What a run file holds, in words and as plain values."""

from typing import Any

import numpy as np

from lateral.fields import plain
from lateral.runs import Run

__all__ = ["as_dict", "in_words"]


def as_dict(run: Run) -> dict[str, Any]:
    """All of a run but its parameters, as plain values of JSON; of the history every number."""
    names = ("method", "finished", "seed", "model", "settings", "evaluation", "versions", "platform")
    history = {name: np.asarray(values).tolist() for name, values in run.history.items()}
    return {name: plain(getattr(run, name)) for name in names} | {"history": history}


def in_words(run: Run) -> str:
    """The same for reading: of the history first and last entry."""
    shown = as_dict(run)
    history = shown.pop("history")
    length = max((len(values) for values in history.values()), default=0)
    lines = [f"{run.method}, {'finished' if run.finished else 'not finished'}: {length} steps"]
    for title in ("evaluation", "model", "settings", "versions", "platform"):
        lines += ["", title, *_lines(shown[title] or {})]
    lines += ["", "history (first, last)"]
    lines += [f"  {name}: {_short(values[0])}, {_short(values[-1])}" for name, values in history.items() if values]
    return "\n".join([*lines[:1], f"seed {run.seed}", *lines[1:]])


def _lines(values: dict[str, Any], indent: str = "  ") -> list[str]:
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            kind = value.get("type", "")
            lines.append(f"{indent}{name}: {kind}".rstrip())
            lines += _lines({inner: x for inner, x in value.items() if inner != "type"}, indent + "  ")
        elif name != "type":
            lines.append(f"{indent}{name}: {_short(value)}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"({', '.join(map(_short, value))})"
    return str(value)
