"""How the benchmarks store their results."""

import json
from pathlib import Path

from lateral._files import whole_file


def save_json(path: Path, results: dict, indent: int | None = 1) -> None:
    """Written completely or not at all: an interruption leaves what was stored before."""
    with whole_file(path) as file:
        file.write((json.dumps(results, indent=indent) + "\n").encode())
