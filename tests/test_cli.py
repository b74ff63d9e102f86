"""The command line, in this process: one JSON line on stdout, or one line on stderr and exit status 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ensembles import alternating_with_walls

import lateral
from lateral import cli
from lateral.evaluation import FINE_KNOTS
from lateral.model import final_states, scores_of
from lateral.presets import METHODS

pytestmark = pytest.mark.usefixtures("float32")

SMALL = ["--n-cells", "4", "--n-replicates", "20", "--n-steps", "30", "--hidden-dims", "3"]


@pytest.fixture
def run_cli(capsys, monkeypatch):
    """Call the command line; evaluations are shrunk from 20,000 replicates to 200."""
    evaluate = lateral.evaluate

    def small(*args, n_replicates=200, **kwargs):
        return evaluate(*args, n_replicates=min(n_replicates, 200), **kwargs)

    monkeypatch.setattr(cli, "evaluate", small)

    def call(*arguments):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as exit:  # argparse
            status = exit.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def run_file(run_cli, tmp_path):
    out = tmp_path / "run.npz"
    status, _, err = run_cli("train", "score", "--out", out, "--n-epochs", 3, "--seed", 5, *SMALL)
    assert status == 0, err
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "length"),
    [("evolution", ["--n-generations", "3"]), ("backprop", ["--n-epochs", "3"])],
)
@pytest.mark.parametrize("preset", ["pathwise", "guide"])
def test_train_prints_one_json_line_and_saves_the_run(run_cli, tmp_path, method, length, preset):
    out = tmp_path / "run.npz"
    status, stdout, stderr = run_cli(
        "train", method, "--out", out, "--preset", preset, "--seed", 7, *length, *SMALL, "--boundary", "ring"
    )
    assert status == 0, stderr
    (line,) = stdout.splitlines()
    result = json.loads(line)
    expected = {"out", "method", "seed", "seconds", "utility", "utility_se", "alternation", "utility_refined"}
    expected |= {"found", "initial_utility", "initial_alternation"}
    assert set(result) == expected
    assert result["out"] == str(out) and result["method"] == method and result["seed"] == 7
    run = lateral.load_run(out)
    assert (run.method, run.seed, run.settings["preset"]) == (method, 7, preset)
    assert (run.model.n_cells, run.model.n_steps, run.model.boundary) == (4, 30, "ring")
    assert run.model.network.hidden_dims == (3,)
    assert len(run.history["alternation"]) == 3
    assert "3/3" in stderr, "the progress bar"


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["hexagonal:2x3", "square:3x3:periodic", "edges.csv"])
def test_a_sheet_or_a_tissue_of_ones_own_takes_the_place_of_the_row(run_cli, tmp_path, monkeypatch, geometry):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edges.csv").write_text("A,B,2\nB,C,1\n")
    small = ["--n-generations", 1, "--n-replicates", 8, "--n-steps", 10, "--population-size", 4, "--n-parents", 2]
    status, _, stderr = run_cli("train", "evolution", "--out", "run.npz", "--geometry", geometry, *small)
    assert status == 0, stderr
    expected = {
        "hexagonal:2x3": lateral.Sheet(2, 3, "hexagonal"),
        "square:3x3:periodic": lateral.Sheet(3, 3, periodic=True),
        "edges.csv": lateral.read_edges(tmp_path / "edges.csv"),
    }
    assert lateral.load_run("run.npz").model.geometry == expected[geometry]


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ("hexagonal:5x6:periodic", "an even number of rows"),
        ("square:6", "a geometry is such as square:6x6, hexagonal:6x6:periodic or EDGES.csv, got 'square:6'"),
    ],
)
def test_a_geometry_that_is_none_is_refused_in_one_line(run_cli, geometry, message):
    status, _, stderr = run_cli("train", "score", "--out", "run.npz", "--geometry", geometry)
    assert status == 2 and message in stderr and len(stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_recipe_trains_from_restarts_and_reports_where_it_started(run_cli, tmp_path):
    out = tmp_path / "run.npz"
    sizes = ["--n-candidates", 8, "--n-restarts", 2, "--n-survivors", 1, "--n-exploration", 2, "--n-epochs", 3]
    status, stdout, stderr = run_cli(
        "train", "score", "--out", out, "--objective", "tissue", "--max-rate", "none", *sizes, *SMALL[:-2]
    )
    assert status == 0, stderr
    result, run = json.loads(stdout), lateral.load_run(out)
    assert result["found"] in ("pattern", "consensus", "nothing")
    assert run.model.objective == "tissue" and run.model.network.max_rate is None
    assert run.settings["n_restarts"] == 2 and len(run.history["loss"]) in (2, 5)
    model = run.model.changed(n_replicates=20_000, n_knots=FINE_KNOTS)
    states = final_states(run.initial_regulatory_function, model, jax.random.key(0))
    assert result["initial_utility"] == pytest.approx(float(scores_of(states, model)["utility"]), abs=1e-6)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_the_printed_utility_is_that_of_the_file(run_cli, tmp_path):
    results = []
    for name in ("a.npz", "b.npz"):
        _, stdout, _ = run_cli("train", "evolution", "--out", tmp_path / name, "--n-generations", 2, *SMALL)
        results.append(json.loads(stdout) | {"out": None, "seconds": None})
    assert results[0] == results[1]
    run = lateral.load_run(tmp_path / "a.npz")
    test_key = jax.random.split(jax.random.key(0))[1]
    again = lateral.evaluate(run.regulatory_function, run.model, key=test_key, n_replicates=200)
    assert results[0]["utility"] == pytest.approx(again.utility, abs=1e-6)


def test_a_warm_start_from_a_rule_that_was_finished_with_sharper_edges_takes_its_parameters():
    network = lateral.StepNetwork(3)
    finished = lateral.RegulatoryFunction(network.sharpened(), network.init(jax.random.key(2)))
    assert cli._warm_start(network, finished, jax.random.key(0)) is finished.params


@pytest.mark.slow
def test_a_warm_start_takes_the_parameters_or_a_fit_where_the_network_is_another(run_cli, run_file, tmp_path):
    before, out = lateral.load_run(run_file), tmp_path / "more.npz"
    length = ["--n-epochs", "1", "--n-exploration", "1"]
    status, stdout, stderr = run_cli("train", "score", "--out", out, "--initial", run_file, *length, *SMALL)
    assert status == 0, stderr
    assert json.loads(stdout)["initial"] == str(run_file)
    jax.tree.map(np.testing.assert_array_equal, lateral.load_run(out).initial_params, before.params)
    other = ["--preset", "guide", "--n-epochs", 1, *SMALL[:-1], 4]
    status, _, stderr = run_cli("train", "backprop", "--out", out, "--fresh", "--initial", run_file, *other)
    assert status == 0, stderr
    run, x = lateral.load_run(out), np.linspace(0.0, 1.0, 33)
    assert run.model.network.hidden_dims == (4,)
    assert np.abs(run.initial_regulatory_function(x) - before.regulatory_function(x)).mean() < 0.2


@pytest.mark.slow
def test_options_of_evolution_reach_the_strategy(run_cli, tmp_path):
    options = ["--population-size", 6, "--n-parents", 2, "--mutation-strength", 0.3]
    run_cli("train", "evolution", "--out", tmp_path / "r.npz", "--n-generations", 2, *options, *SMALL)
    settings = lateral.load_run(tmp_path / "r.npz").settings
    assert (settings["population_size"], settings["n_parents"], settings["mutation_strength"]) == (6, 2, 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["pathwise", "score", "finite-differences", "combination"])
def test_the_estimator_and_the_objective_reach_the_trainer(run_cli, tmp_path, gradient):
    options = ["--gradient", gradient, "--objective", "tissue", "--n-epochs", 2]
    status, _, err = run_cli("train", "score", "--out", tmp_path / "r.npz", *options, *SMALL)
    assert status == 0, err
    run = lateral.load_run(tmp_path / "r.npz")
    assert run.settings["gradient"]["type"].lower() == gradient.replace("-", "")
    assert run.model.objective == "tissue"


@pytest.mark.slow
def test_options_of_backprop_reach_the_trainer(run_cli, tmp_path):
    options = ["--learning-rate", 0.5, "--clip-norm", 2, "--n-batches", 2, "--n-training-steps", 20]
    options += ["--relaxation", "kernel", "--soft-bandwidth", 0.2, "--noise-curriculum", "guide", "--start", 0.2, 0.8]
    out = tmp_path / "r.npz"
    status, _, err = run_cli("train", "backprop", "--out", out, "--preset", "guide", "--n-epochs", 2, *options, *SMALL)
    assert status == 0, err
    run = lateral.load_run(out)
    assert run.settings["learning_rate"] == 0.5 and run.settings["clip_norm"] == 2
    assert run.settings["n_batches"] == 2 and run.settings["n_training_steps"] == 20
    assert run.model.relaxation == "kernel" and run.model.soft_bandwidth == 0.2 and run.model.start == (0.2, 0.8)
    np.testing.assert_allclose(run.history["noise_strength"], [0.1, 0.15], rtol=1e-6)


@pytest.mark.slow
def test_evaluate_takes_any_model_setting_and_adds_the_decomposition(run_cli, run_file):
    status, stdout, _ = run_cli("evaluate", run_file, "--n-replicates", 100, "--noise-strength", 0.3, "--n-cells", 5)
    result = json.loads(stdout)
    assert status == 0
    assert {"s_pat", "s_rep", "positional_information", "correlational_information"} < set(result)
    assert result["utility"] == pytest.approx(result["s_pat"] - result["s_rep"], abs=3e-6)
    total = result["positional_information"] + result["correlational_information"]
    assert result["utility"] == pytest.approx(total, abs=3e-6)
    other = json.loads(run_cli("evaluate", run_file, "--n-replicates", 100)[1])
    assert other["utility"] != result["utility"]


def test_utility_gives_the_closed_form_of_two_alternating_patterns(run_cli, tmp_path):
    rows = ["0,1,0,1,0,1,0", "1,0,1,0,1,0,1"] * 50
    path = tmp_path / "fates.csv"
    path.write_text("\n".join(["a,b,c,d,e,f,g", "# a comment", *rows]) + "\n")
    status, stdout, stderr = run_cli("utility", path)
    result = json.loads(stdout)
    assert status == 0 and stderr == ""
    assert result["utility"] == pytest.approx(6 / 7, abs=1e-6) and result["alternation"] == 1.0
    assert result["n_patterns"] == 2 and not result["undersampled"]
    # Miller & Madow for S_rep, less the same for S_pat: the shares 3/7 and 4/7 have variance (1/14)^2.
    bias = 1 / (2 * np.log(2) * 100 * 7) - (1 / 14) ** 2 / (2 * np.log(2) * 0.25 * 100)
    assert result["utility_bias"] == pytest.approx(bias, rel=0.05)


def test_utility_warns_in_one_line_when_there_are_too_few_tissues(run_cli, tmp_path):
    path = tmp_path / "fates.csv"
    path.write_text("0,1\n1,1\n")
    status, stdout, stderr = run_cli("utility", path, "--no-header")
    assert status == 0 and json.loads(stdout)["undersampled"]
    assert stderr.count("\n") == 1 and "upper bound" in stderr


def test_utility_of_long_rows_comes_with_a_lower_bound(run_cli, tmp_path):
    """Markov rows of 40 cells: counting 60 tissues says far too much, the bound not."""
    known = alternating_with_walls(np.random.default_rng(0), 60, 40)
    path = tmp_path / "fates.npy"
    np.save(path, known.fates)
    status, stdout, stderr = run_cli("utility", path)
    result = json.loads(stdout)
    assert status == 0 and "upper bound" in stderr and "utility_bound is a lower one" in stderr
    assert result["utility_bound"] - 3.0 * result["utility_bound_se"] < known.utility < result["utility"] - 0.1
    assert result["utility_bound"] > known.utility - 0.15


@pytest.mark.slow
def test_utility_of_three_fates_in_two_conditions(run_cli, tmp_path):
    """The same three in turn, against the three by chance: log2 3 against 0."""
    words, rng = np.array(["hair", "other", "support"]), np.random.default_rng(1)
    for name, fates in (
        ("wild", np.tile([0, 1, 2], (300, 1))),
        ("mutant", rng.integers(0, 3, (300, 3))),
    ):
        (tmp_path / name).write_text("\n".join(",".join(row) for row in words[fates]) + "\n")
    arguments = ("--fates", "3", "--bound", "--against", tmp_path / "mutant", "--seed", "2")
    status, stdout, _ = run_cli("utility", tmp_path / "wild", *arguments)
    result = json.loads(stdout)
    assert status == 0 and result["n_fates"] == 3 and "hair is fate 0, other fate 1, support fate 2" in result["read"]
    assert result["utility"] == pytest.approx(np.log2(3), abs=1e-6)
    assert result["utility_bound"] == pytest.approx(np.log2(3), abs=1e-3)
    assert result["difference"] == pytest.approx(np.log2(3), abs=0.03) and result["p_value"] < 0.001


@pytest.mark.slow
def test_a_table_an_edge_list_and_two_conditions_become_a_figure_in_one_command(run_cli, tmp_path):
    """Three fates on a ring of named cells, whose columns stand in another order."""
    edges, wild, mutant, figure = (tmp_path / name for name in ("edges.csv", "wild.csv", "mutant.csv", "both.png"))
    edges.write_text("".join(f"{a},{b}\n" for a, b in zip("abcdef", "bcdefa", strict=True)))
    rng = np.random.default_rng(0)
    in_turn = (np.arange(6) + rng.integers(0, 3, (90, 1))) % 3  # of cells a, b, c, d, e, f
    for path, table in ((wild, in_turn), (mutant, rng.integers(0, 3, (90, 6)))):
        lines = [",".join("xyz"[fate] for fate in row[[3, 0, 5, 1, 2, 4]]) for row in table]
        path.write_text("\n".join(["d,a,f,b,c,e", *lines]))
    arguments = ("--against", mutant, "--fates", "3", "--geometry", edges, "--figure", figure, "--bound")
    status, out, err = run_cli("utility", wild, *arguments)
    found = json.loads(out)
    assert status == 0, err
    assert found["alternation"] == 1.0 and "by the names of the cells" in found["read"]
    assert found["difference"] > 1.0 and found["p_value"] < 0.01 and figure.read_bytes().startswith(b"\x89PNG")

    edges.write_text("a,b\nb,c\nc,x\nx,d\nd,e\ne,a\n")
    status, out, err = run_cli("utility", wild, "--fates", "3", "--geometry", edges)
    assert status == 2 and out == "" and "cell f is not in both the header and the tissue" in err
    status, out, err = run_cli("utility", wild, "--fates", "3", "--geometry", "square:2x2")
    assert status == 2 and "a column for each of the 4 cells, got 6" in err
    status, out, err = run_cli("utility", wild, "--fates", "3", "--figure", tmp_path / "both.txt")
    assert status == 2 and "--figure must end in .png, .pdf, .svg" in err


def test_utility_of_a_single_tissue_is_json_without_infinity(run_cli, tmp_path, nan_allowed):
    path = tmp_path / "fates.csv"
    path.write_text("0,1,1\n")
    assert json.loads(run_cli("utility", path)[1])["utility_se"] is None


def test_what_was_spelled_otherwise_before_still_works_with_one_line_of_notice(run_cli, tmp_path):
    path = tmp_path / "fates.csv"
    path.write_text("0,1\n1,0\n" * 50)
    status, stdout, stderr = run_cli("score", path, "--no-header")
    assert status == 0 and stdout == run_cli("utility", path, "--no-header")[1]
    assert stderr == "RenamedWarning: `lateral score` is `lateral utility` now\n"


@pytest.mark.slow
def test_backprop_goes_through_the_dynamics_from_the_best_step_rules(run_cli, tmp_path):
    sizes = ["--n-candidates", 8, "--n-epochs", 1]
    status, stdout, stderr = run_cli("train", "backprop", "--out", tmp_path / "r.npz", *sizes, *SMALL)
    assert status == 0, stderr
    run = lateral.load_run(tmp_path / "r.npz")
    assert json.loads(stdout)["method"] == run.method == "value-gradient"
    assert (run.settings["draw_from"], run.settings["n_candidates"], run.model.objective) == ("steps", 8, "tissue")


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_plot_writes_a_figure_of_the_kind_that_its_name_says(run_cli, run_file, tmp_path, suffix, magic):
    out = tmp_path / f"figure{suffix}"
    status, stdout, _ = run_cli("plot", run_file, "--out", out)
    assert status == 0 and json.loads(stdout)["out"] == str(out)
    assert out.read_bytes().startswith(magic)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, "run.npz"]), "nothing left behind"


TRAIN = ["train", "score", "--out", "{folder}/x.npz"]
MISTAKES = {
    "no command": ([], "COMMAND"),
    "unknown command": (["bogus"], "bogus"),
    "no method": (["train"], "evolution"),
    "no out": (["train", "backprop"], "--out"),
    "dt = 0": ([*TRAIN, "--dt", "0"], "dt must be > 0, got 0"),
    "dt a word": ([*TRAIN, "--dt", "soon"], "soon"),
    "negative noise": ([*TRAIN, "--noise-strength", "-0.1"], "noise_strength must be >= 0, got -0.1"),
    "no cells": ([*TRAIN, "--n-cells", "0"], "n_cells must be >= 1, got 0"),
    "ring of two": ([*TRAIN, "--n-cells", "2", "--boundary", "ring"], "n_cells >= 3, got 2"),
    "unknown boundary": ([*TRAIN, "--boundary", "torus"], "torus"),
    "empty layer": ([*TRAIN, "--hidden-dims", "0"], "hidden_dims[0] must be >= 1, got 0"),
    "nan learning rate": ([*TRAIN, "--learning-rate", "nan"], "learning_rate must be finite, got nan"),
    "no epochs": ([*TRAIN, "--n-epochs", "0"], "n_epochs must be >= 1, got 0"),
    "negative seed": ([*TRAIN, "--seed", "-1"], "-1"),
    "unknown preset": ([*TRAIN, "--preset", "magic"], "magic"),
    "start reversed": ([*TRAIN, "--start", "0.6", "0.4"], "low <= high"),
    "no folder": (["train", "evolution", "--out", "{folder}/no/x.npz"], "there is no folder"),
    "out is a folder": (["train", "evolution", "--out", "{folder}"], "folder"),
    "all parents": (["train", "evolution", "--out", "{folder}/x.npz", "--n-parents", "20"], "n_parents"),
    "option of the other": (["train", "evolution", "--out", "{folder}/x.npz", "--n-epochs", "3"], "--n-epochs"),
    "no run": (["evaluate", "{folder}/none.npz"], "none.npz"),
    "no run to start from": ([*TRAIN, "--initial", "{folder}/none.npz"], "none.npz"),
    "start from no run": ([*TRAIN, "--initial", "{folder}/fates.csv"], "not a complete run file"),
    "not a run": (["evaluate", "{folder}/fates.csv"], "not a complete run file"),
    "fates missing": (["utility", "{folder}/none.csv"], "none.csv"),
    "fate of 2": (["utility", "{folder}/fates.csv"], "line 2, column 2: a fate is 0 or 1, got '2'"),
    "ragged fates": (["utility", "{folder}/ragged.csv"], "line 2: 1 entries, but 2 in most lines"),
    "numbers of cells, or not": (["utility", "{folder}/two.csv"], "Say --no-header or --header"),
    "no fates": (["utility", "{folder}/empty.csv"], "holds no fates"),
    "figure as text": (["plot", "{folder}/none.npz", "--out", "{folder}/x.txt"], ".png, .pdf, .svg"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_line_and_status_2(run_cli, tmp_path, name):
    (tmp_path / "fates.csv").write_text("0,1,1\n0,2,0\n")
    (tmp_path / "two.csv").write_text("0,1\n1,0\n")
    (tmp_path / "ragged.csv").write_text("0,1\n0\n")
    (tmp_path / "empty.csv").write_text("\n")
    arguments, expected = MISTAKES[name]
    before = sorted(tmp_path.iterdir())
    status, stdout, stderr = run_cli(*(argument.format(folder=tmp_path) for argument in arguments))
    assert status == 2 and stdout == ""
    assert stderr.count("\n") == 1 and expected in stderr, stderr
    assert sorted(tmp_path.iterdir()) == before, "nothing written"


@pytest.mark.slow
def test_a_diverged_training_saves_what_there_was_and_says_so(run_cli, tmp_path, monkeypatch, nan_allowed):
    def diverge(model, *, key, **settings):
        run = lateral.Run("backprop", model.network.init(key), model, {"loss": np.zeros(4)})
        raise lateral.TrainingDiverged("not finite at epoch 4 of 9: lower learning_rate", run, 4)

    monkeypatch.setattr(cli, "trainer", lambda method, preset: diverge)
    out = tmp_path / "run.npz"
    status, stdout, stderr = run_cli("train", "score", "--out", out, *SMALL)
    assert status == 1 and "epoch 4" in stderr
    assert json.loads(stdout)["out"] == str(out)
    assert len(lateral.load_run(out).history["loss"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["the command", "python -m"])
def test_the_command_line_has_two_names(name):
    start = [Path(sys.executable).with_name("lateral")] if name == "the command" else [sys.executable, "-m", "lateral"]
    outcome = subprocess.run([*start, "--help"], capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0
    for command in ("train", "show", "evaluate", "utility", "plot"):
        assert command in outcome.stdout


def test_the_help_tells_the_defaults_of_the_recipe(run_cli):
    helps = {method: " ".join(run_cli("train", method, "--help")[1].split()) for method in METHODS}
    for method, epochs in (("score", 200), ("backprop", 200)):
        assert f"cosine to 3 % (>= 1), by default {epochs} " in helps[method]
        assert "The reported U is always that of the ensemble, by default tissue " in helps[method]
    assert "tissues simulated for one value of the utility, R (>= 1), by default 50 " in helps["evolution"]
    assert "R (>= 1), by default 512 " in helps["score"] and "by default step rules" in helps["score"]


def test_the_version_is_told(run_cli):
    assert run_cli("--version") == (0, f"lateral {lateral.__version__}, jax {jax.__version__}\n", "")


def test_a_result_is_written_for_who_reads_it(run_cli, tmp_path, monkeypatch):
    path = tmp_path / "fates.csv"
    path.write_text("0,1,0\n1,0,1\n")
    piped = json.loads(run_cli("utility", path)[1])
    assert piped["read"] == "2 tissues of 3 cells (separated by commas)"
    monkeypatch.setattr(cli, "on_terminal", lambda: True)
    shown = dict(line.split(maxsplit=1) for line in run_cli("utility", path)[1].splitlines())
    assert list(shown) == list(piped) and shown["utility"] == f"{piped['utility']:.6g}"
    assert json.loads(run_cli("utility", path, "--json")[1]) == piped


@pytest.mark.slow
def test_quiet_leaves_errors_on_stderr_alone(run_cli, tmp_path):
    train = ["train", "evolution", "--n-generations", 2, *SMALL, "--quiet", "--out"]
    for _ in ("trained", "finished before"):
        status, stdout, stderr = run_cli(*train, tmp_path / "run.npz")
        assert (status, stderr) == (0, "") and json.loads(stdout)["method"] == "evolution"
    status, stdout, stderr = run_cli(*train, tmp_path)
    assert status == 2 and stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("place", ["the user's cache", "where JAX was told", "nowhere"])
def test_the_command_keeps_what_it_compiles(tmp_path, place):
    (tmp_path / "fates.csv").write_text("0,1,0\n1,0,1\n" * 20)
    home, told = tmp_path / "cache", tmp_path / "told"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(home), "JAX_PLATFORMS": "cpu"}
    if place == "where JAX was told":
        environment["JAX_COMPILATION_CACHE_DIR"] = str(told)
    elif place == "nowhere":
        home.write_text("a file where the folder would be")
    command = [sys.executable, "-m", "lateral", "utility", str(tmp_path / "fates.csv"), "--json"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert json.loads(outcome.stdout)["s_pat"] == pytest.approx(1.0)
    kept = list(home.glob("lateral/*/*-cache"))
    assert bool(kept) == (place == "the user's cache")
    assert told.exists() == (place == "where JAX was told")
