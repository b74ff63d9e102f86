"""The archive keeps arrays to the bit, and whatever is done to a file, loading gives the same rule or says no."""

import json
import os
import tracemalloc
import zipfile
from pathlib import Path

import damage
import jax.numpy as jnp
import numpy as np
import pytest

from lateral import load_run
from lateral.storage.archive import read_archive, storable, write_archive

pytestmark = pytest.mark.bad_input  # users run without the checks of types, which refuse some damages before we do

ARRAYS = {
    "none": np.zeros((0, 3), np.float32),
    "one": np.array(1.5),
    "many": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every second": np.arange(10)[::2],
    "half": np.linspace(0, 1, 5, dtype=np.float16),
    "flags": np.array([True, False]),
    "unsigned": np.array([2**64 - 1], np.uint64),
    "not finite": np.array([np.nan, np.inf, -0.0]),
    "σ, or any name": np.ones(1, np.int8),
}


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def test_arrays_and_header_survive_the_round_trip_to_the_bit(tmp_path):
    header = {"text": "σ 🦠 \n", "number": 0.1, "list": [None, True, {"x": -3}]}
    write_archive(tmp_path / "x", header, ARRAYS)
    read, arrays = read_archive(tmp_path / "x")
    assert read == header and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape), name
        assert arrays[name].tobytes() == array.tobytes(), name
        assert arrays[name].flags.writeable


def test_numpy_can_read_it_and_nothing_in_it_is_compressed(tmp_path):
    write_archive(tmp_path / "x.npz", {"a": 1}, ARRAYS)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        assert json.loads(str(file["header"])) == {"a": 1}
        np.testing.assert_array_equal(file["many"], ARRAYS["many"])
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_checksum_is_that_of_names_types_shapes_and_bytes(tmp_path):
    write_archive(tmp_path / "x.npz", {"a": 1}, ARRAYS)
    with np.load(tmp_path / "x.npz") as file:
        arrays = {name: file[name] for name in file.files}
    assert str(arrays.pop("checksum")) == damage.checksum(arrays)


def test_the_same_contents_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_archive(tmp_path / name, {"a": 1}, ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_foreign_byte_order_and_long_doubles_become_what_every_machine_reads():
    big = storable("x", np.array([1.5, -2.0], ">f4"))
    assert big.dtype.isnative and big.dtype.itemsize == 4 and big.tolist() == [1.5, -2.0]
    long = storable("x", np.array([1.5, np.inf, np.nan], np.longdouble))
    assert long.dtype == np.float64 and long[0] == 1.5 and np.isinf(long[1]) and np.isnan(long[2])


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="long double is double here")
def test_a_long_double_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match=r"x holds .* numbers that float64 cannot hold"):
        storable("x", np.array([np.finfo(np.longdouble).max]))


UNSTORABLE = {
    "objects": (np.array([object()]), "object"),
    "large integers": (2**70, "object"),
    "complex numbers": (np.array(1j), "complex128"),
    "text": (np.array("x"), "<U1"),
    "bytes": (np.array(b"x"), r"\|S1"),
    "times": (np.array("2020", "M8[s]"), "datetime64"),
    "records": (np.zeros(1, [("a", "f4")]), "'a'"),
    "bfloat16": (jnp.zeros(2, jnp.bfloat16), "bfloat16"),
}


@pytest.mark.parametrize("kind", UNSTORABLE)
def test_what_cannot_be_read_again_is_refused_before_anything_is_written(tmp_path, kind):
    path = tmp_path / "x"
    write_archive(path, {}, {})
    old = path.read_bytes()
    array, dtype = UNSTORABLE[kind]
    with pytest.raises(ValueError, match=f"my array must hold booleans, integers or floats, got an array of .*{dtype}"):
        write_archive(path, {}, {"fine": np.zeros(3), "my array": array})
    assert path.read_bytes() == old and names(tmp_path) == ["x"]


@pytest.mark.parametrize("name", ["header", "checksum", "", "a\0b", "a\nb"])
def test_a_name_that_would_not_come_back_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be the name of an array"):
        write_archive(tmp_path / "x", {}, {name: np.zeros(1)})
    assert names(tmp_path) == []


@pytest.mark.parametrize("header", [{"a": np.nan}, {"a": object()}, {"a": [np.float32(1)]}, {(1, 2): 3}])
def test_a_header_that_is_no_json_is_refused(tmp_path, header):
    with pytest.raises(ValueError, match="the header is not JSON"):
        write_archive(tmp_path / "x", header, {})
    assert names(tmp_path) == []


def test_as_many_arrays_as_can_be_written_can_be_read(tmp_path):
    n = 2**20 // 4096 - 1
    most = {f"{i:04032}": np.zeros(0) for i in range(n)}  # long names fill the list of members soon
    write_archive(tmp_path / "x", {}, most)
    assert read_archive(tmp_path / "x")[1].keys() == most.keys()
    with pytest.raises(ValueError, match=rf"too much for a file: .* {n + 1} arrays"):
        write_archive(tmp_path / "x", {}, most | {"x" * 4032: np.zeros(0)})


# --- what is no file


def test_a_folder_and_a_missing_file_are_errors_of_the_system(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder, not a run file"):
        read_archive(tmp_path)
    with pytest.raises(FileNotFoundError, match="none"):
        read_archive(tmp_path / "none")
    with pytest.raises(NotADirectoryError):
        read_archive(Path(__file__) / "x")


def test_a_pipe_is_not_waited_for_and_a_device_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/stdin"):
        if not Path(path).is_file():
            with pytest.raises(ValueError, match=f"{path} is not a complete run file of lateral: it is no ordinary f"):
                load_run(path)


# --- damage


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "run.npz"
    return path, damage.write_example(path)


def outcomes(example, damages) -> dict[str, set[str]]:
    path, expected = example
    came_of: dict[str, set[str]] = {}
    for kind, content in damages:
        path.write_bytes(content)
        came_of.setdefault(kind, set()).add(damage.outcome(path, expected))
    return came_of


@pytest.mark.slow
def test_a_file_that_nothing_was_done_to_gives_the_same_rule(example):
    assert outcomes(example, [("nothing", example[0].read_bytes())]) == {"nothing": {damage.SAME}}


def test_random_damage_gives_the_same_rule_or_an_error_that_names_the_file(example, tmp_path):
    damage.write_example(tmp_path / "x")
    came_of = outcomes(example, damage.random_damages((tmp_path / "x").read_bytes(), 200, seed=7))
    assert len(came_of) == 10
    for kind, results in came_of.items():
        assert results <= {damage.SAME, damage.REFUSED}, kind


# What a zip file says twice is read once; texts that only tell where a run comes from may be missing.
HARMLESS = {"zip flags", "zip method", "end of the zip", "something before it", "field missing", "array missing"}


@pytest.mark.slow
def test_each_targeted_damage_is_refused_by_an_error_that_names_the_file(example, tmp_path):
    damage.write_example(tmp_path / "x")
    damages = list(damage.targeted_damages(tmp_path / "x"))
    assert len(damages) > 1500
    for kind, results in outcomes(example, damage.spread(damages, 400)).items():
        assert results <= {damage.REFUSED, *([damage.SAME] if kind in HARMLESS else [])}, kind


def test_a_bomb_takes_less_than_twice_the_memory_of_the_file(tmp_path):
    path = tmp_path / "x"
    write_archive(path, {}, {"honest": np.zeros(10**6)})
    honest = path.read_bytes()
    all_ = damage.members(honest)
    bombs = {
        "nothing": honest,
        "compressed": damage.zipped(all_ | {"bomb": damage.npy(np.zeros(10**7))}, zipfile.ZIP_DEFLATED),
        "a large shape": damage.zipped(all_ | {"bomb": damage.npy_that_says("'<f8'", "(10000000,)", b"")}),
        "long text": damage.zipped(all_ | {"header": damage.npy_that_says("'<U10000000'", "()", b"")}),
    }
    for kind, content in bombs.items():
        path.write_bytes(content)
        tracemalloc.start()
        try:
            read_archive(path)
        except ValueError as error:
            assert kind != "nothing" and str(path) in str(error)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * len(honest), kind


def test_a_zip_that_lists_a_million_members_is_refused_before_they_are_looked_at(tmp_path):
    entry = b"PK\1\2" + bytes(42)
    end = b"PK\5\6" + bytes(4) + b"\xff\xff\xff\xff" + (46 * 10**6).to_bytes(4, "little") + bytes(6)
    (tmp_path / "x").write_bytes(entry * 10**6 + end)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"x is not a complete run file of lateral: it is no \.npz"):
        read_archive(tmp_path / "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_a_pickle_inside_is_refused_in_our_words_and_not_executed(tmp_path):
    write_archive(tmp_path / "x", {}, {})
    bomb = np.array([Bomb(tmp_path / "crater")], dtype=object)
    (tmp_path / "x").write_bytes(damage.zipped(damage.members((tmp_path / "x").read_bytes()) | {"a": damage.npy(bomb)}))
    with pytest.raises(ValueError, match=r"its member 'a\.npy' holds object where it may not"):
        read_archive(tmp_path / "x")
    assert not (tmp_path / "crater").exists()


class Bomb:
    def __init__(self, crater):
        self.crater = str(crater)

    def __reduce__(self):
        return os.mkdir, (self.crater,)


def test_a_table_of_fates_is_not_told_about_pickles(tmp_path):
    (tmp_path / "fates.csv").write_text("0,1,0\n1,0,1\n" * 20)
    with pytest.raises(ValueError, match=r"fates\.csv is not a complete run file of lateral: it is no \.npz"):
        load_run(tmp_path / "fates.csv")


@pytest.mark.slow
def test_training_goes_on_from_a_damaged_checkpoint_to_the_same_end_or_not_at_all(tmp_path):
    path = tmp_path / "run.npz"
    damage.write_checkpoint(path)
    content, undisturbed = path.read_bytes(), damage.train()
    assert damage.resumed(path, undisturbed) == damage.SAME
    path.write_bytes(content)
    targeted = damage.spread(list(damage.checkpoint_damages(path)), 120)
    for kind, damaged in [*damage.random_damages(content, 60, seed=3), *targeted]:
        path.write_bytes(damaged)
        assert damage.resumed(path, undisturbed) in (damage.SAME, damage.REFUSED), kind
