"""What a notebook says about its findings, whatever its reader has changed.

A theorem holds at any setting, and a notebook asserts it. A finding belongs to the settings at which it was made: away
from them it may be false, which is no error but something to see. `check` prints whether it holds.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import ArrayLike

__all__ = ["check"]


def check(expectation: str, holds: ArrayLike, value: object = None) -> None:
    """Print whether an expectation holds, and the value that it rests on. It raises nothing, whatever the answer.

        ✓ more than half of the rows alternate perfectly: 0.634
        ✗ more than half of the rows alternate perfectly: expected at the default settings; here 0.211

    Args:
        expectation: a sentence that is true at the default settings.
        holds: one truth value, or an array of them, all of which must be true.
        value: a number, an array, a text or a dict of those; numbers are shown with three significant digits.
    """
    shown = "" if value is None else _text(value)
    if np.all(holds):
        print(f"✓ {expectation}" + (shown and f": {shown}"))
    else:
        print(f"✗ {expectation}: expected at the default settings" + (shown and f"; here {shown}"))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(entry)}" for name, entry in value.items())
    array = np.asarray(value)
    if array.ndim:
        return ", ".join(_text(entry) for entry in array)
    if array.dtype.kind in "iub":
        return f"{array.item():,}" if array.dtype.kind != "b" else str(array.item())
    return f"{float(array):,.0f}" if 1000.0 <= abs(array) < 1e9 else f"{float(array):.3g}"
