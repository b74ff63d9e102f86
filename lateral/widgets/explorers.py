"""Explorers: a tissue, an ensemble, a rule, and two rules side by side. Each control is answered by a picture."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ipywidgets
import jax
import jax.numpy as jnp
import numpy as np

import lateral
from lateral import plotting
from lateral._checks import BOUNDARIES, check_callable
from lateral.evaluation import what_was_found
from lateral.numerics import binary_entropy, entropy
from lateral.presets import MAX_RATE
from lateral.utility import UtilityEstimate
from lateral.widgets.base import Explorer, Picture, cell_columns, choice, seed_field, slider

__all__ = ["Comparison", "DynamicsExplorer", "RuleExplorer", "UtilityExplorer"]

DT = 0.01
EVERY = 20  # steps between two columns of a space–time plot
MAX_DURATION = 20.0
N_REPLICATES = 500


def tissue_controls(*, noise_strength=0.1, n_cells=7, duration=10.0, boundary="free") -> dict[str, ipywidgets.Widget]:
    """The controls that all explorers of a tissue share, in their order."""
    return {
        "noise_strength": slider(0.0, 1.0, noise_strength, 0.02, label="noise σ (state / √time)"),
        "n_cells": slider(2, 30, n_cells, label="number of cells"),
        "duration": slider(0.4, MAX_DURATION, duration, 0.4, label="duration T (1 / rate)"),
        "boundary": choice([(f"{name} ends" if name != "ring" else name, name) for name in BOUNDARIES], boundary,
                           label="ends of the row"),
    }  # fmt: skip


def simulate(rule: Callable, *, noise_strength, n_cells, duration, boundary, seed, n_replicates=N_REPLICATES):
    """States of an ensemble, `(replicate, time, cell)`, from 0 to `duration` every 0.2.

    Always simulates the longest duration and cuts, since another number of steps would compile again.
    """
    states = lateral.run_trajectories(
        rule, n_cells=n_cells, n_replicates=n_replicates, n_steps=round(MAX_DURATION / DT), dt=DT, every=EVERY,
        noise_strength=noise_strength, boundary=boundary, key=jax.random.key(seed),
    )  # fmt: skip
    return np.asarray(states)[:, : 1 + round(duration / (DT * EVERY))]


def score(states, boundary: str) -> UtilityEstimate:
    """The utility of the last states of an ensemble."""
    estimate = lateral.estimate_utility(lateral.apply_threshold(states[:, -1]), boundary)
    return jax.tree.map(lambda x: x.item(), estimate)


def describe(estimate: UtilityEstimate) -> str:
    """One line for people."""
    if estimate.undersampled:  # coins would read as a pattern
        found = "too few tissues for so many patterns, U is only an upper bound"
    else:
        found = what_was_found(estimate.utility, estimate.alternation)
    return (
        f"U = {estimate.utility:.3f} ± {estimate.utility_se:.3f} bits per cell, alternation "
        f"{estimate.alternation:.2f}: {found}"
    )


def _numbers(estimate: UtilityEstimate) -> dict[str, float]:
    names = ("utility", "utility_se", "s_pat", "s_rep", "alternation")
    return {name: getattr(estimate, name) for name in names}


def _space_time_table(states) -> dict[str, Any]:
    times = np.arange(len(states)) * DT * EVERY
    return {"time": times} | cell_columns(states)


def _fates_table(states) -> dict[str, Any]:
    fates = np.asarray(lateral.apply_threshold(states[:, -1])).astype(int)
    return {"replicate": np.arange(len(fates))} | cell_columns(fates)


class DynamicsExplorer(Explorer):
    """A tissue under lateral inhibition `f = -strength tanh(steepness (s̄ - 1/2))` (notebook 01).

    The picture: one tissue over time, the final fates of 40, and U of 500 with its standard error.

    Args:
        **start: initial values of controls: `noise_strength`, `n_cells`, `duration`, `boundary`, `strength`,
            `steepness`, `seed`.
    """

    def __init__(self, *, strength: float = 1.0, steepness: float = 5.0, seed: int = 0, **start):
        super().__init__(
            self._picture,
            sizes=("n_cells", "boundary"),
            **tissue_controls(**start),
            strength=slider(0.0, 5.0, strength, 0.1, label="strength (1 / time)"),
            steepness=slider(0.5, 20.0, steepness, 0.5, label="steepness (1 / state)"),
            seed=seed_field(seed),
        )

    def _picture(self, *, strength, steepness, **tissue) -> Picture:
        states = simulate(lateral.TanhInhibition(slope=steepness, amplitude=strength), **tissue)
        estimate = score(states, tissue["boundary"])
        figure, (left, middle, right) = plotting.new_figure(3, width=9.0, height=2.9, width_ratios=(1.5, 1.0, 0.8))
        plotting.plot_space_time(states[0], DT * EVERY, "One tissue", ax=left)
        plotting.plot_fates(lateral.apply_threshold(states[:, -1]), "Final fates of 40", ax=middle)
        plotting.plot_scores({"U": estimate}, f"U = {estimate.utility:.2f}", tissue["n_cells"], ax=right)
        tables = {"states": _space_time_table(states[0]), "fates": _fates_table(states)}
        return Picture(figure, describe(estimate), _numbers(estimate), tables)


class Comparison(Explorer):
    """Two rules in the same tissue, on the same initial states and the same noise.

    Args:
        rules: the rules to choose from, by name; by default the tanh target, a steep one and a dead band.
        left, right: names of the two that are shown first, by default the first and the last.
        **start: initial values of the controls of the tissue, see `DynamicsExplorer`.
    """

    def __init__(
        self,
        rules: Mapping[str, Callable] | None = None,
        *,
        left: str | None = None,
        right: str | None = None,
        seed: int = 0,
        **start,
    ):
        if rules is None:
            rules = {
                "tanh target": lateral.TanhInhibition(),
                "steep tanh": lateral.TanhInhibition(slope=20.0, amplitude=5.0),
                "dead band": lateral.DeadBand(),
            }
        self.rules = _tabulated(rules)
        names = list(self.rules)
        for name in (left, right):
            if name is not None and name not in names:
                raise ValueError(f"left and right must be among {', '.join(names)}, got {name!r}")
        super().__init__(
            self._picture,
            sizes=("n_cells", "boundary"),
            **tissue_controls(**start),
            left=choice(names, left or names[0], label="left"),
            right=choice(names, right or names[-1], label="right"),
            seed=seed_field(seed),
        )

    def _picture(self, *, left, right, **tissue) -> Picture:
        figure, axes = plotting.new_figure(3, width=9.0, height=2.9, width_ratios=(1.3, 1.3, 0.8))
        estimates, tables = {}, {}
        for ax, side, name in zip(axes, ("left", "right"), (left, right), strict=False):
            states = simulate(self.rules[name], n_replicates=300, **tissue)  # twice: fewer of each
            estimates[side] = score(states, tissue["boundary"])
            plotting.plot_space_time(states[0], DT * EVERY, f"{name} (dark 0, bright 1)", ax=ax, with_scale=False)
            tables |= {f"{side}_states": _space_time_table(states[0]), f"{side}_fates": _fates_table(states)}
        plotting.plot_scores(estimates, "U, the same noise", tissue["n_cells"], ax=axes[2])
        text = "<br>".join(f"{side}: {describe(estimate)}" for side, estimate in estimates.items())
        numbers = {f"{side}_{name}": value for side, e in estimates.items() for name, value in _numbers(e).items()}
        return Picture(figure, text, numbers, tables)


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
        self.rules = _tabulated(own | dict(rules or {}))
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
            **tissue_controls(**start),
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
        estimate = score(states, tissue["boundary"])
        figure, (left, middle, right) = plotting.new_figure(3, width=9.0, height=2.9, width_ratios=(1.5, 1.0, 0.8))
        functions = {start_from: rule, "tanh target": lateral.TanhInhibition()}
        plotting.plot_regulatory_functions(functions, "The rule", ax=left)
        left.plot(self._places, [point.value for point in self.points], "o", ms=5, color=plotting.COLOURS[0])
        plotting.plot_fates(lateral.apply_threshold(states[:, -1]), "Final fates of 40", ax=middle)
        plotting.plot_scores({"U": estimate}, f"U = {estimate.utility:.2f}", tissue["n_cells"], ax=right)
        neighbour_means = np.linspace(0.0, 1.0, 401)
        curve = {"neighbour_mean": neighbour_means, "rate": np.asarray(rule(neighbour_means))}
        return Picture(figure, describe(estimate), _numbers(estimate), {"rule": curve, "fates": _fates_table(states)})


class UtilityExplorer(Explorer):
    """Compose an ensemble of patterns and read off what it is worth (notebook 02).

    Seven cells. Each tissue takes one of the patterns with a chance in proportion to its weight, then each cell is
    flipped with the chance `flips`. The utility of such an ensemble is known exactly, by enumeration of the 128
    patterns, so that the picture also shows what too few replicates and soft fates make of it.

    Args:
        **start: initial values of controls: `alternating`, `mirrored`, `all_on`, `all_off`, `halves`, `scrambled`
            (weights), `flips`, `n_replicates`, `soft_width`, `bandwidth`, `seed`.
    """

    PATTERNS: Mapping[str, Sequence[int]] = {
        "alternating": (0, 1, 0, 1, 0, 1, 0),
        "mirrored": (1, 0, 1, 0, 1, 0, 1),
        "all_on": (1, 1, 1, 1, 1, 1, 1),
        "all_off": (0, 0, 0, 0, 0, 0, 0),
        "halves": (0, 0, 0, 1, 1, 1, 1),
    }
    SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000)
    SPREAD = 0.05  # by how much a state misses 0 or 1

    def __init__(
        self,
        *,
        flips: float = 0.02,
        n_replicates: int = 200,
        soft_width: float = 0.1,
        bandwidth: float = 0.3,
        seed: int = 0,
        **weights,
    ):
        names = (*self.PATTERNS, "scrambled")
        weights = {"alternating": 1.0, "mirrored": 0.4} | weights
        if unknown := weights.keys() - set(names):
            raise ValueError(f"weights must be among {', '.join(names)}, got {sorted(unknown)[0]!r}")
        labels = {name: "weight of " + "".join(map(str, pattern)) for name, pattern in self.PATTERNS.items()}
        labels["scrambled"] = "weight of fair coins"
        super().__init__(
            self._picture,
            sizes=("n_replicates",),
            **{name: slider(0.0, 1.0, weights.get(name, 0.0), 0.05, label=labels[name]) for name in names},
            flips=slider(0.0, 0.5, flips, 0.01, label="flips (chance per cell)"),
            soft_width=slider(0.01, 1.0, soft_width, log=True, label="width of soft fates (state)"),
            bandwidth=slider(0.01, 1.0, bandwidth, log=True, label="bandwidth (state)"),
            n_replicates=choice(self.SIZES, n_replicates, label="replicates R"),
            seed=seed_field(seed),
        )

    @classmethod
    def distribution(cls, weights: Mapping[str, float], flips: float) -> np.ndarray:
        """The probabilities of the 128 patterns, the first cell as the highest bit."""
        total = sum(weights.values())
        if not total > 0.0:
            raise ValueError("all weights are 0: give at least one pattern a weight")
        patterns = cls._all_patterns()
        probabilities = np.full(len(patterns), weights.get("scrambled", 0.0) / len(patterns))
        for name, pattern in cls.PATTERNS.items():
            n_flipped = (patterns != np.array(pattern)).sum(axis=1)
            chance = flips**n_flipped * (1.0 - flips) ** (patterns.shape[1] - n_flipped)
            probabilities += weights.get(name, 0.0) * chance
        return probabilities / total

    @staticmethod
    def _all_patterns() -> np.ndarray:
        return (np.arange(128)[:, None] >> np.arange(6, -1, -1)) & 1

    @classmethod
    def information(cls, probabilities) -> dict[str, np.ndarray]:
        """Entropies, information and U of distributions `(..., 128)`, all in bits per cell."""
        patterns = cls._all_patterns()
        n_cells = patterns.shape[1]
        s_rep = np.asarray(entropy(jnp.asarray(probabilities), axis=-1)) / n_cells
        on = probabilities @ patterns  # of each cell
        s_pat = np.asarray(binary_entropy(jnp.asarray(on.mean(axis=-1))))
        of_cells = np.asarray(binary_entropy(jnp.asarray(on))).mean(axis=-1)
        return {
            "s_pat": s_pat,
            "s_rep": s_rep,
            "positional": s_pat - of_cells,
            "correlational": of_cells - s_rep,
            "utility": s_pat - s_rep,
        }

    def _picture(self, *, flips, n_replicates, soft_width, bandwidth, seed, **weights) -> Picture:
        probabilities = self.distribution(weights, flips)
        exact = self.information(probabilities)
        rng = np.random.default_rng(seed)
        fates = self._all_patterns()[rng.choice(len(probabilities), n_replicates, p=probabilities)]
        misses = np.abs(rng.normal(0.0, self.SPREAD, fates.shape))
        states = np.clip(np.abs(fates - misses), 0.0, 1.0).astype(np.float32)
        hard = jax.tree.map(lambda x: x.item(), lateral.estimate_utility(fates))
        soft_fates = lateral.soften_fates(states, soft_width)
        rows = {
            "exact (R → ∞)": list(exact.values()),
            f"hard, R = {n_replicates}": [hard.s_pat, hard.s_rep, hard.positional_information,
                                          hard.correlational_information, hard.utility],
            "soft, kernel": _soft_row(lateral.compute_soft_utility(soft_fates, bandwidth)),
            "soft, Bernoulli": _soft_row(lateral.compute_bernoulli_utility(soft_fates)),
        }  # fmt: skip
        sizes = np.array(self.SIZES)
        ensembles = [rng.multinomial(size, probabilities, size=40) / size for size in sizes]
        scatter = np.array([self.information(shares)["utility"] for shares in ensembles])

        figure, (left, middle, right) = plotting.new_figure(3, width=9.5, height=3.2, width_ratios=(0.8, 1.6, 1.1))
        plotting.plot_fates(fates, "The ensemble", ax=left)
        quantities = ["S_pat", "S_rep", "posit.", "correl.", "U"]
        plotting.plot_bars(quantities, rows, "What it is worth", "bits per cell", ax=middle)
        curves = {f"estimate, mean ± sd of {scatter.shape[1]}": (scatter.mean(axis=1), scatter.std(axis=1))}
        reference = ("exact", exact["utility"])
        plotting.plot_curves(
            sizes, curves, "Few replicates flatter U", "replicates R", "U (bits per cell)", logx=True,
            reference=reference, ax=right,
        )  # fmt: skip
        middle.set_ylim(-0.05, 1.4)
        middle.legend(fontsize=8, ncols=2, loc="upper center")
        right.legend(fontsize=8)
        right.axvline(n_replicates, color="grey", ls=":", lw=1)
        right.set_xticks([10, 100, 1000], ["10", "100", "1,000"])
        right.minorticks_off()  # each tick takes its time
        text = f"From {n_replicates} tissues {describe(hard)}; exactly U = {exact['utility']:.3f}"
        numbers = {f"exact_{name}": float(value) for name, value in exact.items()}
        numbers |= {"utility": hard.utility, "utility_se": hard.utility_se, "alternation": hard.alternation}
        numbers |= {"soft_utility": rows["soft, kernel"][4], "bernoulli_utility": rows["soft, Bernoulli"][4]}
        tables = {
            "information": {"quantity": list(exact)} | {_column(name): values for name, values in rows.items()},
            "bias": {"n_replicates": sizes, "mean_utility": scatter.mean(axis=1), "sd": scatter.std(axis=1)},
            "fates": cell_columns(fates),
        }
        return Picture(figure, text, numbers, tables)


def _soft_row(scores) -> list[float]:
    utility, s_pat, s_rep = (float(score) for score in scores)
    return [s_pat, s_rep, np.nan, np.nan, utility]


def _column(label: str) -> str:
    return label.split(" (")[0].replace(", R = ", "_").replace(", ", "_")


def _tabulated(rules: Mapping[str, Callable]) -> dict[str, lateral.Table]:
    """All rules as tables of the same size, so that one compilation serves all."""
    if not rules:
        raise ValueError("rules must hold at least one rule")
    return {name: lateral.tabulate(check_callable(f"rules[{name!r}]", rule)) for name, rule in rules.items()}


@jax.jit
def _random_rule(network, key) -> lateral.Table:
    return lateral.tabulate(lateral.RegulatoryFunction(network, network.init(key)))
