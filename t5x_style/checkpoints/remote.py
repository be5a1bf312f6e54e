"""Checkpoints on object stores that Orbax does not write to: s3://, memory:// and whatever else fsspec knows.

A checkpoint is saved by Orbax in a local staging folder, then uploaded while training goes on. On the store:

    checkpoints/<step>/upload.json     first: this folder counts only with the marker
    checkpoints/<step>/<item>/...      the items as Orbax wrote them
    checkpoints/<step>/commit.json     last, in one put: {"format", "step", "files": {path: bytes}}

A kill leaves a folder without the marker, which nobody reads and the next save removes. A folder with neither file is
what somebody copied there; it is read by Orbax's own marks and never removed.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import logging

from t5x_style import files
from t5x_style.checkpoints import finished
from t5x_style.checkpoints.finished import COMMIT, FOLDER, UPLOAD
from t5x_style.errors import UserError

FORMAT = 1


def is_staged(model_dir: str | Path) -> bool:
    """Is it a place that Orbax does not write to? gs:// is Orbax's own."""
    return files.is_remote(model_dir) and not files.path_of(model_dir).startswith("gs://")


class Uploads:
    """The way of a run's checkpoints to and from the store.

    Attributes:
      staging: the local folder that Orbax writes <step>/ into.
    """

    def __init__(self, model_dir: str | Path, keep: int):
        """Args: as of `Checkpoints`.

        Raises:
          UserError: the run has several processes, whose parts of a checkpoint would have to be joined.
        """
        if jax.process_count() > 1:
            raise UserError(
                f"MODEL_DIR {files.path_of(model_dir)!r}: a run of several processes writes checkpoints to gs:// or to "
                "a folder that all of them see; give one of these"
            )
        self._model_dir, self._keep = files.path_of(model_dir), keep
        self.staging = files.staging_folder(FOLDER)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def steps(self) -> list[int]:
        """The finished checkpoints on the store, oldest first."""
        return finished.steps(self._model_dir)

    def start(self, step: int) -> None:
        """Uploads staging/<step> in a thread; `wait` says how it went."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(step,), name=f"upload-{step}")
        self._thread.start()

    def wait(self) -> None:
        """Returns when the upload that was started is committed.

        Raises:
          UserError: it failed.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if isinstance(error, UserError):
            raise error
        if error is not None:
            raise UserError(f"{self._model_dir}: a checkpoint could not be uploaded ({error})") from error

    def fetch(self, step: int) -> None:
        """Downloads a checkpoint into staging/<step>.

        Raises:
          UserError: it is not there or not whole.
        """
        _download(self._folder(step), self.staging / str(step))

    def close(self) -> None:
        """Waits for the upload and removes the staging folder. Raises as `wait`."""
        try:
            self.wait()
        finally:
            shutil.rmtree(self.staging, ignore_errors=True)

    def _folder(self, step: int) -> str:
        return files.join(self._model_dir, FOLDER, str(step))

    def _run(self, step: int) -> None:
        try:
            self._upload(step)
        except BaseException as error:  # noqa: BLE001 (raised by `wait`, in the thread that trains)
            self._error = error

    def _upload(self, step: int) -> None:
        began = time.monotonic()
        for left in finished.unfinished(self._model_dir):
            if files.exists(files.join(self._folder(left), UPLOAD)):
                logging.warning("%s: removing an upload that was interrupted", self._folder(left))
                _remove(self._folder(left))
        target = self._folder(step)
        files.atomic_write_json(files.join(target, UPLOAD), {"format": FORMAT, "step": step})
        sizes: dict[str, int] = {}
        for item in sorted((self.staging / str(step)).iterdir()):
            if item.is_dir():
                uploaded = files.upload(item, files.join(target, item.name))
                sizes |= {f"{item.name}/{name}": size for name, size in uploaded.items()}
            else:
                files.atomic_write_bytes(files.join(target, item.name), item.read_bytes())
                sizes[item.name] = item.stat().st_size
        commit(target, step, sizes)
        logging.info("%s: uploaded %.3g MB in %.1f s", target, sum(sizes.values()) / 1e6, time.monotonic() - began)
        for old in self.steps()[: -self._keep]:
            _remove(self._folder(old))


def commit(folder: str, step: int, sizes: dict[str, int]) -> None:
    """Writes the marker: from here on the checkpoint counts."""
    files.atomic_write_json(files.join(folder, COMMIT), {"format": FORMAT, "step": step, "files": sizes})


@contextlib.contextmanager
def fetched(model_dir: str | Path, step: int, item: str) -> Iterator[Path]:
    """A local folder with one item of a checkpoint, for as long as the block runs.

    Raises:
      UserError: it is not there or not whole.
    """
    staging = files.staging_folder("restore")
    try:
        _download(files.join(model_dir, FOLDER, str(step)), staging, item)
        yield staging / item
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def staged(purpose: str) -> Iterator[Path]:
    """A local folder that does not exist yet, gone after the block."""
    staging = files.staging_folder(purpose)
    try:
        yield staging / purpose
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def copied(folder: str) -> Iterator[Path]:
    """A local copy of a whole folder, for as long as the block runs."""
    with staged("copy") as target:
        files.download(folder, target)
        yield target


def _download(folder: str, target: Path, item: str | None = None) -> None:
    """The files of the marker's list; of a folder that has none, all that are there."""
    if files.is_file(files.join(folder, COMMIT)):
        sizes = files.read_json(files.join(folder, COMMIT))["files"]
    else:
        sizes = files.folder_of_files(folder)
    wanted = {name: size for name, size in sizes.items() if item is None or name.startswith(f"{item}/")}
    files.download(folder, target, wanted)


def _remove(folder: str) -> None:
    """The marker first, so that it counts no more; upload.json last, so that the rest is known for what it is."""
    files.remove(files.join(folder, COMMIT))
    for name in files.list_names(folder):
        if name != UPLOAD:
            files.remove_tree(files.join(folder, name))
    files.remove(files.join(folder, UPLOAD))
    files.remove_tree(folder)  # memory:// keeps an empty folder
