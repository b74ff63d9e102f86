"""Command line: train, evaluate, score your own fates and plot without a browser.

    lateral train score --out run.npz --seed 3
    lateral train score --out more.npz --initial run.npz
    lateral show run.npz
    lateral evaluate run.npz --noise-strength 0.2
    lateral utility fates.csv
    lateral utility wild.csv --against mutant.csv --fates 3 --geometry contacts.csv --figure both.pdf
    lateral plot run.npz --out figure.pdf

`python -m lateral` is the same. The result goes to stdout: as text for a reader on a terminal, and as one line of JSON
in a pipe or with `--json` (`show` prints JSON with `--json` only). Progress and warnings go to stderr; with `--quiet`
only errors do.

A training keeps its run in a file. After Ctrl-C, SIGTERM or worse, the same command goes on from there, and ends where
it would have ended. Exit status: 0; 1 when training diverged (the run up to there is saved); 2 with one line on stderr
for bad input; 130 and 143 after Ctrl-C and SIGTERM; 141 when nobody reads the result. The options are those of the
settings classes: their help and choices stand there.
"""

import dataclasses
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from lateral.bounds import FEWEST, bound_utility
from lateral.compiled import keep_compiled
from lateral.conditions import compare_conditions
from lateral.evaluation import FINE_KNOTS, Evaluation, evaluate, what_was_found
from lateral.fates import read_fates
from lateral.geometry import Geometry, row_with_ends
from lateral.model import final_states, scores_of
from lateral.network import RegulatoryFunction
from lateral.options import make_parser
from lateral.presets import preset, trainer
from lateral.runs import Run, load_progress, load_run, save_run
from lateral.show import as_dict, in_words
from lateral.startup import IS_COMMAND, hear_interrupts, leave_at_interrupts
from lateral.storage.files import check_writable, save_somewhere
from lateral.terminal import BrokenOutput, Interrupted, interruptible, on_terminal, print_result, say
from lateral.training.checkpoint import Checkpoint
from lateral.training.driver import TrainingDiverged
from lateral.training.estimators import ESTIMATORS
from lateral.training.finish import sharpened
from lateral.training.fit import fit_network
from lateral.training.watch import refuse_another
from lateral.utility import UndersampledWarning, estimate_utility

__all__ = ["RenamedWarning", "initial_scores", "keys_of", "main", "train_and_evaluate"]

FIGURE_FORMATS = (".png", ".pdf", ".svg")


class RenamedWarning(FutureWarning):
    """A call uses a former spelling, which `lateral` still understands."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = vars(make_parser().parse_args(arguments))
    command, quiet, as_json = (options.pop(name) for name in ("command", "quiet", "as_json"))
    options |= {"train": {"quiet": quiet}, "show": {"as_json": as_json}}.get(command, {})
    try:
        hear_interrupts()
        if IS_COMMAND:
            keep_compiled()
        with warnings.catch_warnings():
            warnings.showwarning = _no_warning if quiet else _one_line_warning
            result, status = _COMMANDS[command](**options)
        if not isinstance(result, str):
            to_be_read = on_terminal() and not as_json
            result = _lines(result) if to_be_read else json.dumps(_finite(result), allow_nan=False)
        print_result(result)
        return status
    except BrokenOutput as error:
        if error.quiet:
            return 141
        return _fail(command, error, 2)
    except (KeyboardInterrupt, Interrupted) as error:
        return _fail(command, str(error) or "interrupted", getattr(error, "status", 130))
    except (ValueError, OSError) as error:
        return _fail(command, error, 2)
    finally:
        leave_at_interrupts()


def _fail(command: str, error: Exception | str, status: int) -> int:
    say(f"lateral {command}: {error}".replace("\n", " "))
    return status


def _train(
    method: str, preset_name: str, out: Path, seed: int, initial: Path | None, fresh: bool, quiet: bool, **changes
) -> tuple[dict, int]:
    check_writable(out)
    changes = {name: value for name, value in changes.items() if value is not None}
    if "hidden_dims" in changes:
        changes["hidden_dims"] = tuple(changes["hidden_dims"])
    if initial is not None:
        changes["initial"] = load_run(initial).regulatory_function
    checkpoint, was_finished = Checkpoint(out, fresh=fresh, seed=seed), not fresh and _is_finished(out)

    def work(look):
        def callback(_):
            look()

        beside = {"progress": not quiet, "checkpoint": checkpoint, "callback": callback}
        return train_and_evaluate(method, preset_name, seed, **beside, **changes)

    def give_up():
        return f"lateral train: interrupted while compiling: {out} keeps the last checkpoint, the same command goes on"

    run, result, seconds, error = interruptible(work, give_up)
    run = dataclasses.replace(run, evaluation=result._asdict())

    def save(path):
        if path == out:
            refuse_another(out, run.identity)
        save_run(path, run)

    saved = save_somewhere(out, save)
    if error is not None:
        say(f"lateral train: {error}")
    elif was_finished and not quiet:
        say(f"lateral train: {out} was finished before, so nothing was trained; --fresh trains anew")
    line = {"out": str(saved), "method": run.method, "seed": seed, "seconds": round(seconds, 3)}
    line |= {} if initial is None else {"initial": str(initial)}
    numbers = _numbers(result, ("utility", "utility_se", "alternation", "utility_refined"))
    found = {"found": what_was_found(result.utility, result.alternation)}
    return line | numbers | found | initial_scores(run), 0 if error is None else 1


def _is_finished(path: Path) -> bool:
    try:
        return load_progress(path).finished
    except (OSError, ValueError):  # no file, or one that training will refuse
        return False


def initial_scores(run: Run) -> dict[str, float]:
    """Hard utility and alternation, on 20,000 replicates, of the network that a run started from."""
    if run.initial_params is None:
        return {}
    model = run.model.changed(n_replicates=20_000, n_knots=FINE_KNOTS)  # simulated by what `evaluate` has compiled
    states = final_states(run.initial_regulatory_function, model, _key(run.seed))
    return {f"initial_{name}": round(float(value), 6) for name, value in scores_of(states, model).items()}


def keys_of(seed: int) -> tuple[jax.Array, jax.Array]:
    """The keys of a training and of its evaluation."""
    return tuple(jax.random.split(_key(seed)))


def train_and_evaluate(
    method: str,
    preset_name: str,
    seed: int,
    progress: bool = True,
    initial: Callable | None = None,
    checkpoint: Checkpoint | None = None,
    callback: Callable | None = None,
    **changes,
) -> tuple[Run, Evaluation, float, TrainingDiverged | None]:
    """Train from a seed and evaluate on fresh replicates: what `lateral train` does.

    A rule `initial` makes it a warm start: from its parameters where it is the same network, else from a fit to it.

    Returns:
        The run, its evaluation, the seconds that training took (compilation included), and the error if it diverged.
    """
    if isinstance(changes.get("gradient"), str):
        changes["gradient"] = ESTIMATORS[changes["gradient"]]()
    model, settings = preset(method, preset_name, **changes)
    train = trainer(method, preset_name)
    train_key, test_key = keys_of(seed)
    start, diverged = time.perf_counter(), None
    if initial is not None:
        settings["initial_params"] = _warm_start(model.network, initial, jax.random.fold_in(train_key, 0))
    try:
        beside = {"progress": progress, "checkpoint": checkpoint, "callback": callback}
        run = train(model, key=train_key, **beside, **settings)
    except TrainingDiverged as error:
        run, diverged = error.run, error
    seconds = time.perf_counter() - start
    run = dataclasses.replace(run, seed=seed, settings=run.settings | {"preset": preset_name})
    return run, evaluate(run.regulatory_function, run.model, key=test_key), seconds, diverged


def _warm_start(network, f: Callable, key: jax.Array) -> Any:
    if isinstance(f, RegulatoryFunction) and f.network in (network, sharpened(network)):
        return f.params
    return fit_network(network, f, key=key)


def _evaluate(run_file: Path, n_replicates: int, seed: int, **changes) -> tuple[dict, int]:
    run = load_run(run_file)
    changes = {name: value for name, value in changes.items() if value is not None}
    result = evaluate(run.regulatory_function, run.model, key=_key(seed), n_replicates=n_replicates, **changes)
    line = {"run": str(run_file), "method": run.method, "seed": seed}
    names = (
        "utility",
        "utility_se",
        "alternation",
        "utility_refined",
        "s_pat",
        "s_rep",
        "positional_information",
        "correlational_information",
    )
    return line | _numbers(result, names), 0


def _utility(
    fates_file: Path,
    boundary: str,
    geometry: Geometry | None,
    header: bool | None,
    index: bool | None,
    n_fates: int,
    missing: str,
    bound: bool,
    against: Path | None,
    figure: Path | None,
    seed: int,
) -> tuple[dict, int]:
    _check_figure("--figure", figure)
    how = {"header": header, "index": index, "n_fates": n_fates, "geometry": geometry, "missing": missing}
    table = read_fates(fates_file, **how)
    other = None if against is None else read_fates(against, **how)
    geometry = row_with_ends(table.fates.shape[1], boundary) if geometry is None else geometry
    estimate = estimate_utility(table.fates, geometry=geometry, n_fates=n_fates)
    fates = {name: value.item() for name, value in estimate._asdict().items()}
    bias = fates["utility"] - fates["utility_corrected"]
    if fates["undersampled"]:
        below = "; utility_bound is a lower one" if len(table.fates) >= FEWEST else ""
        message = f"{fates['n_patterns']} distinct patterns: too few tissues, the utility is only an upper bound{below}"
        warnings.warn(message, UndersampledWarning, stacklevel=1)
    result = {"fates": str(fates_file), "read": table.said, "n_fates": n_fates, **fates, "utility_bias": bias}
    if bound or (fates["undersampled"] and len(table.fates) >= FEWEST):
        of_any_size = bound_utility(table.fates, geometry, n_fates=n_fates)
        names = {"utility_bound": "utility", "utility_bound_se": "utility_se", "bound_undersampled": "undersampled"}
        result |= {name: getattr(of_any_size, attribute) for name, attribute in names.items()}
    if other is not None:
        compared = compare_conditions(table.fates, other.fates, geometry, key=_key(seed), n_fates=n_fates)
        result |= {"against": str(against), "against_read": other.said, **compared._asdict()}
    if figure is not None:
        from lateral.plotting import plot_conditions  # matplotlib is slow to import

        conditions = {fates_file.stem: table.fates}
        title = ""
        if other is not None:
            conditions[against.stem if against.stem != fates_file.stem else str(against)] = other.fates
            title = f"U differs by {compared.difference:+.2f} (p = {compared.p_value:.2g})"
        plot_conditions(conditions, geometry, key=_key(seed), n_fates=n_fates, title=title).savefig(figure)
        result["figure"] = str(figure)
    return result, 0


def _check_figure(name: str, path: Path | None) -> None:
    """Say before anything is computed that a figure could not be written."""
    if path is None:
        return
    if path.suffix.lower() not in FIGURE_FORMATS:
        raise ValueError(f"{name} must end in {', '.join(FIGURE_FORMATS)}, got {str(path)!r}")
    check_writable(path)


def _plot(run_file: Path, out: Path, seed: int) -> tuple[dict, int]:
    _check_figure("--out", out)
    run = load_run(run_file)
    from lateral.plotting import plot_run  # matplotlib is slow to import

    plot_run(run, key=_key(seed)).savefig(out)
    return {"run": str(run_file), "out": str(out)}, 0


def _show(run_file: Path, as_json: bool) -> tuple[dict | str, int]:
    run = load_run(run_file)
    return (as_dict(run) if as_json else in_words(run)), 0


def _score(**options) -> tuple[dict, int]:
    warnings.warn("`lateral score` is `lateral utility` now", RenamedWarning, stacklevel=1)
    return _utility(**options)


_COMMANDS = {"train": _train, "show": _show, "evaluate": _evaluate, "utility": _utility, "score": _score, "plot": _plot}


def _key(seed: int) -> jax.Array:
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed must be a whole number from 0 to 2^32 - 1, got {seed}")
    return jax.random.key(seed)


def _numbers(result: Evaluation, names) -> dict:
    numbers = {name: round(getattr(result, name), 6) for name in names}
    return numbers | ({"lower_bound": True} if result.lower_bound else {})


def _finite(result: Any) -> Any:
    """JSON knows neither infinity nor NaN."""
    if isinstance(result, dict):
        return {name: _finite(value) for name, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [_finite(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result


def _lines(result: dict) -> str:
    """A result to be read."""
    width = max(map(len, result))
    words = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in result.items()}
    return "\n".join(f"{name:{width}}  {value}" for name, value in words.items())


def _no_warning(*_args, **_kwargs):
    pass


def _one_line_warning(message, category, *_args, **_kwargs):
    say(f"{category.__name__}: {message}")
