"""Controls of the apps: a slider, a list to choose from, and the field of a seed."""

import math
import numbers
from collections.abc import Sequence

import ipywidgets

__all__ = ["MAX_SEED", "choice", "restrict", "seed_field", "slider"]

MAX_SEED = 999_999
LABEL = {"description_width": "138px"}


def slider(
    low: float,
    high: float,
    value: float,
    step: float | None = None,
    *,
    log: bool = False,
    label: str = "",
    name: str = "value",
):
    """A slider for a whole or a real number; `log=True` moves in powers of ten between `low` and `high`.

    It reports a new value when it is released, not on the way. An error calls the value by `name`.
    """
    common = {"continuous_update": False, "description": label, "style": LABEL}
    if not isinstance(value, numbers.Real) or not low <= value <= high:
        raise ValueError(f"{name} must be a number between {low} and {high}, got {value!r}")
    if log:
        if low <= 0:
            raise ValueError(f"a logarithmic slider needs low > 0, got {low}")
        exponents = {"min": math.log10(low), "max": math.log10(high), "step": step or 0.25}
        return ipywidgets.FloatLogSlider(value=value, base=10, readout_format=".2g", **exponents, **common)
    if all(isinstance(number, numbers.Integral) for number in (low, high, value)):
        return ipywidgets.IntSlider(value=int(value), min=low, max=high, step=step or 1, **common)
    step = step or (high - low) / 20
    return ipywidgets.FloatSlider(value=value, min=low, max=high, step=step, readout_format=".3g", **common)


def restrict(control: ipywidgets.IntSlider, low: int, step: int = 1) -> None:
    """Let a slider of whole numbers start at `low` and go in steps; a value between goes up to the next."""
    value = max(low, control.value)
    control.value = min(value + (low - value) % step, control.max)
    control.min, control.step = low, step


def choice(options: Sequence, value=None, *, label: str = "", name: str = "value"):
    """A list to choose from, of values or of pairs (name, value). An error calls the value by `name`."""
    values = [option[1] if isinstance(option, tuple) else option for option in options]
    value = values[0] if value is None else value
    if value not in values:
        raise ValueError(f"{name} must be among {', '.join(map(str, values))}, got {value!r}")
    return ipywidgets.Dropdown(options=options, value=value, description=label, style=LABEL)


def seed_field(value: int = 0):
    """A field for the seed of all random numbers, from 0 to 999,999."""
    if not isinstance(value, numbers.Integral) or not 0 <= value <= MAX_SEED:
        raise ValueError(f"seed must be a whole number from 0 to {MAX_SEED:,}, got {value!r}")
    return ipywidgets.BoundedIntText(value=value, min=0, max=MAX_SEED, description="seed", style=LABEL)
