"""Compare optimisers of the objective "tissue" under |f| <= 5 that spend the same work.

    pip install -e ".[bench]"
    python benchmarks/compare.py --methods exploration       # first: its work is the budget of most
    python benchmarks/compare.py --tune --workers 2          # 4 settings of each other method, see below
    python benchmarks/compare.py --missing                   # seeds 0 to 9 of whatever is not stored yet
    python benchmarks/compare.py --figure-only               # figure and tables of what is stored
    python benchmarks/compare.py --quick --tune --seeds 1    # tries the script: a tiny budget, files in the temp folder

The budget is the median work of exploration; where f is a step rule half of that, a third more than the recipe that
trains step rules takes. Work is counted in cell updates: cells times replicates times steps of every simulation, a
backward step as two. So a gradient, pathwise or by the score, costs three simulations. Everything that a method does to
decide counts: what it starts from, and the rescoring of the last parents of evolution. Presets draw their own starts;
all others start from the best of 256 random networks on 64 replicates, and where f is a step rule from the best of
4,096, halved as the recipes halve them; there the searches have edges as steep as the recipe has at its end. Measuring
the answers on fresh replicates does not count: 4,000 at each checkpoint and 20,000 at the end, at the time step and at
a quarter of it; the answer once more at dt/10 and dt/40, on 4,000. Seconds leave out compilation and are stored by runs
with one worker only.

Presets bring their settings, and the two recipes end long before the budget. "steps" draws random step rules and halves
them, nothing else. All others are tuned here by equal numbers of trials, each on seeds 100 and 101, and chosen by the
lower U of dt and dt/4. The trials of a gradient, whose learning rate falls with the budget, have a quarter of it; those
of a search all of it, since it exploits the time step late, and those of step rules, whose starts take much of it. The
searches come twice: with dt alone, and with dt and dt/2 from generation to generation in turn ("two dt"), as
exploration does.

Writes `benchmarks/compare.json` after each run, then `docs/compare.png` and the table of BACKPROP_GUIDE.md, and prints
that table with more columns.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import platform
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

import cma
import jax
import numpy as np
import optax
import tables
from optimisers import (
    ALL,
    AS_THEY_ARE,
    COMPARED,
    METHODS,
    MODEL,
    NETWORKS,
    PRESETS,
    SEARCHES,
    STEP_RULE,
    best_step_rule,
    settings_to_try,
    start_of,
    trained_by_preset,
)
from stored import save_json

import lateral
from lateral.equal_work import plot_equal_work, stored_runs, that_counts

FIGURE = Path(__file__).parents[1] / "docs" / "compare.png"
STEP_RULE_BUDGET = 6.208384e9  # cell updates, about half of what exploration takes
R_CHECKPOINT, R_FINAL = 4000, 20_000
TUNING_SEEDS = (100, 101)


def tuning_share(method: str, network: str) -> float:
    """Of the budget."""
    return 1.0 if method in SEARCHES or network == STEP_RULE else 0.25


# --- one run


def evaluation(params, network, key, n_replicates: int, fraction: int = 1) -> lateral.Evaluation:
    """At a fraction of the time step, and at a quarter of that."""
    model = dataclasses.replace(MODEL, network=network, dt=MODEL.dt / fraction, n_steps=MODEL.n_steps * fraction)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all time steps stand in the table
        return lateral.evaluate(lateral.RegulatoryFunction(network, params), model, key=key, n_replicates=n_replicates)


def measure(params, network, seed: int, n_replicates: int, work: int, seconds: float | None) -> dict:
    result = evaluation(params, network, jax.random.key(10_000 + seed), n_replicates)
    scores = {s: round(getattr(result, s), 4) for s in ("utility", "utility_se", "utility_refined", "alternation")}
    return {"work": work, "seconds": None if seconds is None else round(seconds, 3)} | scores


def measure_finer(params, network, seed: int) -> dict:
    """U at dt/10 and dt/40: some rules that exploit the time step keep what they have at dt/4, and lose it there."""
    result = evaluation(params, network, jax.random.key(20_000 + seed), R_CHECKPOINT, fraction=10)
    return {"utility_10": round(result.utility, 4), "utility_40": round(result.utility_refined, 4)}


def run(method, network_name, seed, settings, budget, n_checkpoints, timed) -> dict:
    """The entry of one run: its settings, its budget (None for one that is just enough), a point per checkpoint."""
    if timed:
        warm_up(method, network_name, json.dumps(settings))
    network = NETWORKS[network_name]
    if network_name == STEP_RULE and method in SEARCHES:
        network = network.sharpened()  # as what finishes the recipe
    clock = time.perf_counter()
    if method in AS_THEY_ARE:
        if method in PRESETS:
            params, network, work = trained_by_preset(method, seed, network)
        else:
            params, network, work = best_step_rule(jax.random.key(seed))
        seconds = time.perf_counter() - clock
        points = [measure(params, network, seed, R_FINAL, work, seconds if timed else None)]
        points[-1] |= measure_finer(params, network, seed)
        return {"settings": settings, "budget": budget, "points": points}

    settings_ = dict(settings)
    model = dataclasses.replace(MODEL, network=network, n_replicates=settings_.pop("n_replicates"))
    start_key, key = jax.random.split(jax.random.key(seed))
    start, first = jax.block_until_ready(start_of(model, start_key))
    optimiser = METHODS[method][0](model, start, key, seed, **settings_)
    spent = time.perf_counter() - clock
    before = first + optimiser.answer_work
    budget_ = before + 2 * optimiser.step_work if budget is None else budget
    n_steps = int((budget_ - before) // optimiser.step_work)
    if n_steps < 1:
        raise ValueError(f"a budget of {budget_:g} cell updates is not enough for one step of {method}")
    targets = np.geomspace(first, budget_, n_checkpoints + 1)[1:]
    stops = np.clip(np.rint((targets - before) / optimiser.step_work), 1, n_steps)
    stops[-1] = n_steps
    points = []
    if n_checkpoints > 1:
        points.append(measure(start, network, seed, R_CHECKPOINT, first, spent if timed else None))
    for number in range(n_steps):
        clock = time.perf_counter()
        jax.block_until_ready(optimiser.step(number, n_steps))
        spent += time.perf_counter() - clock
        if number + 1 in stops:
            clock = time.perf_counter()
            params = jax.block_until_ready(optimiser.answer(number))
            seconds = spent + time.perf_counter() - clock  # an answer costs whoever stops here, and nobody later
            work = before + (number + 1) * optimiser.step_work
            n_fresh = R_FINAL if number + 1 == n_steps else R_CHECKPOINT
            points.append(measure(params, network, seed, n_fresh, work, seconds if timed else None))
    if n_checkpoints > 1:  # not a trial
        points[-1] |= measure_finer(params, network, seed)
    return {"settings": settings, "budget": budget, "skipped": optimiser.n_skipped, "points": points}


@lru_cache
def warm_up(method, network_name, settings):
    """Compiles everything once, outside the clock."""
    run(method, network_name, 999, json.loads(settings), None, 1, timed=False)


def run_all(tasks: dict, workers: int):
    """`(name, entry)` of all tasks, as they finish."""
    if workers == 1:
        for name, task in tasks.items():
            yield name, run(*task, timed=name[0] == "runs")
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(run, *task, timed=False): name for name, task in tasks.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()


# --- what is stored


def save(results: dict, path: Path) -> None:
    versions = {m.__name__: m.__version__ for m in (jax, np, optax, cma)} | {"python": platform.python_version()}
    results["machine"] = {"cores": os.cpu_count(), "device": jax.devices()[0].platform, **versions}
    save_json(path, results)


def of_pattern(entry) -> float:
    """What counts at the end, or 0 where it is not that of a pattern: a consensus has a high U too."""
    end = entry["points"][-1]
    return that_counts(end) * (end["alternation"] >= tables.PATTERN)


def budget_of(network: str, runs: dict, parser) -> float:
    """The median work of exploration; for step rules about half of it."""
    if network == STEP_RULE:
        return STEP_RULE_BUDGET
    of_exploration = [entries for method, _, entries in stored_runs(runs) if method == "exploration"]
    works = [entry["points"][-1]["work"] for entries in of_exploration for entry in entries]
    if not works:
        parser.error("no run of exploration is stored: run --methods exploration first, or give --budget")
    return float(np.median(works))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tune", action="store_true", help="try settings first, and store the best")
    parser.add_argument("--methods", nargs="+", choices=ALL, default=ALL, metavar="METHOD", help=", ".join(ALL))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="F")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to SEEDS - 1; 0 to tune only")
    parser.add_argument("--budget", type=float, help="cell updates; by default those of a preset, see above")
    parser.add_argument("--missing", action="store_true", help="only runs that are not stored with these settings")
    parser.add_argument("--workers", type=int, default=1, help="processes; seconds are stored by one only")
    parser.add_argument("--figure-only", action="store_true", help="run nothing, draw and write again what is stored")
    parser.add_argument("--quick", action="store_true", help="a tiny budget and files in the temp folder, as a trial")
    options = parser.parse_args()
    path, figure, n_checkpoints = tables.COMPARE, FIGURE, 8
    if options.quick:
        path, figure = (Path(tempfile.gettempdir()) / f"quick-{file.name}" for file in (path, figure))
        options.budget, n_checkpoints = options.budget or 1.2e9, 3
    results = {"tuning": {}, "best": {}, "runs": {}}
    if path.exists():
        results |= json.loads(path.read_text())

    def work_through(tasks: dict) -> None:
        """Runs tasks named by where their entries go: a section, a row, and a key in it."""
        for (section, row, key), (*_, settings, budget, _) in list(tasks.items()):
            stored = results[section].get(row, {}).get(key)
            same = stored and (stored["settings"], stored["budget"]) == (settings, budget)
            same = same and (section == "tuning" or "utility_40" in stored["points"][-1])
            if options.missing and same:
                del tasks[section, row, key]
        for (section, row, key), entry in run_all(tasks, options.workers):
            results[section].setdefault(row, {})[key] = entry
            save(results, path)
            print(f"{section}, {row}, {key}: U = {entry['points'][-1]['utility']:.3f}", flush=True)

    if not options.figure_only:
        cases = [(f"{m}, {f}", m, f) for m in options.methods for f in options.networks if m in COMPARED[f]]
        work_through(
            {("runs", row, str(s)): (m, f, s, None, None, 1) for row, m, f in cases if m in AS_THEY_ARE
             for s in range(options.seeds)}
        )  # fmt: skip
        cases = [case for case in cases if case[1] not in AS_THEY_ARE]
        budgets = {f: options.budget or budget_of(f, results["runs"], parser) for _, _, f in cases}
        if options.tune:
            work_through(
                {("tuning", row, f"{json.dumps(settings)}, seed {s}"):
                 (m, f, s, settings, tuning_share(m, f) * budgets[f], 1)
                 for row, m, f in cases for settings in settings_to_try(m, f) for s in TUNING_SEEDS}
            )  # fmt: skip
            for row, method, f in cases:
                trials, trial_budget = list(results["tuning"][row].values()), tuning_share(method, f) * budgets[f]
                means = [
                    np.mean([of_pattern(t) for t in trials if (t["settings"], t["budget"]) == (s, trial_budget)])
                    for s in settings_to_try(method, f)
                ]
                results["best"][row] = settings_to_try(method, f)[int(np.nanargmax(means))]
            save(results, path)
        if missing := [row for row, *_ in cases if row not in results["best"]]:
            parser.error(f"no settings of {missing[0]!r} are stored: run --tune first")
        seeds = range(options.seeds)
        work_through(
            {("runs", row, str(s)): (m, f, s, results["best"][row], budgets[f], n_checkpoints) for row, m, f in cases
             for s in seeds}
        )  # fmt: skip
    print(tables.compare(results, details=True))
    if results["runs"]:
        plot_equal_work(results["runs"]).savefig(figure, dpi=120)
        if not options.quick:
            tables.write_tables("benchmarks/compare.py")


if __name__ == "__main__":
    main()
