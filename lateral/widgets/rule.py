"""An explorer of the rule: f is drawn by hand, or taken from elsewhere and bent (notebook 03)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ipywidgets
import jax
import numpy as np

import lateral
from lateral import plotting
from lateral.presets import MAX_RATE
from lateral.widgets.base import Explorer, Picture, choice, seed_field
from lateral.widgets.explorers import (
    describe,
    draw_outcome,
    fates_table,
    numbers_of,
    score,
    simulate,
    tabulated,
    tissue_controls,
)

__all__ = ["RuleExplorer"]


class RuleExplorer(Explorer):
    """Draw f by its values at a few points, or take a rule and bend it (notebook 03).

    Attributes:
        points: the vertical sliders of f at s̄ = 0, 0.1, ..., 1.

    Args:
        rules: more rules to start from, by name: `{"evolved": run.regulatory_function}`.
        start_from: the rule that is shown first.
        **start: initial values of the controls of the tissue, see `DynamicsExplorer`.
    """

    N_POINTS = 11
    DRAWN = "drawn by hand"
    RANDOM: Mapping[str, Any] = {
        "random perceptron": lateral.MLP(max_rate=MAX_RATE),
        "random bumps": lateral.RBFNetwork(max_rate=MAX_RATE),
    }

    def __init__(
        self,
        rules: Mapping[str, Callable] | None = None,
        *,
        start_from: str = "tanh target",
        seed: int = 0,
        **start,
    ):
        own = {"tanh target": lateral.TanhInhibition(), "dead band": lateral.DeadBand()}
        self.rules = tabulated(own) | (tabulated(rules) if rules else {})
        names = [*self.rules, *self.RANDOM, self.DRAWN]
        if start_from not in names:
            raise ValueError(f"start_from must be among {', '.join(names)}, got {start_from!r}")
        self._setting_points = False
        layout = {"width": "48px", "height": "150px", "margin": "0"}
        self.points = [
            ipywidgets.FloatSlider(
                value=0.0, min=-MAX_RATE, max=MAX_RATE, step=0.1, orientation="vertical", layout=layout,
                description=f"{s:.1f}", readout_format=".1f", continuous_update=False,
            )
            for s in self._places
        ]  # fmt: skip
        super().__init__(
            self._picture,
            sizes=("n_cells", "boundary"),
            **tissue_controls(type(self).__name__, ("start_from", "seed"), start),
            start_from=choice(names, start_from, label="rule"),
            keep_odd=ipywidgets.Checkbox(value=True, description="f(1 - s̄) = -f(s̄)", indent=True),
            seed=seed_field(seed),
        )
        label = ipywidgets.HTML("drag f: rate (1 / time) at neighbour mean s̄ =")
        row = ipywidgets.HBox(self.points, layout={"flex_flow": "row wrap"})
        self.children = (self.children[0], label, row, *self.children[1:])
        for number, point in enumerate(self.points):
            point.observe(partial(self._bend, number), names="value")

    @property
    def _places(self):
        return np.linspace(0.0, 1.0, self.N_POINTS)

    def _bend(self, number: int, change) -> None:
        """A point was moved: from now on the rule is the drawn one."""
        with self._lock:
            if self._setting_points:
                return
            if self.controls["keep_odd"].value:
                mirrored = self.N_POINTS - 1 - number
                values = [point.value for point in self.points]
                values[mirrored] = -change["new"] if mirrored != number else 0.0
                self._set_points(values)
            if self.controls["start_from"].value == self.DRAWN:
                self._answer()
            else:
                self.controls["start_from"].value = self.DRAWN  # draws

    def _set_points(self, values) -> None:
        self._setting_points = True
        try:
            for point, value in zip(self.points, values, strict=True):
                point.value = float(np.clip(value, point.min, point.max))
        finally:
            self._setting_points = False

    def _rule(self, name: str, seed: int) -> Callable:
        if name == self.DRAWN:
            return lateral.tabulate(lateral.Table(np.array([point.value for point in self.points], np.float32)))
        if name in self.RANDOM:
            return _random_rule(self.RANDOM[name], jax.random.key(seed))
        return self.rules[name]

    def _picture(self, *, start_from, keep_odd, **tissue) -> Picture:
        rule = self._rule(start_from, tissue["seed"])
        if start_from != self.DRAWN:
            self._set_points(np.asarray(rule(self._places)))
        states = simulate(rule, **tissue)
        fates = lateral.apply_threshold(states[:, -1])
        estimate = score(fates, tissue["boundary"])
        figure, left = draw_outcome(fates, estimate)
        functions = {start_from: rule, "tanh target": lateral.TanhInhibition()}
        plotting.plot_regulatory_functions(functions, "The rule", ax=left)
        left.plot(self._places, [point.value for point in self.points], "o", ms=5, color=plotting.COLOURS[0])
        neighbour_means = np.linspace(0.0, 1.0, 401)
        curve = {"neighbour_mean": neighbour_means, "rate": np.asarray(rule(neighbour_means))}
        return Picture(figure, describe(estimate), numbers_of(estimate), {"rule": curve, "fates": fates_table(fates)})


@jax.jit
def _random_rule(network, key) -> lateral.Table:
    return lateral.tabulate(lateral.RegulatoryFunction(network, network.init(key)))
