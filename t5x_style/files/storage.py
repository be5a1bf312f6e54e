"""What is done with files, by path or URL alike: list, read, write, copy, remove."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t5x_style.errors import UserError
from t5x_style.files import remote
from t5x_style.files.paths import Where, is_remote, join, path_of

_VERSION = ("ETag", "etag", "md5Hash", "generation", "LastModified", "mtime", "updated", "created")


def exists(path: Where) -> bool:
    """Is there a file or folder of this name? On object stores a folder is there when something is in it.

    Raises:
      UserError: no permission, no credentials, no such bucket.
    """
    return _kind(path) is not None


def is_file(path: Where) -> bool:
    """Is there a file of this name? Raises as `exists`."""
    return _kind(path) == "file"


def is_dir(path: Where) -> bool:
    """Is there a folder of this name? Raises as `exists`."""
    return _kind(path) == "directory"


def _kind(path: Where) -> str | None:
    if not is_remote(path):
        local = Path(path)
        return "directory" if local.is_dir() else "file" if local.exists() else None
    url = path_of(path)
    files = remote.filesystem(url)
    try:
        with remote.told(url, missing_ok=True):
            return str(files.info(url)["type"])
    except FileNotFoundError:
        return None


def list_names(folder: Where) -> list[str]:
    """Sorted names of the files and folders directly in `folder`; [] where there is no folder."""
    if not is_remote(folder):
        return sorted(os.listdir(folder)) if Path(folder).is_dir() else []
    return sorted(_listed(path_of(folder)))


def file_sizes(folder: Where) -> dict[str, int]:
    """Bytes of the files directly in `folder`, by name: one listing; {} where there is no folder."""
    if not is_remote(folder):
        return {name: about.st_size for name, about in _local(folder).items()}
    found = _listed(path_of(folder))
    return {name: int(about["size"]) for name, about in found.items() if about["type"] == "file"}


def file_versions(folder: Where) -> dict[str, tuple]:
    """(bytes, time or ETag, ...) of the files directly in `folder`, by name: equal as long as a file is the same."""
    if not is_remote(folder):
        return {name: (about.st_size, about.st_mtime_ns) for name, about in _local(folder).items()}
    return {name: version(about) for name, about in _listed(path_of(folder)).items() if about["type"] == "file"}


def version(about: Mapping[str, Any]) -> tuple:
    """What fsspec's `info` or `ls` says of a file that changes when the file does."""
    return int(about["size"]), *(str(about[part]) for part in _VERSION if part in about)


def _local(folder: Where) -> dict[str, os.stat_result]:
    if not Path(folder).is_dir():
        return {}
    with os.scandir(os.fspath(folder)) as entries:
        return {entry.name: entry.stat() for entry in entries if entry.is_file()}


def _listed(url: str) -> dict[str, dict]:
    files = remote.filesystem(url)
    try:
        with remote.told(url, missing_ok=True):
            found = files.ls(url, detail=True)
    except FileNotFoundError:
        return {}
    own = files._strip_protocol(url).rstrip("/")
    return {about["name"].rstrip("/").rpartition("/")[2]: about for about in found if about["name"].rstrip("/") != own}


def folder_of_files(folder: Where) -> dict[str, int]:
    """Every file below `folder`: its path relative to it -> bytes.

    Example: {"params/manifest.ocdbt": 120, "metadata/metadata": 40}.
    """
    if not is_remote(folder):
        root = Path(folder)
        return {str(path.relative_to(root)): path.stat().st_size for path in sorted(root.rglob("*")) if path.is_file()}
    url = path_of(folder)
    files = remote.filesystem(url)
    with remote.told(url):
        found = files.find(url, detail=True)
    own = files._strip_protocol(url).rstrip("/") + "/"
    return {name.removeprefix(own): int(about["size"]) for name, about in sorted(found.items()) if name != own}


def read_bytes(path: Where) -> bytes:
    """The whole content.

    Raises:
      UserError: a remote file is missing or may not be read. A local one raises as Path.read_bytes does.
    """
    if not is_remote(path):
        return Path(path).read_bytes()
    url = path_of(path)
    files = remote.filesystem(url)
    with remote.told(url):
        return files.cat_file(url)


def read_text(path: Where) -> str:
    """The whole content as UTF-8. Raises as `read_bytes`."""
    return read_bytes(path).decode("utf-8")


def write_bytes(path: Where, content: bytes) -> None:
    """Writes a file that readers see whole or not at all: locally by a rename, on an object store by its one put."""
    if is_remote(path):
        url = path_of(path)
        files = remote.filesystem(url)
        with remote.told(url):
            files.pipe_file(url, content)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def upload(folder: Where, target: Where) -> dict[str, int]:
    """Copies every file below a local folder to the same place below `target`; returns their sizes.

    Raises:
      UserError: `target` cannot be written.
    """
    sizes = folder_of_files(folder)
    if not is_remote(target):
        shutil.copytree(folder, target, dirs_exist_ok=True)
        return sizes
    url = path_of(target)
    files = remote.filesystem(url)
    with remote.told(url):
        if sizes:
            files.put([join(folder, name) for name in sizes], [join(url, name) for name in sizes])
    return sizes


def download(folder: Where, target: Where, sizes: Mapping[str, int] | None = None) -> None:
    """Copies every file below `folder` to the same place below a local folder.

    Args:
      sizes: the files that are wanted and their bytes; None: all that are there.

    Raises:
      UserError: a file is missing or has another size, or `folder` cannot be read.
    """
    wanted = folder_of_files(folder) if sizes is None else sizes
    for name in wanted:
        Path(target, name).parent.mkdir(parents=True, exist_ok=True)
    if is_remote(folder):
        url = path_of(folder)
        files = remote.filesystem(url)
        with remote.told(url):
            if wanted:
                files.get([join(url, name) for name in wanted], [join(target, name) for name in wanted])
    else:
        for name in wanted:
            shutil.copyfile(Path(folder, name), Path(target, name))
    for name, size in wanted.items():
        found = Path(target, name).stat().st_size
        if found != size:
            raise UserError(f"{join(folder, name)} has {found} bytes, not {size}: it was cut off; copy it again")


def remove(path: Where) -> None:
    """Deletes a file that may be gone already."""
    if not is_remote(path):
        Path(path).unlink(missing_ok=True)
        return
    url = path_of(path)
    files = remote.filesystem(url)
    try:
        with remote.told(url, missing_ok=True):
            files.rm_file(url)
    except FileNotFoundError:
        pass  # gone already


def remove_tree(folder: Where) -> None:
    """Deletes a folder and all below it; it may be gone already."""
    if not is_remote(folder):
        if Path(folder).exists():
            shutil.rmtree(folder)
        return
    url = path_of(folder)
    files = remote.filesystem(url)
    try:
        with remote.told(url, missing_ok=True):
            files.rm(url, recursive=True)
    except FileNotFoundError:
        pass  # gone already


def check_writable(folder: Where, name: str) -> None:
    """Proves that a file can be made in a folder or below a URL.

    Args:
      name: how the user knows it (`MODEL_DIR`, `--output`), for the message.

    Raises:
      UserError: the folder cannot be made or written to.
    """
    if not is_remote(folder):
        require_writable(folder, name)
        return
    probe = join(folder, f".write_probe.{uuid.uuid4().hex}")
    try:
        write_bytes(probe, b"probe")
        remove(probe)
    except UserError as error:
        reason = str(error).replace(probe, path_of(folder))
        raise UserError(f"{name} cannot be written: {reason}") from error


def require_writable(folder: Where, name: str) -> Path:
    """Makes a local folder and proves that a file can be made in it.

    Raises:
      UserError: it is a URL, or cannot be made or written to.
    """
    path = require_local(folder, name)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write_probe.{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{name} {str(path)!r} cannot be written ({error.strerror}); choose another folder") from error
    return path


def require_local(path: Where, name: str) -> Path:
    """The path, which must not be a URL.

    Raises:
      UserError: it is one.
    """
    if is_remote(path):
        raise UserError(f"{name} {path_of(path)!r} is a URL; give a local path and copy the result there")
    return Path(path)
