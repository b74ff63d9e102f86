"""An explorer of tissues in the plane: rows, rings, sheets, tissues of random points, and the user's own."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
import jax
import numpy as np

import lateral
from lateral import plotting
from lateral.contexts import contexts_of
from lateral.geometry import Geometry, check_geometry
from lateral.mosaic import disc_radii, plot_mosaic
from lateral.widgets.base import Explorer, Picture
from lateral.widgets.clock import Clock
from lateral.widgets.controls import choice, restrict, seed_field, slider
from lateral.widgets.explorers import RULES, fates_table, tabulated
from lateral.widgets.export import cell_columns
from lateral.widgets.looks import BACKGROUND

__all__ = ["TissueExplorer", "bound_of_sample"]

DT = 0.025
EVERY = 4  # steps between two times of the clock
STEPS = 40  # that are compiled: one unit of time
FATES_EVERY = 5  # times of the clock between two points of the curves
COUNTED = 12  # cells up to which patterns are counted
N_COUNTED, N_REPLICATES = 2000, 200  # tissues up to so many cells, and beyond
N_KNOWN = 3  # earlier cells that each cell is predicted from
MAX_FRAMES = 100  # of an animation
KINDS: dict[str, Callable[[int, int, bool], Geometry]] = {
    "row": lambda rows, columns, periodic: lateral.Row(columns),
    "ring": lambda rows, columns, periodic: lateral.Ring(columns),
    "square": lambda rows, columns, periodic: lateral.Sheet(rows, columns, "square", periodic),
    "hexagonal": lambda rows, columns, periodic: lateral.Sheet(rows, columns, "hexagonal", periodic),
    # Always the same points, so that another seed compiles nothing.
    "voronoi": lambda rows, columns, periodic: lateral.voronoi_tissue(rows * columns, key=jax.random.key(0)),
}
NAMES = {"row": "row", "ring": "ring", "square": "square sheet", "hexagonal": "hexagonal sheet",
         "voronoi": "Voronoi tissue"}  # fmt: skip
ENDS = [("free", "free"), ("periodic (a torus)", "periodic")]
ONE_ROW, CLOSABLE = ("row", "ring"), ("square", "hexagonal")
PLACE = {"kind": "hexagonal", "rows": 8, "columns": 8, "ends": "free"}
SAMPLE = {"noise_strength": 0.1, "duration": 4}


class TissueExplorer(Explorer):
    """Lateral inhibition in the plane: a row, a ring, a sheet, a tissue of random points, or one of your own.

    The picture: one tissue at the time of the clock, with a line between like neighbours; over time, the share of
    neighbour pairs that differ and of cells that are on, in all tissues; and at the end both, with U. Up to 12 cells
    patterns are counted in 2,000 tissues. Beyond, U is the lower bound of `bound_of_sample` in 200 tissues. The time
    step is 0.025, for speed; with the app's own rules U is within 0.02 of that of steps a tenth as long.

    Attributes:
        time: the clock; `app.time.value = 2.0` shows the cells as they are then.
        geometry: the tissue that is shown.

    Args:
        rules: the rules to choose from, by name; by default the tanh target, a steep one and a dead band.
        geometry: a tissue with positions, in the place of the app's own.
        rule: name of the rule that is shown first.
        **start: initial values of controls: `kind` ("row", "ring", "square", "hexagonal", "voronoi"), `rows`,
            `columns`, `ends` ("free", "periodic"), `noise_strength`, `duration`, `seed`. A row and a ring have as many
            cells as columns.

    Raises:
        ValueError: for a setting that is none or out of range, or a geometry without positions.
    """

    PLAIN_AXES = True
    NARROW = (6.0, 6.0)
    FORMATS = (*Explorer.FORMATS, "gif")

    def __init__(
        self,
        rules: Mapping[str, Callable] | None = None,
        *,
        geometry: Geometry | None = None,
        rule: str | None = None,
        seed: int = 0,
        **start,
    ):
        self.rules = tabulated(RULES if rules is None else rules)
        self.geometry = None if geometry is None else check_geometry("geometry", geometry)
        self.time = Clock(dt=DT * EVERY)
        self.time.observe(self._time_moved, names="value")
        self._panels: _Panels | None = None
        self._states = np.zeros((1, 1))
        controls = _controls(start, geometry is not None)
        controls |= {"rule": choice(list(self.rules), rule, label="rule", name="rule"), "seed": seed_field(seed)}
        super().__init__(self._picture, sizes=tuple(PLACE) if geometry is None else (), **controls)
        *above, picture, footer = self.children
        self.children = (*above, self.time, picture, footer)

    def export(self, path) -> list[Path]:
        """As the other apps; with the ending `.gif` the tissue over time."""
        path = Path(path)
        if path.suffix.lower() != ".gif":
            return super().export(path)
        with self._lock:
            step = -(-len(self._states) // MAX_FRAMES)
            states, title = self._states[::step], self.values()["rule"]
            return [plotting.save_animation(path, states, self.geometry, step * self.time.dt, f"{title},")]

    def _limit(self) -> None:
        """Hexagons close to a torus in an even number of rows; what closes, and Voronoi tissues, need three cells."""
        if "kind" not in self.controls:
            return
        kind, closed = self.kind.value, self.ends.value == "periodic"
        hexagons = kind == "hexagonal" and closed
        restrict(self.rows, 4 if hexagons else 3 if kind == "square" and closed else 1, 2 if hexagons else 1)
        restrict(self.columns, 3 if kind in ("ring", "voronoi") or (kind in CLOSABLE and closed) else 2)

    def _picture(self, *, noise_strength, duration, rule, seed, kind="", rows=0, columns=0, ends="") -> Picture:
        if kind:
            self.rows.disabled, self.ends.disabled = kind in ONE_ROW, kind not in CLOSABLE
            self.geometry = _tissue(kind, rows, columns, ends)
        if self._panels is None or self._panels.geometry is not self.geometry:
            self._panels = _Panels(self.geometry)
        sample = _simulate(self.rules[rule], self.geometry, noise_strength, duration, seed)
        measured = _measure(sample.fates[:, -1], self.geometry, self._panels.contexts)
        unlike, on = _shares(sample.fates, self.geometry.pairs)
        self._states = sample.states
        numbers = measured | {"alternation": float(unlike[-1]), "share_on": float(on[-1])}
        times = DT * EVERY * FATES_EVERY * np.arange(len(on))
        self._panels.show_sample(times, unlike, on, numbers)
        tables = {
            "states": {"time": self.time.dt * np.arange(len(sample.states))} | cell_columns(sample.states),
            "shares": {"time": times, "alternation": unlike, "share_on": on},
            "fates": fates_table(sample.fates[:, -1]),
        }
        return Picture(self._panels.figure, _in_words(numbers, self.geometry.n_cells), numbers, tables)

    def _show(self, picture: Picture, png: bytes | None = None) -> None:
        panels, self._panels = self._panels, None  # so that the clock draws nothing now
        self.time.show(self._states, self.time.panel)
        self._panels = panels
        panels.mosaic.show(self._now())
        super()._show(picture, png)
        left, middle, *_ = self.figure.axes
        ground = BACKGROUND if self._page.dark else "white"
        self.time.panel = middle.get_position().bounds
        self.time.draw(left.get_position().bounds, panels.view, panels.cells, panels.lines, ground)

    def _now(self) -> np.ndarray:
        return self._states[round(self.time.value / self.time.dt)]

    def _time_moved(self, _change) -> None:
        """What is saved is what is seen: the cells at the time of the clock."""
        with self._lock:
            if self._panels is not None and self.figure is not None:
                self._panels.mosaic.show(self._now())
                self._image.value = self._render(self.figure)

    def _page_changed(self, _change=None) -> None:
        self._panels = None  # laid out for another page
        super()._page_changed()


def bound_of_sample(fates, contexts: np.ndarray) -> tuple[float, float]:
    """A lower bound of U of tissues with two fates, and its standard error, as `lateral.bound_utility` in short.

    Each cell of a tissue is predicted from the fates of a few earlier cells, as all *other* tissues show them, and
    knowing 0, 1, 2... of them is mixed as there. How many are known is not found out but given, so that all cells are
    done at once: a hundredth of a second for 400 cells in 200 tissues.

    Args:
        fates: `(replicate, cell)`, 0 or 1.
        contexts: for each cell the numbers of earlier cells, nearest first, -1 where there is none,
            `(cell, earlier)`.
    """
    fates = np.asarray(fates).astype(np.int64)
    n_replicates, n_cells = fates.shape
    known, q = np.zeros_like(fates), np.full(fates.shape, 0.5)
    for level in range(contexts.shape[1] + 1):
        if level:
            earlier = contexts[:, level - 1]
            known = 2 * known + np.where(earlier >= 0, fates[:, earlier], 0)
        seen = 2 * ((np.arange(n_cells) << level) + known) + fates
        counts = np.bincount(seen.reshape(-1), minlength=2 * n_cells << level)
        own, other = counts[seen] - 1, counts[seen ^ 1]  # this tissue has not seen itself
        q = (own + 2.0 * q) / (own + other + 2.0)
    shares = np.stack([1.0 - fates.mean(axis=1), fates.mean(axis=1)], axis=1)
    pooled = shares.mean(axis=0)
    scores = -shares[:, pooled > 0] @ np.log2(pooled[pooled > 0]) + np.log2(q).mean(axis=1)
    return float(scores.mean()), float(scores.std(ddof=1)) / math.sqrt(n_replicates)


class _Sample(NamedTuple):
    states: np.ndarray  # of the first tissue, (time, cell)
    fates: np.ndarray  # (replicate, time, cell), at every fifth time


class _Panels:
    """The figure of one tissue, drawn once; what moves is put into it."""

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self.contexts = np.full((geometry.n_cells, N_KNOWN), -1)
        for cell, earlier in contexts_of(geometry, N_KNOWN):
            self.contexts[cell, : len(earlier)] = earlier
        self.figure, (left, middle, right) = plotting.new_figure(3, width=9.6, height=4.0, width_ratios=(1.9, 1.2, 0.9))
        start = np.full(geometry.n_cells, 0.5)
        _, self.mosaic = plot_mosaic(start, geometry, "One tissue", walls=True, with_scale=True, ax=left)
        left.get_legend().set_zorder(-1)
        left.set_anchor("C")
        self.view = _square(left)
        self.lines = np.concatenate([self.mosaic.pairs, self.mosaic.lines.reshape(-1, 4)], axis=1)
        if geometry.outlines is None:
            self.cells = np.column_stack([np.asarray(geometry.positions, float), disc_radii(geometry)])
        else:
            self.cells = [np.ravel(outline) for outline in geometry.outlines]
        names, colours = ("alternation", "on"), (plotting.COLOURS[0], plotting.COLOURS[4])
        self.curves = [middle.plot([], [], color=c, label=name)[0] for name, c in zip(names, colours, strict=True)]
        middle.set(xlabel="time t (1 / rate)", ylabel="share", title="All tissues")
        middle.legend(fontsize=8, loc="upper center", ncols=2).set_zorder(-1)
        self.bars = right.bar(("U", *names), [0.0] * 3, color=(plotting.COLOURS[2], *colours), width=0.7)
        self.error = right.plot([0, 0], [0, 0], color="black", lw=1.5)[0]
        for place, coins in enumerate((0.0, 0.5, 0.5)):
            right.plot([place - 0.42, place + 0.42], [coins, coins], color="grey", ls="--", lw=1)
        right.set(ylabel="bits per cell; share")
        for ax in (middle, right):
            ax.set(ylim=(-0.06, 1.16), yticks=np.linspace(0.0, 1.0, 6))  # no curve runs below the legend
        right.tick_params(axis="x", labelsize=8)

    def show_sample(self, times, unlike, on, numbers: Mapping[str, float]) -> None:
        for curve, shares in zip(self.curves, (unlike, on), strict=True):
            curve.set_data(times, shares)
        middle, right = self.figure.axes[1:3]
        middle.set_xlim(0.0, times[-1])
        u, se = numbers["utility"], numbers["utility_se"]
        for bar, value in zip(self.bars, (u, numbers["alternation"], numbers["share_on"]), strict=True):
            bar.set_height(value)
        self.error.set_ydata([u - se, u + se])
        right.set_title(f"U ≥ {max(u, 0.0):.2f}" if numbers["is_bound"] else f"U = {u:.2f}")


def _square(ax) -> tuple[float, float, float, float]:
    """Give axes a square view of what is drawn, for all tissues the same panel: its left, right, bottom and top."""
    ends = np.array([ax.get_xlim(), sorted(ax.get_ylim())])
    middle, half = ends.mean(axis=1), 0.5 * np.ptp(ends, axis=1).max()
    (left, top), (right, bottom) = middle - half, middle + half
    ax.set(xlim=(left, right), ylim=(bottom, top))
    return float(left), float(right), float(bottom), float(top)


def _controls(start: Mapping[str, Any], is_own: bool) -> dict[str, ipywidgets.Widget]:
    """The controls but for rule and seed; without those of the tissue where it is the user's own."""
    if is_own and (given := start.keys() & PLACE.keys()):
        raise ValueError(
            f"{', '.join(PLACE)} are those of the app's own tissues: leave out {min(given)} beside a geometry"
        )
    known = SAMPLE if is_own else PLACE | SAMPLE
    if unknown := start.keys() - known.keys():
        names = ", ".join((*known, "rule", "seed"))
        raise ValueError(f"TissueExplorer has no setting {min(unknown)!r}: choose among {names}")
    value = known | dict(start)
    place = {} if is_own else {
        "kind": choice([(NAMES[kind], kind) for kind in KINDS], value["kind"], label="tissue", name="kind"),
        "rows": slider(1, 20, value["rows"], label="rows", name="rows"),
        "columns": slider(2, 30, value["columns"], label="columns", name="columns"),
        "ends": choice(ENDS, value["ends"], label="edges", name="ends"),
    }  # fmt: skip
    if not is_own and value["ends"] == "periodic" and value["kind"] not in CLOSABLE:
        raise ValueError(f"ends must be free for a {NAMES[value['kind']]}, got 'periodic': only sheets can be closed")
    return place | {
        "noise_strength": slider(0.0, 1.0, value["noise_strength"], 0.02, label="noise σ (state/√time)",
                                 name="noise_strength"),
        "duration": slider(1, 20, value["duration"], label="duration T (1 / rate)", name="duration"),
    }  # fmt: skip


@lru_cache(maxsize=8)
def _tissue(kind: str, rows: int, columns: int, ends: str) -> Geometry:
    return KINDS[kind](rows, columns, ends == "periodic")


def _simulate(rule: Callable, geometry: Geometry, noise_strength, duration: int, seed: int) -> _Sample:
    """Unit after unit of time by one program, so that another duration compiles nothing and costs what it lasts."""
    start_key, noise_key = jax.random.split(jax.random.key(seed))
    n_replicates = N_COUNTED if geometry.n_cells <= COUNTED else N_REPLICATES
    low, high = lateral.Tissue().start
    now = jax.random.uniform(start_key, (n_replicates, geometry.n_cells), minval=low, maxval=high)
    first, fates = [np.asarray(now)[:1]], [np.asarray(now)[:, None] >= 0.5]
    for unit in range(duration):
        states = lateral.run_trajectories(
            rule, geometry=geometry, n_replicates=n_replicates, n_steps=STEPS, dt=DT, every=EVERY,
            noise_strength=noise_strength, initial_states=now, key=jax.random.fold_in(noise_key, unit),
        )  # fmt: skip
        states = np.asarray(states)
        now = states[:, -1]
        first.append(states[0, 1:])
        fates.append(states[:, FATES_EVERY::FATES_EVERY] >= 0.5)
    return _Sample(np.concatenate(first), np.concatenate(fates, axis=1))


def _measure(fates: np.ndarray, geometry: Geometry, contexts: np.ndarray) -> dict[str, Any]:
    """U by counting where that is possible, otherwise its bound."""
    if geometry.n_cells <= COUNTED:
        found = jax.tree.map(lambda x: x.item(), lateral.estimate_utility(fates, geometry=geometry))
        if not found.undersampled:
            return {"utility": found.utility, "utility_se": found.utility_se, "is_bound": False}
    utility, error = bound_of_sample(fates, contexts)
    return {"utility": utility, "utility_se": error, "is_bound": True}


def _shares(fates: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each time the share of neighbour pairs that differ, and of cells that are on."""
    of_cells = np.ascontiguousarray(fates.transpose(2, 1, 0))
    first, second = pairs.T
    unlike = np.mean(of_cells[first] != of_cells[second], axis=(0, 2)) if len(pairs) else np.zeros(fates.shape[1])
    return unlike, fates.mean(axis=(0, 2))


def _in_words(numbers: Mapping[str, Any], n_cells: int) -> str:
    u = f"{numbers['utility']:.3f} ± {numbers['utility_se']:.3f}"
    if not numbers["is_bound"]:
        utility = f"U = {u} bits per cell"
    elif numbers["utility"] > 0.0:
        utility = f"U ≥ {u} bits per cell: a lower bound, since patterns of {n_cells} cells are too many to count"
    else:  # as U itself never is
        utility = f"U ≥ 0: in these tissues no cell tells of another (the lower bound is {u} bits per cell)"
    return (
        f"{utility}. {numbers['alternation']:.2f} of the neighbour pairs differ (alternation), and "
        f"{numbers['share_on']:.2f} of the cells are on. The dashed lines are what coins would score."
    )
