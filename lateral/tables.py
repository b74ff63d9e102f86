"""Text that people export: bytes to lines to entries, whatever wrote them. What they mean is for each reader to say."""

import csv
import io
import os
import sys
from pathlib import Path

import numpy as np

__all__ = ["SEPARATORS", "content_of", "is_array", "lines_of", "number_of", "real_array", "split", "text_of"]

SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas", " ": "spaces"}


def content_of(path: str | os.PathLike) -> bytes:
    """The bytes of a file, or for `"-"` of standard input."""
    if str(path) != "-":
        return Path(path).read_bytes()
    if sys.stdin is None:
        raise ValueError("standard input is closed")
    return getattr(sys.stdin, "buffer", sys.stdin).read()


def text_of(content: bytes, path: str | os.PathLike) -> str:
    """Bytes as text in UTF-8 or UTF-16, with or without a mark at the beginning."""
    if content.startswith(b"PK"):
        raise ValueError(f"{path} is an archive or a workbook, not a table: save it as CSV, or one array as .npy")
    utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 or UTF-16: see byte {error.start}") from None
    if "\0" in text:
        raise ValueError(f"{path} is not text: it holds bytes of zero")
    return text.removeprefix("\ufeff")


def lines_of(text: str) -> list[tuple[int, str]]:
    """Numbers and text of the lines that are neither empty nor a comment."""
    lines = [(number, line.strip(" \r")) for number, line in enumerate(text.splitlines(), 1)]
    return [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]


def split(line: str, separator: str) -> list[str]:
    """The entries of a line, without quotes and spaces around them."""
    entries = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    return [entry.strip().strip("'\"").strip() for entry in entries]


def number_of(entry: str) -> float | None:
    """An entry as a number, with a decimal point or comma; None if it is none."""
    try:
        return float(entry if entry.count(",") != 1 else entry.replace(",", "."))
    except ValueError:
        return None


def is_array(content: bytes) -> bool:
    """Whether bytes are those of a NumPy file."""
    return content.startswith(b"\x93NUMPY")


def real_array(content: bytes, path: str | os.PathLike, axes: str) -> np.ndarray:
    """The matrix in a NumPy file."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a complete NumPy file of numbers: {error}".replace("\n", " ")) from None
    if array.ndim != 2 or not array.size or array.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold numbers, {axes}, got {array.dtype} of shape {array.shape}")
    return array
