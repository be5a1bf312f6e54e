"""Files by path or URL: the local disk directly, `http(s)://` by plain requests, other `scheme://` through fsspec or,
where that has no driver, Beam.

Paths are strings. Every write goes to a temporary name in the same folder and is renamed when whole.
"""

from __future__ import annotations

import contextlib
import glob as local_glob
import json
import os
import posixpath
import uuid
from collections.abc import Iterator, Sequence
from typing import IO, Any

from beam_pipelines.files.http_files import HttpFiles
from beam_pipelines.files.read_ahead import read_ahead
from t5x_style.errors import UserError

TEMPORARY = ".tmp"


def is_local(path: str) -> bool:
    """Whether `path` names the local disk (no `scheme://`)."""
    return "://" not in path


def join(folder: str, *names: str) -> str:
    """Joins with `/`, for paths and URLs alike."""
    return posixpath.join(folder, *names)


class _Fsspec:
    """The few operations needed, on an fsspec filesystem."""

    def __init__(self, scheme: str):
        import fsspec

        self._scheme, self._files = scheme, fsspec.filesystem(scheme)

    def glob(self, pattern: str) -> list[str]:
        found = self._files.glob(pattern, detail=True)  # one listing; asking for each file is a request each
        return [self._files.unstrip_protocol(name) for name, about in found.items() if about["type"] == "file"]

    def size(self, path: str) -> int:
        return int(self._files.size(path))

    def exists(self, path: str) -> bool:
        return bool(self._files.exists(path))

    def open(self, path: str, mode: str) -> IO[bytes]:
        return self._files.open(path, mode)

    def rename(self, source: str, target: str) -> None:
        if self._files.exists(target):
            self._files.rm(target)
        self._files.mv(source, target)

    def delete(self, path: str) -> None:
        self._files.rm(path)

    def mkdirs(self, folder: str) -> None:
        self._files.makedirs(folder, exist_ok=True)


class _Beam:
    """The same operations through Beam's filesystems (gs:// with apache-beam[gcp], s3:// with [aws], hdfs://)."""

    def __init__(self) -> None:
        from apache_beam.io.filesystems import FileSystems

        self._files = FileSystems

    def glob(self, pattern: str) -> list[str]:
        return [found.path for found in self._files.match([pattern])[0].metadata_list]

    def size(self, path: str) -> int:
        return self._files.match([path])[0].metadata_list[0].size_in_bytes

    def exists(self, path: str) -> bool:
        return self._files.exists(path)

    def open(self, path: str, mode: str) -> IO[bytes]:
        plain = {"mime_type": "application/octet-stream", "compression_type": "uncompressed"}
        return self._files.create(path, **plain) if "w" in mode else self._files.open(path, **plain)

    def rename(self, source: str, target: str) -> None:
        if self._files.exists(target):
            self._files.delete([target])
        self._files.rename([source], [target])

    def delete(self, path: str) -> None:
        self._files.delete([path])

    def mkdirs(self, folder: str) -> None:
        if not self._files.exists(folder):
            self._files.mkdirs(folder)


_Driver = _Fsspec | _Beam | HttpFiles
_DRIVERS: dict[str, _Driver] = {}  # one per scheme and process


def _driver(path: str) -> _Driver:
    scheme = path.partition("://")[0].lower()
    if scheme not in _DRIVERS:
        try:
            _DRIVERS[scheme] = HttpFiles() if scheme in ("http", "https") else _Fsspec(scheme)
        except (ImportError, ValueError) as error:
            from apache_beam.io.filesystems import FileSystems

            try:
                FileSystems.get_filesystem(path)
            except ValueError:
                raise UserError(f"{path}: no driver for {scheme}:// ({error}); install its fsspec package") from error
            _DRIVERS[scheme] = _Beam()
    return _DRIVERS[scheme]


def expand(patterns: Sequence[str]) -> list[str]:
    """All files that the globs name, each once, in the order of the patterns and sorted within each.

    Raises:
      UserError: a pattern matches no file.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if is_local(pattern):
            names = local_glob.glob(os.path.expanduser(pattern), recursive=True)
            files = sorted(name for name in names if os.path.isfile(name))
            folder = next((name for name in names if os.path.isdir(name)), None)
        else:
            files, folder = matches(pattern), None
        if not files:
            hint = f"{folder!r} is a folder, add /*.warc.gz" if folder else "check the path (quote globs in the shell)"
            raise UserError(f"no file matches --input {pattern!r}; {hint}")
        found.update(dict.fromkeys(files))
    return list(found)


def matches(pattern: str) -> list[str]:
    """Sorted paths of the files that a glob names; [] if there are none."""
    if is_local(pattern):
        return sorted(filter(os.path.isfile, local_glob.glob(os.path.expanduser(pattern), recursive=True)))
    return sorted(_driver(pattern).glob(pattern))


def list_files(folder: str, suffix: str) -> list[str]:
    """Sorted names (not paths) of the files directly in `folder` that end in `suffix`; [] where there is no folder."""
    if is_local(folder):
        try:
            return sorted(name for name in os.listdir(folder) if name.endswith(suffix))
        except FileNotFoundError:
            return []
    return sorted(posixpath.basename(path) for path in _driver(folder).glob(join(folder, f"*{suffix}")))


def size(path: str) -> int:
    """Bytes of a file."""
    return os.path.getsize(path) if is_local(path) else _driver(path).size(path)


def sizes(paths: Sequence[str]) -> list[int]:
    """Bytes of each file; remote ones are asked for in parallel.

    Raises:
      UserError: a file is missing.
    """
    try:
        if all(map(is_local, paths)):
            return [size(path) for path in paths]
        for path in paths:
            if not is_local(path):
                _driver(path)  # made once here, not by threads at the same time
        return list(read_ahead(size, paths))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or error}: input file not found; check the path") from error


def exists(path: str) -> bool:
    """Whether there is a file or folder of this name."""
    return os.path.exists(path) if is_local(path) else _driver(path).exists(path)


def open_read(path: str) -> IO[bytes]:
    """Opens for binary reading; the stream is seekable."""
    return open(path, "rb") if is_local(path) else _driver(path).open(path, "rb")


def delete(path: str) -> None:
    """Deletes a file that may be gone already."""
    if is_local(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    elif _driver(path).exists(path):
        _driver(path).delete(path)


@contextlib.contextmanager
def atomic_writer(path: str) -> Iterator[IO[bytes]]:
    """A binary file that takes its name only when the block ends without an exception."""
    folder, name = posixpath.split(path)
    temporary = join(folder, f".{name}.{uuid.uuid4().hex}{TEMPORARY}")
    if is_local(path):
        os.makedirs(folder or ".", exist_ok=True)
    else:
        _driver(path).mkdirs(folder)
    try:
        with open(temporary, "wb") if is_local(path) else _driver(path).open(temporary, "wb") as file:
            yield file
            if is_local(path):
                file.flush()
                os.fsync(file.fileno())
        if is_local(path):
            os.replace(temporary, path)
        else:
            _driver(path).rename(temporary, path)
    except BaseException:
        delete(temporary)
        raise


def remove_temporaries(folder: str) -> None:
    """Deletes what killed writers left in `folder`; call it only when nothing writes there."""
    for name in list_files(folder, TEMPORARY):
        if name.startswith("."):
            delete(join(folder, name))


def write_json(path: str, value: Any) -> None:
    """Key-ordered JSON, whole or not at all."""
    with atomic_writer(path) as file:
        file.write((json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8"))


def read_json(path: str) -> Any:
    """Reads JSON; a broken file raises UserError with its name."""
    with open_read(path) as file:
        content = file.read()
    try:
        return json.loads(content)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run the same command again") from error
