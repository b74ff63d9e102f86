"""The one writer of files: complete or not at all, and never over what is no ordinary file.

The new content grows in a temporary file of the same folder, which is moved to its destination when it is complete and
on the disk. A process that is killed leaves its temporary behind; the next one that writes to the same destination
removes it. A process that is still writing holds a lock on its temporary, which tells the two apart.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: neither locks nor sweeping
    fcntl = None

__all__ = ["SavedElsewhere", "check_writable", "save_somewhere", "whole_file"]

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
OTHERS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class SavedElsewhere(UserWarning):
    """A file could not be written where it belongs, and lies elsewhere."""


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place at `path` when the block ends well; else the old one stays.

    A link is followed. The mode of a file that is replaced is kept (and its owner, where that is allowed); a new one
    obeys the umask.

    Raises:
        OSError: if there is no such folder, or it cannot be written; if `path` is a folder, a pipe, a socket or a
            device, a write-protected file, or another's file in a sticky folder; or if the disk is full.
    """
    try:
        with _temporary(Path(path), "") as (file, temporary, target):
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows moves no open file
            os.replace(temporary, target)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk does not say whose
        raise
    _sync_folder(target.parent)


def check_writable(path: str | os.PathLike, name: str = "--out") -> None:
    """Fail before an hour of work, not after it: all of `whole_file` but the content and the move.

    Args:
        path: the file that will be written.
        name: what the user calls it, for the message.

    Raises:
        OSError: as `whole_file`; the message names `path` and what to do.
    """
    with _temporary(Path(path), name):
        pass


def save_somewhere(path: str | os.PathLike, write: Callable[[Path], Any]) -> Path:
    """`write(path)`; where the system refuses, under a free name in the first folder that takes it.

    The folders are the current one, the home and the one for temporary files.

    Args:
        path: where it should go.
        write: called with a path until it raises no `OSError`.

    Returns:
        The path that was written.

    Raises:
        OSError: that of `path`, if no folder takes it.

    Warns:
        SavedElsewhere: where the file is, if not at `path`.
    """
    path = Path(path)
    try:
        write(path)
        return path
    except OSError as error:
        refused = error
    for folder in (Path.cwd, Path.home, tempfile.gettempdir):
        try:
            other = _claim(Path(folder()), path)
        except (OSError, RuntimeError):  # it vanished, or cannot be written; a user without a home
            continue
        try:
            write(other)
        except BaseException as error:
            other.unlink(missing_ok=True)
            if isinstance(error, OSError):
                continue
            raise
        reason = " ".join(str(refused).split())
        warnings.warn(f"{path} could not be written ({reason}): saved as {other}", SavedElsewhere, stacklevel=2)
        return other
    raise refused


def _claim(folder: Path, path: Path) -> Path:
    """An empty file of a name like that of `path` that was free."""
    for number in range(1000):
        other = folder / f"{path.stem[:40]}{f'-{number}' if number else ''}{path.suffix[:10]}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(other, NEW, 0o666))
            return other
    raise FileExistsError(f"{folder} holds a thousand files like {path.name}")


@contextmanager
def _temporary(path: Path, name: str) -> Iterator[tuple[BinaryIO, str, Path]]:
    """An open file beside where `path` leads to, its name, and where it leads to; removed unless it was moved."""
    said = f"{name} {path}".strip()
    target, old = _target(path, said)
    try:
        _sweep(target)
        # A secret stays one while it is written; the umask holds for a new file without being asked for.
        handle, temporary = _create(target, 0o666 if old is None else 0o600)
    except OSError as error:
        reason = f"the folder {target.parent} cannot be written ({error.strerror})"
        raise type(error)(f"{said}: {reason}, name another place") from None
    try:
        with os.fdopen(handle, "wb") as file:
            if old is not None and fcntl is not None:
                _adopt(file.fileno(), old)
            yield file, temporary, target
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _adopt(handle: int, old: os.stat_result) -> None:
    """Group, owner and mode of the file that will be replaced, as far as the system allows; it stays secret before."""
    for change in (
        lambda: os.fchown(handle, -1, old.st_gid),
        lambda: os.fchown(handle, old.st_uid, -1),
        lambda: os.fchmod(handle, stat.S_IMODE(old.st_mode)),
    ):
        with contextlib.suppress(OSError):  # not the owner; or a file system without any of them
            change()


def _target(path: Path, said: str) -> tuple[Path, os.stat_result | None]:
    """Where a path leads to, all links followed, and what is there; an error unless it can be written."""
    if "\0" in str(path):
        raise ValueError(f"{said!r}: a name holds no zero byte")
    target = Path(os.path.realpath(path))
    try:
        old = os.stat(path)
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise FileNotFoundError(f"{said}: there is no folder {target.parent}, make it or name another") from None
        return target, None
    except NotADirectoryError:
        raise NotADirectoryError(f"{said}: {target.parent} is not a folder, name another") from None
    except OSError as error:
        cure = "name a shorter one" if error.errno == errno.ENAMETOOLONG else "name another file"
        raise type(error)(f"{said}: {error.strerror}, {cure}") from None
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(f"{said} is a folder, name a file")
    if not stat.S_ISREG(old.st_mode):
        raise FileExistsError(f"{said} is {OTHERS.get(stat.S_IFMT(old.st_mode), 'no file')}, name another file")
    _check_replaceable(target, old, said)
    return target, old


def _check_replaceable(target: Path, old: os.stat_result, said: str) -> None:
    if not old.st_mode & 0o222:  # root, too, has protected it for a reason
        raise PermissionError(f"{said} is write-protected, name another file or unprotect it (chmod u+w)")
    try:
        os.close(os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)))
    except OSError as error:
        raise type(error)(f"{said} cannot be written ({error.strerror}), name another file") from None
    folder = target.parent.stat()
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, old.st_uid, folder.st_uid):
        raise PermissionError(f"{said} belongs to another user of the folder {target.parent}, name another file")


def _prefix(target: Path) -> str:
    """Short, so that a destination may have as long a name as the file system takes."""
    return f".lateral-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _create(target: Path, mode: int) -> tuple[int, str]:
    """A new file beside the target that nobody could guess, locked as long as it is open."""
    while True:
        temporary = str(target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}.tmp"))
        handle = os.open(temporary, NEW, mode)
        try:
            # A sweep between the two calls may have removed it: then its name is gone.
            if not _lock(handle, wait=True) or os.fstat(handle).st_nlink:
                return handle, temporary
        except BaseException:
            os.unlink(temporary)
            os.close(handle)
            raise
        os.close(handle)


def _sweep(target: Path) -> None:
    """Remove what killed processes have left: temporaries of this target that nobody holds."""
    if fcntl is None:
        return
    for entry in os.scandir(target.parent):
        if not (entry.name.startswith(_prefix(target)) and entry.is_file(follow_symlinks=False)):
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            handle = os.open(entry.path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                if _lock(handle, wait=False):
                    os.unlink(entry.path)
            finally:
                os.close(handle)


def _lock(handle: int, wait: bool) -> bool:
    """Whether the lock was got; a file system without locks has none to give."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """The new name, too, outlives a power cut."""
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
