"""A training in hand: learning rate and noise may change from one chunk of epochs to the next.

`train_backprop` and `train_evolution` go from start to end. Where someone watches and steers, the same jitted loops
are called a few epochs at a time:

    session = TrainingSession("score", model, key=key, learning_rate=0.1)
    while session.n_done < 400:
        session.advance(10)
        print(session.history["utility"][-1])
        if session.n_done == 200:
            session.learning_rate = 0.03        # a number: nothing is compiled again
    run = session.run()

How the epochs are cut into chunks changes nothing: the noise of an epoch depends on the key and its number alone.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lateral._checks import check_choice, check_key, check_number, check_size
from lateral._progress import SKIP
from lateral.backprop import TrainingDiverged, make_adam, run_epochs
from lateral.evolution import EvolutionStrategy, best_of, run_generations
from lateral.gradients import ESTIMATORS, Combination, Score
from lateral.model import Model, check_model
from lateral.network import RegulatoryFunction
from lateral.restarts import best_candidates
from lateral.runs import Run

__all__ = ["SESSION_METHODS", "TrainingSession"]

SESSION_METHODS = ("evolution", *ESTIMATORS)
CHUNK = 16  # epochs of one jitted call; fewer are padded
CLIP_NORM = 1.0
B2 = 0.99  # as in `train_restarts`


class TrainingSession:
    """A training that is advanced by hand, from the best of some random networks.

    Args:
        method: `"evolution"`, or one of `lateral.gradients.ESTIMATORS`.
        model: what is trained, `Model()` by default.
        key: random key; the same key and the same settings at each epoch give the same training.
        learning_rate: Adam's step, > 0; for evolution the standard deviation of a mutation. May be changed.
        n_candidates: random networks of which the best, on 64 replicates, is the start; 1 takes any.
        initial_params: start from these instead.

    Attributes:
        learning_rate, noise_strength: what the next epoch will use; assign to change them.
        n_done: epochs (generations) so far.
        params: the current parameters; of evolution those of the best network of the last generation.
        history: lists with one entry for each epoch: `utility` (hard, of the ensemble, on the epoch's own replicates;
            of evolution the best score of the population by the model's objective), `alternation`, `gradient_norm`
            (not of evolution), `learning_rate`, `noise_strength`.
    """

    def __init__(
        self,
        method: str = "score",
        model: Model | None = None,
        *,
        key: Array,
        learning_rate: float = 0.1,
        n_candidates: int = 64,
        initial_params: Any = None,
    ):
        self.method = check_choice("method", method, SESSION_METHODS)
        self.model = Model() if model is None else check_model(model)
        n_candidates = check_size("n_candidates", n_candidates)
        self.learning_rate = learning_rate
        self.noise_strength = self.model.noise_strength
        start_key, self._key = jax.random.split(check_key(key))
        if initial_params is None:
            starts, _, _ = best_candidates(self.model, start_key, n_candidates, 1)
            initial_params = starts[0]
        self.initial_params = jax.tree.map(lambda x: jnp.asarray(x, float), initial_params)
        self.n_done = 0
        self.history: dict[str, list[float]] = {}
        if method == "evolution":
            state = EvolutionStrategy().init_around(self.initial_params, jax.random.fold_in(start_key, 1))
            self._state = state
        else:
            self._estimator, self._optimizer = ESTIMATORS[method](), make_adam(B2, clipped=True)
            self._state = (
                self.initial_params,
                self._optimizer.init(self.initial_params),
                self.initial_params,
                jnp.array(True),
            )

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
        if value == 0.0 and self.method != "evolution" and issubclass(ESTIMATORS[self.method], (Score, Combination)):
            raise ValueError(f"the {self.method} estimator needs noise_strength > 0, got 0")
        self._noise_strength = value

    @property
    def params(self) -> Any:
        if self.method != "evolution":
            now, _, last_good, finite = self._state
            return now if finite else last_good
        return best_of(self._state) if self.n_done else self.initial_params

    @property
    def regulatory_function(self) -> RegulatoryFunction:
        return RegulatoryFunction(self.model.network, self.params)

    def advance(self, n_epochs: int = CHUNK) -> None:
        """Train for `n_epochs` more, at the learning rate and noise of now.

        Raises:
            TrainingDiverged: when loss or gradient is no longer finite; the parameters stay the last good ones.
        """
        n_epochs = check_size("n_epochs", n_epochs)
        last = self.n_done + n_epochs
        while self.n_done < last:
            self._advance_chunk(min(CHUNK, last - self.n_done))

    def _advance_chunk(self, n_epochs: int) -> None:
        epochs = np.full(CHUNK, SKIP, np.int32)
        epochs[:n_epochs] = np.arange(self.n_done, self.n_done + n_epochs)
        rate, noise = self.learning_rate, self.noise_strength
        if self.method == "evolution":
            # As arrays: a Python number would be part of what is compiled for nothing else to share.
            strategy = EvolutionStrategy(mutation_strength=np.float32(rate))
            model = dataclasses.replace(self.model, noise_strength=np.float32(noise))
            self._state, record = run_generations(self._state, strategy, model, self._key, epochs)
            record = {"utility": record["best_utility"], "alternation": record["alternation"]}
            good = np.arange(CHUNK) < n_epochs
        else:
            schedule = {
                "epoch": epochs,
                "learning_rate": np.full(CHUNK, rate, np.float32),
                "noise_strength": np.full(CHUNK, noise, np.float32),
                "dt": np.full(CHUNK, float(self.model.dt), np.float32),
            }
            clip = jnp.asarray(CLIP_NORM, float)
            self._state, record = run_epochs(
                self._state, self.model, self._estimator, self._key, schedule, clip,
                optimizer=self._optimizer, n_batches=1,
            )  # fmt: skip
            good = np.asarray(record["good"])
            record = {name: record[name] for name in ("utility", "alternation", "gradient_norm")}
        n_good = int(good.sum())
        new = {name: np.asarray(values)[good].tolist() for name, values in record.items()}
        new |= {"learning_rate": [rate] * n_good, "noise_strength": [noise] * n_good}
        # A new dict, swapped in at once: whoever is drawing in another thread sees columns of equal length.
        self.history = {name: self.history.get(name, []) + values for name, values in new.items()}
        self.n_done += n_good
        if n_good < n_epochs:
            raise TrainingDiverged(
                f"loss or gradient not finite at epoch {self.n_done + 1}: lower the learning rate, or bound the "
                "network with max_rate; the last good parameters are kept",
                self.run(),
                self.n_done,
            )

    def run(self) -> Run:
        """What has come out so far, as a `Run` to evaluate or save. Its noise is that of now."""
        return Run(
            method="evolution" if self.method == "evolution" else "backprop",
            params=self.params,
            model=dataclasses.replace(self.model, noise_strength=self.noise_strength),
            history={name: np.asarray(values) for name, values in self.history.items()},
            settings={"n_epochs": self.n_done, "learning_rate": self.learning_rate, "method": self.method},
            initial_params=self.initial_params,
        )
