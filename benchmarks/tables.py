"""The tables of docs/measured.md and BACKPROP_GUIDE.md that are made of stored results: the one place that writes them.

In a document each stands between a line `<!-- MARK -->` and a line `<!-- end -->`. The benchmarks rewrite theirs when
they have measured; `python benchmarks/tables.py` rewrites all without measuring, and without the packages that the
benchmarks compare with. `tests/test_documents.py` holds all of them to the stored results.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from stored import replaced

from lateral.equal_work import METHODS, median_of, stored_runs, that_counts
from lateral.evaluation import TOLERANCE
from lateral.storage.files import whole_file

HERE = Path(__file__).parent
MEASURED, GUIDE = HERE.parent / "docs" / "measured.md", HERE.parent / "BACKPROP_GUIDE.md"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|" for cells in (heads, *rows)]
    lines.insert(1, "|---" * len(heads) + "|")
    return "\n".join(lines)


# --- speed.json


def speed(results: dict) -> str:
    """Two tables: one simulation, and training."""
    peers = ["plain JAX", "diffrax, unsafe path", "diffrax, virtual tree", "Numba, addressed noise"]
    peers += ["Numba, noise with a state", "NumPy"]
    simulations = [
        [size, f"{1e-6 / row['lateral']['seconds']:.0f}", *(_ratio(row.get(name)) for name in peers)]
        for size, row in results["forward"].items()
    ]
    training = []
    for name, row in results["training"].items():
        ours, other = list(row.values())[:2]
        training.append([name, f"{1e3 * ours['seconds'] * _n_epochs(name):.1f} ms", f"{_ratio(other)} times as long"])
    return "\n\n".join(
        (
            markdown(["one simulation", "lateral, million updates a second", *peers], simulations),
            markdown(["training", "lateral", "plain JAX takes"], training),
        )
    )


def geometries(results: dict) -> str:
    """The rate of each tissue as a share of that of a row."""
    rows = results["geometries"]
    others = [name for name in next(iter(rows.values())) if name != "row"]
    cells = []
    for size, row in rows.items():
        shares = [[1.0 / q for q in row[name]["ratio"]] for name in others]
        of_row = f"{1e-6 / row['row']['seconds']:.0f}"
        cells.append([size, of_row, *(_share(middle, low, high) for middle, high, low in shares)])
    return markdown(["tissue", "row, million updates a second", *others], cells)


def cores(results: dict) -> str:
    """How many times as long one core takes."""
    rows = [[name, _ratio(row["one core"])] for name, row in results["cores"].items()]
    return markdown(["shared", "one core takes"], rows)


def recipes(results: dict) -> str:
    """Whole trainings; compilation comes once in a process, and once on a machine for the command."""
    rows = [
        [f"`lateral {name}`", f"{row['seconds']:.1f}", _share(*row["ratio"]), f"{row['compile_seconds']:.0f}"]
        for name, row in results["recipes"].items()
    ]
    return markdown(["training", "seconds", "beside exploration", "compilation adds"], rows)


def _share(median: float, low: float, high: float) -> str:
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def _ratio(entry) -> str:
    if not isinstance(entry, dict):
        return str(entry or "–")
    median, low, high = entry["ratio"]
    digits = 0 if median >= 20 else 1
    return f"{median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def _n_epochs(name: str) -> int:
    """Times of epochs are stored for each replicate."""
    return int(name.split("R = ")[1].split(" ")[0].replace(",", "")) if "epoch" in name else 1


# --- results.json

PATTERN = 0.8  # alternation from which on a tissue has a pattern
EXPLORATION = "score, exploration, patterns within the tissue"
EVOLUTION, PATHWISE, LITERAL = "evolution, recipe", "backprop, pathwise", "backprop, guide (literal)"
SHORT_EVOLUTION = "evolution, recipe, work of the pathwise backprop"
RECIPE = "score, recipe, patterns within the tissue"
WINDOWS = "backprop, recipe, patterns within the tissue"
MAIN = (EVOLUTION, "evolution, guide", LITERAL, PATHWISE, SHORT_EVOLUTION, EXPLORATION, RECIPE, WINDOWS)
PATTERN_HEADS = ["median U", "seeds with patterns", "their median U", "their worst", "consensus"]

# Cell updates of rows that were stored without them; a step back counts as two.
WORK = {
    SHORT_EVOLUTION: 46 * 20 * 50 * 7 * 1000,  # generations, networks, replicates, cells, steps
    EVOLUTION: 100 * 20 * 50 * 7 * 1000,
    PATHWISE: 200 * 256 * 7 * 300 * 3,  # epochs, replicates, cells, steps
    LITERAL: 500 * 50 * 7 * 1000 * 3,
}

# Rows of the tables of tissues, as far as they are stored.
ROWS_AND_RINGS = ("N = 7", "N = 5", "N = 9", "N = 16", "noise 0.05", "noise 0.2", "noise 0.2, exploration")
ROWS_AND_RINGS += ("ring of 8", "ring of 7")

# Rows of exploration with one thing changed: what a reader sees, and where it is stored.
CHANGED = {
    "nothing changed": ("main", EXPLORATION),
    "perceptron (8, 8), at a tenth of the learning rates": ("score", "perceptron (8, 8)"),
    "perceptron (32, 32), at a tenth of the learning rates": ("score", "perceptron (32, 32)"),
    "not odd": ("score", "not odd"),
    "one random network, not the best of 256, no restarts, {work} times the work": (
        "score",
        "one random network, not the best of 256",
    ),
    "`Score(20, 0.7)`: 20 stretches of time, decay 0.7": ("score", "20 stretches, decay 0.7"),
    "one time step in exploration": ("score", "one time step"),
    "no more noise in exploration": ("score", "no more noise in exploration"),
    "no more noise afterwards": ("score", "no more noise afterwards"),
    "objective of the ensemble": ("score", "objective of the ensemble"),
    "objective of the ensemble, not odd": ("score", "objective of the ensemble, not odd"),
    "objective of the ensemble, perceptron (32, 32), seeds 0–4": (
        "score",
        "objective of the ensemble, perceptron (32, 32)",
    ),
    "the same from 12 restarts, {work} times the work": (
        "score",
        "objective of the ensemble, perceptron (32, 32), 12 restarts",
    ),
}
CHANGED_SEEDS = 3

# What evolution and backpropagation need, but for the last row.
NEEDS = [
    ["objective", "hard utility", "soft utility"],
    ["networks simulated per update", "20", "1"],
    ["compiled", "yes, the whole population in one call", "yes, a chunk of epochs in one call"],
    [
        "first pattern from a random network",
        "not measured: the first 20 random networks often hold one already",
        "U > 0.6 in fewer than 30 epochs, 48 million updates (one seed, checked in notebook 05)",
    ],
]


def rows_of(results: dict, group: str, labels: Sequence[str] | None = None) -> Iterator[tuple[str, dict]]:
    """Label and arrays over seeds of the rows of a group that are stored, in the order of `labels`."""
    stored = results.get(group, {})
    for label in stored if labels is None else labels:
        if label in stored:
            yield label, {name: np.array(values) for name, values in stored[label].items()}


def is_pattern(row: Mapping) -> np.ndarray:
    return row["alternation"] >= PATTERN


def is_consensus(row: Mapping) -> np.ndarray:
    """Seeds whose tissues agree in all cells, which have a high U too."""
    return ~is_pattern(row) & (row["utility"] > 0.3)


def patterns(row: Mapping) -> list[str]:
    """The cells under `PATTERN_HEADS`."""
    utility, pattern = row["utility"], is_pattern(row)
    of_patterns = [number(np.median(utility[pattern])), number(utility[pattern].min())] if pattern.any() else ["–"] * 2
    return [
        number(np.median(utility)),
        f"{pattern.sum()} of {pattern.size}",
        *of_patterns,
        str(is_consensus(row).sum()),
    ]


def number(value) -> str:
    return f"{value:.3f}"


def trained(results: dict) -> str:
    rows = []
    for label, row in rows_of(results, "main", MAIN):
        median, *rest = patterns(row)
        rows.append([label, f"**{median}**" if label == RECIPE else median, *rest])
    return markdown(["trained by", *PATTERN_HEADS], rows)


def pathwise(results: dict) -> str:
    rows = [[label, *patterns(row)] for label, row in rows_of(results, "pathwise")]
    return markdown(["`pathwise`, but", *PATTERN_HEADS], rows)


def by_hand(results: dict, label: str, rule: str, like: np.ndarray, name: str = "utility") -> np.ndarray:
    """Of a rule that nobody trained, on the tissue and the replicates of a row of as many seeds."""
    values = np.array(results["beside"][f"{label.removesuffix(', exploration')}, {rule}"][name][: like.size])
    if values.size < like.size:
        command = f"python benchmarks/measure.py beside --seeds {like.size}"
        raise ValueError(f"{rule} is stored for {values.size} seeds, the row {label!r} has {like.size}: run {command}")
    return values


def tissues(results: dict) -> str:
    """The recipe of the score, without retuning, and of exploration what is better; of the tanh U at dt."""
    rows = [("N = 7", row) for _, row in rows_of(results, "main", [RECIPE])]
    rows += rows_of(results, "tissues", ROWS_AND_RINGS)
    alternation = {label: f"{np.median(row['alternation']):.2f}" for label, row in rows}
    tanh = {label: number(np.median(by_hand(results, label, "tanh", row["utility"]))) for label, row in rows}
    return beside_the_dead_band(results, rows, {"alternation": alternation, "tanh": tanh})


def odd(results: dict) -> str:
    """Odd rules of three cuts, evolved on islands."""
    return beside_the_dead_band(results, rows_of(results, "odd", ROWS_AND_RINGS), {})


def beside_the_dead_band(results: dict, rows: Iterable[tuple[str, dict]], more: dict[str, dict[str, str]]) -> str:
    """Trained rules and the dead band on the same replicates, and more columns by their heads."""
    lines = []
    for label, row in rows:
        cells, above = [], []
        for name in ("utility", "utility_refined"):
            trained = row[name]
            dead_band = by_hand(results, label, "dead band", trained, name)
            cells += map(number, (np.median(trained), trained.min(), np.median(dead_band)))
            above.append(trained > dead_band)
        cells.append(f"{np.all(above, axis=0).sum()} of {trained.size}")
        lines.append([label, *cells, *(column[label] for column in more.values())])
    heads = ["tissue", "median U", "worst", "dead band", "at dt/4: median", "worst", "dead band", "above it at both"]
    return markdown([*heads, *more], lines)


def limit(results: dict) -> str:
    """What evolution makes of the dead band."""
    rows = []
    for label, row in rows_of(results, "limit", ROWS_AND_RINGS):
        u = row["utility"]
        before = np.median(by_hand(results, label, "dead band", u))
        rows.append([label, *map(number, (before, np.median(u), u.min(), np.median(row["utility_refined"])))])
    return markdown(["tissue", "dead band", "evolved from it: median U", "worst", "at dt/4"], rows)


def warm(results: dict) -> str:
    rows = []
    for label, row in rows_of(results, "warm"):
        values = np.median(row["initial_utility"]), np.median(row["utility"]), row["utility"].min()
        cells = [*map(number, values), number(np.median(row["utility_refined"]))]
        rows.append([label.removeprefix("exploration, from "), *cells, f"{np.median(row['alternation']):.2f}"])
    return markdown(["exploration, from", "U of the start", "median U", "worst", "at dt/4", "alternation"], rows)


def score(results: dict) -> str:
    whole_work = next((row["cell_updates"][0] for _, row in rows_of(results, "main", [EXPLORATION])), np.nan)
    rows = []
    for shown, (group, label) in CHANGED.items():
        for _, row in rows_of(results, group, [label]):
            n_seeds = CHANGED_SEEDS if group == "main" else None
            u, finer, alternation = (row[name][:n_seeds] for name in ("utility", "utility_refined", "alternation"))
            at_quarter = ", ".join(map(number, finer))
            if u.size > CHANGED_SEEDS:
                at_quarter = f"the same within {np.ceil(1e3 * np.abs(u - finer).max() - 1e-6) / 1e3:.3f}"
            # Bold where all cells of a tissue agree.
            alternations = [f"**{value:.2f}**" if value < 0.1 else f"{value:.2f}" for value in alternation]
            if u.size > CHANGED_SEEDS and len(set(alternations)) == 1:
                alternations = [f"{alternations[0]} in all"]
            name = shown.format(work=f"{row['cell_updates'][0] / whole_work:.1f}")
            rows.append([name, ", ".join(map(number, u)), at_quarter, ", ".join(alternations)])
    return markdown(["exploration, but", "U of the seeds", "at dt/4", "alternation"], rows)


def work(results: dict) -> str:
    """Evolution beside the gradient through the dynamics."""
    names = {
        SHORT_EVOLUTION: "evolution, recipe, 46 generations",
        PATHWISE: "backpropagation, pathwise, 200 epochs",
        EVOLUTION: "evolution, recipe, 100 generations",
        LITERAL: "backpropagation, literal, 500 epochs",
    }
    rows, n_seeds = [], set()
    for label, row in rows_of(results, "main", tuple(names)):
        worst = row["utility"].argmin()
        stored = row["cell_updates"][0] if "cell_updates" in row else None
        updates = WORK[label] if stored is None else stored
        remark = " (consensus)" if is_consensus(row)[worst] else ""
        cells = f"{updates / 1e6:.0f} million", number(np.median(row["utility"]))
        rows.append([names[label], *cells, number(row["utility"][worst]) + remark])
        n_seeds.add(row["utility"].size)
    return markdown(["", "cell updates", "median U", f"worst of {max(n_seeds, default=0)} seeds"], rows)


def needs(results: dict) -> str:
    """What evolution and the gradient through the dynamics need, and what they reach."""
    stored = dict(rows_of(results, "main"))
    medians = [number(np.median(stored[name]["utility"])) if name in stored else "–" for name in (EVOLUTION, PATHWISE)]
    heads = ["", "evolution (notebook 04)", "backpropagation (notebook 05)"]
    return markdown(heads, [*NEEDS, ["final median U", *medians]])


# --- compare.json


def compare(results: dict, details: bool = False) -> str:
    """Optimisers at equal work; `details` adds what only `compare.py` prints."""
    heads = ["f is", "method", "median of what counts", "worst", "best checkpoint", "median at dt", "at dt/4"]
    heads += ["at dt/40", f"seeds that change by more than {TOLERANCE}", "s"]
    heads += ["seeds with patterns", "alternation", "worst at dt/40"] if details else []
    rows = []
    for method, network, entries in stored_runs(results["runs"]):
        ends = [entry["points"][-1] for entry in entries]
        lower = [that_counts(point) for point in ends]
        # What stopping early could have saved, seen with hindsight and at no cost.
        highest = [max(map(that_counts, entry["points"])) for entry in entries]
        changed = sum(abs(point["utility"] - point["utility_refined"]) > TOLERANCE for point in ends)
        of_seeds = {
            name: [p.get(name) for p in ends] for name in ("utility", "utility_refined", "utility_40", "seconds")
        }
        medians = {name: median_of(values) for name, values in of_seeds.items()}
        cells = [network, METHODS[method][0], number(np.median(lower)), number(min(lower))]
        cells += [number(np.median(highest)), number(medians["utility"]), number(medians["utility_refined"])]
        cells += [
            _or_dash(medians["utility_40"], ".3f"),
            f"{changed} of {len(ends)}",
            _or_dash(medians["seconds"], ".0f"),
        ]
        if details:
            alternation = np.array([point["alternation"] for point in ends])
            finest = min((u for u in of_seeds["utility_40"] if u is not None), default=np.nan)
            cells += [f"{(alternation >= PATTERN).sum()} of {len(ends)}", f"{np.median(alternation):.2f}"]
            cells += [_or_dash(finest, ".3f")]
        rows.append(cells)
    return markdown(heads, rows)


def _or_dash(value: float, digits: str) -> str:
    return "–" if np.isnan(value) else f"{value:{digits}}"


# --- sheets.json

TISSUES = {"row": "row of 64", "square": "square sheet, 8 × 8", "hexagonal": "hexagonal sheet, 6 × 6, periodic"}


def sheets(results: dict) -> str:
    """Rules by hand and trained ones, by the bound of U."""
    rows = []
    for tissue, name in TISSUES.items():
        for rule, found in results.get(tissue, {}).items():
            bounds = [f"{found[f'utility{at}']:.3f} ± {found[f'utility{at}_se']:.3f}" for at in ("", "_refined", "_10")]
            took = f"{found['seconds']} s" if "seconds" in found else ""
            rows.append([name, rule, *bounds, f"{found['alternation']:.2f}", took])
    return markdown(["tissue", "rule", "bound of U", "at dt/4", "at dt/10", "alternation", "training"], rows)


# --- where they stand


class Generated(NamedTuple):
    """A table: what it is made of, how, and in which documents it stands."""

    stored: Path
    make: Callable[[dict], str]
    documents: tuple[Path, ...]

    def text(self) -> str:
        return self.make(json.loads(self.stored.read_text()))


SPEED, RESULTS, COMPARE, SHEETS = (HERE / f"{name}.json" for name in ("speed", "results", "compare", "sheets"))
TABLES = {
    "benchmarks/speed.py": Generated(SPEED, speed, (MEASURED,)),
    "benchmarks/speed.py geometries": Generated(SPEED, geometries, (MEASURED,)),
    "benchmarks/speed.py cores": Generated(SPEED, cores, (MEASURED,)),
    "benchmarks/speed.py recipes": Generated(SPEED, recipes, (MEASURED,)),
    "benchmarks/measure.py main": Generated(RESULTS, trained, (MEASURED, GUIDE)),
    "benchmarks/measure.py tissues": Generated(RESULTS, tissues, (GUIDE,)),
    "benchmarks/measure.py odd": Generated(RESULTS, odd, (GUIDE,)),
    "benchmarks/measure.py limit": Generated(RESULTS, limit, (GUIDE,)),
    "benchmarks/measure.py warm": Generated(RESULTS, warm, (GUIDE,)),
    "benchmarks/measure.py score": Generated(RESULTS, score, (GUIDE,)),
    "benchmarks/measure.py pathwise": Generated(RESULTS, pathwise, (GUIDE,)),
    "benchmarks/measure.py work": Generated(RESULTS, work, (GUIDE,)),
    "benchmarks/measure.py needs": Generated(RESULTS, needs, (GUIDE,)),
    "benchmarks/compare.py": Generated(COMPARE, compare, (GUIDE,)),
    "benchmarks/sheets.py": Generated(SHEETS, sheets, (MEASURED,)),
}


def write_tables(script: str) -> None:
    """Rewrites the tables of a script, for instance `benchmarks/measure.py`, in all documents."""
    for mark, table in TABLES.items():
        if mark.split()[0] == script:
            content = table.text()
            for document in table.documents:
                text = replaced(document.read_text(), mark, content)
                with whole_file(document) as file:
                    file.write(text.encode())


if __name__ == "__main__":
    for script in dict.fromkeys(mark.split()[0] for mark in TABLES):
        write_tables(script)
