"""Several trainings side by side, each in a thread of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from lateral.threads import at_this_precision, n_threads
from lateral.training.watch import Watch

__all__ = ["side_by_side"]

MOMENT = 0.1  # seconds between two looks at threads that train
PATIENCE = 1.5  # seconds that an interruption waits for their chunks to end


def side_by_side(calls: Sequence[Callable[[], Any]], watch: Watch, n_at_once: int | None = None) -> list[Any]:
    """What the calls return, in their order. If one fails, or at an interruption, `watch` halts all.

    Args:
        calls: each a training that is a part of what `watch` has in hand.
        n_at_once: how many run at a time, by default one for each core.
    """
    n_at_once = n_at_once or n_threads()
    if n_at_once == 1:
        return [call() for call in calls]
    n_at_once = min(n_at_once, len(calls))
    pool = ThreadPoolExecutor(n_at_once)
    try:
        running = [pool.submit(at_this_precision(call, n_at_once)) for call in calls]
        _wait_for(running, watch)
        return [future.result() for future in running]
    except BaseException:
        watch.halt()
        pool.shutdown(wait=False, cancel_futures=True)
        wait(running, PATIENCE)  # a chunk ends soon, a compilation may not: it ends its thread later
        raise
    finally:
        pool.shutdown(wait=False)


def _wait_for(running: list[Future], watch: Watch) -> None:
    """Wait until all have ended or one has failed; this thread draws the progress of all."""
    waiting = set(running)
    while waiting:
        ended, waiting = wait(waiting, MOMENT, return_when="FIRST_EXCEPTION")
        watch.draw()
        for future in ended:
            future.result()
