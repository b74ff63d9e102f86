"""Proof that the gate shuts: each of these small falsifications must make `make test` fail."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from notebook_rules import NOTEBOOKS, problems

ROOT = Path(__file__).parent.parent

# A constant of the model, where it stands, and the same 2 % off.
MUTATIONS = {
    "tanh slope": ("network.py", "slope: ArrayLike = 5.0", "slope: ArrayLike = 5.1"),
    "tanh amplitude": ("network.py", "amplitude: ArrayLike = 1.0", "amplitude: ArrayLike = 1.02"),
    "default noise": ("model.py", "noise_strength: ArrayLike = 0.1", "noise_strength: ArrayLike = 0.102"),
    "dt": ("model.py", "dt: ArrayLike = 0.01", "dt: ArrayLike = 0.0102"),
    "start width": ("dynamics.py", "START = (0.4, 0.6)", "START = (0.398, 0.602)"),
    "threshold": ("utility.py", "THRESHOLD = 0.5", "THRESHOLD = 0.51"),
    "soft bandwidth": ("utility.py", "bandwidth: ArrayLike = 0.1", "bandwidth: ArrayLike = 0.102"),
    "soft bandwidth of the model": ("model.py", "soft_bandwidth: ArrayLike = 0.1", "soft_bandwidth: ArrayLike = 0.102"),
    "nothing": ("model.py", "dt: ArrayLike = 0.01", "dt: ArrayLike = 0.01"),
}


def _pytest(folder: Path, *arguments) -> subprocess.CompletedProcess:
    """Run pytest from `folder`, whose `lateral` comes before the installed one."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *map(str, arguments)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_constant_that_is_2_percent_off_fails_the_pinned_numbers(name, tmp_path):
    file, right, wrong = MUTATIONS[name]
    shutil.copytree(ROOT / "lateral", tmp_path / "lateral", ignore=shutil.ignore_patterns("__pycache__"))
    source = (tmp_path / "lateral" / file).read_text()
    assert source.count(right) == 1
    (tmp_path / "lateral" / file).write_text(source.replace(right, wrong))
    outcome = _pytest(tmp_path, ROOT / "tests" / "test_pinned.py")
    assert outcome.returncode == (0 if right == wrong else 1), outcome.stdout + outcome.stderr


@pytest.fixture
def beginning():
    """The first cells of notebook 01, as committed: enough to compare, quick to execute."""
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    with_output = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.outputs]
    notebook.cells = notebook.cells[: with_output[1] + 1]
    return notebook


def _nbval(notebook, folder) -> subprocess.CompletedProcess:
    path = folder / "copy.ipynb"
    nbformat.write(notebook, path)
    return _pytest(folder, "--nbval", "--nbval-current-env", "--nbval-kernel-startup-timeout", "120", path)


def test_an_untouched_notebook_passes(beginning, tmp_path):
    outcome = _nbval(beginning, tmp_path)
    assert outcome.returncode == 0, outcome.stdout


def test_a_changed_stored_number_fails(beginning, tmp_path):
    output = next(output for cell in beginning.cells if cell.cell_type == "code" for output in cell.outputs)
    text = output.text
    output.text = re.sub(r"0\.5", "0.6", text, count=1)
    assert output.text != text
    outcome = _nbval(beginning, tmp_path)
    assert outcome.returncode == 1 and "0.6" in outcome.stdout, outcome.stdout


def test_a_notebook_stripped_of_its_outputs_fails():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    assert problems(notebook) == []
    stripped = copy.deepcopy(notebook)
    for cell in stripped.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    assert any("not executed" in problem for problem in problems(stripped))
    assert any("text outputs" in problem for problem in problems(stripped))


def test_a_mistyped_tag_and_an_error_and_a_warning_fail():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].metadata["tags"] = ["nbval-ignore-outputs"]
    code[1].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])]
    code[2].outputs = [nbformat.v4.new_output("stream", name="stderr", text="UserWarning: careful\n")]
    found = " ".join(problems(notebook))
    assert "unknown tags" in found and "holds an error" in found and "stderr" in found
