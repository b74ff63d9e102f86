"""How the benchmarks store their results, and how tables made of them come into the documents."""

import json
from pathlib import Path

from lateral.storage.files import whole_file

END = "<!-- end -->"


def save_json(path: Path, results: dict, indent: int | None = 1) -> None:
    """Written completely or not at all: an interruption leaves what was stored before."""
    with whole_file(path) as file:
        file.write((json.dumps(results, indent=indent) + "\n").encode())


def between(text: str, mark: str) -> str:
    """What stands in a document between the lines `<!-- mark -->` and `<!-- end -->`."""
    return _parts(text, mark)[1]


def replaced(text: str, mark: str, content: str) -> str:
    """The document with something else between the lines `<!-- mark -->` and `<!-- end -->`."""
    before, _, after = _parts(text, mark)
    return f"{before}{content}{after}"


def _parts(text: str, mark: str) -> tuple[str, str, str]:
    start = f"<!-- {mark} -->\n"
    if text.count(start) != 1:
        raise ValueError(f"the document has {text.count(start)} lines {start.strip()!r} where it must have one")
    before, rest = text.split(start)
    inside, end, after = rest.partition(f"\n{END}")
    if not end or "<!--" in inside:
        raise ValueError(f"no line {END!r} ends what begins with {start.strip()!r}")
    return before + start, inside, end + after
