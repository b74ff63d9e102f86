"""An explorer of the rule: f is drawn by hand, or taken from elsewhere and bent (notebook 03).

The drawn rule is a table of 41 rates. The pencil replaces those that it passes; a handle lifts those around it, less
the further away they are, so that what was drawn between two handles keeps its shape.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ipywidgets
import jax
import numpy as np

import lateral
from lateral import plotting
from lateral.presets import MAX_RATE
from lateral.widgets.base import Picture
from lateral.widgets.controls import choice, seed_field
from lateral.widgets.explorers import (
    RowExplorer,
    describe,
    draw_outcome,
    fates_table,
    numbers_of,
    score,
    simulate,
    tabulated,
    tissue_controls,
)
from lateral.widgets.pencil import Pencil

__all__ = ["RuleExplorer"]


class RuleExplorer(RowExplorer):
    """Draw f with the mouse or by its handles, or take a rule and bend it (notebook 03).

    Attributes:
        pencil: the curve that can be drawn over; see `lateral.widgets.pencil.Pencil`.
        points: the handles, vertical sliders of f at s̄ = 0, 0.1, ..., 1.

    Args:
        rules: more rules to start from, by name: `{"evolved": run.regulatory_function}`.
        start_from: the rule that is shown first.
        **start: initial values of the controls of the tissue, see `DynamicsExplorer`.
    """

    PLAIN_AXES = True
    N_POINTS = 11
    N_DRAWN = 41
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
        self._setting, self._drawn = False, np.zeros(self.N_DRAWN)
        layout = {"width": "32px", "height": "172px", "margin": "0"}
        self.points = [
            ipywidgets.FloatSlider(
                value=0.0, min=-MAX_RATE, max=MAX_RATE, step=0.1, orientation="vertical", layout=layout,
                description=f"{s:.1f}", readout_format=".1f", continuous_update=False,
            )
            for s in np.linspace(0.0, 1.0, self.N_POINTS)
        ]  # fmt: skip
        target = np.asarray(lateral.TanhInhibition()(self._places)).tolist()
        self.pencil = Pencil(
            bound=MAX_RATE, reference=target, reference_name="tanh target",
            layout={"flex": "1 1 220px", "min_width": "0"},
        )  # fmt: skip
        keep_odd = ipywidgets.Checkbox(value=True, description="draw odd: f(1 - s̄) = -f(s̄)", indent=False)
        super().__init__(
            self._picture,
            **tissue_controls(type(self).__name__, ("start_from", "seed"), start),
            start_from=choice(names, start_from, label="rule"),
            keep_odd=keep_odd,
            seed=seed_field(seed),
        )
        handles = ipywidgets.HBox(self.points, layout={"flex": "0 0 auto"}).add_class("lateral-handles")
        page, controls, *others = self.children
        self.children = (page, controls, ipywidgets.HBox([self.pencil, handles]), *others)
        self.pencil.observe(self._pencilled, names="values")
        keep_odd.observe(lambda change: setattr(self.pencil, "odd", change["new"]), names="value")
        for number, point in enumerate(self.points):
            point.observe(partial(self._bend, number), names="value")

    @property
    def _places(self):
        return np.linspace(0.0, 1.0, self.N_DRAWN)

    def _pencilled(self, change) -> None:
        with self._lock:
            if not self._setting:
                self._take(np.array(change["new"]))

    def _bend(self, number: int, change) -> None:
        """A handle was moved."""
        with self._lock:
            if self._setting:
                return
            per_handle = (self.N_DRAWN - 1) // (self.N_POINTS - 1)
            at = number * per_handle
            share = np.maximum(0.0, 1.0 - np.abs(np.arange(self.N_DRAWN) - at) / per_handle)
            rates = self._drawn + share * (change["new"] - self._drawn[at])
            if self.controls["keep_odd"].value:  # the half that was bent stays, the other follows
                half = self.N_DRAWN // 2
                rates[half] = 0.0
                if at < half:
                    rates[half + 1 :] = -rates[:half][::-1]
                else:
                    rates[:half] = -rates[half + 1 :][::-1]
            self._take(rates)

    def _take(self, rates) -> None:
        """From now on the rule is the drawn one."""
        self._drawn = np.clip(rates, -MAX_RATE, MAX_RATE)
        if self.controls["start_from"].value == self.DRAWN:
            self._answer()
        else:
            self.controls["start_from"].value = self.DRAWN  # draws

    def _show_rates(self) -> None:
        """Pencil and handles stand where the rule is."""
        self._setting = True
        try:
            self.pencil.values = self._drawn.tolist()
            for point, rate in zip(self.points, self._drawn[:: self.N_DRAWN // (self.N_POINTS - 1)], strict=True):
                point.value = float(rate)
        finally:
            self._setting = False

    def _rule(self, name: str, seed: int) -> Callable:
        if name == self.DRAWN:
            return lateral.tabulate(lateral.Table(self._drawn.astype(np.float32)))
        if name in self.RANDOM:
            return _random_rule(self.RANDOM[name], jax.random.key(seed))
        return self.rules[name]

    def _picture(self, *, start_from, keep_odd, **tissue) -> Picture:
        if start_from == self.DRAWN and keep_odd:
            self._drawn = (self._drawn - self._drawn[::-1]) / 2  # changes nothing where it is odd
        rule = self._rule(start_from, tissue["seed"])
        if start_from != self.DRAWN:
            self._drawn = np.clip(np.asarray(rule(self._places), float), -MAX_RATE, MAX_RATE)
        self._show_rates()
        states = simulate(rule, **tissue)
        figure, (left, *others) = self._empty_figure()
        fates = lateral.apply_threshold(states[:, -1])
        estimate = score(fates, tissue["boundary"])
        draw_outcome(fates, estimate, *others)
        functions = {start_from: rule, "tanh target": lateral.TanhInhibition()}
        plotting.plot_regulatory_functions(functions, "The rule", ax=left)
        neighbour_means = np.linspace(0.0, 1.0, 401)
        curve = {"neighbour_mean": neighbour_means, "rate": np.asarray(rule(neighbour_means))}
        limit = 1.1 * max(MAX_RATE, float(np.abs(curve["rate"]).max()))  # only a rule of the user's own may be faster
        left.set_ylim(-limit, limit)
        return Picture(figure, describe(estimate), numbers_of(estimate), {"rule": curve, "fates": fates_table(fates)})


@jax.jit
def _random_rule(network, key) -> lateral.Table:
    return lateral.tabulate(lateral.RegulatoryFunction(network, network.init(key)))
