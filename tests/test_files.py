"""The writer of files: whole or not at all, over nothing that is no ordinary file, and with nothing left behind."""

import errno
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from lateral.figure import new_figure
from lateral.storage import files
from lateral.storage.files import SavedElsewhere, check_writable, save_somewhere, whole_file

ROOT = os.geteuid() == 0
NOBODY = 65534
# The module needs nothing but the standard library, so that a process of a test need not import JAX.
ALONE = f"""import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("files", {files.__file__!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
"""


def save(path, content: bytes):
    with whole_file(path) as file:
        file.write(content)


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def process(code: str, *arguments, **how) -> subprocess.Popen:
    command = [sys.executable, "-c", ALONE + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# --- what stands at the path


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"new", b"newer"):  # the first makes what the link only promised
        save(link, content)
        assert link.is_symlink() and target.read_bytes() == content
    assert names(tmp_path) == ["link", "there"] and names(tmp_path / "there") == ["target"]


def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for write in (lambda path: save(path, b"x"), check_writable):
        with pytest.raises(OSError, match=r"a: Too many levels of symbolic links, name another file"):
            write(tmp_path / "a")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


KINDS = {
    "a pipe": (os.mkfifo, stat.S_ISFIFO),
    "a socket": (make_socket, stat.S_ISSOCK),
    "a device": (lambda path: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3)), stat.S_ISCHR),
    "a folder": (os.mkdir, stat.S_ISDIR),
}


@pytest.mark.parametrize("through", ["itself", "a link"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_ordinary_file_is_refused_and_left_as_it_is(tmp_path, monkeypatch, kind, through):
    make, is_kind = KINDS[kind]
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    try:
        make("x")
    except PermissionError:
        pytest.skip("only root makes devices")
    path = Path("x")
    if through == "a link":
        path = Path("link")
        path.symlink_to("x")
    before = names(tmp_path)
    for write in (lambda path: save(path, b"x"), check_writable):
        with pytest.raises(OSError, match=rf"{path} is {kind}, name a"):
            write(path)
        assert is_kind(os.lstat("x").st_mode) and names(tmp_path) == before


@pytest.mark.parametrize("allowed", [0o600, 0o640, 0o664, 0o755])
def test_the_mode_of_a_file_is_kept_and_holds_while_it_is_written(tmp_path, allowed):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(allowed)
    with whole_file(path) as file:
        assert mode(file.fileno()) == allowed
        file.write(b"new")
    assert path.read_bytes() == b"new" and mode(path) == allowed


def test_a_new_file_obeys_the_umask_which_is_not_touched(tmp_path, monkeypatch):
    umask = os.umask
    before = umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", None)  # to ask for it is to change it, for all threads
        save(tmp_path / "x", b"new")
        (tmp_path / "y").touch()
    finally:
        umask(before)
    assert mode(tmp_path / "x") == mode(tmp_path / "y") & 0o666 == 0o640


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_the_owner_of_a_file_is_kept(tmp_path):
    (tmp_path / "x").touch()
    os.chown(tmp_path / "x", 1234, 4321)
    save(tmp_path / "x", b"new")
    assert ((tmp_path / "x").stat().st_uid, (tmp_path / "x").stat().st_gid) == (1234, 4321)


def test_a_write_protected_file_is_refused_to_root_too(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o444)
    for write in (lambda path: save(path, b"x"), check_writable):
        with pytest.raises(PermissionError, match=r"x is write-protected, name another file or unprotect it"):
            write(path)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["x"]


@pytest.mark.parametrize("name", [*("x" * n for n in (1, 200, 246, 250, 255)), "ä" * 127 + "x", "a b\n'"])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path, name):
    check_writable(tmp_path / name)
    assert names(tmp_path) == []
    for content in (b"old", b"new"):
        save(tmp_path / name, content)
        assert (tmp_path / name).read_bytes() == content and names(tmp_path) == [name]


def test_a_name_that_is_too_long_fails_at_once(tmp_path):
    for name in ("x" * 256, "ä" * 128):
        for write in (lambda path: save(path, b"x"), check_writable):
            with pytest.raises(OSError, match="File name too long, name a shorter one"):
                write(tmp_path / name)
    with pytest.raises(ValueError, match="no zero byte"):
        check_writable("a\0b")


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=r"--out .*/no/x\.npz: there is no folder .*/no, make it or name ano"):
        check_writable(tmp_path / "no" / "x.npz")
    with pytest.raises(NotADirectoryError, match=r"--figure .*/file/x: .*/file is not a folder, name another"):
        check_writable(tmp_path / "file" / "x", "--figure")
    with pytest.raises(FileNotFoundError, match=r"^[^-].*there is no folder"):
        save(tmp_path / "no" / "x.npz", b"x")


@pytest.fixture
def open_folder():
    """A folder that other users can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def by_nobody(*arguments) -> str:
    """What a user without rights is told by `check_writable` and by `whole_file`, which must be the same."""
    code = f"""os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
for write in (lambda path: files.check_writable(path, ""), lambda path: files.whole_file(path).__enter__()):
    try:
        write(sys.argv[1])
    except OSError as error:
        print(type(error).__name__, error)"""
    child = process(code, *arguments)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    check, write = out.splitlines()
    assert check == write
    return check


@pytest.mark.skipif(not ROOT, reason="only root can be somebody else")
def test_a_folder_that_cannot_be_written_is_a_permission_error(open_folder):
    told = by_nobody(open_folder / "x")
    assert told.startswith("PermissionError") and f"the folder {open_folder} cannot be written" in told
    (open_folder / "mine").touch(0o644)
    os.chmod(open_folder, 0o777)
    assert "mine cannot be written (Permission denied), name another file" in by_nobody(open_folder / "mine")
    assert names(open_folder) == ["mine"]


@pytest.mark.skipif(not ROOT, reason="only root can be somebody else")
def test_anothers_file_in_a_sticky_folder_is_refused_before_it_is_too_late(open_folder):
    (open_folder / "mine").touch()
    os.chmod(open_folder / "mine", 0o666)
    os.chmod(open_folder, 0o1777)
    told = by_nobody(open_folder / "mine")
    assert told.startswith("PermissionError") and "belongs to another user of the folder" in told
    assert names(open_folder) == ["mine"]


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_permission_error(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        for write in (lambda path: save(path, b"x"), check_writable):
            with pytest.raises(PermissionError, match="cannot be written"):
                write(tmp_path / "x")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


# --- whole or not at all


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
@pytest.mark.parametrize("moment", ["block", "fsync", "replace"])
def test_whatever_goes_wrong_the_old_file_stays_and_nothing_else(tmp_path, monkeypatch, moment, error):
    path = tmp_path / "x"
    save(path, b"old")

    def fail(*_):
        raise error

    if moment != "block":
        monkeypatch.setattr(os, moment, fail)
    with pytest.raises(error), whole_file(path) as file:
        file.write(b"half of")
        if moment == "block":
            fail()
    assert path.read_bytes() == b"old" and names(tmp_path) == ["x"]


def test_content_and_name_are_on_the_disk_in_this_order(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else os.fstat(handle).st_size)
        fsync(handle)

    def record_replace(*paths):
        done.append("move")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    save(tmp_path / "x", b"12345")
    assert done == [5, "move", "folder"]


def test_a_name_that_somebody_guessed_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_bytes(b"kept")
    monkeypatch.setattr(secrets, "token_hex", lambda n: "ab" * n)
    with whole_file(tmp_path / "x") as file:
        (temporary,) = names(tmp_path)[:1]
        file.write(b"x")
    os.symlink(tmp_path / "victim", tmp_path / temporary)
    with pytest.raises(FileExistsError, match="cannot be written"):
        save(tmp_path / "x", b"y")
    assert (tmp_path / "victim").read_bytes() == b"kept" and (tmp_path / "x").read_bytes() == b"x"


def test_temporary_names_cannot_be_guessed(tmp_path):
    seen = set()
    for _ in range(20):
        with whole_file(tmp_path / "x"):
            seen.update(name for name in names(tmp_path) if name != "x")
    assert len(seen) == 20 and all(len(name.split("-")[-1]) >= 16 for name in seen)  # 64 bits


def small_disk(folder, size: str):
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk of a test's own can be mounted")


@pytest.mark.skipif(not ROOT, reason="only root mounts")
def test_a_full_disk_keeps_the_old_file_and_says_which_file_did_not_fit(tmp_path):
    disk = tmp_path / "disk"
    small_disk(disk, "64k")
    try:
        save(disk / "x", b"old")
        for size in (10**5, 10**7):  # in one piece, and more than a buffer holds
            with pytest.raises(OSError, match=r"No space left on device: '.*/disk/x'") as caught:
                save(disk / "x", b"." * size)
            assert caught.value.errno == errno.ENOSPC
            assert (disk / "x").read_bytes() == b"old" and names(disk) == ["x"]
        save(disk / "x", b"new")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_full_at_the_end_is_an_error_too(tmp_path, monkeypatch):
    save(tmp_path / "x", b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/x'"):
        save(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old" and names(tmp_path) == ["x"]


# --- killed, and at once

HOLD = """with files.whole_file(sys.argv[1]) as file:
    file.write(b"half of")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)"""


def test_what_a_killed_process_left_is_swept_by_the_next_one_that_writes_there(tmp_path):
    for name in ("x", "y"):
        child = process(HOLD, tmp_path / name)
        assert child.stdout.readline() == "writing\n"
        child.send_signal(signal.SIGKILL)
        child.communicate()
    litter = names(tmp_path)
    assert len(litter) == 2
    save(tmp_path / "x", b"new")
    left = names(tmp_path)
    assert len(left) == 2 and "x" in left  # that of y is none of our business
    check_writable(tmp_path / "y")
    assert names(tmp_path) == ["x"]


def test_a_process_that_is_still_writing_is_left_alone(tmp_path):
    child = process(HOLD.replace("time.sleep(60)", "sys.stdin.readline()"), tmp_path / "x", stdin=subprocess.PIPE)
    assert child.stdout.readline() == "writing\n"
    save(tmp_path / "x", b"ours")
    assert len(names(tmp_path)) == 2
    child.communicate("go on\n", timeout=60)
    assert child.returncode == 0
    assert (tmp_path / "x").read_bytes() == b"half of" and names(tmp_path) == ["x"]


def test_a_temporary_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    flock, swept = files.fcntl.flock, []

    def sweep_first(handle, how):
        if not swept:
            swept.extend(names(tmp_path))
            (tmp_path / swept[0]).unlink()
        flock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", sweep_first)
    save(tmp_path / "x", b"new")
    assert len(swept) == 1 and (tmp_path / "x").read_bytes() == b"new" and names(tmp_path) == ["x"]


def test_a_file_system_without_locks_does_without(tmp_path, monkeypatch):
    def none(handle, how):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(files.fcntl, "flock", none)
    with whole_file(tmp_path / "x") as file:
        save(tmp_path / "x", b"meanwhile")  # must not take what it cannot tell from litter
        file.write(b"new")
    assert (tmp_path / "x").read_bytes() == b"new" and names(tmp_path) == ["x"]


def test_many_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "x"
    save(path, b"0" * 50_000)
    stop, torn = threading.Event(), []

    def read():
        while not stop.is_set():
            content = path.read_bytes()
            if len(content) != 50_000 or len(set(content)) != 1:
                torn.append(content)

    reader = threading.Thread(target=read)
    reader.start()
    code = """for i in range(60):
    with files.whole_file(sys.argv[1]) as file:
        for _ in range(5):
            file.write(sys.argv[2].encode() * 10_000)"""
    writers = [process(code, path, digit) for digit in "123"]
    ended = [(writer.communicate(timeout=120)[1], writer.returncode) for writer in writers]
    stop.set()
    reader.join()
    assert ended == [("", 0)] * 3 and torn == [] and names(tmp_path) == ["x"]


# --- elsewhere


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folders that a file may go to, in this order."""
    folders = [tmp_path / name for name in ("wanted", "here", "home", "temporary")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.chdir(folders[1])
    monkeypatch.setenv("HOME", str(folders[2]))
    monkeypatch.setattr(tempfile, "tempdir", str(folders[3]))
    return folders


def writer_that_fails_in(*folders):
    def write(path):
        if path.parent in folders:
            raise OSError(errno.ENOSPC, "full")
        save(path, b"data")

    return write


@pytest.mark.parametrize("n_full", [1, 2, 3])
def test_what_cannot_be_written_goes_to_the_first_folder_that_takes_it(places, n_full):
    write = writer_that_fails_in(*places[:n_full])
    with pytest.warns(SavedElsewhere) as warned:
        path = save_somewhere(places[0] / "run.npz", write)
    assert path == places[n_full] / "run.npz" and path.read_bytes() == b"data"
    assert [names(folder) for folder in places] == [["run.npz"] if i == n_full else [] for i in range(4)]
    (message,) = (str(warning.message) for warning in warned)
    assert message == f"{places[0] / 'run.npz'} could not be written ([Errno 28] full): saved as {path}"
    assert "\n" not in message


def test_nothing_is_overwritten_elsewhere(places):
    (places[1] / "run.npz").write_bytes(b"mine")
    (places[1] / "run-1.npz").mkdir()
    with pytest.warns(SavedElsewhere):
        path = save_somewhere(str(places[0] / "run.npz"), writer_that_fails_in(places[0]))
    assert path == places[1] / "run-2.npz" and (places[1] / "run.npz").read_bytes() == b"mine"


def test_where_nothing_takes_it_the_first_error_is_raised(places):
    with pytest.raises(OSError, match="full"):
        save_somewhere(places[0] / "run.npz", writer_that_fails_in(*places))
    assert [names(folder) for folder in places] == [[]] * 4


def test_a_folder_that_vanishes_under_the_writer_costs_nothing(places):
    def write(path):
        with whole_file(path) as file:
            file.write(b"data")
            if path.parent == places[0]:
                for name in names(places[0]):
                    (places[0] / name).unlink()
                places[0].rmdir()

    with pytest.warns(SavedElsewhere):
        assert save_somewhere(places[0] / "run.npz", write).read_bytes() == b"data"
    os.rmdir(places[2])  # a home, too, may be gone
    with pytest.warns(SavedElsewhere, match="temporary"):
        save_somewhere(places[0] / ("x" * 300), writer_that_fails_in(places[0], places[1]))


def test_what_is_no_fault_of_the_disk_is_raised(places):
    def write(path):
        if path.parent == places[0]:
            raise OSError("full")
        raise ValueError("no run")

    with pytest.raises(ValueError, match="no run"):
        save_somewhere(places[0] / "run.npz", write)
    assert names(places[1]) == []
    assert save_somewhere(places[0] / "x", lambda path: save(path, b"data")) == places[0] / "x"


# --- who uses it


@pytest.mark.parametrize("name, start", [("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a", b"\x89PNG")])
def test_a_figure_is_a_whole_file(tmp_path, name, start):
    figure, _ = new_figure()
    path = tmp_path / (name if "." in name else f"{name}.png")  # the ending that matplotlib gives
    path.touch()
    path.chmod(0o600)
    figure.savefig(str(tmp_path / name))
    assert path.read_bytes().startswith(start) and mode(path) == 0o600 and names(tmp_path) == [path.name]
    with pytest.raises(ValueError, match="gif3"):
        figure.savefig(tmp_path / "b.gif3")
    with pytest.raises(OSError, match="is a folder, name a file"):
        figure.savefig(tmp_path, format="png")
    assert names(tmp_path) == [path.name]
