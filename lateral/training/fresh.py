"""Checks on fresh replicates while a network trains, and the best parameters among them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lateral.evaluation import merit

__all__ = ["Checked", "Checks"]


class Checked(NamedTuple):
    """What the checks have seen, and which of them was best; kept together as in `At`."""

    done: tuple[tuple[float, float], ...] = ()
    best: int | None = None
    best_params: Any = None


class Checks:
    """Parameters scored on fresh replicates on the way, of which the best are kept.

    Args:
        score: from parameters to their objective at the time step and at a quarter of it.
        every: check after every so many steps and at the end.
        patience: stop when so many checks in a row brought nothing better; None for never.

    Attributes:
        at: what was seen so far.
    """

    def __init__(self, score: Callable[[Any], tuple[float, float]], every: int, patience: int | None = None):
        self.score, self.every, self.patience = score, every, patience
        self.at = Checked()

    def check(self, params: Any) -> None:
        """Score parameters, and keep them if none were better."""
        at = self.at
        done = (*at.done, tuple(float(value) for value in self.score(params)))
        better = at.best is None or merit(done[-1]) > merit(done[at.best])
        self.at = Checked(done, len(done) - 1, params) if better else at._replace(done=done)

    @property
    def exhausted(self) -> bool:
        """Whether `patience` is at its end."""
        at = self.at
        return self.patience is not None and at.best is not None and len(at.done) - 1 - at.best >= self.patience

    def take_up(self, done: Sequence[tuple[float, float]], best: int | None, best_params: Any) -> None:
        """Go on from what was seen before."""
        self.at = Checked(tuple(done), best, best_params)

    @property
    def fresh_objective(self) -> tuple[float, float] | None:
        """The objective of the best parameters."""
        return None if self.at.best is None else self.at.done[self.at.best]
