"""The driver: one loop for every algorithm, a chunk of steps at a time.

An algorithm is a value with two pure functions, as in optax: `init` makes a state, `step` makes the next one and a
record of numbers. The driver calls `step` in jitted chunks, keeps the history, stops where a number is not finite, and
can be stopped, looked at and steered between two chunks. How the steps are cut into chunks changes nothing: what is
random in a step depends on the key and the number of the step alone.
"""

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lateral.checks import check_key, check_size
from lateral.fields import recorded
from lateral.model import Model, check_model
from lateral.network import initial_parameters
from lateral.runs import Run, check_storable
from lateral.static import as_floats
from lateral.threads import n_shares
from lateral.training.checkpoint import Checkpoint, identity_of
from lateral.training.chunk import SKIP, run_chunk, run_in_shares
from lateral.training.fresh import Checks
from lateral.training.watch import Watch

__all__ = [
    "Algorithm",
    "At",
    "PopulationAlgorithm",
    "Training",
    "TrainingDiverged",
    "advance_to",
    "first_parameters",
    "train",
]


@runtime_checkable
class Algorithm(Protocol):
    """How a network is trained: settings (decorated with `lateral.fields.settings`) and pure functions of a state.

    Attributes:
        method: what a `Run` calls it.
        unit: what a step is called, `"epoch"` or `"generation"`.
        steered: the setting that may change from step to step, besides the numbers of the model.
    """

    method: str
    unit: str
    steered: str

    def init(self, network: Any, key: Array, params: Any = None) -> Any:
        """The state to start from: around `params`, or drawn by `network.init`."""

    def step(self, state: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        """The next state, and numbers to record: at least `utility` and `alternation`."""

    def params(self, state: Any) -> Any:
        """The parameters that a state stands for."""

    def work(self, model: Model) -> int:
        """Cell updates that a step simulates; a step back through a simulation counts two."""


@runtime_checkable
class PopulationAlgorithm(Algorithm, Protocol):
    """An algorithm whose step consists of three parts, of which threads share the second."""

    def breed(self, state: Any, key: Array) -> tuple[Any, Array]:
        """The networks to score, with a leading axis on every leaf, and the random key of their tissues."""

    def fates(self, population: Any, model: Model, key: Array) -> Any:
        """Fates of the tissues of each network; arrays with the same leading axis."""

    def choose(self, state: Any, population: Any, fates: Any, model: Model) -> tuple[Any, dict[str, Array]]:
        """What `step` returns."""


class TrainingDiverged(FloatingPointError):
    """A step was no longer finite, for instance the loss or its gradient.

    Attributes:
        run: the `Run` up to that epoch, with the last good parameters; nothing is lost.
        epoch: the epoch (from 0) at which it happened.
    """

    def __init__(self, message: str, run: Run, epoch: int):
        super().__init__(message, run, epoch)
        self.run = run
        self.epoch = epoch

    def __str__(self):
        return self.args[0]


class At(NamedTuple):
    """Where a training stands: kept together, so that an interruption leaves all of it or the one before.

    Attributes:
        carry: the state, the state before the last good step, and whether the last step was good.
        n_done: steps so far.
        records: what each chunk recorded.
    """

    carry: tuple
    n_done: int
    records: tuple[dict[str, np.ndarray], ...]

    @property
    def history(self) -> dict[str, np.ndarray]:
        """What was recorded, one number for each step."""
        records = self.records
        return {name: np.concatenate([record[name] for record in records]) for name in records[0]} if records else {}


class Training:
    """A training in hand, advanced a chunk at a time.

    Attributes:
        algorithm, model: what trains what.
        initial_params: where it started.
        at: where it stands.
    """

    def __init__(self, algorithm: Algorithm, model: Model, state: Any, key: Array):
        self.algorithm, self.model, self._key = algorithm, model, key
        self.at = At((state, state, jnp.array(True)), 0, ())
        self.initial_params = algorithm.params(state)
        check_storable(self.initial_params, model.network)

    @property
    def n_done(self) -> int:
        """Steps so far."""
        return self.at.n_done

    @property
    def finite(self) -> bool:
        """Whether the last step was finite; a training in which it was not goes no further."""
        return bool(self.at.carry[2])

    @property
    def state(self) -> Any:
        """The state of the algorithm after the last step that was finite."""
        return self.at.carry[0]

    @property
    def params(self) -> Any:
        """The current parameters.

        After a step that was not finite, these are the parameters from before the last good step. That step was finite
        itself, but it led to the parameters that failed, and may be at fault.
        """
        state, before, _ = self.at.carry
        return self.algorithm.params(state if self.finite else before)

    @property
    def history(self) -> dict[str, np.ndarray]:
        """What was recorded, one number for each step."""
        return self.at.history

    @property
    def work(self) -> int:
        """Cell updates of the steps so far."""
        return self.n_done * self.algorithm.work(self.model)

    def take_up(self, carry: tuple, n_done: int, history: dict[str, np.ndarray]) -> None:
        """Go on from where a training of the same kind stood."""
        self.at = At(carry, n_done, (history,) if n_done else ())

    def run(self, settings: dict[str, Any], *, params: Any = None, model: Model | None = None) -> Run:
        """What has come out so far.

        Args:
            settings: of the training, besides those of the algorithm.
            params: the parameters to keep, the current ones by default.
            model: the model as it was given, where training used another number of steps.
        """
        return Run(
            method=self.algorithm.method,
            params=self.params if params is None else params,
            model=self.model if model is None else model,
            history=self.history,
            settings=recorded(self.algorithm) | {"cell_updates": self.work} | settings,
            initial_params=self.initial_params,
        )

    def advance(self, n_steps: int, numbers: Mapping[str, np.ndarray], chunk_size: int) -> int:
        """Up to `chunk_size` more steps in one jitted call, or shared by threads; how many of them were finite.

        Args:
            n_steps: steps to take.
            numbers: for settings of the algorithm or the model, one value for each step; they are recorded too.
            chunk_size: the call is compiled once for so many steps, of which some may be left out.
        """
        shared = isinstance(self.algorithm, PopulationAlgorithm) and n_shares(self.algorithm.work(self.model)) > 1
        run = run_in_shares if shared else run_chunk
        at = self.at
        padded = {name: np.resize(np.asarray(values, np.float32), chunk_size) for name, values in numbers.items()}
        steps = np.full(chunk_size, SKIP, np.int32)
        steps[:n_steps] = np.arange(at.n_done, at.n_done + n_steps)
        carry, record = run(at.carry, self.algorithm, self.model, self._key, padded | {"step": steps})
        good = np.asarray(record.pop("good"))
        record = {name: np.asarray(values)[good] for name, values in record.items()}
        n_good = int(good.sum())
        self.at = At(carry, at.n_done + n_good, (*at.records, record))
        return n_good


def advance_to(
    training: Training,
    n_steps: int,
    *,
    watch: Watch,
    part: str = "training",
    so_far: Callable[[], Run] | None = None,
    numbers: Callable[[np.ndarray], Mapping[str, np.ndarray]] = lambda steps: {},
    chunk_size: int = 25,
    checks: Checks | None = None,
) -> None:
    """Train until `n_steps` are done, a step is not finite, the checks have had enough, or the callback has.

    Args:
        watch: what goes on beside; it may take the training up where a checkpoint left it.
        part: the name of this training among those that `watch` has in hand.
        so_far: the run so far, that of the training by default.
        numbers: from the numbers of some steps to what `Training.advance` takes for them.
        chunk_size: steps of a jitted call; only the progress bar sees it.
    """
    chunk_size = min(chunk_size, n_steps)

    def goes_on() -> bool:
        # Read from what a checkpoint keeps: an interruption just after the decision to stop does not undo it.
        enough = watch.stopped(part) or (checks is not None and checks.exhausted)
        return training.finite and training.n_done < n_steps and not enough

    ended = watch.begin(part, training, checks, so_far or (lambda: training.run({})))
    while not ended and goes_on():
        watch.check_halt()
        # Chunks end at multiples of their size, also after an interruption: what is checked must not depend on it.
        stop = min((training.n_done // chunk_size + 1) * chunk_size, n_steps)
        steps = np.arange(training.n_done, stop)
        training.advance(len(steps), numbers(steps), chunk_size)
        if checks is not None and training.finite and training.n_done % checks.every == 0:
            checks.check(training.params)
        watch.after_chunk(part)
    if not ended and checks is not None and training.finite and training.n_done % checks.every != 0:
        checks.check(training.params)  # with what it ends
    watch.end(part)


def first_parameters(network: Any, key: Array, params: Any = None) -> Any:
    """Given parameters, or those that the network draws."""
    return as_floats(initial_parameters(network, key) if params is None else params)


def train(
    algorithm: Algorithm,
    model: Model,
    *,
    key: Array,
    n_steps: int,
    initial_params: Any = None,
    chunk_size: int = 25,
    progress: bool = False,
    checkpoint: str | PathLike | Checkpoint | None = None,
    callback: Callable[[Training], Any] | None = None,
) -> Run:
    """Train by any algorithm, one of one's own too, and return what its last state stands for.

    Args:
        algorithm: see `Algorithm`.
        model: what is trained.
        key: random key; the same key gives the same run, whatever the chunk size.
        n_steps: steps of the algorithm, >= 1.
        initial_params: start from these instead of `network.init`.
        chunk_size: steps of a jitted call.
        progress: show a progress bar on stderr.
        checkpoint: a file to keep what is reached, and to go on from: see `Checkpoint`.
        callback: called with the `Training` after each chunk; training ends when it returns something true.

    Raises:
        TrainingDiverged: when a step is not finite; its `run` holds the last good parameters.
        TrainingInterrupted: at Ctrl-C; its `run` is the run so far.
    """
    n_steps, chunk_size = check_size("n_steps", n_steps), check_size("chunk_size", chunk_size)
    init_key, run_key = jax.random.split(check_key(key))
    state = algorithm.init(check_model(model).network, init_key, initial_params)
    training = Training(algorithm, model, state, run_key)
    length = {f"n_{algorithm.unit}s": n_steps}
    identity = identity_of(algorithm.method, model, key, initial_params, recorded(algorithm) | length)
    kept = {"checkpoint": checkpoint, "callback": callback, "progress": progress}
    with Watch(n_steps, algorithm.unit, identity, model, **kept) as watch:
        if watch.finished is not None:
            return watch.finished
        advance_to(training, n_steps, watch=watch, chunk_size=chunk_size)
        run = training.run(length)
        if not training.finite:
            raise TrainingDiverged(
                f"not finite at {algorithm.unit} {training.n_done} of {n_steps}; the last good parameters are in the "
                "exception's .run",
                run,
                training.n_done,
            )
        return watch.finish(run)
