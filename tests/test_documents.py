"""The examples of README, guide and docs/ run, on smaller tissues; their links lead somewhere, and their tables hold
what is stored.
"""

import importlib
import json
import re
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

import lateral
from lateral.equal_work import METHODS, ONE_POINT, plot_equal_work, that_counts
from lateral.presets import trainer

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", "BACKPROP_GUIDE.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
# The examples of docs/extending.md are run by test_extending.py.
EXAMPLES = ["README.md", "BACKPROP_GUIDE.md", "docs/apps.md", "docs/index.md", "docs/runs.md", "docs/script.md"]

pytestmark = pytest.mark.usefixtures("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_python_examples_run(name, tmp_path, monkeypatch):
    """All blocks of a document one after another, as a reader would paste them."""
    full = {function: getattr(lateral, function) for function in ("preset", "evaluate", "Model")}

    train = lateral.train_backprop

    def small_preset(method, *name, **changes):
        model, settings = full["preset"](method, *name, n_replicates=16, n_steps=20, **changes)
        length = "n_generations" if method == "evolution" else "n_epochs"
        short = {"n_candidates": 6, "n_exploration": 2} if trainer(method, *name) is lateral.train_restarts else {}
        return model, settings | short | {length: 2}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lateral, "preset", small_preset)
    monkeypatch.setattr(
        lateral, "evaluate", lambda f, model, *, key: full["evaluate"](f, model, key=key, n_replicates=50)
    )
    monkeypatch.setattr(lateral, "train_backprop", lambda *args, **kw: train(*args, **kw | {"n_epochs": 2}))
    monkeypatch.setattr(lateral, "Model", lambda **given: full["Model"](**given | {"n_replicates": 8, "n_steps": 10}))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        scope = {"jax": jax, "key": jax.random.key(0), "train_step": lateral.train_step, "lateral": lateral}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lateral.UndersampledWarning)
            exec(compile(block, name, "exec"), scope)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)\)", (ROOT / name).read_text()):
        assert ((ROOT / name).parent / target).exists(), target


def test_every_document_with_examples_is_run():
    with_examples = {name for name in DOCUMENTS if "```python\n" in (ROOT / name).read_text()}
    assert with_examples - {"docs/extending.md"} == set(EXAMPLES)


def test_the_guide_has_a_verdict_for_every_promise():
    promises = (ROOT / "BACKPROP_GUIDE.md").read_text().split("## The promises, one by one")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in promises.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 40 and all(len(row) == 3 for row in rows)
    assert {row[2] for row in rows} == {"**holds**", "**holds in part**", "**does not hold**"}


MARK = re.compile(r"^<!-- (benchmarks/.*) -->$", flags=re.MULTILINE)
MARKED = [(name, mark) for name in DOCUMENTS for mark in MARK.findall((ROOT / name).read_text())]


@pytest.fixture
def benchmarks(monkeypatch):
    """Imports a module of benchmarks/, which is no package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.mark.parametrize(("name", "mark"), MARKED)
def test_a_table_holds_what_is_stored(name, mark, benchmarks):
    """`python benchmarks/tables.py` writes them anew."""
    table = benchmarks("tables").TABLES[mark]
    assert benchmarks("stored").between((ROOT / name).read_text(), mark) == table.text()
    lines = [line for line in table.text().splitlines() if line]
    assert len(lines) > 4 and all(line.startswith("|") and line.endswith("|") for line in lines)


def test_every_table_stands_where_it_belongs(benchmarks):
    tables = benchmarks("tables").TABLES
    places = {(str(path.relative_to(ROOT)), mark) for mark, table in tables.items() for path in table.documents}
    assert places == set(MARKED) and len(MARKED) == len(places)


def test_cells_of_a_table_against_a_count_by_hand(benchmarks):
    row = {"utility": [0.7, 0.6, 0.5, 0.1], "alternation": [0.9, 0.85, 0.1, 0.2]}
    row = {name: np.array(values) for name, values in row.items()}
    assert benchmarks("tables").patterns(row) == ["0.550", "2 of 4", "0.650", "0.600", "1"]


def test_between_marks_and_nowhere_else(benchmarks):
    between, replaced = benchmarks("stored").between, benchmarks("stored").replaced
    text = "a\n<!-- m 1 -->\nold\n\nold\n<!-- end -->\nb\n<!-- m 2 -->\nold\n<!-- end -->\nc\n"
    assert between(text, "m 1") == "old\n\nold" and between(text, "m 2") == "old"
    assert replaced(text, "m 2", "new") == text.replace("\nold\n<!-- end -->\nc", "\nnew\n<!-- end -->\nc")
    assert replaced(text, "m 1", between(text, "m 1")) == text
    for broken in ("a\n", text + text, text.replace("<!-- end -->", "", 1)):
        with pytest.raises(ValueError, match="m 1"):
            between(broken, "m 1")


def test_the_comparison_draws_the_stored_medians_in_one_colour_a_method():
    """docs/compare.png and notebook 07."""
    runs = json.loads((ROOT / "benchmarks" / "compare.json").read_text())["runs"]
    figure = plot_equal_work(runs, ["network"])
    ends = [entry["points"][-1] for entry in runs["CMA-ES, network"].values()]
    median = np.median([min(end["utility"], end["utility_refined"]) for end in ends])
    methods = [method for method in METHODS if f"{method}, network" in runs]
    place = methods.index("CMA-ES")
    for panel, (x, y) in zip(figure.axes, ((ends[0]["work"], median), (None, median), (median, place)), strict=True):
        lines = {line.get_label(): line for line in panel.lines}
        drawn = [(name, colour) for name, colour in METHODS.values() if name in lines]
        assert len(drawn) == len(methods) or panel is figure.axes[1], "several workers at once leave no seconds"
        assert [lines[name].get_color() for name, _ in drawn] == [colour for _, colour in drawn]
        last_x, last_y = lines["CMA-ES"].get_xdata()[-1], lines["CMA-ES"].get_ydata()[-1]
        assert last_y == pytest.approx(y) and (x is None or last_x == pytest.approx(x))
    assert len(plot_equal_work(runs).axes) == 8, "step rules were run side by side: no panel of seconds"


def test_the_comparison_at_equal_work_says_what_notebook_07_reads_from_it():
    runs = json.loads((ROOT / "benchmarks" / "compare.json").read_text())["runs"]

    def of(kind):
        return {
            name.removesuffix(kind): [seed["points"] for seed in seeds.values()]
            for name, seeds in runs.items()
            if name.endswith(kind)
        }

    points = of(", network")
    final = {method: np.array([seed[-1]["utility"] for seed in seeds]) for method, seeds in points.items()}
    lower = {method: np.array([that_counts(seed[-1]) for seed in seeds]) for method, seeds in points.items()}
    presets, others = ("exploration", "windows"), [method for method in points if method not in ONE_POINT]
    for method in presets:
        change = max(abs(seed[-1]["utility"] - seed[-1]["utility_refined"]) for seed in points[method])
        assert change < 0.02 and final[method].min() > 0.70 and np.median(final[method]) > 0.75
    lowest = min(np.median(lower[method]) for method in presets)
    with_hindsight = [np.median([max(map(that_counts, seed)) for seed in points[method]]) for method in others]
    assert max(with_hindsight) < lowest - 0.005, "not even at the best checkpoint"
    assert max(np.median(lower[method]) for method in others) < lowest - 0.01
    assert np.mean(np.concatenate([lower[method] for method in others]) > lowest) < 0.1
    assert np.median(final["CMA-ES"]) > np.median(lower["CMA-ES"]) + 0.02, "at dt alone it looks better than it is"

    from_steps = {method: [seed[-1] for seed in seeds] for method, seeds in of(", step rule").items()}
    medians = {method: np.median([that_counts(point) for point in seeds]) for method, seeds in from_steps.items()}
    assert len(medians) == 6 and max(medians.values()) - min(medians.values()) < 0.005, "level"
    assert min(medians.values()) > lowest, "above all that trains bumps"
    worst = {method: min(map(that_counts, seeds)) for method, seeds in from_steps.items()}
    assert max(worst, key=worst.get) == "recipe"
    everywhere = [point[u] for seeds in from_steps.values() for point in seeds for u in ("utility", "utility_40")]
    assert min(everywhere) > 0.74, "at every time step"

    last = {method: [seed[-1] for seed in seeds] for method, seeds in of(", table").items()}
    finest = {m: np.median([point["utility_40"] for point in last[m]]) for m in ("exploration", "evolution, two dt")}
    counts = {m: np.median([that_counts(point) for point in seeds]) for m, seeds in last.items()}
    assert counts["exploration"] > max(u for method, u in counts.items() if method not in finest) + 0.02
    assert finest["exploration"] > max(0.75, finest["evolution, two dt"] + 0.03)


def test_rules_that_make_one_pattern_pass_two_patterns():
    found = json.loads((ROOT / "benchmarks" / "symmetry.json").read_text())
    assert len(found) == 10
    for entry in found.values():
        assert entry["pattern"] in ("0110110", "1001001")
        assert min(entry["utility"]) > 6 / 7 and entry["utility_long"] > 0.93
    lowest = [min(entry["utility"][:3]) for entry in found.values()]
    assert np.median(lowest) > 0.94 and min(lowest) > 0.92
