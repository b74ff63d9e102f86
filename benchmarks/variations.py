"""The notebooks as a student changes them: another seed, more or fewer cells, less or more noise.

    python benchmarks/variations.py                       # all notebooks, all changes; two hours
    python benchmarks/variations.py 01 03 --changes SEED  # some of them

Each notebook is executed with one constant at its top changed. The table counts what it says about its findings (✓ and
✗, `lateral.check`); an error is printed with its cell. Nothing may end in an error, and no finding may be false for
another seed.
"""

import argparse
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import execute_notebooks

NOTEBOOKS = sorted(execute_notebooks.NOTEBOOKS.glob("*.ipynb"))
CHANGES = {"SEED": range(10), "N_CELLS": (5, 12), "NOISE_STRENGTH": (0.05, 0.3)}
CELL_TIMEOUT = 1200  # seconds


def changed(notebook, name: str, value: float) -> bool:
    """Give a constant at the top of a notebook another value; whether it has one of that name."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, n_places = re.subn(rf"^{name} = .+$", f"{name} = {value}", cell.source, flags=re.MULTILINE)
            if n_places:
                return True
    return False


def execute(path: Path, name: str, value: float) -> tuple[str, list[str], str]:
    """What a changed notebook ended with, its findings that do not hold, and how many hold."""
    notebook = nbformat.read(path, as_version=4)
    if not changed(notebook, name, value):
        return "has no such constant", [], ""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # or those of the defaults are counted where a cell is not reached
    outcome = "no error"
    try:
        execute_notebooks.run(notebook, path.parent, CELL_TIMEOUT)
    except CellExecutionError as error:
        outcome = f"{error.ename}: {error.evalue}"
    except (CellTimeoutError, DeadKernelError) as error:
        outcome = type(error).__name__
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    said = "\n".join(output.get("text", "") for output in outputs)
    return outcome, re.findall(r"✗ .*", said), str(len(re.findall(r"✓ ", said)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", help="beginnings of their names, such as 01")
    parser.add_argument("--changes", nargs="*", choices=CHANGES, default=list(CHANGES))
    options = parser.parse_args()
    chosen = [p for p in NOTEBOOKS if not options.notebooks or p.name.startswith(tuple(options.notebooks))]
    failed = False
    print("| notebook | changed | seconds | ended with | findings that hold | that do not |\n|---|---|---|---|---|---|")
    for path in chosen:
        for name in options.changes:
            for value in CHANGES[name]:
                start = time.perf_counter()
                outcome, false, n_true = execute(path, name, value)
                seconds = time.perf_counter() - start
                row = (path.stem, f"{name} = {value}", f"{seconds:.0f}", outcome, n_true, "; ".join(false))
                print(f"| {' | '.join(row)} |", flush=True)
                failed |= outcome not in ("no error", "has no such constant")
    sys.exit(failed)


if __name__ == "__main__":
    main()
