"""Arrays and a JSON header in one uncompressed `.npz`, with a checksum; reading trusts nothing.

`read_archive` compares what a file claims with its size before it takes memory for it, and executes nothing in it.
Whatever is wrong with the file, it raises one `ValueError` that names the path. `numpy.load` alone would decompress a
few kilobytes into gigabytes, wait for a pipe for ever, and take what a flipped bit outside of its own checksums has
made of a header.
"""

import hashlib
import json
import math
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lateral.storage.files import whole_file

__all__ = ["complete", "read_archive", "storable", "write_archive"]

HEADER, CHECKSUM = "header", "checksum"
MAX_DIRECTORY = 2**20  # bytes of the list of members at the end of a zip file, 46 each and the name
MAX_HEADER = 2**22  # characters; as lists of nothing they would take 100 MB
MAX_NPY_HEADER = 2_000  # of one array: its type and shape
CHUNK = 2**20  # bytes read at once
ALIGNMENT = 64
ENCRYPTED, PATCHED, STRONGLY_ENCRYPTED = 0x1, 0x20, 0x40  # flags of a member of a zip file


def write_archive(path: str | os.PathLike, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a header and arrays to one file, completely or not at all.

    Args:
        path: the file, see `whole_file`.
        header: what JSON can hold.
        arrays: of booleans, integers and floats, any shape, by name; see `storable`.

    Raises:
        ValueError: before anything is written, if the header is not JSON, or an array or its name cannot be kept.
        OSError: if the file cannot be written.
    """
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the header is not JSON: {error}") from None
    if len(text) > MAX_HEADER or sum(64 + len(name.encode()) for name in arrays) > MAX_DIRECTORY - 256:
        raise ValueError(f"too much for a file: {len(text)} characters of settings, {len(arrays)} arrays")
    kept = {name: storable(name, array) for name, array in arrays.items()}
    for name in kept:
        as_read = zipfile.ZipInfo(f"{name}.npy").filename  # cut at a zero byte
        if name in ("", HEADER, CHECKSUM) or as_read != f"{name}.npy" or not name.isprintable():
            raise ValueError(f"{name!r} cannot be the name of an array in a file")
    kept[HEADER] = np.array(text)
    kept[CHECKSUM] = np.array(_checksum(kept))
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in kept.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def storable(name: str, array: Any) -> np.ndarray:
    """An array as files keep it: contiguous, in the byte order of this machine, floats of 16, 32 or 64 bits.

    Raises:
        ValueError: for an array of anything but booleans, integers and floats, or of numbers beyond 64 bits.
    """
    try:
        array = np.asarray(array)
    except TypeError:  # keys of jax.random
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold booleans, integers or floats, got an array of {array.dtype}")
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:  # long double differs from machine to machine
        dtype = np.dtype(np.float64)
        if (np.isfinite(array) & (np.abs(array) > np.finfo(dtype).max)).any():
            raise ValueError(f"{name} holds {array.dtype} numbers that float64 cannot hold")
    return np.asarray(array, dtype, order="C")


def read_archive(
    path: str | os.PathLike, has_checksum: Callable[[dict[str, Any]], bool] = lambda header: True
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file that `write_archive` wrote.

    Args:
        path: an ordinary file.
        has_checksum: from a header, which may still be wrong, whether such a file was written with a checksum; may
            refuse it by a `ValueError`.

    Raises:
        ValueError: if anything is wrong with the contents.
        OSError: if there is no such file, or it cannot be read.
    """
    with _open_regular(Path(path)) as file, complete(path):
        contents = _members(file)
        if HEADER not in contents:
            raise ValueError("it has no header")
        header = _parsed(contents[HEADER])
        said = contents.pop(CHECKSUM, None)
        if said is None and has_checksum(header):
            raise ValueError("it has no checksum")
        if said is not None and said.item() != _checksum(contents):
            raise ValueError("its checksum is not that of its contents")
        del contents[HEADER]
        return header, {name: np.asarray(array, array.dtype.newbyteorder("=")) for name, array in contents.items()}


@contextmanager
def complete(path: str | os.PathLike) -> Iterator[None]:
    """Whatever goes wrong in here is the fault of the file at `path`, and is said in one `ValueError` of ours."""
    try:
        yield
    except Exception as error:  # zipfile, json, numpy and our own classes raise dozens of kinds over a broken file
        reason = str(error) if type(error) is ValueError else _in_our_words(error)
        if reason.startswith(f"{path} "):
            raise
        short = " ".join(reason.split())[:400]
        raise ValueError(f"{path} is not a complete run file of lateral: {short}") from error


def _in_our_words(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    if isinstance(error, zipfile.BadZipFile):
        return "it is no .npz, or a part of it is missing or changed"
    if isinstance(error, json.JSONDecodeError):
        return "its header is not JSON"
    if isinstance(error, (RecursionError, MemoryError)):
        return "its contents are too deep or too large"
    return f"its contents cannot be read ({type(error).__name__})"


def _open_regular(path: Path) -> BinaryIO:
    kind = os.stat(path).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(f"{path} is a folder, not a run file")
    with complete(path):
        if not stat.S_ISREG(kind):  # to open a pipe waits, to open a device may do anything
            raise ValueError("it is no ordinary file")
    # Whatever took its place since does not wait either.
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")


def _members(file: BinaryIO) -> dict[str, np.ndarray]:
    """All arrays of an open file, none of which takes more memory than there are bytes in the file."""
    size = os.fstat(file.fileno()).st_size
    _check_directory(file, size)
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len({info.filename for info in infos}) < len(infos):
            raise ValueError("it has two members of the same name")
        for info in infos:
            if not info.filename.endswith(".npy") or info.flag_bits & (ENCRYPTED | PATCHED | STRONGLY_ENCRYPTED):
                raise ValueError(f"its member {info.filename!r} is not a plain array")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"its member {info.filename!r} is compressed")
        if sum(info.file_size for info in infos) > size:
            raise ValueError("its members claim more bytes than the file has")
        return {info.filename.removesuffix(".npy"): _array(archive, info) for info in infos}


def _check_directory(file: BinaryIO, size: int) -> None:
    """The end of the file, as we write it, before `zipfile` makes an object for each member that is listed there."""
    file.seek(max(0, size - 42))
    tail = file.read()
    if tail[20:24] != b"PK\5\6" or tail[:4] == b"PK\6\7" or int.from_bytes(tail[32:36], "little") > MAX_DIRECTORY:
        raise ValueError("it is no .npz, or its end is missing or changed")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        shape, in_columns, dtype = _type_and_shape(member, info)
        n_bytes = info.file_size - member.tell()
        text = info.filename in (f"{HEADER}.npy", f"{CHECKSUM}.npy")
        plain = (dtype.kind == "U" and shape == ()) if text else (dtype.kind in "biuf" and dtype.itemsize <= 8)
        if not plain or (text and n_bytes > 4 * MAX_HEADER):
            raise ValueError(f"its member {info.filename!r} holds {dtype} where it may not")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != n_bytes:
            raise ValueError(f"its member {info.filename!r} has {n_bytes} bytes, which are no {dtype}{list(shape)}")
        # At such addresses JAX takes an array as it is, without a copy.
        memory = np.empty(n_bytes + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        flat = memory[start : start + n_bytes]
        place = 0
        while chunk := member.read(CHUNK):  # `readinto` would make a second copy; the end checks the CRC
            flat[place : place + len(chunk)] = np.frombuffer(chunk, np.uint8)
            place += len(chunk)
        if place != n_bytes:
            raise ValueError(f"its member {info.filename!r} ends early")
    return flat.view(dtype).reshape(shape, order="F" if in_columns else "C")


def _type_and_shape(member, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError
        shape, in_columns, dtype = np.lib.format.read_array_header_1_0(member, MAX_NPY_HEADER)
        if any(type(length) is not int for length in shape):
            raise ValueError
    except ValueError:
        raise ValueError(f"its member {info.filename!r} does not say what it holds") from None
    return shape, in_columns, dtype


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name!r} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return total.hexdigest()


def _parsed(header: np.ndarray) -> dict[str, Any]:
    """JSON without what Python takes beyond the standard, and without names that are given twice."""
    parsed = json.loads(header.item(), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_each_once)
    if not isinstance(parsed, dict):
        raise ValueError("its header is not a table")
    return parsed


def _refuse(constant: str) -> None:
    raise ValueError(f"its header holds {constant}")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("its header gives a name twice")
    return table
