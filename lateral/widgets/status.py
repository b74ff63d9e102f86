"""What the studio says beside its buttons."""

from collections.abc import Mapping, Sequence
from typing import Any

from lateral.widgets.canvas import name_of_score
from lateral.widgets.job import N_FRESH

__all__ = ["status_line"]

FIRST = {
    "best": "the best of some random networks",
    "poor": "the network that is shown, which does next to nothing",
}


def status_line(state: str, last: Mapping[str, Any], unit: str | None, start_from: str, moved: Sequence[str]) -> str:
    """A line of HTML.

    Args:
        state: of the studio.
        last: its numbers.
        unit: what its run counts, "epoch" or "generation"; None before the first.
        start_from: the start that is chosen.
        moved: names of the controls that were moved and that the run knows nothing of.
    """
    words = {
        "ready": f"ready: Start trains from {FIRST[start_from]}",
        "compiling": "<i>compiling, once, about 10 s …</i>",
    }
    parts = [words.get(state, state)]
    if "epoch" in last and state != "ready":
        parts.append(
            f"{unit} {last['epoch']}, {name_of_score(unit)} = {last['utility']:.3f} on its own "
            f"replicates, alternation {last['alternation']:.2f}: {last['found']}"
        )
    if "fresh_utility" in last:
        parts.append(
            f"<b>U = {last['fresh_utility']:.3f} ± {last['fresh_utility_se']:.3f}</b> on {N_FRESH:,} "
            f"fresh replicates at noise {last['fresh_noise_strength']:g}, {last['fresh_utility_refined']:.3f} at dt/4"
        )
    if "start_noise_utility" in last:
        utility, noise = last["start_noise_utility"], last["start_noise_strength"]
        parts.append(f"{utility:.3f} at the noise of the start, {noise:g}")
    if moved:
        parts.append(f"<i>{', '.join(moved)}: from the next Start on</i>")
    return "; ".join(parts)
