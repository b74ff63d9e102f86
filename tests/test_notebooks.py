"""The notebooks as they are committed; `make test` also executes them and compares their outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from notebook_rules import NOTEBOOKS, problems

import lateral

NAMES = [
    "01Dynamics",
    "02Utility",
    "03RegulatoryNetwork",
    "04EvolutionStrategy",
    "05Backpropagation",
    "06ScoreGradients",
    "07TheBestRule",
    "08Tissues",
]
GUIDE_NAMES = (
    "N_CELLS",
    "N_REPLICATES",
    "N_STEPS",
    "DT",
    "NOISE_STRENGTH",
    "HIDDEN_DIMS",
    "N_EPOCHS",
    "LEARNING_RATE",
    "SOFT_BANDWIDTH",
)


def test_the_series_is_complete():
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_fit_to_be_committed(path):
    assert problems(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere(path):
    prose = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (path.parent / target).exists(), target


def test_notebook_05_configures_itself_with_the_names_and_values_of_the_guide():
    source = "\n".join(c.source for c in nbformat.read(NOTEBOOKS[4], as_version=4).cells if c.cell_type == "code")
    values = dict(re.findall(r"^([A-Z_]+) = (.+)$", source, flags=re.MULTILINE))
    model = lateral.Model()
    expected = (7, 50, 1000, 0.01, 0.1, (8, 8), 500, 1e-3, 0.1)
    assert tuple(eval(values[name]) for name in GUIDE_NAMES) == expected
    in_package = (model.n_cells, model.n_replicates, model.n_steps, model.dt, model.noise_strength)
    assert in_package == expected[:5] and model.soft_bandwidth == expected[8]


def test_the_notebooks_share_no_function():
    """A second use moves to the package: only `draw` of the sliders may bear the same name."""
    defined = {}
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                for name in re.findall(r"^(?:def|class) (\w+)", cell.source, flags=re.MULTILINE):
                    defined.setdefault(name, set()).add(Path(path).stem)
    assert {name: sorted(where) for name, where in defined.items() if len(where) > 1 and name != "draw"} == {}
