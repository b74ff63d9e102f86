"""A real JupyterLab and a real headless Chromium, for `test_browser.py`."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "test"


SETTINGS = {
    # All cells in the page, also those that are out of sight.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@contextmanager
def jupyterlab(root: Path, settings: dict | None = None) -> Iterator[str]:
    """The address of a JupyterLab that serves `root`, and nothing of the user's own settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = root.parent / "jupyter"
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JAX_PLATFORMS": "cpu",
    }
    for name, values in (SETTINGS | (settings or {})).items():
        path = home / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0",
               f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}"]  # fmt: skip
    with (root.parent / "jupyterlab.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 120
            while not _answers(port):
                in_time = server.poll() is None and time.monotonic() < deadline
                assert in_time, (root.parent / "jupyterlab.log").read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Lab:
    """One notebook in one page, and what a user does with it; `app` numbers the apps from the top."""

    def __init__(self, page, address: str):
        self.page, self.address = page, address

    def open(self, name: str) -> None:
        self.page.goto(f"{self.address}/lab/tree/{name}?token={TOKEN}&reset", timeout=120_000)
        self.page.wait_for_selector(".jp-Notebook", timeout=120_000)
        # Cells that are run while the kernel is still connecting are dropped without a word.
        self.wait(lambda: self._kernel_is_connected(name), 60.0, "no kernel")

    def _kernel_is_connected(self, name: str) -> bool:
        sessions = self.page.request.get(f"{self.address}/api/sessions?token={TOKEN}").json()
        kernels = [session["kernel"] for session in sessions if session["path"] == name]
        return any(kernel["connections"] and kernel["execution_state"] == "idle" for kernel in kernels)

    def menu(self, menu: str, *items: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        for item in items:
            entry = self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(item))
            entry.first.click()

    def run_all(self, timeout: float = 300.0) -> None:
        """Run all cells and wait for the last."""
        self.menu("Run", "^Run All Cells$")
        self.wait(self.all_done, timeout, "not all cells have run")

    def shut_down(self) -> None:
        self.menu("Kernel", "^Shut Down Kernel$")

    def run_cell(self, number: int) -> None:
        self.page.locator(".jp-CodeCell .cm-content").nth(number).click()
        self.page.keyboard.press("Shift+Enter")

    def all_done(self) -> bool:
        prompts = self.prompts()
        return bool(prompts) and all(re.search(r"\d", prompt) for prompt in prompts) and self.kernel_is_idle()

    def kernel_is_idle(self) -> bool:
        return self.page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").count() > 0

    def prompts(self) -> list[str]:
        return self.page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()

    def errors(self) -> list[str]:
        """Tracebacks below cells. JupyterLab shows them as text of stderr, of which there is other too."""
        shown = self.page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
        return [text for text in shown if "Traceback" in text]

    def app(self, number: int = 0):
        """The cell output that shows an app."""
        return self.page.locator(".jp-Cell-outputArea:has(.widget-image)").nth(number)

    def picture(self, number: int = 0) -> str:
        return self.app(number).locator(".widget-image").get_attribute("src")

    def last_picture(self, number: int = 0) -> str:
        """The picture once no other follows: the first is drawn again when the page has told how wide it is."""
        seen, since = self.picture(number), time.monotonic()

        def settled() -> bool:
            nonlocal seen, since
            if self.picture(number) != seen or not self.kernel_is_idle():
                seen, since = self.picture(number), time.monotonic()
            return time.monotonic() - since > 2.0

        self.wait(settled, 60.0, "still another picture")
        return seen

    def numbers(self, number: int = 0) -> str:
        return "\n".join(self.app(number).locator(".widget-html-content").all_inner_texts())

    def failed(self, number: int = 0) -> bool:
        """Whether the app says that something went wrong."""
        return re.search("Error|Not possible", self.numbers(number)) is not None

    def press(self, label: str, number: int = 0) -> None:
        self.app(number).locator(".widget-button", has_text=label).first.click()

    def can_press(self, label: str, number: int = 0) -> bool:
        return self.app(number).locator(".widget-button", has_text=label).first.is_enabled()

    def nudge(self, slider: int = 0, number: int = 0, key: str = "ArrowLeft", times: int = 5) -> tuple[str, str]:
        """Move a slider with the keyboard; its reading before and after."""
        control = self.app(number).locator(".widget-slider").nth(slider)
        control.scroll_into_view_if_needed()
        reading = control.locator(".widget-readout")
        before = reading.inner_text()
        control.locator(".noUi-handle").focus()
        for _ in range(times):
            self.page.keyboard.press(key)
        return before, reading.inner_text()

    def wait(self, condition, timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"{what} after {timeout:g} s"
            self.page.wait_for_timeout(100)


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of these code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)
    return path
