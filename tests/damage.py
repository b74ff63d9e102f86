"""Damages of run files: random ones, and one for each thing that a file says.

    python tests/damage.py

does 2,000 random and 500 targeted damages to a run, loads each, and prints what came of it; does the same to a
checkpoint, from which training goes on; then the memory that loading a large run takes, and files that pretend to be
large. The tests take some of them.
"""

import copy
import hashlib
import io
import json
import pickle
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import lateral
from lateral.fields import plain
from lateral.storage.archive import read_archive

SAME, REFUSED = "the same", "refused"
DEEP = "[" * 100_000 + "]" * 100_000


def example_run() -> lateral.Run:
    """A run with something at every place of its header."""
    network = lateral.MLP((3, 2), max_rate=5.0)
    weights = [[0.5, 0.25], [1.0], [0.25]]
    model = lateral.Model(network, geometry=lateral.Graph([[1, 2], [0], [1]], weights), objective="tissue", dt=0.02)
    params = network.init(jax.random.key(0))
    return lateral.Run(
        method="score",
        params=params,
        model=model,
        history={"utility": np.linspace(0.0, 0.6, 5), "loss": np.arange(5, dtype=np.float32)},
        settings={"n_epochs": 5, "gradient": {"type": "Score", "decay": 0.95}, "checks": [[0.1, 0.2]]},
        seed=3,
        initial_params=jax.tree.map(lambda x: x + 1.0, params),
        evaluation={"utility": 0.5, "utility_se": float("nan")},
        finished=False,
        identity={"key": [0, 3]},
    )


def write_example(path: Path) -> lateral.Run:
    run = example_run()
    lateral.save_run(path, run, ({"n_done": 5}, {"state": np.arange(12.0).reshape(3, 4), "key": np.arange(2)}))
    return run


def outcome(path: Path, expected: lateral.Run) -> str:
    """`SAME`, `REFUSED` by one clear sentence, or what else came of loading a file."""
    return judged(path, lambda: lateral.load_run(path), lambda run: is_same(run, expected))


def judged(path: Path, read: Callable[[], lateral.Run], same: Callable[[lateral.Run], bool]) -> str:
    """Of a file that something reads: a warning is never right, and an error names the file in one line."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            run = read()
        except ValueError as error:
            text = str(error)
            clear = str(path) in text and "\n" not in text and "allow_pickle" not in text and len(text) < 1000
            return REFUSED if clear and not warned else f"unclear: {text} {[str(w.message) for w in warned]}"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
    return SAME if not warned and same(run) else "another one"


def is_same(run: lateral.Run, expected: lateral.Run) -> bool:
    ours, theirs = ((run.params, run.initial_params) for run in (run, expected))
    if run.model != expected.model or jax.tree.structure(ours) != jax.tree.structure(theirs):
        return False
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


# --- random


def random_damages(content: bytes, n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(seed)
    kinds = {
        "a bit flipped": lambda x, i, m: x[:i] + bytes([x[i] ^ 1 << m % 8]) + x[i + 1 :],
        "a byte replaced": lambda x, i, m: x[:i] + bytes([m % 256]) + x[i + 1 :],
        "bytes replaced": lambda x, i, m: x[:i] + rng.bytes(m) + x[i + m :],
        "cut off": lambda x, i, m: x[:i],
        "beginning lost": lambda x, i, m: x[i + 1 :],
        "bytes lost": lambda x, i, m: x[:i] + x[i + m :],
        "bytes inserted": lambda x, i, m: x[:i] + rng.bytes(m) + x[i:],
        "zeros in place of bytes": lambda x, i, m: x[:i] + bytes(len(x[i : i + m])) + x[i + m :],
        "a piece twice": lambda x, i, m: x[: i + m] + x[i:],
        "a piece moved": lambda x, i, m: x[:i] + x[i + m :] + x[i : i + m],
    }
    for number in range(n):
        kind = list(kinds)[number % len(kinds)]
        length = int(rng.choice([1, 4, 64, 512]) * rng.integers(1, 4))
        yield kind, kinds[kind](content, int(rng.integers(len(content))), length)


# --- targeted


def pack(header: Any, arrays: dict[str, np.ndarray], **more: bytes) -> bytes:
    """A file whose checksum is right, whatever it holds; a header may be text, and more members raw bytes."""
    text = header if isinstance(header, str) else json.dumps(header)
    arrays = arrays | {"header": np.array(text)}
    packed = {name: npy(array) for name, array in arrays.items()} | {"checksum": npy(np.array(checksum(arrays)))}
    return zipped(packed | more)


def checksum(arrays: dict[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name!r} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return total.hexdigest()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_that_says(descr: str, shape: str, data: bytes, order: str = "False", version: bytes = b"\1\0") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(head)) + head + data


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED, twice: str = "") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive, warnings.catch_warnings(action="ignore"):
        for name in [*members, *([twice] if twice else [])]:
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), members[name], compression)
    return file.getvalue()


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path to everything in a header, inner ones too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in inner:
        yield (*path, name)
        yield from places(entry, (*path, name))


def at(header: dict, path: tuple) -> Any:
    for name in path:
        header = header[name]
    return header


def changed(header: dict, path: tuple, value: Any) -> dict:
    header = copy.deepcopy(header)
    at(header, path[:-1])[path[-1]] = value
    return header


def without(header: dict, path: tuple) -> dict:
    header = copy.deepcopy(header)
    del at(header, path[:-1])[path[-1]]
    return header


# What a place may hold instead without being wrong: None where a setting is optional, and what is not ours to judge.
OPTIONAL = {"max_rate", "n_knots", "recompute_every", "weights", "seed", "evaluation", "initial_params", "progress"}
FREE = ("settings", "evaluation", "identity", "progress")


def wrong_values(path: tuple, value: Any) -> Iterator[Any]:
    """Values of a type that does not belong at a place."""
    for other in ("x", 0.5, True, -1, 10**400, None, [], {}, {"type": "Row"}, [[[]]]):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if type(other) is type(value) or (other is None and path[-1] in OPTIONAL):
            continue
        if number and type(other) in (int, float) and abs(other) < 10**9:  # perhaps another value, not a wrong one
            continue
        if value is None and path[-1] in OPTIONAL and path != ("progress",):  # of another type, but allowed
            continue
        yield other


def header_damages(header: dict, arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, bytes]]:
    for path in places(header):
        if path[0] in FREE and len(path) > 1:
            continue
        if isinstance(path[-1], str):
            yield "field missing", pack(without(header, path), arrays)
        for value in wrong_values(path, at(header, path)):
            yield "value of a wrong type", pack(json.dumps(changed(header, path, value)), arrays)
        if isinstance(at(header, path), dict) and path[0] not in ("versions", "platform", *FREE):
            yield "unknown field", pack(changed(header, (*path, "unknown"), 1), arrays)
    yield "unknown field", pack(header | {"unknown": None}, arrays)


def version_damages(header: dict, arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, bytes]]:
    for version in ("2", "4", 4.0, True, False, None, -1, 0, 1, 3, 2, 5, 10**30, [4], {}):
        yield "wrong version", pack(header | {"version": version}, arrays)
    for format_ in ("else", "", None, 4, ["lateral-run"]):
        yield "wrong format", pack(header | {"format": format_}, arrays)


def text_damages(header: dict, arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, bytes]]:
    text = json.dumps(header)
    for damaged in (
        "",
        "{",
        "x",
        "null",
        "[1]",
        "3",
        '"x"',
        text[:-1],
        text + "}",
        f"[{text}]",
        text.replace(":", "="),
    ):
        yield "no JSON, or no table", pack(damaged, arrays)
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000):
        yield "a number that is none", pack(text.replace('"seed": 3', f'"seed": {number}'), arrays)
        yield "a number that is none", pack(text.replace('"dt": 0.02', f'"dt": {number}'), arrays)
    for name in ("seed", "dt", "type"):
        yield "a name twice", pack(text.replace(f'"{name}": ', f'"{name}": 1, "{name}": ', 1), arrays)
    for name in header:
        yield "deep JSON", pack(json.dumps(header | {name: "DEEP"}).replace('"DEEP"', DEEP), arrays)


def nesting_damages(header: dict, arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, bytes]]:
    for name in ("params", "initial_params"):
        for path in places(header[name], (name,)):
            for value in (
                99,
                -1,
                True,
                0.0,
                "0",
                [0],
                {"dict": {}, "list": []},
                {"set": []},
                {"leaves": [0]},
                {},
                1,
                None,
            ):
                if value != at(header, path):
                    yield "wrong nesting of parameters", pack(changed(header, path, value), arrays)


def array_damages(header: dict, arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, bytes]]:
    for name, array in arrays.items():
        rest = {other: values for other, values in arrays.items() if other != name}
        if not name.startswith("progress_") and name != "history_loss":
            yield "array missing", pack(header, rest)
        yield "array of another name", pack(header, rest | {f"x{name}": array})
        if not name.startswith("progress_"):
            yield "array of another shape", pack(header, rest | {name: np.zeros((2, *array.shape))})
            yield "array of text", pack(header, rest | {name: np.full(array.shape, "x")})
            yield "array of complex numbers", pack(header, rest | {name: array.astype(complex)})
            yield "array of long doubles", pack(header, rest | {name: array.astype(np.longdouble)})
        if name.startswith("param_"):
            for value in (np.nan, np.inf):
                damaged = array.copy()
                damaged.flat[0] = value
                yield "parameters that are not finite", pack(header, rest | {name: damaged})
    yield "array too many", pack(header, arrays | {"param_99": np.zeros(1)})
    yield "array too many", pack(header | {"progress": None}, arrays)


def npy_damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    all_ = members(content)
    for name in ("header", "checksum", "param_0", "history_loss"):
        for says in (
            npy_that_says("'<f8'", "(1000000000000,)", b""),
            npy_that_says("'<f8'", "(9999999999999999999999999,)", b""),
            npy_that_says("'<f8'", "(100000, 100000)", bytes(64)),
            npy_that_says("'<f8'", "(-1,)", bytes(8)),
            npy_that_says("'<f8'", "(True,)", bytes(8)),
            npy_that_says("'<f8'", "(0, 99999999999999999999999999999999)", b""),
            npy_that_says("'<f8'", "(2.0,)", bytes(16)),
            npy_that_says("'<f8'", "x", bytes(16)),
            npy_that_says("'<f8'", "(" * 5000 + ")" * 5000, bytes(16)),
            npy_that_says("'|O'", "()", pickle.dumps(3)),
            npy_that_says("'<U1000000000'", "()", b""),
            npy_that_says("[('a', '<f8')]", "(1,)", bytes(8)),
            npy_that_says("'no such type'", "(1,)", bytes(8)),
            npy_that_says("'<f8'", "(1,)", bytes(8), order="1"),
            npy_that_says("'<f8'", "(1,)", bytes(8), version=b"\3\0"),
            b"\x93NUMPY",
            b"",
        ):
            yield "array that says what is not so", zipped(all_ | {name: says})
        yield "member twice", zipped(all_, twice=name)
        yield "member missing", zipped({other: data for other, data in all_.items() if other != name})
    yield "checksum of another file", zipped(all_ | {"checksum": npy(np.array("0" * 64))})
    yield "checksum that is a number", zipped(all_ | {"checksum": npy(np.array(7))})
    yield "no members", zipped({})


def zip_damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    all_ = members(content)
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield "compressed", zipped(all_, kind)
        yield "compressed bomb", zipped(all_ | {"param_0": npy(np.zeros(2_000_000))}, kind)
    for local, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = -1
        while (place := content.find(local, place + 1)) >= 0:
            for flags in (0x1, 0x8, 0x20, 0x40, 0x800, 0x2000):
                yield "zip flags", patched(content, place + offset, struct.pack("<H", flags))
            for method in (8, 12, 14, 99):
                yield "zip method", patched(content, place + offset + 2, struct.pack("<H", method))
    for place in range(len(content) - 22, len(content)):
        for byte in (0x00, 0xFF):
            yield "end of the zip", patched(content, place, bytes([byte]))
    yield "something before it", b"#!/bin/sh\n" + content
    yield "something after it", content + b"x"


def patched(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def targeted_damages(path: Path) -> Iterator[tuple[str, bytes]]:
    """All of them, some thousand."""
    content = path.read_bytes()
    header, arrays = read_archive(path)
    for damages in (header_damages, version_damages, text_damages, nesting_damages, array_damages):
        yield from damages(header, arrays)
    yield from npy_damages(content)
    yield from zip_damages(content)


def spread(damages: list, n: int) -> list:
    """About n of them: each kind has its share, and small kinds are whole."""
    of_kind: dict[str, list] = {}
    for damage in damages:
        of_kind.setdefault(damage[0], []).append(damage)
    share = next(k for k in range(1, len(damages) + 1) if sum(min(k, len(d)) for d in of_kind.values()) >= n)
    return [d for some in of_kind.values() for d in some[:: max(1, len(some) // share)][:share]][:n]


# --- checkpoints


def train(**kept) -> lateral.Run:
    """A training of a second, with checks on fresh replicates."""
    model = lateral.Model(lateral.MLP((2,), max_rate=5.0), n_cells=4, n_replicates=16, n_steps=20)
    settings = dict(n_epochs=8, chunk_size=2, check_every=2, n_fresh=40)
    with warnings.catch_warnings(action="ignore", category=lateral.TimeStepWarning):
        return lateral.train_backprop(model, key=jax.random.key(1), **settings, **kept)


def write_checkpoint(path: Path) -> None:
    """One of that training, interrupted half-way."""

    def interrupt(training):
        if training.n_done == 4:
            raise KeyboardInterrupt

    try:
        train(checkpoint=path, callback=interrupt)
    except lateral.TrainingInterrupted:
        return
    raise AssertionError("it was not interrupted")


def resumed(path: Path, undisturbed: lateral.Run) -> str:
    """`SAME` if training goes on from a file to the end that it has without, `REFUSED`, or what else came of it."""

    def same(run):
        texts = [json.dumps((of_one.settings, plain(of_one.history))) for of_one in (run, undisturbed)]
        return is_same(run, undisturbed) and texts[0] == texts[1]

    return judged(path, lambda: train(checkpoint=path), same)


def checkpoint_damages(path: Path) -> Iterator[tuple[str, bytes]]:
    """What stands in a checkpoint beside the run, damaged, under a checksum that is right."""
    header, arrays = read_archive(path)
    for place in places(header):
        if place[0] in ("progress", "identity"):
            if isinstance(place[-1], str):
                yield "field missing", pack(without(header, place), arrays)
            for value in wrong_values(place, at(header, place)):
                yield "value of a wrong type", pack(json.dumps(changed(header, place, value)), arrays)
    for name, array in arrays.items():
        if name.startswith("progress_"):
            rest = {other: values for other, values in arrays.items() if other != name}
            yield "array missing", pack(header, rest)
            yield "array of another name", pack(header, rest | {f"{name}x": array})
            yield "array of another shape", pack(header, rest | {name: np.zeros((2, *array.shape), array.dtype)})
            yield "array of another type", pack(header, rest | {name: array.astype(complex)})


# --- the script

LARGE = 2000  # units of two layers: 16 MB


def large_run(path: Path) -> None:
    network = lateral.MLP((LARGE, LARGE))
    lateral.save_run(path, lateral.Run("score", network.init(jax.random.key(0)), lateral.Model(network)))


def pretenders(path: Path) -> Iterator[tuple[str, bytes]]:
    """The large run, and files that pretend to hold more than they do."""
    content = path.read_bytes()
    all_ = members(content)
    yield "honest", content
    yield "one bit flipped", patched(content, len(content) // 2, bytes([content[len(content) // 2] ^ 1]))
    yield "cut in half", content[: len(content) // 2]
    yield "bomb, 1.6 GB in 1.6 MB", zipped(all_ | {"param_0": npy(np.zeros(2 * 10**8))}, zipfile.ZIP_DEFLATED)
    yield "shape of 8 TB", zipped(all_ | {"param_0": npy_that_says("'<f8'", "(1000000000000,)", b"")})
    yield "a member twice", zipped(all_, twice="param_3")
    yield "header of 20 MB", zipped(all_ | {"header": npy(np.array("[" + "[]," * 1_700_000 + "0]"))})
    yield "header of 16 MB", zipped(all_ | {"header": npy(np.array("[" + "[]," * 1_390_000 + "0]"))})


def peak_memory(path: Path) -> tuple[float, str]:
    """MB that loading a file takes at most, in a process of its own, and what comes of it. Linux tells."""
    code = f"""import re, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import damage, lateral
def memory(what): return int(re.search(what + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
small, large = sys.argv[1:]
lateral.load_run(small)
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = memory("VmRSS")
try:
    lateral.load_run(large)
    result = "loaded"
except ValueError as error:
    result = str(error).split(": ", 1)[1]
print(memory("VmHWM") - before, result)"""
    with tempfile.NamedTemporaryFile(suffix=".npz") as small:
        write_example(Path(small.name))
        child = subprocess.run(
            [sys.executable, "-c", code, small.name, path], capture_output=True, text=True, check=True
        )
    peak, result = child.stdout.strip().split(" ", 1)
    return float(peak), result


def report(title: str, damages: list[tuple[str, bytes]], path: Path, what_came: Callable[[], str]) -> None:
    """Print what came of each kind of damage."""
    came_of: dict[str, Counter] = {}
    for kind, damaged in damages:
        path.write_bytes(damaged)
        came_of.setdefault(kind, Counter())[what_came()] += 1
    print(f"\n| {len(damages)} {title} | {SAME} | {REFUSED} | anything else |\n|---|---|---|---|")
    for kind, counts in came_of.items():
        other = {text: n for text, n in counts.items() if text not in (SAME, REFUSED)}
        print(f"| {kind} | {counts[SAME]} | {counts[REFUSED]} | {other or 0} |", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, large = Path(folder) / "run.npz", Path(folder) / "large.npz"
        expected = write_example(path)
        content = path.read_bytes()
        for title, damages in (
            ("random", list(random_damages(content, 2000, seed=0))),
            ("targeted", spread(list(targeted_damages(path)), 500)),
        ):
            report(f"{title} damages of a run", damages, path, lambda: outcome(path, expected))
        path.unlink()
        write_checkpoint(path)
        content, undisturbed = path.read_bytes(), train()
        for title, damages in (
            ("random", list(random_damages(content, 2000, seed=1))),
            ("targeted", spread(list(checkpoint_damages(path)), 500)),
        ):
            report(f"{title} damages of a checkpoint", damages, path, lambda: resumed(path, undisturbed))
        large_run(large)
        size = large.stat().st_size / 2**20
        print(f"\n| a run of {size:.1f} MB | file, MB | memory, MB | came of it |\n|---|---|---|---|")
        for kind, content in pretenders(large):
            path.write_bytes(content)
            peak, result = peak_memory(path)
            print(f"| {kind} | {len(content) / 2**20:.1f} | {peak:.1f} | {result} |", flush=True)


if __name__ == "__main__":
    main()
