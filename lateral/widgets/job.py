"""One training of the studio, in two threads of its own.

A worker trains a chunk of epochs at a time and looks in between at what it is told; chunks are kept near a tenth of a
second, so that a moved slider or Stop is answered at once. When the training has ended, the worker measures what has
come out. A painter has the news drawn, a few times a second, and takes a tenth of a core for it.
"""

import atexit
import contextlib
import dataclasses
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import lateral
from lateral.evaluation import fresh_estimates
from lateral.model import Model
from lateral.threads import at_this_precision
from lateral.training.session import CHUNK, TrainingSession

__all__ = ["N_FRESH", "STARTS", "Job", "first_parameters"]

SECONDS_OF_A_CHUNK = 0.1
SECONDS_OF_A_PICTURE = 0.15  # or more, so that
SHARE_OF_PICTURES = 0.1  # of a core goes to drawing; the training needs the others
N_FRESH = 4000
STARTS = {"best random rule": "best", "poor rule": "poor"}


def first_parameters(network: Any, settings: Mapping[str, Any]) -> Any:
    """Random parameters; for a poor start with a tenth of the output.

    Cells then feel each other so little that their fates are coins. Rules that switch all cells on score 0 too, but no
    replicate would differ from the others, and no gradient could tell what helps.
    """
    params = network.init(jax.random.key(settings["seed"]))
    if settings["start_from"] == "best":
        return params
    *layers, last = params if isinstance(params, tuple) else (params,)
    last = jax.tree.map(lambda leaf: 0.1 * leaf, last)
    return (*layers, last) if isinstance(params, tuple) else last


class Job:
    """One training: its worker, its painter, and what they share.

    Args:
        model: what is trained.
        settings: `method`, `learning_rate`, `noise_strength`, `n_epochs`, `seed` and `start_from`
            (a value of `STARTS`).
        n_candidates: random networks among which the best is looked for.
        on_chunk, on_end: called by the worker with this job, after each chunk and when all is over. `on_end` may set
            `over`, under a lock of its own; else it is set right after.
        on_news: called by the painter with this job when there is something new to draw, at last after the end.
        on_error: called by the painter with this job and the error when a picture could not be drawn, which ends it.

    Attributes:
        session: the `TrainingSession`, or None as long as it is not made.
        run: the `Run` that came out, or None as long as it trains.
        measured: numbers of the run on fresh replicates: `fresh_utility`, its `fresh_utility_se`,
            `fresh_utility_refined`, the same at a quarter of the time step, and `fresh_noise_strength`, the noise of
            all three; if another noise was set at the start, that and the utility there, `start_noise_strength` and
            `start_noise_utility`.
        failure: the first error, or None.
        forgotten: nothing that comes out is wanted any more.
        over: is set when the run has ended and is measured.
    """

    def __init__(
        self,
        model: Model,
        settings: dict[str, Any],
        *,
        n_candidates: int,
        on_chunk: Callable,
        on_end: Callable,
        on_news: Callable,
        on_error: Callable,
    ):
        self.model, self.settings = model, settings
        self.session: TrainingSession | None = None
        self.run: lateral.Run | None = None
        self.measured: dict[str, float] = {}
        self.failure: BaseException | None = None
        self.forgotten = False
        self.over = threading.Event()
        self._n_candidates = n_candidates
        self._on_chunk, self._on_end, self._on_news, self._on_error = on_chunk, on_end, on_news, on_error
        self._steered = (settings["learning_rate"], settings["noise_strength"])
        self._halt, self._go, self._news = threading.Event(), threading.Event(), threading.Event()
        self._go.set()
        _JOBS.add(self)
        self._worker = threading.Thread(target=at_this_precision(self._work), name="lateral-worker", daemon=True)
        self._painter = threading.Thread(target=at_this_precision(self._draw), name="lateral-painter", daemon=True)

    @property
    def n_done(self) -> int:
        """Epochs or generations so far."""
        session = self.session
        return 0 if session is None else session.n_done

    @property
    def complete(self) -> bool:
        """Whether it has trained as long as it should."""
        return self.n_done >= self.settings["n_epochs"]

    @property
    def active(self) -> bool:
        """Whether it goes on training, now or after a pause."""
        return not (self._halt.is_set() or self.over.is_set())

    def begin(self) -> None:
        """Start both threads."""
        self._worker.start()
        self._painter.start()

    def pause(self) -> None:
        """Hold it after the chunk under way."""
        self._go.clear()

    def resume(self) -> None:
        """Go on after a pause."""
        self._go.set()

    def stop(self) -> None:
        """End it after the chunk under way, and measure it."""
        self._halt.set()
        self._go.set()

    def forget(self) -> None:
        """End it after the chunk under way, and keep nothing."""
        self.forgotten = True
        self.stop()

    def steer(self, learning_rate: float, noise_strength: float) -> None:
        """Learning rate and noise from the next chunk on."""
        self._steered = (learning_rate, noise_strength)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it is over and its last picture is drawn; False if it is not after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in (self._worker, self._painter):
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                return False
        return True

    def _work(self) -> None:
        for step in (self._train, self._measure):
            try:
                step()
            except BaseException as error:  # shown in the app, raised by its `join`
                self.failure = self.failure or error
        try:
            self._on_end(self)
        finally:
            self.over.set()
            self._news.set()

    def _train(self) -> None:
        settings = self.settings
        poor = settings["start_from"] == "poor"
        self.session = session = TrainingSession(
            settings["method"], self.model, key=jax.random.key(settings["seed"]),
            learning_rate=settings["learning_rate"], n_candidates=self._n_candidates,
            initial_params=first_parameters(self.model.network, settings) if poor else None,
        )  # fmt: skip
        self._news.set()
        n_epochs, seconds = 1, None
        while session.n_done < settings["n_epochs"]:
            self._go.wait()
            if self._halt.is_set():
                return
            session.learning_rate, session.noise_strength = self._steered
            clock = time.perf_counter()
            n_epochs = min(n_epochs, settings["n_epochs"] - session.n_done)
            session.advance(n_epochs)
            elapsed = (time.perf_counter() - clock) / n_epochs
            # The first chunk compiles: it says nothing about the next.
            n_epochs = 1 if seconds is None else int(np.clip(SECONDS_OF_A_CHUNK / elapsed, 1, CHUNK))
            seconds = elapsed
            self._on_chunk(self)
            self._news.set()

    def _measure(self) -> None:
        """What has come out, on fresh replicates; a run that failed keeps its last good parameters."""
        if self.n_done == 0 or self.forgotten:
            return
        self.run = run = dataclasses.replace(self.session.run(), seed=self.settings["seed"])
        # Not `evaluate`: it may warn, and to hold warnings back is not safe in a thread.
        model = dataclasses.replace(run.model, n_replicates=N_FRESH)
        f, key = lateral.tabulate(run.regulatory_function), jax.random.key(2**31 + 1)
        coarse, fine = fresh_estimates(f, model, key)
        measured = {
            "fresh_utility": coarse.utility.item(),
            "fresh_utility_se": coarse.utility_se.item(),
            "fresh_utility_refined": fine.utility.item(),
            "fresh_noise_strength": float(model.noise_strength),
        }
        # More noise may flatter: compare at the noise of the start too.
        at_start = float(self.model.noise_strength)
        if at_start != measured["fresh_noise_strength"]:
            estimate, _ = fresh_estimates(f, model.changed(noise_strength=at_start), key)
            measured |= {"start_noise_strength": at_start, "start_noise_utility": estimate.utility.item()}
        self.measured = measured

    def _draw(self) -> None:
        try:
            while not self.over.is_set():
                self._news.wait()
                self._news.clear()
                clock, work = time.monotonic(), time.thread_time()
                self._on_news(self)
                period = max(SECONDS_OF_A_PICTURE, (time.thread_time() - work) / SHARE_OF_PICTURES)
                self.over.wait(max(0.0, period - (time.monotonic() - clock)))
            self._on_news(self)
        except BaseException as error:
            self.failure = self.failure or error
            self.stop()
            self._on_error(self, error)


_JOBS: weakref.WeakSet[Job] = weakref.WeakSet()


@atexit.register
def _end_all_jobs() -> None:
    """A thread must not be inside a computation when Python takes it away."""
    for job in list(_JOBS):
        job.forget()
    deadline = time.monotonic() + 4.0  # a server kills a kernel that takes longer
    for job in list(_JOBS):
        with contextlib.suppress(RuntimeError):  # one that has not begun
            job.join(max(0.0, deadline - time.monotonic()))
