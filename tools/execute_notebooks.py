"""Execute notebooks in place, each from a fresh kernel, and clean what should not be stored.

    python tools/execute_notebooks.py [NOTEBOOK ...]

Without arguments every notebook of notebooks/ is executed. All of them run before the first file is
replaced, so that a failing cell leaves every notebook as it was. Stored are sources, outputs and execution
counts; not stored is what differs from one run or machine to the next: time stamps, widget state (a
notebook read without a kernel could not show it) and the version of Python.
"""

import os
import sys
import time
from pathlib import Path

# The kernel is the one of this Python, not one that the user has registered under the same name.
os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
os.environ["TQDM_DISABLE"] = "1"  # progress bars are for people who wait

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from lateral.storage.files import whole_file

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = {"jupyter", "tags"}  # "jupyter" holds what is folded
WIDGET = "application/vnd.jupyter.widget-view+json"  # names a model that only the running kernel knows
CELL_TIMEOUT = 600  # seconds


def clean(notebook):
    """Keep what a reader sees; drop what a run adds to it."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA})
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
            if "metadata" in output:
                output.metadata = {}
    return notebook


class Client(NotebookClient):
    """Collects outputs as nbval does in `make test`, so that what is stored is what is compared.

    What a widget prints or draws while its cell runs becomes output of that cell, which GitHub shows as well.
    """

    def on_comm_open_jupyter_widget(self, msg):
        return None

    def clear_output(self, outs, msg, cell_index):
        pass


def run(notebook, folder, timeout=CELL_TIMEOUT):
    """Execute an open notebook in the folder where it lies, as JupyterLab does."""
    Client(
        notebook,
        kernel_name="python3",
        timeout=timeout,
        startup_timeout=120,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    ).execute()


def execute(path):
    """Return the executed, cleaned notebook; the file stays as it is."""
    notebook = nbformat.read(path, as_version=4)
    run(notebook, path.parent)
    clean(notebook)
    nbformat.validate(notebook)
    return notebook


def main(arguments):
    paths = [Path(a).resolve() for a in arguments] or sorted(NOTEBOOKS.glob("*.ipynb"))
    if not paths:
        sys.exit(f"no notebooks in {NOTEBOOKS.name}/")
    executed = {}
    for path in paths:
        start = time.perf_counter()
        try:
            executed[path] = execute(path)
        except (CellExecutionError, CellTimeoutError, DeadKernelError, nbformat.ValidationError, OSError) as error:
            sys.exit(f"{error}\n{path.name} failed ({type(error).__name__}); no notebook was changed")
        print(f"{path.name}: {time.perf_counter() - start:.1f} s", flush=True)
    for path, notebook in executed.items():
        with whole_file(path) as file:
            file.write((nbformat.writes(notebook).rstrip("\n") + "\n").encode())


if __name__ == "__main__":
    main(sys.argv[1:])
