"""Remote files copied once into a bounded local cache, for readers that need a path on the local disk.

`<cache>/files/<key>` holds a copy; the key is made of the URL, the size and what the store says of the version (ETag
or time), so a changed file is copied again. A file in use has a second name, a hard link in its process's own folder
(session.py): what has one is never evicted, and a kill frees it. Above the limit (T5X_STYLE_CACHE_GIB, 50 by default)
the copies that were asked for longest ago go first. Processes on one machine share it: one copies a file, the others
wait. What several processes copy at the same moment may pass the limit until the next copy is made.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from t5x_style.errors import UserError
from t5x_style.files import remote, storage
from t5x_style.files.documents import fingerprint
from t5x_style.files.paths import Where, is_remote, join, name, path_of
from t5x_style.files.session import cache_folder, session_folder, staging_folder

VARIABLE = "T5X_STYLE_CACHE_GIB"
DEFAULT_GIB = 50.0
_PARALLEL = 8  # files at a time
_USES: dict[Path, int] = {}  # how many readers of this process each second name has
_USES_LOCK = threading.Lock()


def limit_bytes() -> int:
    """How much the copies may take.

    Raises:
      UserError: T5X_STYLE_CACHE_GIB is no number above 0.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        gib = float(text) if text else DEFAULT_GIB
    except ValueError:
        gib = 0.0
    if not gib > 0:
        raise UserError(f"{VARIABLE}={text!r} must be a number of GiB above 0")
    return int(gib * 2**30)


def check_room(folder: Where, nbytes: int) -> None:
    """Are `nbytes` of files of a remote folder below the cache's limit? Asked before a run, not in its midst.

    Raises:
      UserError: they are not.
    """
    if is_remote(folder) and nbytes > limit_bytes():
        raise UserError(
            f"{path_of(folder)}: {nbytes / 2**30:.3g} GiB are read from here, the local cache holds at most "
            f"{limit_bytes() / 2**30:.3g}; set {VARIABLE} higher, or copy the folder to a local disk"
        )


def local_copy(path: Where) -> Path:
    """A local path with the content of `path`: itself where it is local, else a copy that stays until `release`.

    Raises:
      UserError: the file is missing or cannot be read, or it and what is in use do not fit below the limit.
    """
    if not is_remote(path):
        return Path(path)
    url = path_of(path)
    files = remote.filesystem(url)
    with remote.told(url):
        about = files.info(url)
    size = int(about["size"])
    key = fingerprint([url, storage.version(about)])
    used = session_folder() / "used"
    used.mkdir(exist_ok=True)
    link = used / f"{key}-{name(url)}"
    with _lock(f"copy-{key[:2]}"):  # threads of this process too come one at a time
        with _USES_LOCK:
            if link in _USES:
                _USES[link] += 1
                return link
        _link(url, key, size, link)
        with _USES_LOCK:
            _USES[link] = 1
    return link


def local_copies(paths: Sequence[Where]) -> list[Path]:
    """`local_copy` of every path, several at a time. Raises as `local_copy`; nothing is in use then."""
    if not any(map(is_remote, paths)):
        return [Path(path) for path in paths]
    with concurrent.futures.ThreadPoolExecutor(_PARALLEL) as pool:
        started = [pool.submit(local_copy, path) for path in paths]
    failed = [error for future in started if (error := future.exception()) is not None]
    if failed:
        for future in started:
            if future.exception() is None:
                release(future.result())
        raise failed[0]
    return [future.result() for future in started]


def release(path: Where) -> None:
    """Says that a path of `local_copy` is no longer read by one of those who asked for it; others are left alone."""
    link = Path(path)
    with _USES_LOCK:
        if link in _USES:
            _USES[link] -= 1
            if not _USES[link]:
                del _USES[link]
                link.unlink(missing_ok=True)


def local_folder(folder: Where, skip: tuple[str, ...] = ()) -> Path:
    """A local folder with the files of `folder`: itself where it is local, else copies.

    Copies stay until the process ends.

    Args:
      skip: names directly in `folder` that are left out, such as checkpoints.

    Raises:
      UserError: there is no such folder, or it cannot be read.
    """
    if not is_remote(folder):
        return Path(folder)
    url = path_of(folder)
    target = staging_folder("folder") / (name(url) or "root")
    target.mkdir()
    for relative in _below(url, skip):
        copy = local_copy(join(url, relative))
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        os.link(copy, target / relative)
        release(copy)  # the name in this folder keeps it in use
    return target


def _below(url: str, skip: tuple[str, ...]) -> list[str]:
    """Files below a URL; what is skipped is not even listed, as a run may have thousands of checkpoint files."""
    found = list(storage.file_sizes(url))
    for part in storage.list_names(url):
        if part not in skip and part not in found:
            found += [join(part, relative) for relative in storage.folder_of_files(join(url, part))]
    return [relative for relative in found if relative not in skip]


def _link(url: str, key: str, size: int, link: Path) -> None:
    """Gives the copy of a key a second name; makes the copy first where there is none."""
    folder = cache_folder() / "files"
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / key
    try:
        os.utime(copy)  # asked for now
        os.link(copy, link)
        return
    except FileNotFoundError:
        pass  # not there, or evicted in this moment
    temporary = session_folder() / f"copy-{uuid.uuid4().hex}"
    with _lock("evict"):
        _make_room(folder, size, url)
    files = remote.filesystem(url)
    try:
        with remote.told(url):
            files.get_file(url, str(temporary))
        if temporary.stat().st_size != size:
            raise UserError(f"{url} has {size} bytes, {temporary.stat().st_size} came; it changed, run it again")
        os.link(temporary, link)
        os.replace(temporary, copy)
    except OSError as error:
        raise UserError(f"{url} cannot be copied to {folder} ({error.strerror}); free space, or set another") from error
    finally:
        temporary.unlink(missing_ok=True)


def _make_room(folder: Path, needed: int, url: str) -> None:
    """Evicts the copies asked for longest ago, of those that nobody reads, until `needed` bytes fit."""
    limit = limit_bytes()
    found = []
    for copy in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append((copy.stat(), copy))
    total = sum(about.st_size for about, _ in found)
    for about, copy in sorted(found, key=lambda pair: pair[0].st_mtime_ns):
        if total + needed <= limit:
            return
        if about.st_nlink == 1:  # a reader that links it now keeps its content all the same
            copy.unlink(missing_ok=True)
            total -= about.st_size
    if total + needed > limit:
        raise UserError(
            f"{url}: {needed / 2**30:.3g} GiB do not fit into the cache {folder} beside the {total / 2**30:.3g} GiB in "
            f"use, its limit is {limit / 2**30:.3g}; set {VARIABLE} higher, or copy the folder yourself"
        )


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """Only one process of this machine at a time; the lock goes with the process."""
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
