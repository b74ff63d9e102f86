"""The options of the command line: their names, ranges, help and defaults are those of the settings classes."""

import argparse
import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from lateral.fields import options_of
from lateral.geometry import BOUNDARIES, Geometry
from lateral.model import Model
from lateral.neighbours import geometry_of
from lateral.network import HIDDEN_DIMS, MLP
from lateral.presets import MAX_RATE, METHODS, preset, settings_classes
from lateral.readout import Readout
from lateral.terminal import say
from lateral.tissue import Tissue
from lateral.training.estimators import ESTIMATORS

__all__ = ["make_parser"]

LAYERS = {"evolution": str(HIDDEN_DIMS), "backprop": "bumps", "score": "step rules"}  # without hidden_dims
SEED = "of the random key, by default %(default)s"


class _OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line and exit status 2, and whose help looks defaults up."""

    defaults: Callable[[], dict[str, Any]] = dict

    def format_help(self):
        values = self.defaults()
        for action in self._actions:
            if action.dest in values:
                action.help = f"{action.help}, by default {values[action.dest]}"
        return super().format_help()

    def error(self, message):
        say(f"{self.prog}: {message}")
        raise SystemExit(2)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _OneLineParser(prog="lateral", description="Train, evaluate and plot rules of tissue patterning.")
    parser.add_argument("--version", action="version", version=f"lateral {version('lateral')}, jax {jax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", dest="as_json", action="store_true", help="the result as JSON, on a terminal too")
    output.add_argument("--quiet", action="store_true", help="on stderr, errors only")

    train = commands.add_parser("train", help="train a network and save the run")
    methods = train.add_subparsers(dest="method", required=True, metavar="{" + ",".join(METHODS) + "}")
    for method, presets in METHODS.items():
        _add_training(methods.add_parser(method, help=f"train by {method}", parents=[output]), method, presets)

    sub = commands.add_parser("show", help="what a saved run holds", parents=[output])
    sub.add_argument("run_file", type=Path, metavar="RUN.npz")

    sub = commands.add_parser("evaluate", parents=[output], help="utility of a saved run on fresh replicates")
    sub.add_argument("run_file", type=Path, metavar="RUN.npz")
    sub.add_argument("--n-replicates", type=int, default=20_000, help="fresh tissues, by default %(default)s")
    sub.add_argument("--seed", type=int, default=1, help=SEED)
    _add_settings(sub, Tissue, Readout)
    sub.add_argument("--geometry", **GEOMETRY)

    for name, text in (("utility", "utility of your own fates"), ("score", "the same, as it was called before")):
        sub = commands.add_parser(name, help=text, parents=[output])
        sub.add_argument(
            "fates_file", type=Path, metavar="FATES.csv", help="rows: tissues, columns: cells; also .npy, - for stdin"
        )
        for place, what in (
            ("header", "the first line holds names of cells"),
            ("index", "the first column, of tissues"),
        ):
            sub.add_argument(f"--{place}", action=argparse.BooleanOptionalAction, help=f"{what}; found out otherwise")
        ends = sub.add_mutually_exclusive_group()
        ends.add_argument("--boundary", choices=tuple(BOUNDARIES), default="free", help="ends, by default %(default)s")
        ends.add_argument("--geometry", **GEOMETRY)
        sub.add_argument("--fates", dest="n_fates", type=int, default=2, metavar="K", help="how many; %(default)s")
        sub.add_argument(
            "--missing", choices=("refuse", "drop"), default="refuse", help="tissues that lack a fate; %(default)s"
        )
        sub.add_argument("--bound", action="store_true", help="a lower bound of U, as too few tissues get unasked")
        sub.add_argument("--against", type=Path, metavar="OTHER.csv", help="tissues of another condition, to compare")
        sub.add_argument("--figure", type=Path, metavar="FIGURE.{png,pdf,svg}", help="picture of all that was found")
        sub.add_argument("--seed", type=int, default=1, help=f"of comparison and intervals: {SEED}")

    sub = commands.add_parser("plot", help="figure of a saved run", parents=[output])
    sub.add_argument("run_file", type=Path, metavar="RUN.npz")
    sub.add_argument("--out", type=Path, required=True, metavar="FIGURE.{png,pdf,svg}")
    sub.add_argument("--seed", type=int, default=1, help=SEED)
    return parser


def _add_training(sub, method: str, presets: tuple[str, ...]) -> None:
    sub.defaults = lambda: _defaults(method)
    sub.add_argument("--out", type=Path, required=True, metavar="RUN.npz", help="file for the run")
    sub.add_argument("--fresh", action="store_true", help="start anew, and replace the run that stands there")
    sub.add_argument("--preset", dest="preset_name", choices=presets, default="recipe", help="by default %(default)s")
    sub.add_argument("--seed", type=int, default=0, help=SEED)
    sub.add_argument("--initial", type=Path, metavar="RUN.npz", help="start from the rule of this run, not at random")
    _add_settings(sub, Model, *settings_classes(method))
    sub.add_argument("--geometry", **GEOMETRY)
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


def _geometry(text: str) -> Geometry:
    try:
        return geometry_of(text)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


GEOMETRY = {
    "type": _geometry,
    "metavar": "SHEET|EDGES.csv",
    "help": "who sees whom, in place of a row: square:6x6, hexagonal:6x6:periodic, or the list of contacts in a file",
}


def _rate(text: str) -> float:
    return math.inf if text == "none" else float(text)


def _defaults(method: str) -> dict[str, Any]:
    """What the recipe of a method sets, in words."""
    model, given = preset(method)
    named = {"max_rate": f"{MAX_RATE:g}", "hidden_dims": LAYERS[method]}
    for cls in (*settings_classes(method), Model):
        of_class = model if cls is Model else cls()
        for name, _ in options_of(cls):
            value = given.get(name, getattr(of_class, name, None))
            if not (value is None or callable(value)):
                named.setdefault(name, f"{float(value):g}" if isinstance(value, float | jax.Array) else str(value))
    return named
