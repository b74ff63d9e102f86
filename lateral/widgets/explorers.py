"""Explorers of a tissue: one rule, two rules side by side, and what `rule` and `ensemble` share with them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import jax
import numpy as np

import lateral
from lateral import plotting
from lateral.checks import check_callable
from lateral.evaluation import what_was_found
from lateral.geometry import BOUNDARIES
from lateral.objective import EnsembleUtility, influence
from lateral.utility import UtilityEstimate
from lateral.widgets.base import Explorer, Picture
from lateral.widgets.clock import Clock
from lateral.widgets.controls import choice, restrict, seed_field, slider
from lateral.widgets.export import cell_columns

__all__ = [
    "RULES",
    "Comparison",
    "DynamicsExplorer",
    "RowExplorer",
    "describe",
    "draw_outcome",
    "fates_table",
    "numbers_of",
    "score",
    "simulate",
    "tabulated",
    "tissue_controls",
]

DT = 0.01
EVERY = 20  # steps between two columns of a space–time plot
MAX_DURATION = 20.0
N_REPLICATES = 500
RULES: Mapping[str, Callable] = {
    "tanh target": lateral.TanhInhibition(),
    "steep tanh": lateral.TanhInhibition(slope=20.0, amplitude=5.0),
    "dead band": lateral.DeadBand(),
}
TISSUE = {"noise_strength": 0.1, "n_cells": 7, "duration": 10.0, "boundary": "free"}


def tissue_controls(app: str, others: Sequence[str], start: Mapping[str, Any]) -> dict[str, ipywidgets.Widget]:
    """The controls that all explorers of a tissue share, in their order.

    Args:
        app: the name of the explorer, for errors.
        others: the names of its other settings.
        start: the initial values that were given.
    """
    if unknown := start.keys() - TISSUE.keys():
        raise ValueError(f"{app} has no setting {min(unknown)!r}: choose among {', '.join((*TISSUE, *others))}")
    value = TISSUE | dict(start)
    ends = [(f"{name} ends" if name != "ring" else name, name) for name in BOUNDARIES]
    return {
        "noise_strength": slider(0.0, 1.0, value["noise_strength"], 0.02, label="noise σ (state/√time)",
                                 name="noise_strength"),
        "n_cells": slider(2, 30, value["n_cells"], label="number of cells", name="n_cells"),
        "duration": slider(0.4, MAX_DURATION, value["duration"], 0.4, label="duration T (1 / rate)", name="duration"),
        "boundary": choice(ends, value["boundary"], label="ends of the row", name="boundary"),
    }  # fmt: skip


def simulate(rule: Callable, *, noise_strength, n_cells, duration, boundary, seed, n_replicates=N_REPLICATES):
    """The states of an ensemble from 0 to `duration` every 0.2, `(replicate, time, cell)`.

    It always simulates the longest duration and cuts, since another number of steps would compile again.
    """
    states = lateral.run_trajectories(
        rule, n_cells=n_cells, n_replicates=n_replicates, n_steps=round(MAX_DURATION / DT), dt=DT, every=EVERY,
        noise_strength=noise_strength, boundary=boundary, key=jax.random.key(seed),
    )  # fmt: skip
    return np.asarray(states)[:, : 1 + round(duration / (DT * EVERY))]


def score(fates, boundary: str = "free") -> UtilityEstimate:
    """The utility of an ensemble of fates, as plain numbers."""
    return jax.tree.map(lambda x: x.item(), lateral.estimate_utility(fates, boundary))


def describe(estimate: UtilityEstimate) -> str:
    """What an ensemble is worth, as a line for people."""
    if estimate.undersampled:  # coins would read as a pattern
        found = "too few tissues for so many patterns, U is only an upper bound"
    else:
        found = what_was_found(estimate.utility, estimate.alternation)
    return (
        f"U = {estimate.utility:.3f} ± {estimate.utility_se:.3f} bits per cell, alternation "
        f"{estimate.alternation:.2f}: {found}"
    )


def numbers_of(estimate: UtilityEstimate) -> dict[str, float]:
    """What `app.last` holds of an estimate."""
    names = ("utility", "utility_se", "s_pat", "s_rep", "alternation")
    return {name: getattr(estimate, name) for name in names}


def fates_table(fates) -> dict[str, Any]:
    """The columns of the table of the final fates."""
    return {"replicate": np.arange(len(fates))} | cell_columns(np.asarray(fates).astype(int))


def draw_outcome(fates, estimate: UtilityEstimate, middle, right) -> None:
    """The final fates and their score."""
    plotting.plot_fates(fates, "Final fates of 40", ax=middle)
    middle.get_legend().set_zorder(-1)  # beside the panel, always the same
    plotting.plot_scores({"U": estimate}, f"U = {estimate.utility:.2f}", fates.shape[1], ax=right)


def tabulated(rules: Mapping[str, Callable]) -> dict[str, lateral.Table]:
    """All rules as tables of the same size, so that one compilation serves all."""
    if not isinstance(rules, Mapping):
        raise ValueError(f'rules must be a dict of rules by name, such as {{"mine": f}}, got {type(rules).__name__}')
    if not rules:
        raise ValueError("rules must hold at least one rule")
    return {name: lateral.tabulate(check_callable(f"rules[{name!r}]", rule)) for name, rule in rules.items()}


def _space_time_table(states) -> dict[str, Any]:
    times = np.arange(len(states)) * DT * EVERY
    return {"time": times} | cell_columns(states)


class RowExplorer(Explorer):
    """An explorer of a row of cells; its controls are those of `tissue_controls` and more."""

    LAYOUT: Mapping[str, Any] = {
        "n_panels": 3,
        "width": 9.0,
        "height": 2.9,
        "width_ratios": (1.5, 1.0, 1.0),
    }  # `draw_outcome` fills two

    def __init__(self, draw: Callable, **controls):
        super().__init__(draw, sizes=("n_cells", "boundary"), **controls)

    def _limit(self) -> None:
        restrict(self.n_cells, 3 if self.boundary.value == "ring" else 2)


class DynamicsExplorer(RowExplorer):
    """A tissue under lateral inhibition `f = -strength tanh(steepness (s̄ - 1/2))`, or any other rule (notebook 01).

    The picture: one tissue over time, the final fates of 40, and U of 500 with its standard error. Above it, a clock
    that plays the tissue again.

    Attributes:
        time: the clock; `app.time.value = 2.0` shows the cells as they are then.

    Args:
        rule: a function of neighbour means that takes the place of the tanh and of its two sliders.
        **start: initial values of controls: `noise_strength`, `n_cells`, `duration`, `boundary`, `strength`,
            `steepness`, `seed`.
    """

    PLAIN_AXES = True

    def __init__(
        self,
        rule: Callable | None = None,
        *,
        strength: float | None = None,
        steepness: float | None = None,
        seed: int = 0,
        **start,
    ):
        controls = tissue_controls(type(self).__name__, ("strength", "steepness", "seed"), start)
        if rule is not None and (strength, steepness) != (None, None):
            raise ValueError("strength and steepness are those of the tanh: leave them out beside a rule")
        self._rule = None if rule is None else tabulated({"rule": rule})["rule"]
        if rule is None:
            strength, steepness = 1.0 if strength is None else strength, 5.0 if steepness is None else steepness
            controls |= {
                "strength": slider(0.0, 5.0, strength, 0.1, label="strength (1 / time)", name="strength"),
                "steepness": slider(0.5, 20.0, steepness, 0.5, label="steepness (1 / state)", name="steepness"),
            }
        self.time = Clock(dt=DT * EVERY)
        super().__init__(self._picture, **controls, seed=seed_field(seed))
        *above, picture, footer = self.children
        self.children = (*above, self.time, picture, footer)

    def _show(self, picture: Picture, png: bytes | None = None) -> None:
        super()._show(picture, png)
        self.time.show(self._states, self.figure.axes[0].get_position().bounds)

    def _picture(self, *, strength=None, steepness=None, **tissue) -> Picture:
        rule = lateral.TanhInhibition(slope=steepness, amplitude=strength) if self._rule is None else self._rule
        states = simulate(rule, **tissue)
        figure, (left, *others) = self._empty_figure()
        self._states = states[0]
        fates = lateral.apply_threshold(states[:, -1])
        estimate = score(fates, tissue["boundary"])
        draw_outcome(fates, estimate, *others)
        plotting.plot_space_time(states[0], DT * EVERY, "One tissue", ax=left)
        tables = {"states": _space_time_table(states[0]), "fates": fates_table(fates)}
        return Picture(figure, describe(estimate), numbers_of(estimate), tables)


@jax.jit
def _influence_on_u(fates):
    return influence(EnsembleUtility(), fates)[1]


class Comparison(RowExplorer):
    """Two rules in the same tissue, on the same initial states and the same noise.

    The picture: one tissue under each rule over time, both rules, and U with its standard error. `last["difference"]`
    is U under the rule on the right less that on the left, and `last["difference_se"]` its standard error.

    Args:
        rules: the rules to choose from, by name; by default the tanh target, a steep one and a dead band.
        left, right: names of the two that are shown first, by default the first and the last.
        **start: initial values of the controls of the tissue, see `DynamicsExplorer`.
    """

    N_ABOVE, PLAIN_AXES = 2, True
    LAYOUT: Mapping[str, Any] = {"n_panels": 4, "width": 9.6, "height": 2.9, "width_ratios": (1.2, 1.2, 1.1, 0.9)}

    def __init__(
        self,
        rules: Mapping[str, Callable] | None = None,
        *,
        left: str | None = None,
        right: str | None = None,
        seed: int = 0,
        **start,
    ):
        self.rules = tabulated(RULES if rules is None else rules)
        names = list(self.rules)
        for name in (left, right):
            if name is not None and name not in names:
                raise ValueError(f"left and right must be among {', '.join(names)}, got {name!r}")
        super().__init__(
            self._picture,
            **tissue_controls(type(self).__name__, ("left", "right", "seed"), start),
            left=choice(names, left or names[0], label="left"),
            right=choice(names, right or names[-1], label="right"),
            seed=seed_field(seed),
        )

    def _picture(self, *, left, right, **tissue) -> Picture:
        sides = {"left": left, "right": right}
        # Fewer of each, since there are two.
        simulated = [simulate(self.rules[name], n_replicates=300, **tissue) for name in sides.values()]
        figure, axes = self._empty_figure()
        estimates, influences, tables = {}, {}, {"rules": {"neighbour_mean": np.linspace(0.0, 1.0, 401)}}
        shown = zip(axes, sides.items(), simulated, plotting.COLOURS, strict=False)
        for ax, (side, name), states, colour in shown:
            fates = lateral.apply_threshold(states[:, -1])
            estimates[side] = score(fates, tissue["boundary"])
            influences[side] = np.asarray(_influence_on_u(fates))
            plotting.plot_space_time(states[0], DT * EVERY, "", ax=ax, with_scale=False)
            ax.set_title(name, color=colour, fontsize=11)
            tables |= {f"{side}_states": _space_time_table(states[0]), f"{side}_fates": fates_table(fates)}
            tables["rules"][f"{side}_rate"] = np.asarray(self.rules[name](tables["rules"]["neighbour_mean"]))
        axes[0].set_ylabel("cell (bright: s = 1)")
        axes[1].set_ylabel("")
        rules = {name: self.rules[name] for name in sides.values()}
        # A legend would hide a rule; the names stand in the colours of the titles.
        plotting.plot_regulatory_functions(rules, "The rules", with_legend=False, ax=axes[2])
        numbers = {f"{side}_{name}": value for side, e in estimates.items() for name, value in numbers_of(e).items()}
        # They share starts and noise: the scatter of the difference, replicate by replicate. To first order; where
        # patterns are seen only once or twice, leaving one replicate out gives some 7 % more.
        scatter = np.std(influences["right"] - influences["left"], ddof=1)
        error = float(scatter / math.sqrt(len(influences["left"])))
        numbers |= {"difference": numbers["right_utility"] - numbers["left_utility"], "difference_se": error}
        difference = f"{numbers['difference']:+.3f} ± {error:.3f}"
        scores = {name: estimates[side] for side, name in sides.items()}
        plotting.plot_scores(scores, "", tissue["n_cells"], ax=axes[3])
        axes[3].set_title(f"ΔU = {difference}", fontsize=10)
        axes[3].legend(fontsize=8, loc="lower center").set_zorder(-1)
        lines = [f"{name}: {describe(estimates[side])}" for side, name in sides.items()]
        lines.append(f"{right} less {left}: {difference} bits per cell, on the same starts and noise")
        return Picture(figure, "<br>".join(lines), numbers, tables)
