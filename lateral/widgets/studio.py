"""Training studio: a training that is watched and steered while it runs (notebooks 04 and 05).

Three threads share one app. The kernel's own thread handles controls and stays free. A worker trains a chunk of epochs
at a time and looks at the controls in between; chunks are kept near a tenth of a second, so that a moved slider or Stop
is answered at once. A painter draws what is new, a few times a second, by updating the figure in place.

A `_Job` is one training. The app shows the job that is its current one, and no other: a job that was stopped may still
be finishing its chunk when the next one has begun.
"""

import atexit
import contextlib
import dataclasses
import html
import io
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import ipywidgets
import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import lateral
from lateral import plotting
from lateral.evaluation import what_was_found
from lateral.model import OBJECTIVES, Model, check_model, final_states
from lateral.session import CHUNK, SESSION_METHODS, TrainingSession
from lateral.widgets.base import App, Picture, choice, seed_field, slider

__all__ = ["TrainingStudio"]

NETWORKS = ("bumps", "perceptron")
SECONDS_OF_A_CHUNK = 0.1
SECONDS_OF_A_PICTURE = 0.15
N_FRESH = 4000
N_FAINT = 6  # earlier runs that stay in the picture


class TrainingStudio(App):
    """Train a rule, watch it learn, and turn learning rate and noise while it does.

    `start()`, `pause()`, `stop()` and `reset()` are the buttons; `start` also goes on after a pause. `join()` waits for
    the end and raises what went wrong. A run that ends, by itself or by `stop`, is measured on fresh replicates, kept
    in `runs`, and stays in the picture as a faint curve. Learning rate and noise take effect in the next chunk of
    epochs; all other controls when the next run starts.

    Args:
        model: the tissue that is trained, by default seven cells; network, noise, replicates and objective come from
            the controls.
        method: `"evolution"` or one of `lateral.gradients.ESTIMATORS`.
        network: `"bumps"` (an `RBFNetwork`) or `"perceptron"` (an `MLP`), both with |f| <= 5.
        learning_rate: Adam's step; for evolution the standard deviation of a mutation.
        noise_strength, n_replicates, objective: see `Model`.
        n_epochs: a run ends after so many epochs or generations.
        n_candidates: random networks of which the best is the start.
        seed: of the random networks and of all noise.

    Attributes:
        runs: what came out, a `Run` each, the latest last.
        last: numbers of the latest picture: `state`, `epoch`, `utility` (of the epoch's replicates), `alternation`,
            `gradient_norm`, `found`; after the end also `fresh_utility`, its `fresh_utility_se`, and
            `fresh_utility_refined`, the same at a quarter of the time step, on 4,000 fresh replicates.
        state: `"ready"`, `"compiling"`, `"training"`, `"paused"`, `"finished"`, `"stopped"` or `"failed"`.
    """

    def __init__(
        self,
        model: Model | None = None,
        *,
        method: str = "score",
        network: str = "bumps",
        learning_rate: float = 0.3,
        noise_strength: float = 0.1,
        n_replicates: int = 256,
        objective: str = "tissue",
        n_epochs: int = 300,
        n_candidates: int = 16,
        seed: int = 0,
    ):
        self._base = Model() if model is None else check_model(model)
        self._n_candidates = n_candidates
        self.runs: list[lateral.Run] = []
        self.state = "ready"
        self._job: _Job | None = None
        self._canvas = _Canvas()
        buttons = {
            "start": ("Start", "play", "start a run, or go on after a pause"),
            "pause": ("Pause", "pause", "hold the run"),
            "stop": ("Stop", "stop", "end the run, measure it and keep it"),
            "reset": ("Reset", "refresh", "forget all runs"),
        }
        self.buttons = {
            name: ipywidgets.Button(description=text, icon=icon, tooltip=tip, layout={"width": "100px"})
            for name, (text, icon, tip) in buttons.items()
        }
        self.save_button = ipywidgets.Button(description="Save run", icon="save", tooltip="the latest run as .npz")
        super().__init__(
            {
                "noise_strength": slider(0.02, 0.6, noise_strength, 0.02, label="noise σ (state / √time)"),
                "objective": choice(OBJECTIVES, objective),
                "method": choice(SESSION_METHODS, method),
                "network": choice(NETWORKS, network),
                "learning_rate": slider(1e-3, 1.0, learning_rate, 0.05, log=True, label="learning rate"),
                "n_replicates": choice((50, 128, 256, 512, 1024), n_replicates, label="replicates R"),
                "n_epochs": slider(10, 1000, n_epochs, 10, label="epochs of a run"),
                "seed": seed_field(seed),
            },
            [*self.buttons.values(), self.save_button],
        )
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self._click(name))
        self.save_button.on_click(lambda _: self._save_next())
        for name in ("noise_strength", "learning_rate"):
            self.controls[name].observe(self._steer, names="value")
        self.controls["method"].observe(self._name_the_rate, names="value")
        self._name_the_rate()
        self._enter("ready")
        self._paint(None)

    # --- what a user, or a script, does

    def start(self) -> None:
        """Start a run from a random network, or go on after a pause; nothing while one is running."""
        with self._lock:
            if self._job is not None and self._job.active:
                self._job.go.set()
                if self.state == "paused":
                    self._enter("training")
                return
            settings = self.values()
            network = {
                "bumps": lateral.RBFNetwork(),
                "perceptron": lateral.MLP(max_rate=5.0),
            }[settings["network"]]
            model = dataclasses.replace(
                self._base,
                network=network,
                noise_strength=settings["noise_strength"],
                n_replicates=settings["n_replicates"],
                objective=settings["objective"],
                relaxation="bernoulli" if self._base.n_cells <= 12 else "pairwise",
            )
            self.error = None
            self._job = _Job(self, model, settings)
            self._enter("compiling")
            self._job.begin()

    def pause(self) -> None:
        """Hold the run after the chunk under way; `start` goes on."""
        with self._lock:
            if self.state in ("compiling", "training"):
                self._job.go.clear()
                self._enter("paused")

    def stop(self) -> None:
        """End the run after the chunk under way, measure it and keep it."""
        with self._lock:
            if self._job is not None and self._job.active:
                self._job.halt.set()
                self._job.go.set()
                self._enter("stopped")

    def reset(self) -> None:
        """End and forget all runs."""
        with self._lock:
            if self._job is not None:
                self._job.forgotten = True
                self._job.halt.set()
                self._job.go.set()
            self._job, self.error, self.last = None, None, {}
            self.runs.clear()
            self._enter("ready")
            self._paint(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the run has ended and its last picture is drawn.

        Raises:
            TimeoutError: if it has not after `timeout` seconds, or is paused.
            Exception: what the run failed with.
        """
        job = self._job
        if job is None:
            return
        if self.state == "paused":
            raise TimeoutError("the run is paused: start() goes on, stop() ends it")
        job.join(timeout)
        if job.failure is not None:
            raise job.failure

    def save(self, path: str | os.PathLike) -> Path:
        """Save the latest run that has ended, see `lateral.save_run`."""
        with self._lock:
            if not self.runs:
                raise ValueError("no run has ended yet: start() one, and wait or stop() it")
            return lateral.save_run(path, self.runs[-1])

    # --- what follows from it

    def _click(self, name: str) -> None:
        try:
            getattr(self, name)()
        except Exception as error:  # a button has no caller to raise to
            self._fail(error)

    def _steer(self, _change=None) -> None:
        with self._lock:
            job = self._job
            if job is not None and job.active:
                job.steer(self.learning_rate.value, self.noise_strength.value)

    def _name_the_rate(self, _change=None) -> None:
        rate = self.controls["learning_rate"]
        rate.description = "mutation strength" if self.controls["method"].value == "evolution" else "learning rate"

    def _save_next(self) -> None:
        number = 1
        while Path(f"run-{number}.npz").exists():
            number += 1
        try:
            self._saved.value = f"saved <code>{self.save(f'run-{number}.npz')}</code>"
        except Exception as error:
            self._saved.value = f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"

    def _enter(self, state: str) -> None:
        self.state = state
        running = state in ("compiling", "training")
        self.buttons["start"].disabled = running
        self.buttons["pause"].disabled = not running
        self.buttons["stop"].disabled = not (running or state == "paused")
        self.save_button.disabled = not self.runs
        self._line.value = self._status()

    def _status(self) -> str:
        if self.error is not None:
            return f"<b>{type(self.error).__name__}</b>: {html.escape(str(self.error))}"
        words = {"ready": "ready: Start trains from a random network", "compiling": "<i>compiling …</i>"}
        parts = [words.get(self.state, self.state)]
        if "epoch" in self.last and self.state != "ready":
            parts.append(
                f"epoch {self.last['epoch']}, U = {self.last['utility']:.3f} on its own replicates, alternation "
                f"{self.last['alternation']:.2f}: {self.last['found']}"
            )
        if "fresh_utility" in self.last:
            parts.append(
                f"<b>U = {self.last['fresh_utility']:.3f} ± {self.last['fresh_utility_se']:.3f}</b> on {N_FRESH:,} "
                f"fresh replicates, {self.last['fresh_utility_refined']:.3f} at dt/4"
            )
        return "; ".join(parts)

    def _progressed(self, job: "_Job") -> None:
        """From the worker: a chunk is done."""
        if self.state != "compiling":
            return  # without the lock, for which the worker would wait while a picture is drawn
        with self._lock:
            if job is self._job and self.state == "compiling":
                self._enter("training")

    def _ended(self, job: "_Job", run: "lateral.Run | None", measured: dict[str, float]) -> None:
        """From the worker: the run is over."""
        with self._lock:
            job.over.set()
            if job.forgotten:
                return
            if run is not None:
                self.runs.append(run)
            if job is self._job:
                self.error = job.failure
                job.measured = measured
                self._enter("failed" if job.failure else "stopped" if job.halt.is_set() else "finished")

    def _paint(self, job: "_Job | None") -> None:
        """Draw what there is of a job; from the painter, or from the kernel's thread when nothing runs."""
        view = None if job is None else job.view()
        with self._lock:
            if job is not self._job:
                return
            earlier = [run for run in self.runs if job is None or run is not job.run][-N_FAINT:]
            png = self._canvas.draw(view, earlier)
            self.last = {"state": self.state} | ({} if view is None else view.numbers() | job.measured)
            tables = {} if view is None else view.tables()
            self._show(Picture(self._canvas.figure, self._status(), self.last, tables), png)


_JOBS: weakref.WeakSet["_Job"] = weakref.WeakSet()


@atexit.register
def _end_all_jobs() -> None:
    """A thread must not be inside a computation when Python takes it away."""
    for job in list(_JOBS):
        job.halt.set()
        job.go.set()
    for job in list(_JOBS):
        with contextlib.suppress(TimeoutError):
            job.join(10.0)


class _Job:
    """One training: its worker, its painter, and what they share."""

    def __init__(self, app: TrainingStudio, model: Model, settings: dict[str, Any]):
        self.app, self.model, self.settings = app, model, settings
        self.halt, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.session: TrainingSession | None = None
        self.failure: BaseException | None = None
        self.run: lateral.Run | None = None
        self.measured: dict[str, float] = {}
        self.forgotten = False
        self._steered = (settings["learning_rate"], settings["noise_strength"])
        self._news = threading.Event()
        self.over = threading.Event()
        self._x64 = jax.config.jax_enable_x64  # as a context it holds in one thread only
        _JOBS.add(self)
        self._worker = threading.Thread(target=self._train, name="lateral-worker", daemon=True)
        self._painter = threading.Thread(target=self._draw, name="lateral-painter", daemon=True)

    def begin(self) -> None:
        self._worker.start()
        self._painter.start()

    @property
    def active(self) -> bool:
        return not (self.halt.is_set() or self.over.is_set())

    def steer(self, learning_rate: float, noise_strength: float) -> None:
        self._steered = (learning_rate, noise_strength)

    def join(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in (self._worker, self._painter):
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError(f"the run is still {self.app.state} after {timeout:g} s")

    def view(self) -> "_View | None":
        session = self.session
        return None if session is None else _View.of(session)

    def _train(self) -> None:
        try:
            with jax.enable_x64(self._x64):
                self._train_chunks()
        except BaseException as error:  # shown in the app, raised by join
            self.failure = error
        measured = {}
        try:
            with jax.enable_x64(self._x64):
                measured = self._measure()
        except BaseException as error:
            self.failure = self.failure or error
        self.app._ended(self, self.run, measured)
        self._news.set()

    def _train_chunks(self) -> None:
        settings = self.settings
        self.session = session = TrainingSession(
            settings["method"], self.model, key=jax.random.key(settings["seed"]),
            learning_rate=settings["learning_rate"], n_candidates=self.app._n_candidates,
        )  # fmt: skip
        self._news.set()
        n_epochs, seconds = 1, None
        while session.n_done < settings["n_epochs"]:
            self.go.wait()
            if self.halt.is_set():
                return
            session.learning_rate, session.noise_strength = self._steered
            clock = time.perf_counter()
            n_epochs = min(n_epochs, settings["n_epochs"] - session.n_done)
            session.advance(n_epochs)
            elapsed = (time.perf_counter() - clock) / n_epochs
            # The first chunk compiles: it says nothing about the next.
            n_epochs = 1 if seconds is None else int(np.clip(SECONDS_OF_A_CHUNK / elapsed, 1, CHUNK))
            seconds = elapsed
            self.app._progressed(self)
            self._news.set()

    def _measure(self) -> dict[str, float]:
        """What has come out, on fresh replicates; a run that failed keeps its last good parameters."""
        session = self.session
        if session is None or session.n_done == 0 or self.forgotten:
            return {}
        self.run = run = dataclasses.replace(session.run(), seed=self.settings["seed"])
        # Not `evaluate`: it may warn, and to hold warnings back is not safe in a thread.
        model = dataclasses.replace(run.model, n_replicates=N_FRESH)
        f, key = lateral.tabulate(run.regulatory_function), jax.random.key(2**31 + 1)
        coarse, fine = (
            lateral.estimate_utility(lateral.apply_threshold(final_states(f, model, key, refine=n), model.threshold))
            for n in (1, 4)
        )
        return {
            "fresh_utility": coarse.utility.item(),
            "fresh_utility_se": coarse.utility_se.item(),
            "fresh_utility_refined": fine.utility.item(),
        }

    def _draw(self) -> None:
        try:
            with jax.enable_x64(self._x64):
                while not self.over.is_set():
                    self._news.wait()
                    self._news.clear()
                    clock = time.monotonic()
                    self.app._paint(self)
                    self.over.wait(max(0.0, SECONDS_OF_A_PICTURE - (time.monotonic() - clock)))
                self.app._paint(self)
        except BaseException as error:
            self.failure = self.failure or error
            self.app._fail(error)


@dataclasses.dataclass(frozen=True)
class _View:
    """A training at one moment, as the picture shows it."""

    method: str
    history: dict[str, list[float]]
    neighbour_means: np.ndarray
    rates: np.ndarray
    initial_rates: np.ndarray
    fates: np.ndarray

    @classmethod
    def of(cls, session: TrainingSession) -> "_View":
        params, history = session.params, session.history
        means = np.linspace(0.0, 1.0, 201)
        model = dataclasses.replace(session.model, noise_strength=np.float32(session.noise_strength), n_replicates=40)
        rates, initial, fates = _snapshot(model, params, session.initial_params, means, jax.random.key(1))
        return cls(session.method, history, means, *(np.asarray(x) for x in (rates, initial, fates)))

    def numbers(self) -> dict[str, Any]:
        if not self.history:
            return {}
        numbers = {"epoch": len(self.history["utility"])}
        numbers |= {name: values[-1] for name, values in self.history.items()}
        return numbers | {"found": what_was_found(numbers["utility"], numbers["alternation"])}

    def tables(self) -> dict[str, dict]:
        rule = {"neighbour_mean": self.neighbour_means, "rate": self.rates, "initial_rate": self.initial_rates}
        fates = {f"cell_{i + 1}": column for i, column in enumerate(self.fates.astype(int).T)}
        n_epochs = len(self.history.get("utility", ()))
        return {"history": {"epoch": range(1, n_epochs + 1)} | self.history, "rule": rule, "fates": fates}


@jax.jit
def _snapshot(model, params, initial_params, means, key):
    f = lateral.RegulatoryFunction(model.network, params)
    initial = lateral.RegulatoryFunction(model.network, initial_params)
    fates = lateral.apply_threshold(final_states(f, model, key), model.threshold)
    return f(means), initial(means), fates


class _Canvas:
    """The four panels of the studio, updated in place.

    What does not move (axes, labels, earlier runs) is drawn once and kept as pixels; a picture puts it back and draws
    the few things that do. That takes a tenth of the time of drawing everything.
    """

    def __init__(self):
        self.figure, axes = plotting.new_figure(2, 2, width=9.0, height=5.6)
        (self._curve, self._rule), (self._norm, self._fates) = axes
        colours = plotting.COLOURS
        self._curve.set(ylabel="U (bits per cell); share", ylim=(-0.05, 1.05))
        self._norm.set(xlabel="epoch or generation", ylabel="gradient norm", yscale="log", ylim=(1e-4, 1e2))
        self._rule.set(xlabel="neighbour mean s̄", ylabel="rate f(s̄) (1 / time)", xlim=(0, 1), ylim=(-5.5, 5.5))
        self._fates.set(xlabel="cell", ylabel="replicate")
        (self._utility,) = self._curve.plot([], [], color=colours[0], label="U of the epoch's replicates")
        (self._alternation,) = self._curve.plot([], [], color=colours[4], ls=":", label="alternation")
        self._curve.plot([], [], color="0.75", label="earlier runs")
        (self._gradient,) = self._norm.plot([], [], color=colours[1])
        means = np.linspace(0.0, 1.0, 201)
        self._rule.axhline(0.0, color="grey", lw=0.8, ls=":")
        self._rule.plot(means, lateral.TanhInhibition()(means), color=colours[6], ls="--", lw=1, label="tanh target")
        (self._initial,) = self._rule.plot([], [], color=colours[5], lw=1.2, label="before training")
        (self._learned,) = self._rule.plot([], [], color=colours[0], lw=2, label="learned")
        self._curve.legend(loc="lower right", fontsize=8)
        self._rule.legend(loc="upper right", fontsize=8)
        self._picture = None
        # With a place of their own: matplotlib finds one only when it draws the whole axes.
        titles = [ax.set_title("title", fontsize=10, y=1.02) for ax in axes.flat]
        self._title_of = dict(zip(("curve", "rule", "norm", "fates"), titles, strict=True))
        self._no_gradient = self._norm.text(0.5, 0.5, "", ha="center", transform=self._norm.transAxes, color="dimgrey")
        self._moving = [self._utility, self._alternation, self._gradient, self._initial, self._learned,
                        self._no_gradient, *titles]  # fmt: skip
        self._faint, self._marks = [], []
        self._pixels, self._drawn_for = None, None
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        self._agg = FigureCanvasAgg(self.figure)

    def draw(self, view: _View | None, earlier: list) -> bytes:
        """PNG of a training, None for none yet, before the runs of old."""
        self._update(view)
        limit = self._limit(view, earlier)
        fixed = (limit, tuple(map(id, earlier)), None if view is None else view.fates.shape)
        if fixed != self._drawn_for:
            self._draw_fixed(view, earlier, limit)
            self._drawn_for = fixed
        self._agg.restore_region(self._pixels)
        renderer = self._agg.get_renderer()
        for artist in ([self._picture] if self._picture is not None else []) + self._moving + self._marks:
            artist.draw(renderer)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self._agg.buffer_rgba())).convert("RGB").save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    def _update(self, view: _View | None) -> None:
        history = {} if view is None else view.history
        n_epochs = len(history.get("utility", ()))
        epochs = np.arange(1, n_epochs + 1)
        self._utility.set_data(epochs, history.get("utility", []))
        self._alternation.set_data(epochs, history.get("alternation", []))
        norms = history.get("gradient_norm", [])
        self._gradient.set_data(epochs[: len(norms)], np.maximum(norms, 1e-4))
        self._no_gradient.set_text("evolution needs no gradient" if n_epochs and not norms else "")
        for line, rates in ((self._initial, "initial_rates"), (self._learned, "rates")):
            line.set_data(([], []) if view is None else (view.neighbour_means, getattr(view, rates)))
        self._title_of["norm"].set_text(f"Gradient norm {norms[-1]:.2g}" if norms else "Gradient norm")
        self._title_of["rule"].set_text("The rule")
        for mark in self._marks:
            mark.remove()
        self._marks = [self._curve.axvline(epoch, color="grey", lw=0.8, ls=":") for epoch in _changes(history)]
        if not n_epochs:
            self._title_of["curve"].set_text("Training: press Start")
            self._title_of["fates"].set_text("Fates of 40 tissues")
        else:
            utility, alternation = history["utility"][-1], history["alternation"][-1]
            found = {"pattern": "patterns", "consensus": "CONSENSUS, no pattern", "nothing": "nothing yet"}
            unit = "generation" if view.method == "evolution" else "epoch"
            moved = ", dotted: a slider was moved" if self._marks else ""
            self._title_of["curve"].set_text(f"U = {utility:.3f} at {unit} {n_epochs}{moved}")
            self._title_of["fates"].set_text(
                f"Alternation {alternation:.2f}: {found[what_was_found(utility, alternation)]}"
            )
        if view is not None and self._picture is not None and self._picture.get_array().shape == view.fates.shape:
            self._picture.set_data(view.fates)

    @staticmethod
    def _limit(view: _View | None, earlier: list) -> int:
        """End of the axis of epochs: doubles, so that the axes rarely move."""
        lengths = [len(run.history["utility"]) for run in earlier]
        longest = max([50, *lengths, len(view.history.get("utility", ())) if view is not None else 0])
        return int(50 * 2 ** np.ceil(np.log2(longest / 50)))

    def _draw_fixed(self, view: _View | None, earlier: list, limit: int) -> None:
        for line in self._faint:
            line.remove()
        self._faint = []
        for run in earlier:
            epochs = np.arange(1, len(run.history["utility"]) + 1)
            means = np.linspace(0.0, 1.0, 101)
            style = {"color": "0.75", "lw": 0.9, "zorder": 1}
            self._faint += self._curve.plot(epochs, run.history["utility"], **style)
            self._faint += self._rule.plot(means, np.asarray(run.regulatory_function(means)), **style)
            if "gradient_norm" in run.history:
                self._faint += self._norm.plot(epochs, np.maximum(run.history["gradient_norm"], 1e-4), **style)
        for ax in (self._curve, self._norm):
            ax.set_xlim(0, limit)
        if view is not None:
            n_shown, n_cells = view.fates.shape
            if self._picture is not None:
                self._picture.remove()
            self._picture = self._fates.imshow(
                view.fates, aspect="auto", interpolation="nearest", cmap=plotting.FATE_COLOURS, vmin=0, vmax=1,
                extent=(0.5, n_cells + 0.5, n_shown + 0.5, 0.5),
            )  # fmt: skip
        moving = self._moving + self._marks + ([self._picture] if self._picture is not None else [])
        for artist in moving:
            artist.set_visible(False)
        self._agg.draw()
        self._pixels = self._agg.copy_from_bbox(self.figure.bbox)
        for artist in moving:
            artist.set_visible(True)


def _changes(history: dict[str, list[float]]) -> np.ndarray:
    """Epochs from which on learning rate or noise was another."""
    steered = np.array([history.get("learning_rate", []), history.get("noise_strength", [])])
    return 1 + np.flatnonzero((np.diff(steered, axis=1) != 0.0).any(axis=0)) + 0.5
