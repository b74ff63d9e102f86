"""The command line in a broken terminal or pipe: no traceback, nothing lost, and an exit status that says so."""

import json
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest

import lateral
from lateral import cli

pytestmark = pytest.mark.usefixtures("float32")

LATERAL = f"{shlex.quote(sys.executable)} -m lateral"
TINY = "train evolution --n-generations 2 --n-final 20 --n-cells 4 --n-steps 20 --n-replicates 10 --hidden-dims 3"


def shell(command, folder):
    """Exit status, stdout and stderr of a command with the redirections of a POSIX shell."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["2>/dev/full", "2>&-", "<&-", "2> >(true)"])
def test_training_survives_a_broken_stderr_and_a_closed_stdin(broken, tmp_path):
    status, stdout, stderr = shell(f"{LATERAL} {TINY} --out run.npz {broken}", tmp_path)
    assert status == 0, stderr
    assert json.loads(stdout)["method"] == "evolution"
    run = lateral.load_run(tmp_path / "run.npz")
    assert run.finished and run.evaluation["n_replicates"] == 20_000
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "status", "said"),
    [(">/dev/full", 2, "could not be printed"), (">&-", 2, "could not be printed"), ("| true", 141, "")],
)
def test_a_result_that_nobody_takes_is_no_traceback(broken, status, said, tmp_path):
    np.savetxt(tmp_path / "fates.csv", np.eye(4), fmt="%d", delimiter=",")
    _, _, stderr = shell(f"sleep 0; {LATERAL} utility fates.csv {broken}; echo ${{PIPESTATUS[0]}} >&2", tmp_path)
    *lines, last = stderr.strip().splitlines()
    lines = [line for line in lines if "Undersampled" not in line]
    assert int(last) == status
    assert len(lines) == bool(said) and all(said in line for line in lines), stderr


def test_infinity_is_null_in_json(capsys, tmp_path, nan_allowed):
    (tmp_path / "fates.csv").write_text("0,1,0\n")
    assert cli.main(["utility", str(tmp_path / "fates.csv")]) == 0
    assert json.loads(capsys.readouterr().out)["utility_se"] is None


@pytest.fixture
def run_file(tmp_path):
    model = lateral.Model(lateral.MLP((3,)), n_cells=4, n_steps=20, n_replicates=10)
    run = lateral.train_backprop(model, key=jax.random.key(0), n_epochs=3)
    return lateral.save_run(tmp_path / "run.npz", run)


@pytest.mark.slow
def test_show_says_what_a_run_holds(run_file, capsys):
    assert cli.main(["show", str(run_file)]) == 0
    text = capsys.readouterr().out
    for words in ("backprop, finished: 3 steps", "n_cells: 4", "noise_strength: 0.1", "jax: ", "precision: float32"):
        assert words in text, words
    assert "loss: " in text.split("history (first, last)")[1]


def test_show_as_json_holds_all_of_it_but_the_parameters(run_file, capsys):
    assert cli.main(["show", str(run_file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    run = lateral.load_run(run_file)
    assert shown["history"]["loss"] == run.history["loss"].tolist()
    assert shown["model"]["tissue"]["geometry"] == {"type": "Row", "n_cells": 4}
    assert shown["settings"]["n_epochs"] == 3 and shown["finished"] is True
    assert shown["versions"] == run.versions and shown["platform"] == run.platform


def test_show_of_what_is_no_run_is_one_line(tmp_path, capsys):
    (tmp_path / "text").write_text("no run")
    assert cli.main(["show", str(tmp_path / "text")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
