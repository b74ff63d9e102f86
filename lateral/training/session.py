"""A training in hand: learning rate and noise may change from one chunk of epochs to the next.

`train_backprop` and `train_evolution` go from start to end. Where someone watches and steers, the same driver is
advanced a few epochs at a time:

    session = TrainingSession("score", model, key=key, learning_rate=0.1)
    while session.n_done < 400:
        session.advance(10)
        print(session.history["utility"][-1])
        if session.n_done == 200:
            session.learning_rate = 0.03        # a number: nothing is compiled again
    run = session.run()

How the epochs are cut into chunks changes nothing: the noise of an epoch depends on the key and its number alone.
"""

from os import PathLike
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from lateral.checks import check_choice, check_key, check_number, check_size
from lateral.evolution import EvolutionStrategy
from lateral.fields import recorded
from lateral.model import Model, check_model
from lateral.network import RegulatoryFunction
from lateral.runs import Run
from lateral.static import as_floats
from lateral.training.checkpoint import Checkpoint, identity_of
from lateral.training.descent import GradientDescent
from lateral.training.driver import Algorithm, Training, TrainingDiverged
from lateral.training.estimators import ESTIMATORS
from lateral.training.halving import best_candidates
from lateral.training.restarts import B2
from lateral.training.score import require_noise
from lateral.training.watch import Watch

__all__ = ["ALGORITHMS", "CHUNK", "SESSION_METHODS", "TrainingSession"]

LEARNING_RATE = 0.1
CHUNK = 16  # epochs of one jitted call; fewer are padded
# What a session can train by, by name.
ALGORITHMS = {"evolution": EvolutionStrategy} | {
    name: lambda estimator=estimator: GradientDescent(gradient=estimator(), b2=B2, clip_norm=1.0)
    for name, estimator in ESTIMATORS.items()
}
SESSION_METHODS = tuple(ALGORITHMS)


class TrainingSession:
    """A training that is advanced by hand, from the best of some random networks.

    Args:
        method: `"evolution"`, one of `lateral.training.estimators.ESTIMATORS`, or an algorithm of one's own.
        model: what is trained, `Model()` by default.
        key: random key; the same key and the same settings at each epoch give the same training.
        learning_rate: Adam's step, > 0; for evolution the standard deviation of a mutation, for an algorithm of one's
            own the setting that it calls `steered`. May be changed. None: 0.1, or what the algorithm has.
        n_candidates: random networks of which the best, on 64 replicates, is the start; 1 takes any.
        initial_params: start from these instead.
        checkpoint: a file to keep what is reached, now and then and at `save()`, and to go on from, also at the
            learning rate and noise of then: see `lateral.Checkpoint`.

    Attributes:
        algorithm: what trains.
        learning_rate, noise_strength: what the next epoch will use; assign to change them.
        n_done: epochs (generations) so far.
        params: the current parameters; of evolution those of the best network of the last generation.
        history: lists with one entry for each epoch: `utility` (hard, of the ensemble, on the epoch's own replicates;
            of evolution that of the best network of the population), `alternation`, whatever else the algorithm
            records, `learning_rate` (`mutation_strength`) and `noise_strength`.
    """

    def __init__(
        self,
        method: str | Algorithm = "score",
        model: Model | None = None,
        *,
        key: Array,
        learning_rate: float | None = None,
        n_candidates: int = 64,
        initial_params: Any = None,
        checkpoint: str | PathLike | Checkpoint | None = None,
    ):
        own = hasattr(method, "step")
        self.algorithm: Algorithm = method if own else ALGORITHMS[check_choice("method", method, ALGORITHMS)]()
        if learning_rate is None:
            learning_rate = getattr(method, method.steered) if own else LEARNING_RATE
        self.model = Model() if model is None else check_model(model)
        n_candidates = check_size("n_candidates", n_candidates)
        self.learning_rate, self.noise_strength = learning_rate, self.model.noise_strength
        settings = recorded(self.algorithm) | {"learning_rate": float(learning_rate), "n_candidates": n_candidates}
        identity = identity_of(self.algorithm.method, self.model, key, initial_params, settings)
        self._watch = Watch(0, self.algorithm.unit, identity, self.model, checkpoint=checkpoint)
        start_key, run_key = jax.random.split(check_key(key))
        if initial_params is None:
            initial_params = best_candidates(self.model, start_key, n_candidates, 1).best[0]
        state = self.algorithm.init(self.model.network, jax.random.fold_in(start_key, 1), as_floats(initial_params))
        self._training = Training(self.algorithm, self.model, state, run_key)
        self._watch.begin("session", self._training, None, self.run)
        if self.n_done:
            last = {name: values[-1] for name, values in self.history.items()}
            self.learning_rate, self.noise_strength = last[self.algorithm.steered], last["noise_strength"]

    @property
    def learning_rate(self) -> float:
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self._learning_rate = float(check_number("learning_rate", value, above=0.0))

    @property
    def noise_strength(self) -> float:
        return self._noise_strength

    @noise_strength.setter
    def noise_strength(self, value):
        value = float(check_number("noise_strength", value, minimum=0.0))
        require_noise(getattr(self.algorithm, "gradient", None), value)
        self._noise_strength = value

    @property
    def initial_params(self) -> Any:
        return self._training.initial_params

    @property
    def n_done(self) -> int:
        return self._training.n_done

    @property
    def params(self) -> Any:
        return self._training.params

    @property
    def history(self) -> dict[str, list[float]]:
        return {name: values.tolist() for name, values in self._training.history.items()}

    @property
    def regulatory_function(self) -> RegulatoryFunction:
        return RegulatoryFunction(self.model.network, self.params)

    def advance(self, n_epochs: int = CHUNK) -> None:
        """Train for `n_epochs` more, at the learning rate and noise of now.

        Raises:
            TrainingDiverged: when loss or gradient is no longer finite; the parameters stay the last good ones.
        """
        last = self.n_done + check_size("n_epochs", n_epochs)
        try:
            while self.n_done < last:
                self._chunk(min(CHUNK, last - self.n_done))
        except BaseException:
            self._watch.write()
            raise

    def save(self) -> None:
        """Write the checkpoint now, and not when it is due."""
        self._watch.write()

    def _chunk(self, n_epochs: int) -> None:
        numbers = {self.algorithm.steered: self.learning_rate, "noise_strength": self.noise_strength}
        self._training.advance(n_epochs, {name: np.full(n_epochs, value) for name, value in numbers.items()}, CHUNK)
        self._watch.after_chunk("session")
        if not self._training.finite:
            raise TrainingDiverged(
                f"loss or gradient not finite at epoch {self.n_done + 1}: lower the learning rate, or bound the "
                "network with max_rate; the last good parameters are kept",
                self.run(),
                self.n_done,
            )

    def run(self) -> Run:
        """What has come out so far, as a `Run` to evaluate or save. Its noise is that of now."""
        numbers = {self.algorithm.steered: self.learning_rate, f"n_{self.algorithm.unit}s": self.n_done}
        return self._training.run(numbers, model=self.model.changed(noise_strength=self.noise_strength))
