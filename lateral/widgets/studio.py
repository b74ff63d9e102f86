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
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import ipywidgets
import jax
import numpy as np

import lateral
from lateral._checks import check_choice
from lateral.model import OBJECTIVES, Model, check_model, final_states
from lateral.presets import MAX_RATE
from lateral.session import CHUNK, SESSION_METHODS, TrainingSession
from lateral.utility import MAX_CELLS_BERNOULLI
from lateral.widgets.base import App, Picture, choice, error_text, seed_field, slider
from lateral.widgets.canvas import Canvas, View

__all__ = ["TrainingStudio"]

NETWORKS = ("bumps", "perceptron")
# What a method learns well with; for evolution the standard deviation of a mutation.
LEARNING_RATES = {"evolution": 0.3, "pathwise": 0.03, "score": 0.3, "finite-differences": 0.1, "combination": 0.1}
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
        learning_rate: Adam's step; for evolution the standard deviation of a mutation. By default what suits the
            method, to which the slider goes when another method is chosen.
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
        learning_rate: float | None = None,
        noise_strength: float = 0.1,
        n_replicates: int = 256,
        objective: str = "tissue",
        n_epochs: int = 300,
        n_candidates: int = 16,
        seed: int = 0,
    ):
        self._base = Model() if model is None else check_model(model)
        check_choice("method", method, SESSION_METHODS)
        check_choice("network", network, NETWORKS)
        self._n_candidates = n_candidates
        self.runs: list[lateral.Run] = []
        self.state = "ready"
        self._job: _Job | None = None
        self._unfinished: set[_Job] = set()  # a stopped one may still be measured when the next has begun
        self._canvas = Canvas()
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
                "learning_rate": slider(
                    1e-3,
                    1.0,
                    LEARNING_RATES[method] if learning_rate is None else learning_rate,
                    0.05,
                    log=True,
                    label="learning rate",
                ),
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
        self.controls["method"].observe(self._suit_the_rate, names="value")
        self._suited_for = method
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
                    self._enter(
                        "training" if self._job.session is not None and self._job.session.n_done else "compiling"
                    )
                return
            if self._suited_for != self.controls["method"].value:  # chosen while another run was under way
                self._suit_the_rate()
            settings = self.values()
            network = {
                # Those of the recipe are for its second half: from a random start the pathwise gradient overflows.
                "bumps": lateral.RBFNetwork(21, 0.6),
                "perceptron": lateral.MLP(max_rate=MAX_RATE),
            }[settings["network"]]
            model = dataclasses.replace(
                self._base,
                network=network,
                noise_strength=settings["noise_strength"],
                n_replicates=settings["n_replicates"],
                objective=settings["objective"],
                relaxation="bernoulli" if self._base.n_cells <= MAX_CELLS_BERNOULLI else "pairwise",
            )
            self.error, self.last = None, {}
            self._job = _Job(self, model, settings)
            self._unfinished.add(self._job)
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
            for job in self._unfinished:
                job.forget()
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

    def close(self) -> None:
        """End what runs, and take the app from the page. Python calls it too when the app is forgotten or half made."""
        for job in list(getattr(self, "_unfinished", ())):
            job.forget()
        super().close()

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

    def _suit_the_rate(self, _change=None) -> None:
        if self._job is None or not self._job.active:  # a run under way keeps its own
            self._suited_for = self.controls["method"].value
            self.controls["learning_rate"].value = LEARNING_RATES[self._suited_for]
            self._name_the_rate()

    def _name_the_rate(self) -> None:
        rate = self.controls["learning_rate"]
        rate.description = "mutation strength" if self.controls["method"].value == "evolution" else "learning rate"

    def _save_next(self) -> None:
        number = 1
        while Path(f"run-{number}.npz").exists():
            number += 1
        try:
            self._saved.value = f"saved <code>{self.save(f'run-{number}.npz')}</code>"
        except Exception as error:
            self._saved.value = error_text(error)

    def _enter(self, state: str) -> None:
        self.state = state
        self.last = self.last | {"state": state}
        running = state in ("compiling", "training")
        self.buttons["start"].disabled = running
        self.buttons["pause"].disabled = not running
        self.buttons["stop"].disabled = not (running or state == "paused")
        self.save_button.disabled = not self.runs
        self._line.value = self._status()

    def _status(self) -> str:
        if self.error is not None:
            return error_text(self.error)
        words = {"ready": "ready: Start trains from a random network", "compiling": "<i>compiling …</i>"}
        parts = [words.get(self.state, self.state)]
        if "epoch" in self.last and self.state != "ready":
            evolved = self._job is not None and self._job.settings["method"] == "evolution"
            what = "generation {}, best objective" if evolved else "epoch {}, U"
            parts.append(
                f"{what.format(self.last['epoch'])} = {self.last['utility']:.3f} on its own replicates, alternation "
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
            self._unfinished.discard(job)
            if job.forgotten:
                return
            if run is not None:
                self.runs.append(run)
                self.save_button.disabled = False
            if job is self._job:
                self.error = job.failure
                job.measured = measured
                self._enter("failed" if job.failure else "finished" if job.complete else "stopped")

    def _paint(self, job: "_Job | None") -> None:
        """Draw what there is of a job; from the painter, or from the kernel's thread when nothing runs."""
        if job is not self._job:
            return
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
        job.forget()
    deadline = time.monotonic() + 4.0  # a server kills a kernel that takes longer
    for job in list(_JOBS):
        with contextlib.suppress(TimeoutError, RuntimeError):
            job.join(max(0.0, deadline - time.monotonic()))


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

    def forget(self) -> None:
        """End it after the chunk under way, and keep nothing."""
        self.forgotten = True
        self.halt.set()
        self.go.set()

    @property
    def complete(self) -> bool:
        return self.session is not None and self.session.n_done >= self.settings["n_epochs"]

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

    def view(self) -> "View | None":
        session = self.session
        return None if session is None else View.of(session)

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
        try:
            self.app._ended(self, self.run, measured)
        finally:
            self.over.set()
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
            self.halt.set()
            self.go.set()
            with self.app._lock:
                if self.app._job is self:
                    self.app._fail(error)
