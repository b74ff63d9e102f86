"""The notebooks as a user meets them: a real JupyterLab in a real headless Chromium.

Where no Chromium is found these tests are skipped, and the last lines of the test run say so; under CI they fail.
"""

import os
import re

import nbformat
import pytest
from lab import CHROMIUM, FLAGS, Lab, jupyterlab, write_notebook
from notebook_rules import APP, NOTEBOOKS

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


def trains(lab, number):
    """A studio is started, steered and stopped, and measures what has come out."""
    picture = lab.last_picture(number)
    lab.nudge(2, number, key="End", times=1)  # epochs: it must not end before Stop
    lab.press("Start", number)
    lab.wait(lambda: "training" in lab.numbers(number) and lab.picture(number) != picture, 60.0, "no training")
    before, after = lab.nudge(number=number)
    lab.press("Stop", number)
    lab.wait(lambda: all(said in lab.numbers(number) for said in ("stopped", "fresh replicates")), 30.0, "not measured")
    assert before != after


def answers(lab, number, with_numbers=True):
    """A slider changes the picture, and the numbers where an app shows any."""
    picture, numbers = lab.last_picture(number), lab.numbers(number)
    before, after = lab.nudge(number=number)
    lab.wait(lambda: lab.picture(number) != picture, 30.0, "the same picture")
    if with_numbers:
        lab.wait(lambda: lab.numbers(number) != numbers, 5.0, "the same numbers")
    assert before != after


def test_a_whole_notebook_runs_and_its_app_answers(lab):
    """Run All in a page; that the cells of the others run is for nbval, which takes minutes for those that train."""
    lab.open("01Dynamics.ipynb")
    lab.run_all(120.0)
    answers(lab, 0)
    assert lab.errors() == [] and not lab.failed()
    lab.shut_down()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_app_runs_on_its_own_in_a_fresh_kernel_and_answers(path, lab):
    lab.open(path.name)
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    cells = [number for number, source in enumerate(code) if APP.search(source)]
    assert cells
    for number, cell in enumerate(cells):
        lab.run_cell(cell)
        lab.wait(lambda cell=cell: re.search(r"\d", lab.prompts()[cell]) and lab.kernel_is_idle(), 60.0, "no app")
        assert lab.errors() == []
        if "TrainingStudio" in code[cell]:
            trains(lab, number)
        else:
            answers(lab, number, with_numbers="explore(" not in code[cell])
        assert lab.errors() == [] and not lab.failed(number)
    lab.shut_down()


STUDIO = """
import lateral
from lateral.widgets import TrainingStudio
model = lateral.Model(n_cells=4, n_steps=100, dt=0.05)
studio = TrainingStudio(model, n_replicates=50, n_epochs=1000)
studio.n_epochs.max = studio.n_epochs.value = 10**6
studio
"""


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_error_below_a_cell_is_seen(lab, server):
    """Or the tests here could not fail by one."""
    write_notebook(server[0] / "fails.ipynb", "print('all is well')", "1 / 0")
    lab.open("fails.ipynb")
    lab.run_all(60.0)
    (error,) = lab.errors()
    assert "ZeroDivisionError" in error


@pytest.mark.slow
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


@pytest.mark.slow
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
    picture = lab.last_picture()
    lab.nudge()
    lab.wait(lambda: lab.picture() != picture, 30.0, "the same picture")


@pytest.mark.slow
def test_a_tissue_is_played_and_scrubbed(lab, server):
    write_notebook(
        server[0] / "play.ipynb", "from lateral.widgets import DynamicsExplorer\nDynamicsExplorer(n_cells=30)"
    )
    lab.open("play.ipynb")
    lab.run_all(60.0)
    cells, cursor = lab.app().locator("[role=img][aria-label*=states]"), lab.app().locator(".lateral-cursor")
    assert cells.locator("div").count() == 30
    lab.wait(lambda: "drawing" not in lab.numbers(), 30.0, "still drawing")
    # Counted in the page: a question from here takes longer than a picture.
    cells.evaluate("""cells => {
        window.rows = new Map();
        new MutationObserver(() => {
            const row = cells.getAttribute("aria-label");
            if (!window.rows.has(row)) window.rows.set(row, performance.now());
        }).observe(cells, {attributes: true});
    }""")
    lab.app().get_by_role("button", name="Play").click()
    lab.wait(lambda: lab.page.evaluate("window.rows.size") >= 20, 30.0, "not twenty rows of cells")
    lab.wait(lambda: "time 10.0" in cells.get_attribute("aria-label"), 60.0, "not played to the end")
    picture, end = lab.last_picture(), cursor.bounding_box()["x"]
    lab.app().locator("input[type=range]").focus()
    lab.page.keyboard.press("Home")
    lab.wait(lambda: "time 0.0" in cells.get_attribute("aria-label"), 10.0, "not scrubbed")
    image = lab.app().locator(".widget-image").bounding_box()
    assert image["x"] < cursor.bounding_box()["x"] < end - 0.2 * image["width"] < image["x"] + image["width"]
    assert lab.picture() == picture, "no new figure"
    assert lab.errors() == []


@pytest.mark.slow
def test_a_sheet_is_played_in_the_plane_and_says_what_is_under_the_mouse(lab, server):
    write_notebook(
        server[0] / "sheet.ipynb",
        "from lateral.widgets import TissueExplorer\napp = TissueExplorer(kind='square', rows=3, columns=3)\napp",
        "print(app.time.states[-9])",
    )
    lab.open("sheet.ipynb")
    lab.run_all(90.0)
    canvas, image = lab.app().locator("canvas[aria-label*=states]"), lab.app().locator(".widget-image")
    lab.wait(lambda: canvas.count() == 1 and "drawing" not in lab.numbers(), 30.0, "no canvas")
    # The first cell, one ninth of the canvas but for a margin: its colour in the page.
    first = """canvas => {
        const at = [0.2 * canvas.width, 0.2 * canvas.height];
        return [...canvas.getContext("2d").getImageData(...at, 1, 1).data].join();
    }"""
    end = canvas.evaluate(first)
    lab.app().locator("input[type=range]").focus()
    lab.page.keyboard.press("Home")
    lab.wait(lambda: "time 0.0" in canvas.get_attribute("aria-label"), 10.0, "not scrubbed")
    assert canvas.evaluate(first) != end, "the cells are those of another time"
    lab.app().get_by_role("button", name="Play").click()
    lab.wait(lambda: "time 4.0" in canvas.get_attribute("aria-label"), 60.0, "not played to the end")
    assert canvas.evaluate(first) == end
    box, picture = canvas.bounding_box(), image.bounding_box()
    assert picture["x"] <= box["x"] and box["x"] + box["width"] <= picture["x"] + picture["width"]
    assert picture["y"] <= box["y"] and box["y"] + box["height"] <= picture["y"] + picture["height"]
    canvas.hover(position={"x": 0.2 * box["width"], "y": 0.2 * box["height"]})
    state = int(re.search(r"\d+", lab.page.locator("[data-mime-type*=stdout]").inner_text()).group()) / 255
    assert canvas.get_attribute("title") == f"cell 1: {state:.2f}"
    assert lab.errors() == [] and not lab.failed()


@pytest.mark.slow
def test_the_rule_is_drawn_with_the_mouse(lab, server):
    write_notebook(
        server[0] / "draw.ipynb",
        "from lateral.widgets import RuleExplorer\napp = RuleExplorer()\napp",
        "print([round(rate, 2) for rate in app.pencil.values], app.start_from.value)",
    )
    lab.open("draw.ipynb")
    lab.run_all(60.0)
    canvas = lab.app().locator("canvas")
    lab.wait(lambda: "drawing" not in lab.numbers(), 30.0, "still drawing")
    picture, box = lab.last_picture(), canvas.bounding_box()

    # From (0.05, 4) to (0.3, 2) and back into the page, along the axes of the canvas.
    def at(share, rate):
        return (
            box["x"] + 46 + share * (box["width"] - 56),
            box["y"] + 8 + (0.5 - rate / 11.0) * (box["height"] - 42),
        )

    lab.page.mouse.move(*at(0.05, 4.0))
    lab.page.mouse.down()
    lab.page.mouse.move(*at(0.3, 2.0), steps=3)
    assert lab.picture() == picture, "answered before the button was released"
    lab.page.mouse.up()
    lab.wait(lambda: lab.picture() != picture, 30.0, "the same picture")
    lab.run_cell(1)
    printed = lab.page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stdout']")
    lab.wait(lambda: "drawn by hand" in printed.inner_text(), 30.0, "the rule is not the drawn one")
    rates = [float(rate) for rate in re.findall(r"-?\d+\.\d+", printed.inner_text())]
    line = [4.0 - 2.0 * (i - 2) / 10 for i in range(2, 13)]
    assert len(rates) == 41 and all(abs(rate - y) < 0.15 for rate, y in zip(rates[2:13], line, strict=True))
    assert all(abs(a + b) < 0.011 for a, b in zip(rates, rates[::-1], strict=True)), "drawn odd"
    assert lab.errors() == [] and not lab.failed()


APPS = ("DynamicsExplorer", "UtilityExplorer", "RuleExplorer", "Comparison", "TissueExplorer", "TrainingStudio")


@pytest.mark.slow
def test_apps_have_two_columns_at_1000_pixels_and_follow_the_dark_theme(lab, server):
    write_notebook(server[0] / "looks.ipynb", *(f"from lateral.widgets import {app}\n{app}()" for app in APPS))
    lab.open("looks.ipynb")
    lab.run_all(120.0)
    # The lightness of a corner of each picture, as the page shows it.
    corner = """image => {
        const canvas = document.createElement("canvas");
        canvas.getContext("2d").drawImage(image, 0, 0);
        return canvas.getContext("2d").getImageData(1, 1, 1, 1).data[0];
    }"""
    size = "image => image.clientWidth / image.naturalWidth"
    images = lab.page.locator(".lateral-picture img")
    for number, name in enumerate(APPS):
        columns = {round(box.bounding_box()["x"]) for box in lab.app(number).locator(".widget-gridbox > *").all()}
        assert len(columns) == 2, name
        lab.wait(lambda n=number: images.nth(n).evaluate(size) > 0.9, 60.0, f"small text in {name}")
        assert images.nth(number).evaluate(corner) > 250
    lab.menu("Settings", "^Theme$", "^JupyterLab Dark$")
    for number, name in enumerate(APPS):
        lab.wait(lambda n=number: images.nth(n).evaluate(corner) < 40, 60.0, f"{name} is bright")
