"""What changes while a gradient trains: learning rate, noise and time step, and when the result is checked."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lateral.checks import check_number
from lateral.fields import choice, recorded, settings, size, value
from lateral.model import Model, check_model
from lateral.training.score import require_noise

__all__ = ["NOISE_CURRICULA", "Plan", "check_training_steps"]

# Factor on the model's noise as a function of training progress in [0, 1).
NOISE_CURRICULA: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "guide": lambda progress: 1.0 + progress,
    "rising": lambda progress: progress,
    "falling": lambda progress: 3.0 - 2.0 * progress,
    "raised": lambda progress: 1.5,
    "cooling": lambda progress: max(1.0, 2.0 - progress / 0.75),
}


def _check_rate(name: str, rate):
    return rate if callable(rate) else check_number(name, rate, above=0.0)


def _check_cycle(name: str, cycle) -> tuple[float, ...]:
    if not isinstance(cycle, (tuple, list)) or not cycle:
        raise ValueError(f"{name} must be a tuple of factors such as (1.0, 0.5), got {cycle!r}")
    return tuple(float(check_number(f"{name}[{i}]", factor, above=0.0)) for i, factor in enumerate(cycle))


@settings
class Plan:
    """The epochs of a training by gradient; the defaults are the guide's."""

    n_epochs: int = size(500, "epochs, each on fresh noise")
    learning_rate: Any = value(
        1e-3,
        "Adam's step, > 0, or an optax schedule from epoch to step. Neither ever recompiles",
        _check_rate,
        option={"type": float},
    )
    noise_curriculum: str = choice(
        "constant",
        "how the noise changes over training, a factor on the model's: `constant` 1; `guide` 1 + epoch / n_epochs, the "
        "guide's formula; `rising` from 0 to 1; `falling` from 3 to 1; `raised` 1.5; `cooling` from 2 to 1 over three "
        "quarters, then 1",
        NOISE_CURRICULA,
    )
    dt_cycle: tuple[float, ...] = value(
        (1.0,),
        "factors on the time step, taken in turn from epoch to epoch. A rule that is trained at several time steps "
        "cannot exploit one. The number of steps stays, so that a shorter step simulates a shorter time",
        _check_cycle,
    )
    n_training_steps: int | None = size(
        None,
        "time steps to simulate while training, at most `n_steps` of the model; None for all of them. Over long "
        "simulations the gradient vanishes, since a tissue that has chosen its pattern no longer moves",
        optional=True,
    )
    check_every: int | None = size(
        None,
        "score the parameters on fresh replicates after every so many epochs and at the end, and return the best of "
        "them instead of the last: by the hard objective at the time step or at a quarter of it, whichever is lower, "
        "less the difference. None returns the last parameters, unchecked",
        optional=True,
    )
    patience: int | None = size(
        None, "stop when so many checks in a row brought nothing better; None for never", optional=True
    )
    n_fresh: int = size(4000, "fresh replicates of each check, the same for all checks")
    chunk_size: int = size(25, "epochs per jitted call; only the progress bar sees it", recorded=False)

    def check_together(self):
        if self.patience is not None and self.check_every is None:
            raise ValueError("patience counts the checks on fresh replicates: give check_every too")

    @property
    def chunk(self) -> int:
        """Epochs of a chunk, such that each check falls on the end of one; that after the last epoch always does."""
        on_the_way = self.check_every is not None and self.check_every < self.n_epochs
        return math.gcd(self.chunk_size, self.check_every) if on_the_way else self.chunk_size

    @property
    def check_interval(self) -> int:
        return min(self.check_every, self.n_epochs)

    def check(self, model: Model, algorithm: Any) -> None:
        """Refuse what an epoch would stumble over, before anything is compiled; `algorithm` is a `GradientDescent`."""
        require_noise(algorithm.gradient, self.noises(model).min())
        self.numbers(model, algorithm.optimizer)
        getattr(algorithm.gradient, "check_model", check_model)(self.training_model(model))

    def training_model(self, model: Model) -> Model:
        """The model with as many time steps as training simulates."""
        return model.changed(n_steps=check_training_steps(self.n_training_steps, model, model.n_steps))

    def numbers(self, model: Model, optimizer: Any = None) -> Callable[[np.ndarray], Mapping[str, np.ndarray]]:
        """From epochs to learning rate, noise and time step; an optimiser of one's own has its own learning rate."""
        rates = self._rates() if optimizer is None else np.ones(self.n_epochs)
        noise = self.noises(model)

        def at(epochs):
            factors = np.take(self.dt_cycle, epochs % len(self.dt_cycle))
            return {
                "learning_rate": rates[epochs],
                "noise_strength": noise[epochs],
                "dt": float(model.dt) * factors,
            }

        return at

    def noises(self, model: Model) -> np.ndarray:
        """The noise of each epoch."""
        factor = NOISE_CURRICULA[self.noise_curriculum]
        return float(model.noise_strength) * np.array([factor(epoch / self.n_epochs) for epoch in range(self.n_epochs)])

    def recorded(self, optimizer: Any = None) -> dict[str, Any]:
        """What a run remembers."""
        rate = "schedule" if callable(self.learning_rate) else float(self.learning_rate)
        return recorded(self) | {"learning_rate": rate if optimizer is None else "of the optimizer"}

    def _rates(self) -> np.ndarray:
        if not callable(self.learning_rate):
            return np.full(self.n_epochs, float(self.learning_rate))
        # In single precision, in which `Training.advance` hands them over.
        with np.errstate(over="ignore"):
            rates = np.array([self.learning_rate(epoch) for epoch in range(self.n_epochs)], np.float32)
        if not (np.isfinite(rates) & (rates >= 0.0)).all():
            raise ValueError(
                f"learning_rate must be finite and >= 0 at every epoch, got {rates.min():g} to {rates.max():g}"
            )
        return rates


def check_training_steps(n_training_steps: int | None, model: Model, default: int) -> int:
    """Time steps simulated while training, at most those of the model."""
    if n_training_steps is None:
        return default
    if n_training_steps > model.n_steps:
        raise ValueError(f"n_training_steps must be <= n_steps = {model.n_steps}, got {n_training_steps}")
    return n_training_steps
