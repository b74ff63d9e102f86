"""What a committed notebook must look like; used on the real ones, and on broken copies to prove that it bites."""

import re
from pathlib import Path

import notebook_numbers

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
KNOWN_TAGS = {"nbval-ignore-output"}
MAX_LINES, MAX_COLUMNS = 20, 100
WORDS = range(800, 1201)
APP = re.compile(r"\b(explore|\w+Explorer|Comparison|TrainingStudio)\(")
MACHINE_PATH = re.compile(r"/(?:root|home|Users|work|tmp)/")


def problems(notebook) -> list[str]:
    """Everything that is wrong with a notebook, as sentences; empty if it is fit to be committed."""
    found = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"not executed top to bottom from a fresh kernel: counts {counts}")
    outputs = [output for cell in code for output in cell.outputs]
    if any(output.output_type == "error" for output in outputs):
        found.append("holds an error")
    if any(output.get("name") == "stderr" for output in outputs):
        found.append("holds output on stderr")
    n_texts = sum(output.output_type == "stream" for output in outputs)
    if n_texts < 6:
        found.append(f"{n_texts} stored text outputs, fewer than 6")
    source = "\n".join(cell.source for cell in code)
    n_claims = len(re.findall(r"^\s*(?:assert |lateral\.check\()", source, flags=re.MULTILINE))
    if n_claims < 6:
        found.append(f"{n_claims} claims that are checked, fewer than 6")
    if false := re.findall("✗[^\n]*", "".join(output.get("text", "") for output in outputs)):
        found.append(f"claims what does not hold: {false}")
    if "import lateral" not in source:
        found.append("does not import lateral")
    if not APP.search(source):
        found.append("has no app")
    tags = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    if unknown := {tag for tag in tags - KNOWN_TAGS if not notebook_numbers.TAG.match(tag)}:
        found.append(f"unknown tags {sorted(unknown)}, which nbval would silently ignore")
    ignored = sum("nbval-ignore-output" in cell.metadata.get("tags", []) for cell in code)
    if ignored > 1:
        found.append(f"{ignored} cells are not compared; only the versions may differ")
    longest = max(len(cell.source.splitlines()) for cell in code)
    if longest > MAX_LINES:
        found.append(f"a cell of {longest} lines, more than {MAX_LINES}")
    widest = max(len(line) for line in source.splitlines())
    if widest > MAX_COLUMNS:
        found.append(f"a line of code of {widest} columns, more than {MAX_COLUMNS}")
    n_words = len(prose.split())
    if n_words not in WORDS:
        found.append(f"{n_words} words of prose, not {WORDS.start} to {WORDS.stop - 1}")
    for heading in ("## What we learnt", "## Exercises", "## References", "## Try it"):
        if heading not in prose:
            found.append(f"no section {heading!r}")
    if set(notebook.metadata) - {"kernelspec", "language_info"}:
        found.append(f"left-over metadata {sorted(notebook.metadata)}")
    if MACHINE_PATH.search(str(notebook)):
        found.append("names a folder of one machine")
    return found
