"""The picture of a training: four panels that are updated in place, several times a second."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

import lateral
from lateral import plotting
from lateral.evaluation import what_was_found
from lateral.figure import fate_colours
from lateral.model import final_states
from lateral.rules import rates_of
from lateral.training.session import TrainingSession
from lateral.widgets.export import cell_columns
from lateral.widgets.looks import dark_if

__all__ = ["Canvas", "View", "name_of_score"]

NORMS = (1e-6, 1e4)  # gradient norms beyond are drawn at the edge; the title has the number


def name_of_score(unit: str) -> str:
    """What the history reports as the utility of each epoch or generation."""
    return "U of the best" if unit == "generation" else "U"


@dataclasses.dataclass(frozen=True)
class View:
    """A training at one moment, as the picture shows it."""

    unit: str  # what is counted, "epoch" or "generation"
    history: dict[str, list[float]]
    neighbour_means: np.ndarray
    rates: np.ndarray
    initial_rates: np.ndarray
    fates: np.ndarray
    n_fates: int

    @classmethod
    def of(cls, session: TrainingSession) -> "View":
        """What a training has come to, with the fates of 40 tissues."""
        params, history = session.params, session.history
        means = np.linspace(0.0, 1.0, 201)
        model = dataclasses.replace(session.model, noise_strength=np.float32(session.noise_strength), n_replicates=40)
        rates, initial, fates = _snapshot(model, params, session.initial_params, means, jax.random.key(1))
        shown = (np.asarray(x) for x in (rates, initial, fates))
        return cls(session.algorithm.unit, history, means, *shown, model.readout.n_fates)

    @classmethod
    def before(cls, model: lateral.Model, unit: str, params) -> "View":
        """A network before any training."""
        means = np.linspace(0.0, 1.0, 201)
        model = dataclasses.replace(model, noise_strength=np.float32(model.noise_strength), n_replicates=40)
        rates, initial, fates = _snapshot(model, params, params, means, jax.random.key(1))
        return cls(unit, {}, means, *(np.asarray(x) for x in (rates, initial, fates)), model.readout.n_fates)

    def numbers(self) -> dict[str, Any]:
        """The last entry of each column of the history, by name, and what was found."""
        if not self.history:
            return {}
        numbers = {"epoch": len(self.history["utility"])}
        numbers |= {name: values[-1] for name, values in self.history.items()}
        return numbers | {"found": what_was_found(numbers["utility"], numbers["alternation"])}

    def tables(self) -> dict[str, dict]:
        """The data of the picture, as `Picture.tables`."""
        rule = {"neighbour_mean": self.neighbour_means, "rate": self.rates, "initial_rate": self.initial_rates}
        fates = cell_columns(self.fates.astype(int))
        n_epochs = len(self.history.get("utility", ()))
        return {"history": {"epoch": range(1, n_epochs + 1)} | self.history, "rule": rule, "fates": fates}


@jax.jit
def _snapshot(model, params, initial_params, means, key):
    f = lateral.RegulatoryFunction(model.network, params)
    initial = lateral.RegulatoryFunction(model.network, initial_params)
    fates = model.readout.fates(final_states(f, model, key))
    return rates_of(f, means), rates_of(initial, means), fates


class Canvas:
    """The four panels of the studio, updated in place.

    What does not move (axes, labels, earlier runs) is drawn once and kept as pixels; a picture puts it back and draws
    the few things that do. That takes a tenth of the time of drawing everything.

    Args:
        narrow: for a page with little room.
    """

    def __init__(self, *, narrow: bool = False):
        self.figure, axes = plotting.new_figure(2, 2, width=6.0 if narrow else 9.0, height=4.3)
        (self._curve, self._rule), (self._norm, self._fates) = axes
        self._curve.set(ylabel="U (bits per cell); share", ylim=(-0.05, 1.05))
        self._norm.set(xlabel="epoch or generation", ylabel="gradient norm", yscale="log", ylim=NORMS)
        self._rule.set(xlabel="neighbour mean s̄", ylabel="rate f(s̄) (1 / time)", xlim=(0, 1), ylim=(-5.5, 5.5))
        self._fates.set(xlabel="cell", ylabel="replicate")
        # With a place of their own: matplotlib finds one only when it draws the whole axes.
        titles = [ax.set_title("title", fontsize=10, y=1.02) for ax in axes.flat]
        self._title_of = dict(zip(("curve", "rule", "norm", "fates"), titles, strict=True))
        self._add_curves()
        self._moving = [self._utility, self._alternation, self._lower, self._initial, self._learned, *titles]
        self._picture, self._faint, self._marks = None, [], []
        self._pixels, self._drawn_for = None, None
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        self._agg = FigureCanvasAgg(self.figure)

    def _add_curves(self) -> None:
        colours = plotting.COLOURS
        (self._utility,) = self._curve.plot([], [], color=colours[0], label="U of its own replicates")
        (self._alternation,) = self._curve.plot([], [], color=colours[4], ls=":", label="alternation")
        self._curve.plot([], [], color="0.75", label="earlier runs")
        self._best = self._curve.axhline(1.0, color="grey", lw=0.8, ls="--", zorder=1, label="two patterns")
        (self._lower,) = self._norm.plot([], [], color=colours[1])
        means = np.linspace(0.0, 1.0, 201)
        self._rule.axhline(0.0, color="grey", lw=0.8, ls=":")
        self._rule.plot(means, lateral.TanhInhibition()(means), color=colours[6], ls="--", lw=1, label="tanh target")
        (self._initial,) = self._rule.plot([], [], color=colours[5], lw=1.2, label="before training")
        (self._learned,) = self._rule.plot([], [], color=colours[0], lw=2, label="learned")
        self._name_of_best = self._curve.legend(loc="lower right", fontsize=8).get_texts()[-1]
        self._rule.legend(loc="upper right", fontsize=8)

    def draw(self, view: View, earlier: list, *, dark: bool = False) -> bytes:
        """PNG of a training, before the runs of old."""
        self._update(view)
        with dark_if(dark, self.figure):
            return self._drawn(view, earlier, dark)

    def _drawn(self, view: View, earlier: list, dark: bool) -> bytes:
        limit = self._limit(view, earlier)
        fixed = (limit, tuple(map(id, earlier)), view.fates.shape, view.n_fates, view.unit, dark)
        if fixed != self._drawn_for:
            self._draw_fixed(view, earlier, limit)
            self._drawn_for = fixed
        self._agg.restore_region(self._pixels)
        renderer = self._agg.get_renderer()
        for artist in ([self._picture] if self._picture is not None else []) + self._moving + self._marks:
            artist.draw(renderer)
        return plotting.png_of(self._agg, compress_level=1)

    def _update(self, view: View) -> None:
        history = view.history
        n_epochs = len(history.get("utility", ()))
        epochs = np.arange(1, n_epochs + 1)
        self._utility.set_data(epochs, history.get("utility", []))
        self._alternation.set_data(epochs, history.get("alternation", []))
        lower = _lower_panel(history)
        self._lower.set_data(epochs[: len(lower)], lower)
        self._initial.set_data(view.neighbour_means, view.initial_rates)
        self._learned.set_data((view.neighbour_means, view.rates) if n_epochs else ([], []))
        if view.unit == "generation":
            title = f"Mean of the population: {lower[-1]:.3f}" if len(lower) else "Mean of the population"
        else:
            title = f"Gradient norm {history['gradient_norm'][-1]:.2g}" if len(lower) else "Gradient norm"
        self._title_of["norm"].set_text(title)
        self._title_of["rule"].set_text("The rule")
        for mark in self._marks:
            mark.remove()
        self._marks = [self._curve.axvline(epoch, color="grey", lw=0.8, ls=":") for epoch in _changes(history)]
        if not n_epochs:
            self._title_of["curve"].set_text("Training: press Start")
            unequal = np.mean(view.fates[:, 1:] != view.fates[:, :-1])
            self._title_of["fates"].set_text(f"A random rule: alternation {unequal:.2f}")
        else:
            numbers = view.numbers()
            found = {"pattern": "patterns", "consensus": "CONSENSUS, no pattern", "nothing": "nothing yet"}
            moved = ", dotted: a slider was moved" if self._marks else ""
            score = f"{name_of_score(view.unit)} = {numbers['utility']:.3f}"
            self._title_of["curve"].set_text(f"{score} at {view.unit} {n_epochs}{moved}")
            self._title_of["fates"].set_text(f"Alternation {numbers['alternation']:.2f}: {found[numbers['found']]}")
        if self._picture is not None and self._picture.get_array().shape == view.fates.shape:
            self._picture.set_data(view.fates)

    @staticmethod
    def _limit(view: View, earlier: list) -> int:
        """End of the axis of epochs: doubles, so that the axes rarely move."""
        lengths = [len(run.history["utility"]) for run in earlier]
        longest = max([50, *lengths, len(view.history.get("utility", ()))])
        return int(50 * 2 ** np.ceil(np.log2(longest / 50)))

    def _draw_fixed(self, view: View, earlier: list, limit: int) -> None:
        evolves = view.unit == "generation"
        if evolves:
            self._norm.set(ylabel="objective (bits per cell)", yscale="linear", ylim=(-0.05, 1.05))
        else:
            self._norm.set(ylabel="gradient norm", yscale="log", ylim=NORMS)
        for line in self._faint:
            line.remove()
        self._faint = []
        n_cells = view.fates.shape[1]
        self._curve.set_ylim(-0.05, np.log2(view.n_fates) + 0.05)
        best = 1.0 - 1.0 / n_cells  # two perfect patterns, one bit for all cells
        self._best.set_ydata([best, best])
        self._name_of_best.set_text(f"two patterns: {best:.3f}")
        for run in earlier:
            epochs = np.arange(1, len(run.history["utility"]) + 1)
            means = jnp.linspace(0.0, 1.0, 101)
            style = {"color": "0.75", "lw": 0.9, "zorder": 1}
            self._faint += self._curve.plot(epochs, run.history["utility"], **style)
            self._faint += self._rule.plot(means, rates_of(run.regulatory_function, means), **style)
            if ("gradient_norm" in run.history) != evolves:
                lower = _lower_panel(run.history)
                self._faint += self._norm.plot(epochs[: len(lower)], lower, **style)
        for ax in (self._curve, self._norm):
            ax.set_xlim(0, limit)
        if self._picture is not None:
            self._picture.remove()
            self._picture = None
        n_shown, n_cells = view.fates.shape
        self._picture = self._fates.imshow(
            view.fates, aspect="auto", interpolation="nearest", cmap=fate_colours(view.n_fates), vmin=0,
            vmax=view.n_fates - 1, extent=(0.5, n_cells + 0.5, n_shown + 0.5, 0.5),
        )  # fmt: skip
        self._fates.xaxis.set_major_locator(plotting.cell_ticks(n_cells))
        moving = self._moving + self._marks + ([self._picture] if self._picture is not None else [])
        for artist in moving:
            artist.set_visible(False)
        self._agg.draw()
        self._pixels = self._agg.copy_from_bbox(self.figure.bbox)
        for artist in moving:
            artist.set_visible(True)


def _lower_panel(history) -> np.ndarray:
    """The gradient norm of each epoch, or the mean objective of each generation: evolution has no gradient."""
    if "gradient_norm" in history:
        return np.clip(history["gradient_norm"], *NORMS)
    return np.asarray(history.get("mean_objective", []))


def _changes(history: dict[str, list[float]]) -> np.ndarray:
    """Epochs from which on learning rate (mutation strength) or noise was another."""
    steered = [history[name] for name in ("learning_rate", "mutation_strength", "noise_strength") if name in history]
    return 1 + np.flatnonzero(np.any([np.diff(values) != 0.0 for values in steered], axis=0)) + 0.5
