"""Command line: train, evaluate, score your own fates and plot without a browser.

    python -m lateral train score --objective tissue --out run.npz --seed 3
    python -m lateral train score --objective tissue --out more.npz --initial run.npz
    python -m lateral show run.npz
    python -m lateral evaluate run.npz --noise-strength 0.2
    python -m lateral utility fates.csv
    python -m lateral plot run.npz --out figure.pdf

Each command but `show` prints one JSON line on stdout; progress and warnings go to stderr. While it trains, the run is
kept in its file: after Ctrl-C, SIGTERM or worse the same command goes on from there, and ends where it would have
ended. Exit status: 0; 1 when training diverged (the run up to there is saved); 2 with one line on stderr for bad
input; 130 and 143 after Ctrl-C and SIGTERM; 141 when nobody reads the result. The options are those of the settings
classes: their help and choices stand there.
"""

import argparse
import dataclasses
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lateral.evaluation import Evaluation, evaluate, what_was_found
from lateral.fields import options_of
from lateral.geometry import BOUNDARIES
from lateral.model import Model, final_states, scores_of
from lateral.network import MLP, RegulatoryFunction
from lateral.presets import METHODS, RenamedWarning, preset, settings_classes, trainer
from lateral.readout import Readout
from lateral.runs import Run, load_run, save_run
from lateral.show import as_dict, in_words
from lateral.storage.files import check_writable, save_somewhere
from lateral.terminal import BrokenOutput, Interrupted, interruptible, print_result, say
from lateral.tissue import Tissue
from lateral.training.checkpoint import Checkpoint
from lateral.training.driver import TrainingDiverged
from lateral.training.estimators import ESTIMATORS
from lateral.training.fit import fit_network
from lateral.training.watch import refuse_another
from lateral.utility import UndersampledWarning, estimate_utility

__all__ = ["initial_scores", "main", "train_and_evaluate"]

FIGURE_FORMATS = (".png", ".pdf", ".svg")


class _OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line and exit status 2."""

    def error(self, message):
        say(f"{self.prog}: {message}")
        raise SystemExit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _one_line_warning
            result, status = _COMMANDS[command](**options)
        print_result(result if isinstance(result, str) else json.dumps(_finite(result), allow_nan=False))
        return status
    except BrokenOutput as error:
        if error.quiet:
            return 141
        return _fail(command, error, 2)
    except (KeyboardInterrupt, Interrupted) as error:
        return _fail(command, str(error) or "interrupted", getattr(error, "status", 130))
    except (ValueError, OSError) as error:
        return _fail(command, error, 2)


def _fail(command: str, error: Exception | str, status: int) -> int:
    say(f"lateral {command}: {error}".replace("\n", " "))
    return status


def _train(
    method: str, preset_name: str, out: Path, seed: int, initial: Path | None, fresh: bool, **changes
) -> tuple[dict, int]:
    check_writable(out)
    changes = {name: value for name, value in changes.items() if value is not None}
    if "hidden_dims" in changes:
        changes["hidden_dims"] = tuple(changes["hidden_dims"])
    if initial is not None:
        changes["initial"] = load_run(initial).regulatory_function
    checkpoint, chunks = Checkpoint(out, fresh=fresh, seed=seed), []

    def work(look):
        return train_and_evaluate(
            method, preset_name, seed, checkpoint=checkpoint, callback=lambda _: chunks.append(look()), **changes
        )

    def give_up():
        return f"lateral train: interrupted in a compilation: {out} keeps the last checkpoint, the same command goes on"

    run, result, seconds, error = interruptible(work, give_up)
    run = dataclasses.replace(run, evaluation=result._asdict())

    def save(path):
        if path == out:
            refuse_another(out, run.identity)
        save_run(path, run)

    saved = save_somewhere(out, save)
    if error is not None:
        say(f"lateral train: {error}")
    elif not chunks:
        say(f"lateral train: {out} was finished before, nothing was trained; --fresh trains anew")
    line = {"out": str(saved), "method": run.method, "seed": seed, "seconds": round(seconds, 3)}
    line |= {} if initial is None else {"initial": str(initial)}
    numbers = _numbers(result, ("utility", "utility_se", "alternation", "utility_refined"))
    found = {"found": what_was_found(result.utility, result.alternation)}
    return line | numbers | found | initial_scores(run), 0 if error is None else 1


def initial_scores(run: Run) -> dict[str, float]:
    """Hard utility and alternation, on 20,000 replicates, of the network that a run started from."""
    if run.initial_params is None:
        return {}
    model = run.model.changed(n_replicates=20_000)
    states = final_states(run.initial_regulatory_function, model, _key(run.seed))
    return {f"initial_{name}": round(float(value), 6) for name, value in scores_of(states, model).items()}


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
    with warnings.catch_warnings(action="ignore", category=RenamedWarning):  # said once, by the preset
        train = trainer(method, preset_name)
    train_key, test_key = jax.random.split(_key(seed))
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
    if isinstance(f, RegulatoryFunction) and f.network == network:
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


def _utility(fates_file: Path, boundary: str) -> tuple[dict, int]:
    estimate = estimate_utility(_read_fates(fates_file), boundary)
    fates = {name: value.item() for name, value in estimate._asdict().items()}
    bias = fates["utility"] - fates["utility_corrected"]
    if fates["undersampled"]:
        message = f"{fates['n_patterns']} distinct patterns: too few tissues, the utility is only an upper bound"
        warnings.warn(message, UndersampledWarning, stacklevel=1)
    return {"fates": str(fates_file), **fates, "utility_bias": bias}, 0


def _plot(run_file: Path, out: Path, seed: int) -> tuple[dict, int]:
    if out.suffix.lower() not in FIGURE_FORMATS:
        raise ValueError(f"--out must end in {', '.join(FIGURE_FORMATS)}, got {str(out)!r}")
    check_writable(out)
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


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(prog="lateral", description="Train, evaluate and plot rules of tissue patterning.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a network and save the run")
    methods = train.add_subparsers(dest="method", required=True, metavar="{" + ",".join(METHODS) + "}")
    for method, presets in METHODS.items():
        _add_training(methods.add_parser(method, help=f"train by {method}"), method, presets)

    sub = commands.add_parser("show", help="what a saved run holds")
    sub.add_argument("run_file", type=Path, metavar="RUN.npz")
    sub.add_argument("--json", dest="as_json", action="store_true", help="all of it, as JSON")

    sub = commands.add_parser("evaluate", help="utility of a saved run on fresh replicates")
    sub.add_argument("run_file", type=Path, metavar="RUN.npz")
    sub.add_argument("--n-replicates", type=int, default=20_000)
    sub.add_argument("--seed", type=int, default=1)
    _add_settings(sub, Tissue, Readout)

    for name, text in (("utility", "utility of your own fates"), ("score", "the same, as it was called before")):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("fates_file", type=Path, metavar="FATES.csv", help="0 and 1; rows: tissues, columns: cells")
        sub.add_argument("--boundary", choices=tuple(BOUNDARIES), default="free")

    sub = commands.add_parser("plot", help="figure of a saved run")
    sub.add_argument("run_file", type=Path, metavar="RUN.npz")
    sub.add_argument("--out", type=Path, required=True, metavar="FIGURE.{png,pdf,svg}")
    sub.add_argument("--seed", type=int, default=1)
    return parser


def _add_training(sub, method: str, presets: tuple[str, ...]) -> None:
    sub.add_argument("--out", type=Path, required=True, metavar="RUN.npz", help="file for the run")
    sub.add_argument("--fresh", action="store_true", help="start anew, and replace the run that stands there")
    sub.add_argument("--preset", dest="preset_name", choices=presets, default="recipe")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--initial", type=Path, metavar="RUN.npz", help="start from the rule of this run, not at random")
    # The recipe of `backprop` is that of `score`, as it was spelled before: so are its options.
    others = settings_classes("score") if method == "backprop" else ()
    _add_settings(sub, Model, *settings_classes(method), *others)
    sub.add_argument("--hidden-dims", **dict(options_of(MLP))["hidden_dims"].option, help="units of each hidden layer")
    sub.add_argument("--max-rate", type=_rate, help="bound on |f|, or none")
    if method != "evolution":
        sub.add_argument("--gradient", choices=tuple(ESTIMATORS), help="estimator of the gradient")


def _add_settings(parser, *classes: type) -> None:
    """An option for each setting, without a default: what is not given is left to the settings."""
    for name, setting in options_of(*classes):
        said = "choices" in setting.option or not setting.range
        text = setting.help if said else f"{setting.help} ({setting.range})"
        parser.add_argument(f"--{name.replace('_', '-')}", **setting.option, help=text.replace("%", "%%"))


def _rate(text: str) -> float:
    return math.inf if text == "none" else float(text)


def _key(seed: int) -> jax.Array:
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed must be a whole number from 0 to 2^32 - 1, got {seed}")
    return jax.random.key(seed)


def _numbers(result: Evaluation, names) -> dict:
    return {name: round(getattr(result, name), 6) for name in names}


def _finite(result: Any) -> Any:
    """JSON knows neither infinity nor NaN."""
    if isinstance(result, dict):
        return {name: _finite(value) for name, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [_finite(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result


def _read_fates(path: Path) -> np.ndarray:
    """A matrix of 0 and 1 from a comma-separated file, with or without a line of names at the top."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    rows = [(number, line.split(",")) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if rows and not any(_is_number(entry) for entry in rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise ValueError(f"{path} holds no fates")
    matrix = []
    for number, entries in rows:
        if len(entries) != len(rows[0][1]):
            raise ValueError(f"{path}, line {number}: {len(entries)} cells, but {len(rows[0][1])} in line {rows[0][0]}")
        for column, entry in enumerate(entries, 1):
            if not _is_number(entry) or float(entry) not in (0.0, 1.0):
                raise ValueError(f"{path}, line {number}, column {column}: a fate is 0 or 1, got {entry.strip()!r}")
        matrix.append([float(entry) for entry in entries])
    return np.array(matrix)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _one_line_warning(message, category, *_args, **_kwargs):
    say(f"{category.__name__}: {message}")
