"""The notebooks as a user meets them: a real JupyterLab in a real headless Chromium.

Where no Chromium is found these tests are skipped, and the last lines of the test run say so; under CI they fail.
"""

import os
import re
import shutil

import nbformat
import pytest
from lab import CHROMIUM, FLAGS, Lab, jupyterlab, write_notebook
from notebook_rules import NOTEBOOKS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium was found"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A JupyterLab on copies of the notebooks."""
    assert CHROMIUM, "no Chromium was found, and CI must not pass without one"
    root = tmp_path_factory.mktemp("lab") / "project" / "notebooks"
    root.mkdir(parents=True)
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":  # what is seen later has been run here
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, root / path.name)
    # Notebook 06 reads the stored comparison.
    shutil.copytree(NOTEBOOKS[0].parent.parent / "benchmarks", root.parent / "benchmarks")
    with jupyterlab(root) as address:
        yield root, address


@pytest.fixture(scope="module")
def browser():
    # Imported here: where there is no browser, there need be no playwright.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def lab(server, browser):
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    yield Lab(page, server[1])
    page.close()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_apps_answer(path, lab):
    lab.open(path.name)
    lab.run_all(400.0)
    assert lab.errors() == []
    picture, numbers = lab.picture(), lab.numbers()
    if path.stem in ("04EvolutionStrategy", "05Backpropagation"):
        lab.nudge(slider=2, key="End", times=1)  # epochs: it must not end before Stop
        lab.press("Start")
        lab.wait(lambda: "training" in lab.numbers() and lab.picture() != picture, 60.0, "no training")
        before, after = lab.nudge()
        lab.press("Stop")
        lab.wait(lambda: "stopped" in lab.numbers() and "fresh replicates" in lab.numbers(), 30.0, "not measured")
    else:
        before, after = lab.nudge()
        lab.wait(lambda: lab.picture() != picture, 30.0, "the same picture")
    assert before != after
    if path.stem != "06GradientEstimators":  # its app shows a picture only
        lab.wait(lambda: lab.numbers() != numbers, 5.0, "the same numbers")
    assert lab.errors() == [] and "Error" not in lab.numbers()
    lab.menu("Kernel", "^Shut Down Kernel$")


STUDIO = """
import lateral
from lateral.widgets import TrainingStudio
model = lateral.Model(n_cells=4, n_steps=100, dt=0.05)
studio = TrainingStudio(model, n_replicates=50, n_epochs=1000)
studio.n_epochs.max = studio.n_epochs.value = 10**6
studio
"""


def test_a_studio_is_steered_while_it_trains_and_the_kernel_stays_free(lab, server):
    write_notebook(server[0] / "steer.ipynb", STUDIO, "print('six times seven is', 6 * 7)")
    lab.open("steer.ipynb")
    lab.run_all(60.0)
    lab.press("Start")
    lab.wait(lambda: "epoch" in lab.numbers(), 60.0, "no epoch")
    pictures = set()
    lab.wait(lambda: pictures.add(lab.picture()) or len(pictures) >= 6, 30.0, "not six pictures")
    lab.nudge(slider=0)  # the noise
    lab.run_cell(1)
    lab.wait(lambda: "[3]" in lab.prompts()[1], 30.0, "the cell has not run beside the training")
    assert "training" in lab.numbers() and lab.can_press("Pause")
    lab.press("Pause")
    lab.wait(lambda: "paused" in lab.numbers(), 30.0, "not paused")
    lab.press("Start")
    lab.wait(lambda: "training" in lab.numbers(), 30.0, "not resumed")
    lab.press("Stop")
    lab.wait(lambda: "stopped" in lab.numbers(), 30.0, "not stopped")
    lab.wait(lambda: "fresh replicates" in lab.numbers(), 30.0, "not measured")
    assert lab.errors() == []


def test_two_studios_in_one_notebook_train_side_by_side(lab, server):
    write_notebook(
        server[0] / "two.ipynb", STUDIO, STUDIO.replace("studio", "other").replace("n_rep", "method='evolution', n_rep")
    )
    lab.open("two.ipynb")
    lab.run_all(60.0)
    for number in (0, 1):
        lab.press("Start", number)
    for number in (0, 1):
        lab.wait(lambda number=number: "its own replicates" in lab.numbers(number), 90.0, "no training")
        lab.press("Stop", number)
    for number in (0, 1):
        lab.wait(lambda number=number: "fresh replicates" in lab.numbers(number), 60.0, "not measured")


def test_after_a_restart_and_when_reopened_a_hint_says_what_to_do(lab, server):
    write_notebook(server[0] / "again.ipynb", "from lateral.widgets import DynamicsExplorer\nDynamicsExplorer()")
    lab.open("again.ipynb")
    lab.run_all(60.0)
    assert lab.app().count() == 1
    lab.menu("File", "^Save Notebook$")
    lab.menu("Kernel", "^Restart Kernel…$")
    lab.page.locator("dialog .jp-mod-accept").click()
    hint = re.compile("run this cell again")
    lab.page.get_by_text(hint).first.wait_for(timeout=30_000)
    lab.page.goto("about:blank")
    lab.open("again.ipynb")
    lab.page.get_by_text(hint).first.wait_for(timeout=30_000)
    lab.menu("Edit", "^Clear Outputs of All Cells$")
    lab.run_all(60.0)
    picture = lab.picture()
    lab.nudge()
    lab.wait(lambda: lab.picture() != picture, 30.0, "the same picture")
