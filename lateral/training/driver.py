"""The driver: one loop for every algorithm, a chunk of steps at a time.

An algorithm is a value with two pure functions, as in optax: `init` makes a state, `step` makes the next one and a
record of numbers. The driver calls `step` in jitted chunks, keeps the history, stops where a number is not finite, and
can be stopped, looked at and steered between two chunks. How the steps are cut into chunks changes nothing: what is
random in a step depends on the key and the number of the step alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from tqdm.auto import tqdm

from lateral.checks import check_key, check_size
from lateral.evaluation import merit
from lateral.fields import recorded, setting_names
from lateral.model import Model, check_model
from lateral.network import initial_parameters
from lateral.runs import Run
from lateral.static import as_floats

__all__ = [
    "Algorithm",
    "Checks",
    "Training",
    "TrainingDiverged",
    "advance_to",
    "first_parameters",
    "run_chunk",
    "train",
]

SKIP = -1


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


class _At(NamedTuple):
    """Where a training stands: kept together, so that an interruption leaves all of it or the one before."""

    carry: tuple  # state, the state before the last good step, whether the last step was good
    n_done: int
    records: tuple[dict[str, np.ndarray], ...]


class Training:
    """A training in hand, advanced a chunk at a time.

    Attributes:
        algorithm, model: what trains what.
        initial_params: where it started.
    """

    def __init__(self, algorithm: Algorithm, model: Model, state: Any, key: Array):
        self.algorithm, self.model, self._key = algorithm, model, key
        self._at = _At((state, state, jnp.array(True)), 0, ())
        self.initial_params = algorithm.params(state)

    @property
    def n_done(self) -> int:
        """Steps so far."""
        return self._at.n_done

    @property
    def finite(self) -> bool:
        """Whether the last step was finite; a training in which it was not goes no further."""
        return bool(self._at.carry[2])

    @property
    def state(self) -> Any:
        """The state of the algorithm after the last step that was finite."""
        return self._at.carry[0]

    @property
    def params(self) -> Any:
        """The current parameters.

        After a step that was not finite those of the step before the last good one: the step that led to the
        parameters that failed was finite itself, and may be at fault.
        """
        state, before, _ = self._at.carry
        return self.algorithm.params(state if self.finite else before)

    @property
    def history(self) -> dict[str, np.ndarray]:
        """What was recorded, one number for each step."""
        records = self._at.records
        return {name: np.concatenate([record[name] for record in records]) for name in records[0]} if records else {}

    def run(self, settings: dict[str, Any], *, params: Any = None, model: Model | None = None) -> Run:
        """What has come out so far.

        Args:
            settings: of the training, besides those of the algorithm.
            params: the parameters to keep, the current ones by default.
            model: the model as it was given, where training used another number of steps.
        """
        work = self.n_done * self.algorithm.work(self.model)
        return Run(
            method=self.algorithm.method,
            params=self.params if params is None else params,
            model=self.model if model is None else model,
            history=self.history,
            settings=recorded(self.algorithm) | {"cell_updates": work} | settings,
            initial_params=self.initial_params,
        )

    def advance(self, n_steps: int, numbers: Mapping[str, np.ndarray], chunk_size: int) -> int:
        """Up to `chunk_size` more steps in one jitted call; how many of them were finite.

        Args:
            n_steps: steps to take.
            numbers: for settings of the algorithm or the model, one value for each step; they are recorded too.
            chunk_size: the call is compiled once for so many steps, of which some may be left out.
        """
        at = self._at
        padded = {name: np.resize(np.asarray(values, np.float32), chunk_size) for name, values in numbers.items()}
        steps = np.full(chunk_size, SKIP, np.int32)
        steps[:n_steps] = np.arange(at.n_done, at.n_done + n_steps)
        carry, record = run_chunk(at.carry, self.algorithm, self.model, self._key, padded | {"step": steps})
        good = np.asarray(record.pop("good"))
        record = {name: np.asarray(values)[good] for name, values in record.items()}
        n_good = int(good.sum())
        self._at = _At(carry, at.n_done + n_good, (*at.records, record))
        return n_good


@jax.jit
def run_chunk(carry, algorithm, model, key, numbers):
    """The steps of one chunk; the size of its cache tells how often something was compiled."""
    own = setting_names(type(algorithm))

    def one_step(carry, now):
        state, before, _ = carry
        changes = {name: value for name, value in now.items() if name != "step"}
        of_algorithm = {name: changes[name] for name in changes if name in own}
        of_model = {name: changes[name] for name in changes if name not in own}
        step_key = jax.random.fold_in(key, now["step"])
        new, record = algorithm.changed(**of_algorithm).step(state, model.changed(**of_model), step_key)
        good = jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(record)]))
        # A step that is not finite is not taken.
        state, before = jax.tree.map(lambda new, old: jnp.where(good, new, old), (new, state), (state, before))
        return (state, before, good), record | changes | {"good": good}

    def skip(carry, now):
        record = jax.eval_shape(one_step, carry, now)[1]
        return carry, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), record)

    def active(carry, now):
        return (now["step"] >= 0) & carry[2]

    return jax.lax.scan(lambda carry, now: jax.lax.cond(active(carry, now), one_step, skip, carry, now), carry, numbers)


class Checks:
    """Parameters scored on fresh replicates on the way, of which the best are kept.

    Args:
        score: from parameters to their objective at the time step and at a quarter of it.
        every: check after every so many steps and at the end.
        patience: stop when so many checks in a row brought nothing better; None for never.
    """

    def __init__(self, score: Callable[[Any], tuple[float, float]], every: int, patience: int | None = None):
        self.score, self.every, self.patience = score, every, patience
        self.done: list[tuple[float, float]] = []
        self.best: int | None = None
        self.best_params: Any = None

    def check(self, params: Any) -> bool:
        """Score parameters; whether to go on."""
        self.done.append(tuple(float(value) for value in self.score(params)))
        if self.best is None or merit(self.done[-1]) > merit(self.done[self.best]):
            self.best, self.best_params = len(self.done) - 1, params
            return True
        return self.patience is None or len(self.done) - 1 - self.best < self.patience

    @property
    def fresh_objective(self) -> tuple[float, float] | None:
        """The objective of the best parameters."""
        return None if self.best is None else self.done[self.best]


def advance_to(
    training: Training,
    n_steps: int,
    *,
    numbers: Callable[[np.ndarray], Mapping[str, np.ndarray]] = lambda steps: {},
    chunk_size: int = 25,
    checks: Checks | None = None,
    progress: bool = False,
) -> None:
    """Train until `n_steps` are done, a step is not finite, or the checks have had enough.

    Args:
        numbers: from the numbers of some steps to what `Training.advance` takes for them.
        chunk_size: steps of a jitted call; only the progress bar sees it.
        progress: show a progress bar on stderr.
    """
    chunk_size = min(chunk_size, n_steps)
    with tqdm(total=n_steps, unit=training.algorithm.unit, disable=not progress, initial=training.n_done) as bar:
        while training.n_done < n_steps:
            steps = np.arange(training.n_done, min(training.n_done + chunk_size, n_steps))
            bar.update(training.advance(len(steps), numbers(steps), chunk_size))
            if not training.finite:
                return
            ended = training.n_done == n_steps
            if (
                checks is not None
                and (ended or training.n_done % checks.every == 0)
                and not checks.check(training.params)
            ):
                return


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

    Raises:
        TrainingDiverged: when a step is not finite; its `run` holds the last good parameters.
    """
    n_steps, chunk_size = check_size("n_steps", n_steps), check_size("chunk_size", chunk_size)
    init_key, run_key = jax.random.split(check_key(key))
    state = algorithm.init(check_model(model).network, init_key, initial_params)
    training = Training(algorithm, model, state, run_key)
    advance_to(training, n_steps, chunk_size=chunk_size, progress=progress)
    run = training.run({f"n_{algorithm.unit}s": n_steps})
    if not training.finite:
        raise TrainingDiverged(
            f"not finite at {algorithm.unit} {training.n_done} of {n_steps}; the last good parameters are in the "
            "exception's .run",
            run,
            training.n_done,
        )
    return run
