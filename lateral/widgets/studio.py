"""Training studio: a training that is watched and steered while it runs (notebooks 04 and 05).

Three threads share one app. The kernel's own thread handles controls and stays free; the two of a `Job` train and
draw, the latter by updating the figure in place. The app shows the job that is its current one, and no other: a job
that was stopped may still be finishing its chunk when the next one has begun.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets

import lateral
from lateral.checks import check_choice
from lateral.model import Model, check_model
from lateral.objective import OBJECTIVES
from lateral.presets import MAX_RATE
from lateral.relaxation import exact_relaxation
from lateral.training.session import ALGORITHMS, SESSION_METHODS
from lateral.widgets.base import App, Picture, error_text
from lateral.widgets.canvas import Canvas, View
from lateral.widgets.controls import choice, seed_field, slider
from lateral.widgets.job import STARTS, Job, first_parameters
from lateral.widgets.status import status_line

__all__ = ["NETWORKS", "TrainingStudio"]

NETWORKS = {
    # Those of the recipe are for its second half: from a random start the pathwise gradient overflows.
    "bumps": lateral.RBFNetwork(21, 0.6),
    "perceptron": lateral.MLP(max_rate=MAX_RATE),
}
# What a method learns well with; for evolution the standard deviation of a mutation.
LEARNING_RATES = {
    "evolution": 0.3,
    "pathwise": 0.03,
    "score": 0.3,
    "value-gradient": 0.2,
    "finite-differences": 0.1,
    "combination": 0.1,
}
N_FAINT = 6  # earlier runs that stay in the picture
BUTTONS = {
    "start": ("Start", "play", "start a run, or go on after a pause"),
    "pause": ("Pause", "pause", "hold the run"),
    "stop": ("Stop", "stop", "end the run, measure it and keep it"),
    "reset": ("Reset", "refresh", "forget all runs"),
}


class TrainingStudio(App):
    """Train a rule, watch it learn, and turn learning rate and noise while it does.

    `start()`, `pause()`, `stop()` and `reset()` are the buttons; `start` also goes on after a pause. `join()` waits for
    the end and raises what went wrong. A run that ends, by itself or by `stop`, is measured on fresh replicates, kept
    in `runs`, and stays in the picture as a faint curve. Learning rate and noise take effect in the next chunk of
    epochs; all other controls when the next run starts.

    Args:
        model: the tissue that is trained, by default seven cells; network, noise, replicates and objective come from
            the controls.
        method: `"evolution"` or one of `lateral.training.estimators.ESTIMATORS`.
        network: `"bumps"` (an `RBFNetwork`) or `"perceptron"` (an `MLP`), both with |f| <= 5.
        learning_rate: Adam's step; for evolution the standard deviation of a mutation. By default what suits the
            method, to which the slider goes when another method is chosen.
        noise_strength, n_replicates, objective: see `Model`.
        n_epochs: a run ends after so many epochs or generations.
        start_from: `"best"` of `n_candidates` random networks, or `"poor"`, one that does next to nothing: U then
            rises from near 0.
        seed: of the random networks and of all noise.

    Attributes:
        job: the run that is under way, or else the last; None before the first.
        runs: what came out, a `Run` each, the latest last.
        last: numbers of the latest picture: `state`, `epoch`, `utility` (of the epoch's replicates; of evolution that
            of the best network), `alternation`, `gradient_norm`, `found`; after the end also `fresh_utility`, its
            `fresh_utility_se`, and `fresh_utility_refined`, the same at a quarter of the time step, on 4,000 fresh
            replicates at `fresh_noise_strength`; and where the noise was turned, `start_noise_utility` at
            `start_noise_strength`.
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
        start_from: str = "best",
        n_candidates: int = 16,
        seed: int = 0,
    ):
        self._base = Model() if model is None else check_model(model)
        check_choice("method", method, SESSION_METHODS)
        check_choice("network", network, NETWORKS)
        self._n_candidates = n_candidates
        self.runs: list[lateral.Run] = []
        self.state = "ready"
        self.job: Job | None = None
        self._unfinished: set[Job] = set()  # a stopped one may still be measured when the next has begun
        self._canvas = Canvas()
        self.buttons = {
            name: ipywidgets.Button(description=text, icon=icon, tooltip=tip, layout={"width": "100px"})
            for name, (text, icon, tip) in BUTTONS.items()
        }
        self.save_button = ipywidgets.Button(
            description="Save run", icon="save", tooltip="the latest run as .npz", layout={"width": "110px"}
        )
        rate = LEARNING_RATES[method] if learning_rate is None else learning_rate
        controls = {
            "noise_strength": slider(
                0.02, 0.6, noise_strength, 0.02, label="noise σ (state/√time)", name="noise_strength"
            ),
            "objective": choice(tuple(OBJECTIVES), objective, name="objective"),
            "method": choice(SESSION_METHODS, method),
            "network": choice(tuple(NETWORKS), network),
            "learning_rate": slider(1e-3, 1.0, rate, 0.05, log=True, label="learning rate", name="learning_rate"),
            "n_replicates": choice((50, 128, 256, 512, 1024), n_replicates, label="replicates R", name="n_replicates"),
            "start_from": choice(tuple(STARTS.items()), start_from, label="start from", name="start_from"),
            "n_epochs": slider(10, 1000, n_epochs, 10, label="epochs of a run", name="n_epochs"),
            "seed": seed_field(seed),
        }
        super().__init__(controls, [*self.buttons.values(), self.save_button])
        self._suited_for = method
        self._name_after_method()
        self._listen()
        self._enter("ready")
        self._paint(None)

    # --- what a user, or a script, does

    def start(self) -> None:
        """Start a run from a random network, or go on after a pause; nothing while one is running."""
        with self._lock:
            if self.job is not None and self.job.active:
                self.job.resume()
                if self.state == "paused":
                    self._enter("training" if self.job.n_done else "compiling")
                return
            if self._suited_for != self.controls["method"].value:  # chosen while another run was under way
                self._suit_the_rate()
            settings = self.values()
            self.error, self.last = None, {}
            self.job = Job(
                self._model(settings), settings, n_candidates=self._n_candidates, on_chunk=self._progressed,
                on_end=self._ended, on_news=self._paint, on_error=self._could_not_paint,
            )  # fmt: skip
            self._unfinished.add(self.job)
            self._enter("compiling")
            self.job.begin()

    def pause(self) -> None:
        """Hold the run after the chunk under way; `start` goes on."""
        with self._lock:
            if self.state in ("compiling", "training"):
                self.job.pause()
                self._enter("paused")

    def stop(self) -> None:
        """End the run after the chunk under way, measure it and keep it."""
        with self._lock:
            if self.job is not None and self.job.active:
                self.job.stop()
                self._enter("stopped")

    def reset(self) -> None:
        """End and forget all runs."""
        with self._lock:
            for job in self._unfinished:
                job.forget()
            self.job, self.error, self.last = None, None, {}
            self.runs.clear()
            self._enter("ready")
            self._paint(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the run has ended and its last picture is drawn.

        Raises:
            TimeoutError: if it has not after `timeout` seconds, or is paused.
            Exception: what the run failed with.
        """
        job = self.job
        if job is None:
            return
        if self.state == "paused":
            raise TimeoutError("the run is paused: start() goes on, stop() ends it")
        if not job.join(timeout):
            raise TimeoutError(f"the run is still {self.state} after {timeout:g} s")
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

    def _listen(self) -> None:
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self._click(name))
        self.save_button.on_click(lambda _: self._save_next(self.save, "run", "npz"))
        for name in ("noise_strength", "learning_rate"):
            self.controls[name].observe(self._steer, names="value")
        self.controls["method"].observe(self._suit_the_rate, names="value")
        for name in ("method", "network", "noise_strength", "seed", "start_from"):
            self.controls[name].observe(self._open, names="value")
        for control in self.controls.values():
            control.observe(self._say_what_waits, names="value")

    def _open(self, _change=None) -> None:
        """Before the first run the picture is that of a random rule."""
        with self._lock:
            if self.job is None:
                self._paint(None)

    def _say_what_waits(self, _change=None) -> None:
        """After it the picture stays until the next Start."""
        with self._lock:
            if self.job is not None:
                self._line.value = self._status()

    def _page_changed(self, _change=None) -> None:
        with self._lock:
            self._canvas = Canvas(narrow=self._page.narrow)
        self._paint(self.job)

    def _before(self) -> View:
        settings = self.values()
        model, unit = self._model(settings), ALGORITHMS[settings["method"]]().unit
        return View.before(model, unit, first_parameters(model.network, settings))

    def _model(self, settings: Mapping[str, Any]) -> Model:
        return dataclasses.replace(
            self._base,
            network=NETWORKS[settings["network"]],
            noise_strength=settings["noise_strength"],
            n_replicates=settings["n_replicates"],
            objective=settings["objective"],
            relaxation=exact_relaxation(self._base.n_cells),
        )

    def _click(self, name: str) -> None:
        try:
            getattr(self, name)()
        except Exception as error:  # a button has no caller to raise to
            self._fail(error)

    def _steer(self, _change=None) -> None:
        with self._lock:
            job = self.job
            if job is not None and job.active:
                job.steer(self.learning_rate.value, self.noise_strength.value)

    def _suit_the_rate(self, _change=None) -> None:
        if self.job is None or not self.job.active:  # a run under way keeps its own
            self._suited_for = self.controls["method"].value
            self.controls["learning_rate"].value = LEARNING_RATES[self._suited_for]
            self._name_after_method()

    def _name_after_method(self) -> None:
        evolves = self.controls["method"].value == "evolution"
        self.controls["learning_rate"].description = "mutation strength" if evolves else "learning rate"
        self.controls["n_epochs"].description = "generations of a run" if evolves else "epochs of a run"

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
        session = None if self.job is None else self.job.session
        unit = None if session is None else session.algorithm.unit
        return status_line(self.state, self.last, unit, self.controls["start_from"].value, self._waiting())

    def _waiting(self) -> list[str]:
        """The controls that were moved and that the run shown knows nothing of."""
        if self.job is None:
            return []
        at_once = {"noise_strength", "learning_rate"} if self.job.active else set()
        moved = (name for name, value in self.values().items() if value != self.job.settings[name])
        return [self.controls[name].description for name in moved if name not in at_once]

    def _progressed(self, job: Job) -> None:
        """From the worker: a chunk is done."""
        if self.state != "compiling":
            return  # without the lock, for which the worker would wait while a picture is drawn
        with self._lock:
            if job is self.job and self.state == "compiling":
                self._enter("training")

    def _ended(self, job: Job) -> None:
        """From the worker: the run is over."""
        with self._lock:
            job.over.set()
            self._unfinished.discard(job)
            if job.forgotten:
                return
            if job.run is not None:
                self.runs.append(job.run)
                self.save_button.disabled = False
            if job is self.job:
                self.error = job.failure
                self._enter("failed" if job.failure else "finished" if job.complete else "stopped")

    def _paint(self, job: Job | None) -> None:
        """Draw what there is of a job; from the painter, or from the kernel's thread when nothing runs."""
        if job is not self.job:
            return
        session = None if job is None else job.session
        view = self._before() if session is None else View.of(session)
        with self._lock:
            if job is not self.job:
                return
            earlier = [run for run in self.runs if job is None or run is not job.run][-N_FAINT:]
            png = self._canvas.draw(view, earlier, dark=self._page.dark)
            numbers, tables = view.numbers(), view.tables()
            measured = job.measured if job is not None and job.over.is_set() else {}
            self.last = {"state": self.state} | numbers | measured
            self._show(Picture(self._canvas.figure, self._status(), self.last, tables), png)

    def _could_not_paint(self, job: Job, error: BaseException) -> None:
        """From the painter."""
        with self._lock:
            if job is self.job:
                self._fail(error)
