"""Proof that the gate shuts: each of these small falsifications must make `make test` fail."""

import copy
import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import test_pinned
from notebook_rules import APP, NOTEBOOKS, problems

import lateral

# A constant of the model as it lives: where its default stands, and the same 2 % off.
MUTATIONS = {
    "tanh slope": (lateral.TanhInhibition, "slope", 5.1),
    "tanh amplitude": (lateral.TanhInhibition, "amplitude", 1.02),
    "default noise": (lateral.Tissue, "noise_strength", 0.102),
    "dt": (lateral.Tissue, "dt", 0.0102),
    "start width": (lateral.Tissue, "start", (0.398, 0.602)),
    "threshold": (lateral.Readout, "threshold", 0.51),
    "threshold of a function": (lateral.apply_threshold, "threshold", 0.51),
    "soft bandwidth": (lateral.compute_soft_utility, "bandwidth", 0.102),
    "soft bandwidth of the model": (lateral.Readout, "soft_bandwidth", 0.102),
    "nothing": (lateral.Tissue, "dt", 0.01),
}
PINNED = {name: test for name, test in vars(test_pinned).items() if name.startswith("test_")}


def _with_default(monkeypatch, target, name: str, value) -> None:
    """Give a setting, a field of a NamedTuple or an argument of a function another default."""
    if dataclasses.is_dataclass(target):
        monkeypatch.setattr(target.__dataclass_fields__[name], "default", value)
        return
    function = inspect.unwrap(target.__new__ if isinstance(target, type) else target)
    names = list(inspect.signature(function).parameters)
    with_default = names[len(names) - len(function.__defaults__) :]
    changed = tuple(value if n == name else d for n, d in zip(with_default, function.__defaults__, strict=True))
    assert changed != function.__defaults__
    monkeypatch.setattr(function, "__defaults__", changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_constant_that_is_2_percent_off_fails_the_pinned_numbers(name, monkeypatch, float32):
    _with_default(monkeypatch, *MUTATIONS[name])
    failed = []
    for test in PINNED.values():
        try:
            test()
        except AssertionError:
            failed.append(test)
    assert len(PINNED) >= 5 and bool(failed) == (name != "nothing")


@pytest.fixture
def beginning():
    """Notebook 01 up to the first numbers that it prints, without its app: enough to compare, quick to execute."""
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    prints = [any(output.output_type == "stream" for output in cell.get("outputs", [])) for cell in notebook.cells]
    notebook.cells = [cell for cell in notebook.cells[: prints.index(True) + 1] if not APP.search(cell.source)]
    return notebook


def _pytest(folder: Path, *arguments) -> subprocess.CompletedProcess:
    (folder / "conftest.py").write_text("import notebook_numbers\n\nnotebook_numbers.install()\n")  # as in conftest.py
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *map(str, arguments)]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def _nbval(notebook, folder) -> subprocess.CompletedProcess:
    path = folder / "copy.ipynb"
    nbformat.write(notebook, path)
    return _pytest(folder, "--nbval", "--nbval-current-env", "--nbval-kernel-startup-timeout", "120", path)


@pytest.mark.slow
def test_an_untouched_notebook_passes(beginning, tmp_path):
    outcome = _nbval(beginning, tmp_path)
    assert outcome.returncode == 0, outcome.stdout


def _in_the_first_text(notebook, number: str) -> None:
    """Another number than the 0.5 of the first output that is text."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    output = next(output for output in outputs if output.output_type == "stream")
    output.text, n_places = re.subn(r"0\.5", number, output.text, count=1)
    assert n_places == 1


@pytest.mark.slow
def test_a_changed_stored_number_fails(beginning, tmp_path):
    _in_the_first_text(beginning, "0.6")
    outcome = _nbval(beginning, tmp_path)
    assert outcome.returncode == 1 and "0.6" in outcome.stdout, outcome.stdout


@pytest.mark.slow
def test_another_last_digit_passes(beginning, tmp_path):
    _in_the_first_text(beginning, "0.50003")
    outcome = _nbval(beginning, tmp_path)
    assert outcome.returncode == 0, outcome.stdout


def test_a_finding_that_does_not_hold_fails():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    output = next(o for c in notebook.cells for o in c.get("outputs", []) if "✓" in o.get("text", ""))
    output.text = output.text.replace("✓", "✗", 1)
    assert any("does not hold" in problem for problem in problems(notebook))


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


def test_a_cell_or_a_text_that_is_too_long_fails():
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.source += "\n" * 20 + "#" * 101
    notebook.cells.append(nbformat.v4.new_markdown_cell("word " * 400))
    found = " ".join(problems(notebook))
    assert "lines, more than 20" in found and "101 columns" in found and "words of prose" in found
