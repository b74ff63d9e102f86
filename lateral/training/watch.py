"""What goes on beside a training, between two of its chunks: progress, a callback, checkpoints, interruption.

A training consists of *parts*, each advanced by a driver of its own: one for most, one for each network of a training
with restarts. The watch knows where each part stands, and writes it down now and then. If the same call is made again
after an interruption, it goes on from there and ends, bit for bit, where it would have ended.
"""

import dataclasses
import errno
import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from lateral.evaluation import merit
from lateral.runs import Run, load_progress, load_run, save_run
from lateral.storage.description import own_parts
from lateral.storage.files import check_writable
from lateral.training.checkpoint import Checkpoint, check_checkpoint, differences, packed, take_up

__all__ = ["TrainingInterrupted", "Watch", "refuse_another"]

SHOWN = 3  # differences that a message names


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted; nothing is lost.

    Attributes:
        run: the `Run` so far.
        path: the checkpoint from which the same call goes on, or None.
    """

    def __init__(self, message: str, run: Run, path: Path | None = None):
        super().__init__(message, run, path)
        self.run = run
        self.path = path

    def __str__(self):
        return self.args[0]


class _Part(NamedTuple):
    """One training and how far it had come when a chunk, and the check after it, had ended.

    Attributes:
        stopped: whether the callback wants no more of it; a last check may be due.
        ended: whether nothing more happens to it.
    """

    training: Any
    checks: Any
    so_far: Callable[[], Run]
    at: Any
    checks_at: Any
    stopped: bool = False
    ended: bool = False

    @property
    def merit(self) -> float:
        """On fresh replicates, where there was a check."""
        objective = None if self.checks is None else self.checks.fresh_objective
        return -np.inf if objective is None else float(merit(objective))

    @property
    def last_objective(self) -> float:
        """Of the last step, where a search recorded it."""
        objectives = self.at.history.get("objective", ())
        return float(objectives[-1]) if len(objectives) else -np.inf


class Watch:
    """The parts of one training, from its first chunk to its end; a context manager around them.

    Args:
        total: steps of all parts together.
        unit: what a step is called.
        identity: what makes it the same training: method, model, settings, key, start.
        model: the model, for the objects of the user's own in it.
        checkpoint: see `Checkpoint`.
        callback: called with the `Training` of a part after each of its chunks, one call at a time; what it returns
            ends the part if it is true.
        progress: show a progress bar on stderr. It is drawn by this thread alone, and never fails.

    Attributes:
        finished: the run that had come out before, where the checkpoint is that of a finished training.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        identity: dict[str, Any],
        model: Any,
        *,
        checkpoint: str | os.PathLike | Checkpoint | None = None,
        callback: Callable[[Any], Any] | None = None,
        progress: bool = False,
    ):
        if callback is not None and not callable(callback):
            raise ValueError(f"callback must be a function of the training, got {callback!r}")
        self._checkpoint, self._identity, self._callback = check_checkpoint(checkpoint), identity, callback
        self._parts: dict[str, _Part] = {}
        self._lock, self._halt = threading.RLock(), threading.Event()
        self._written, self._took = -np.inf, 0.0
        self._kept: tuple[dict, dict[str, np.ndarray]] = ({}, {})
        self.finished: Run | None = None
        if self._checkpoint is not None:
            self._seen = _signature(self.path)
            self._open(model)
        self._bar = _Bar(total, unit, progress)
        self.total, self.unit = total, unit

    @property
    def path(self) -> Path | None:
        return None if self._checkpoint is None else Path(self._checkpoint.path)

    @property
    def n_done(self) -> int:
        """Steps of all parts so far."""
        return sum(part.at.n_done for part in self._parts.values())

    def run(self) -> Run | None:
        """The best that has come out so far: on fresh replicates, else the best of the stage that was begun last."""
        with self._lock:
            parts = list(self._parts.items())
        if not parts:
            return None
        stages = list(dict.fromkeys(_stage(name) for name, _ in parts))

        def rank(of_one):
            name, part = of_one
            return part.merit, stages.index(_stage(name)), part.last_objective

        return max(reversed(parts), key=rank)[1].so_far()

    def begin(self, name: str, training: Any, checks: Any, so_far: Callable[[], Run]) -> bool:
        """Take a part up where the checkpoint left it; whether it had ended there."""
        kept, arrays = self._kept
        stopped = ended = False
        if name in kept:
            own = {key.removeprefix(f"{name}/"): x for key, x in arrays.items() if key.startswith(f"{name}/")}
            stopped, ended = take_up(training, checks, kept[name], own, self.path)
        with self._lock:
            self._parts[name] = _Part(training, checks, so_far, training.at, _at(checks), stopped, ended)
            self._bar.count(training.n_done)
        return ended

    def stopped(self, name: str) -> bool:
        """Whether the callback has ended a part."""
        return self._parts[name].stopped

    def after_chunk(self, name: str) -> None:
        """Note where a part stands, and tell whoever wants to know."""
        with self._lock:
            part = self._parts[name]
            before, at = part.at.n_done, part.training.at
            self._parts[name] = part._replace(at=at, checks_at=_at(part.checks))
            self._bar.count(at.n_done - before)
            if self._callback is not None and self._callback(part.training):
                self._parts[name] = self._parts[name]._replace(stopped=True)
            if self._due():
                self.write()
        self.check_halt()

    def end(self, name: str) -> None:
        """A part goes no further."""
        with self._lock:
            part = self._parts[name]
            if not part.ended:
                self._parts[name] = part._replace(at=part.training.at, checks_at=_at(part.checks), ended=True)
                self.write()  # what follows may compile for long

    def draw(self) -> None:
        """Bring the progress bar up to date, while other threads train."""
        self._bar.draw()

    def halt(self) -> None:
        """All parts stop after their chunks."""
        self._halt.set()

    def check_halt(self) -> None:
        """Stop this part if all parts are to stop."""
        if self._halt.is_set():
            raise KeyboardInterrupt

    def write(self) -> None:
        """Write the checkpoint. If that fails, training goes on with a warning."""
        if self._checkpoint is None or not self.n_done:
            return
        clock = time.monotonic()
        with self._lock:
            facts, arrays = packed(self._parts)
            run = dataclasses.replace(self.run(), finished=False, **self._marks())
        # A part that this process has not yet come to stands where it stood.
        later = {name: of_one for name, of_one in self._kept[0].items() if name not in facts}
        arrays |= {key: x for key, x in self._kept[1].items() if key.split("/")[0] in later}
        try:
            self._save(run, (facts | later, arrays))
        except (OSError, ValueError) as error:
            warnings.warn(f"the checkpoint was not written, training goes on: {error}", RuntimeWarning, stacklevel=2)
        self._written = time.monotonic()
        self._took = self._written - clock

    def finish(self, run: Run) -> Run:
        """The finished run, with which the checkpoint ends."""
        if self._checkpoint is not None:
            run = dataclasses.replace(run, finished=True, **self._marks())
            try:
                self._save(run)
            except (OSError, ValueError) as error:  # it is returned: nothing is lost
                message = f"the finished run was not written, save it elsewhere: {error}"
                warnings.warn(message, RuntimeWarning, stacklevel=4)
        return run

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self._bar.close()
        if error is None:
            return
        self.halt()
        self.write()
        run = self.run()
        if isinstance(getattr(error, "run", None), Run) and self._checkpoint is not None:
            error.run = dataclasses.replace(error.run, finished=False, **self._marks())
        if not isinstance(error, KeyboardInterrupt) or not self.n_done:
            return
        run = dataclasses.replace(run, finished=False)
        where = f"{self.unit} {self.n_done} of {self.total}"
        if self.path is None:
            how = "the exception's .run holds the run so far (here `import sys; sys.last_value.run`)"
            raise TrainingInterrupted(
                f"interrupted at {where}: {how}; with checkpoint=PATH the same call goes on", run
            ) from None
        raise TrainingInterrupted(
            f"interrupted at {where}: {self.path} keeps the run, and the same call goes on from there", run, self.path
        )

    def _open(self, model) -> None:
        path = self.path
        check_writable(path, "checkpoint")
        if self._checkpoint.fresh or not path.exists():
            return
        progress = load_progress(path)
        if different := differences(progress.identity, self._identity):
            more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
            what = "; ".join(different[:SHOWN]) + more if progress.identity else "it was saved without `checkpoint`"
            raise ValueError(
                f"{path} belongs to another training: {what}. Take another file, or start anew: --fresh, "
                "Checkpoint(path, fresh=True)"
            )
        if progress.finished:
            self.finished = load_run(path, **own_parts(model))
            return
        now = Run(method="", params=None, model=model)
        if changed := differences(progress.made_with, {"versions": now.versions, "platform": now.platform}):
            message = f"{path} was begun elsewhere, so the last digits may differ: {'; '.join(changed)}"
            warnings.warn(message, RuntimeWarning, stacklevel=4)
        self._kept = (progress.facts or {}, progress.arrays)

    def _save(self, run: Run, progress: Any = None) -> None:
        if _signature(self.path) != self._seen:
            refuse_another(self.path, self._identity)
        save_run(self.path, run, progress)
        self._seen = _signature(self.path)

    def _due(self) -> bool:
        # Never more than a fiftieth of the time, however slow the disk.
        return time.monotonic() - self._written >= max(getattr(self._checkpoint, "seconds", np.inf), 50.0 * self._took)

    def _marks(self) -> dict[str, Any]:
        seed = self._checkpoint.seed
        return {"identity": self._identity} | ({} if seed is None else {"seed": seed})


class _QuietBar(tqdm):
    monitor_interval = 0  # no thread of its own


class _Bar:
    """A progress bar that many threads count on, and one draws; a stderr that is full or closed is left alone."""

    def __init__(self, total: int, unit: str, shown: bool):
        self._thread, self._new, self._bar = threading.get_ident(), 0, None
        if shown and not os.environ.get("TQDM_DISABLE"):  # tqdm's own switch, which its bars in notebooks overlook
            self._safely(lambda: setattr(self, "_bar", _QuietBar(total=total, unit=unit, miniters=1)))

    def count(self, n: int) -> None:
        self._new += n
        self.draw()

    def draw(self) -> None:
        if self._bar is not None and threading.get_ident() == self._thread and self._new:
            new, self._new = self._new, 0
            self._safely(lambda: self._bar.update(new))

    def close(self) -> None:
        if self._bar is not None:
            self.draw()
            self._safely(self._bar.close)

    def _safely(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except (OSError, ValueError, AttributeError):  # stderr is full, closed, or not there at all
            self._bar = None


def refuse_another(path: Path, identity: dict[str, Any]) -> None:
    """Refuse to replace what another training has written at the same time.

    Raises:
        FileExistsError: if there is a file at `path` that is not a run of the training with this identity.
    """
    try:
        another = path.exists() and bool(differences(load_progress(path).identity, identity))
    except ValueError:
        another = True
    if another:
        raise FileExistsError(errno.EEXIST, "another training has written there meanwhile", str(path))


def _signature(path: Path) -> tuple | None:
    """Of a file, to tell whether it is still the same one."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _stage(name: str) -> str:
    """Parts of one stage have the same name and a number."""
    return name.split()[0]


def _at(checks):
    return None if checks is None else checks.at
