"""Trainings killed at random moments: what is lost, what goes on, and what checkpoints cost.

    python benchmarks/interruptions.py            # 100 SIGKILL, 20 SIGINT, 20 SIGTERM; about half an hour
    python benchmarks/interruptions.py --share 0.1

A command is started, killed at a random moment (also while it starts, compiles, saves and evaluates), and started again
until it has ended. Then its run is compared, bit for bit, with that of a command that nobody disturbed.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import lateral

TISSUE = ["--n-cells", "5", "--n-steps", "300", "--n-replicates", "64", "--seed", "3"]
COMMANDS = {
    "evolution": ["evolution", "--n-generations", "150"],
    "through the dynamics": ["backprop", "--preset", "pathwise", "--n-epochs", "200"],
    "restarts by score": ["score", "--n-candidates", "16", "--n-exploration", "50", "--n-epochs", "150"],
}
KILLS = {signal.SIGKILL: 100, signal.SIGINT: 20, signal.SIGTERM: 20}


def start(arguments: list[str], out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "lateral", "train", *arguments, *TISSUE, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def same(run: lateral.Run, other: lateral.Run) -> bool:
    leaves = [jax.tree.leaves((of_one.params, of_one.history)) for of_one in (run, other)]
    equal = all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(*leaves, strict=True))
    return equal and json.dumps(run.settings) == json.dumps(other.settings)


def disturb(name: str, signals: list[int], folder: Path, rng: random.Random) -> collections.Counter:
    """Kill a training once for each signal; what was seen."""
    seen = collections.Counter()
    clock = time.monotonic()
    reference = folder / "reference.npz"
    start(COMMANDS[name], reference).communicate()
    duration = time.monotonic() - clock
    undisturbed = lateral.load_run(reference)
    out = folder / "run.npz"
    while signals:
        process = start(COMMANDS[name], out)
        try:
            process.communicate(timeout=rng.uniform(0.0, 1.1 * duration))
        except subprocess.TimeoutExpired:
            number = signals.pop()
            clock = time.monotonic()
            process.send_signal(number)
            _, stderr = process.communicate()
            seconds = time.monotonic() - clock
            judge(seen, number, process.returncode, stderr, seconds)
            if out.exists():
                seen["a run file, not finished" if not lateral.load_run(out).finished else "a finished run file"] += 1
        else:
            finish(seen, process, out, undisturbed)
    start(COMMANDS[name], out).communicate()
    finish(seen, None, out, undisturbed)
    return seen


def judge(seen, number: int, status: int, stderr: str, seconds: float) -> None:
    """How a command ended after a signal."""
    seen[signal.Signals(number).name] += 1
    expected = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    seen["ended before it heard the signal"] += status == 0
    if status not in (expected, -number, 0):
        seen[f"status {status} after {signal.Signals(number).name}: {stderr[-300:]}"] += 1
    if "Traceback" in stderr:
        seen[f"a traceback: {stderr[-300:]}"] += 1
    if number != signal.SIGKILL:
        seen["longer than 2 s"] += seconds > 2.0
        seen["slowest answer, ms"] = max(seen["slowest answer, ms"], round(1e3 * seconds))


def finish(seen, process, out: Path, undisturbed: lateral.Run) -> None:
    """Compare what has ended, and begin anew."""
    seen["ended by itself"] += 1
    seen["bitwise as undisturbed"] += same(lateral.load_run(out), undisturbed)
    seen["litter"] += len([path for path in out.parent.iterdir() if path.name not in ("run.npz", "reference.npz")])
    out.unlink()


def cost(rounds: int) -> float:
    """Seconds with checkpoints over seconds without, of the same training in one process."""
    model = lateral.Model(lateral.RBFNetwork(), n_replicates=256, objective="tissue")
    settings = dict(key=jax.random.key(0), n_epochs=200, gradient=lateral.Score())
    with tempfile.TemporaryDirectory() as folder:
        ratios = []
        for number in range(rounds + 1):
            seconds = []
            for checkpoint in (None, Path(folder) / f"{number}.npz"):
                clock = time.perf_counter()
                lateral.train_backprop(model, checkpoint=checkpoint, **settings)
                seconds.append(time.perf_counter() - clock)
            ratios.append(seconds[1] / seconds[0])
    return float(np.median(ratios[1:]))  # the first compiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the signals")
    share = parser.parse_args().share
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes inherit it where a shell has it ignored
    print(f"a training with checkpoints takes {cost(7):.3f} times as long")
    total = collections.Counter()
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        for i, name in enumerate(COMMANDS):
            rng = random.Random(i)
            signals = [number for number, n in KILLS.items() for _ in range(round(n * share / len(COMMANDS) + 0.5))]
            rng.shuffle(signals)
            with tempfile.TemporaryDirectory() as folder:
                seen = disturb(name, signals, Path(folder), rng)
            print(f"{name}: {dict(+seen)}", flush=True)
            total += seen
    assert not total["litter"] and not any("traceback" in seen for seen in total)
    assert total["bitwise as undisturbed"] == total["ended by itself"]


if __name__ == "__main__":
    main()
