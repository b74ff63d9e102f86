"""How fast the apps answer, and what it costs a training to be watched.

    python benchmarks/apps.py

Prints a Markdown table. Explorers: time from a moved control until its picture leaves the kernel, at the defaults and
after the first compilation, median and largest of all numeric controls in turn, also as time of the processor, of all
threads together, until the next control can be moved. `TissueExplorer` shows 20 x 20 hexagons in 200 tissues for a
duration of 4, which stays as it is since a longer one takes longer. Studio: epochs of the same training in alternating
rounds, bare (a `TrainingSession` in chunks of four epochs, about a tenth of a second) and in the studio while it draws;
pictures a second; and the time from Stop to the end of the training. Nothing else should run meanwhile.
"""

import statistics
import time

import jax

import lateral
from lateral.training.session import CHUNK, TrainingSession
from lateral.widgets import (
    Comparison,
    DynamicsExplorer,
    RuleExplorer,
    TissueExplorer,
    TrainingStudio,
    UtilityExplorer,
)

N_EPOCHS, N_ROUNDS = 200, 3


def answer_times(app) -> tuple[list[float], list[float]]:
    """Seconds for each move of each control of a number, by the clock and of the processor."""
    seconds, of_processor, pictures = [], [], []
    app._image.observe(lambda _: pictures.append(time.perf_counter()), names="value")
    kept = {"n_cells", "n_replicates", "rows", "columns"} | ({"duration"} if isinstance(app, TissueExplorer) else set())
    for _ in range(2):
        for name, control in app.controls.items():
            if not hasattr(control, "min") or name in kept:
                continue
            for share in (0.3, 0.6):
                value = control.min + share * (control.max - control.min)
                clock, processor = time.perf_counter(), time.process_time()
                control.value = type(control.value)(10**value if name in ("soft_width", "bandwidth") else value)
                seconds.append((pictures[-1] if pictures else time.perf_counter()) - clock)
                pictures.clear()
                of_processor.append(time.process_time() - processor)
    return seconds, of_processor


def bare_seconds(session, chunk: int) -> float:
    clock = time.perf_counter()
    last = session.n_done + N_EPOCHS
    while session.n_done < last:
        session.advance(min(chunk, last - session.n_done))
    return (time.perf_counter() - clock) / N_EPOCHS


def watched(studio) -> tuple[float, float, float]:
    """Seconds per epoch, pictures a second, seconds from Stop to the end of the last chunk."""
    studio.start()
    job = studio.job
    while job.n_done < 20:
        time.sleep(0.01)
    first, pictures, clock = job.n_done, studio.n_drawn, time.perf_counter()
    while job.n_done < first + N_EPOCHS:
        time.sleep(0.005)
    elapsed = time.perf_counter() - clock
    per_epoch, rate = elapsed / (job.n_done - first), (studio.n_drawn - pictures) / elapsed
    stopped_at, clock = job.n_done, time.perf_counter()
    studio.stop()
    while job.run is None and not job.over.is_set():  # the chunk under way has ended, and the run is being measured
        time.sleep(0.002)
    stopped = time.perf_counter() - clock
    assert job.n_done - stopped_at <= CHUNK
    studio.join(60)
    return per_epoch, rate, stopped


def main() -> None:
    print("| explorer | median answer (ms) | largest | median of the processor | largest |\n|---|---|---|---|---|")
    large = TissueExplorer(rows=20, columns=20)
    for app in (DynamicsExplorer(), UtilityExplorer(), RuleExplorer(), Comparison(), large):
        numbers = [1e3 * f(times) for times in answer_times(app) for f in (statistics.median, max)]
        print(f"| {type(app).__name__} | {' | '.join(f'{ms:.0f}' for ms in numbers)} |", flush=True)
    print(
        f"\n| score, R = 256, median of {N_ROUNDS} rounds | bare, ms an epoch "
        "| watched | slower by | pictures a second | Stop, ms |"
    )
    print("|---" * 6 + "|")
    studio = TrainingStudio(n_epochs=1000)
    model, _ = lateral.preset("score")
    session = TrainingSession("score", model, key=jax.random.key(0), learning_rate=0.3, n_candidates=16)
    session.advance(20)
    rounds = []
    for _ in range(N_ROUNDS):
        bare = bare_seconds(session, 4)
        rounds.append((bare, *watched(studio)))
    bare, seen, rate, stop = (statistics.median(values) for values in zip(*rounds, strict=True))
    slower = statistics.median(watched / bare - 1 for bare, watched, *_ in rounds)
    print(f"| | {1e3 * bare:.1f} | {1e3 * seen:.1f} | {slower:.0%} | {rate:.1f} | {1e3 * stop:.0f} |")


if __name__ == "__main__":
    main()
