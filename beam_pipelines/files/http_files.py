"""Files behind http:// and https://, read as one stream each; what fails for the moment is tried again."""

from __future__ import annotations

import http.client
import io
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from absl import logging

from t5x_style.errors import UserError

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # pauses between attempts; then the error is raised
LONGEST_PAUSE = 60.0  # whatever the server asks for
TIMEOUT_SECONDS = 60.0  # without a byte
BUFFER_BYTES = 1 << 20
_BUSY = frozenset(
    {408, 425, 429, 500, 502, 503, 504}
)  # statuses that pass (RFC 9110; Common Crawl sends 503 when busy)
_SKIP_BYTES = 1 << 22  # a shorter way ahead is read and thrown away, not asked for anew
T = TypeVar("T")


class HttpFiles:
    """The read operations of `storage`; a web server cannot be listed or written to."""

    def glob(self, pattern: str) -> list[str]:
        """The address itself.

        Raises:
          UserError: it holds `*` or `[`.
        """
        if "*" in pattern or "[" in pattern:
            raise UserError(
                f"{pattern}: a web server cannot list its files; give exact addresses, or a list of them with "
                "--input_paths (Common Crawl publishes one for each crawl)"
            )
        return [pattern]

    def size(self, path: str) -> int:
        """Bytes of the file, by HEAD, or by a GET of its first byte where the server refuses HEAD.

        Raises:
          FileNotFoundError, PermissionError: as the server says.
          UserError: the server does not say.
        """
        total = _persistent(path, lambda: _total(path))
        if total is None:
            raise UserError(
                f"{path}: the server does not say how long the file is; download it and give the local path"
            )
        return total

    def exists(self, path: str) -> bool:
        """Whether the server has the file."""
        try:
            _persistent(path, lambda: _total(path))
        except FileNotFoundError:
            return False
        return True

    def open(self, path: str, mode: str) -> Any:
        """A seekable stream.

        Raises:
          UserError: for writing.
        """
        if "w" in mode:
            raise UserError(f"{path}: cannot write to a web server; give a local folder or a bucket")
        return io.BufferedReader(_HttpFile(path), BUFFER_BYTES)

    def mkdirs(self, folder: str) -> None:
        """Raises UserError, as for `open`."""
        self.open(folder, "w")

    def rename(self, source: str, target: str) -> None:
        """Raises UserError, as for `open`."""
        self.open(target or source, "w")

    def delete(self, path: str) -> None:
        """Raises UserError, as for `open`."""
        self.open(path, "w")


class _HttpFile(io.RawIOBase):
    """One GET from the position on, repeated from where it broke off."""

    def __init__(self, url: str):
        super().__init__()
        self._url, self._position, self._total = url, 0, -1
        self._response: Any = None
        _persistent(url, self._connect)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self._total < 0:
            raise OSError(f"{self._url}: the server does not say how long the file is")
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._total}[whence]
        if position != self._position:
            self._position = max(position, 0)
            self._disconnect()
        return self._position

    def readinto(self, buffer: Any) -> int:
        return _persistent(self._url, lambda: self._read(memoryview(buffer).cast("B")))

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _read(self, view: memoryview) -> int:
        if 0 <= self._total <= self._position or not len(view):
            return 0
        if self._response is None:
            self._connect()
        try:
            count = self._response.readinto(view)
            if not count and self._position < self._total:
                raise ConnectionError(f"the connection ended at byte {self._position} of {self._total}")
        except BaseException:
            self._disconnect()
            raise
        self._position += count
        return count

    def _connect(self) -> None:
        headers = {"Range": f"bytes={self._position}-"} if self._position else {}
        response = _request(self._url, "GET", headers)
        if self._total < 0:
            self._total = _length(response)
        if self._position and response.status != 206:  # the server knows no ranges and starts from the beginning
            left = self._position
            while left and (skipped := len(response.read(min(left, _SKIP_BYTES)))):
                left -= skipped
        self._response = response

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def _request(url: str, method: str, headers: dict[str, str]) -> Any:
    """One attempt.

    Raises:
      FileNotFoundError, PermissionError, OSError: by status.
    """
    address = quote(url, safe=";/?:@&=+$,%#[]!'()*~")
    headers = {"User-Agent": "t5x_style", "Accept-Encoding": "identity", **headers}
    try:
        return urllib.request.urlopen(
            urllib.request.Request(address, method=method, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise FileNotFoundError(f"{url}: no such file (HTTP status {error.code})") from error
        if error.code in (401, 403):
            raise PermissionError(f"{url}: the server refuses access (HTTP status {error.code})") from error
        raise


def _length(response: Any) -> int:
    """Bytes of the whole file, -1 if the response does not say."""
    content_range = response.headers.get("Content-Range") or ""
    if response.status == 206:
        total = content_range.rpartition("/")[2]
        return int(total) if total.isdigit() else -1
    length = response.headers.get("Content-Length") or ""
    return int(length) if length.isdigit() else -1


def _total(url: str) -> int | None:
    try:
        with _request(url, "HEAD", {}) as response:
            length = _length(response)
    except PermissionError:
        length = -1  # signed addresses are good for GET alone
    except urllib.error.HTTPError as error:
        if error.code not in (400, 405, 501):
            raise
        length = -1
    if length < 0:
        with _request(url, "GET", {"Range": "bytes=0-0"}) as response:
            length = _length(response)
    return length if length >= 0 else None


def _persistent(url: str, attempt: Callable[[], T]) -> T:
    """Calls `attempt` until it works or the pauses are used up.

    Raises:
      OSError: what the last attempt raised, or the first that repeating cannot mend.
    """
    for pause in (*RETRY_SECONDS, None):
        try:
            return attempt()
        except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
            asked = _pause_asked_for(error)
            if asked is None or pause is None:
                raise OSError(f"{url}: {error or type(error).__name__}") from error
            pause = min(max(pause, asked), LONGEST_PAUSE)
            logging.warning("%s: %s; trying again in %.0f s", url, error or type(error).__name__, pause)
            time.sleep(pause)
    raise AssertionError("the loop ends by return or raise")


def _pause_asked_for(error: Exception) -> float | None:
    """Seconds that the server wants to be left alone, None if trying again is of no use."""
    if not isinstance(error, urllib.error.HTTPError):
        wrong = isinstance(error, ValueError) or isinstance(
            getattr(error, "reason", error), ssl.SSLCertVerificationError
        )
        return None if wrong else 0.0
    if error.code not in _BUSY:
        return None
    after = error.headers.get("Retry-After") or ""
    return float(after) if after.isdigit() else 0.0
