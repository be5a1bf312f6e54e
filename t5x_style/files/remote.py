"""fsspec filesystems behind URLs, and what goes wrong with them as one line for people.

Our own code goes through fsspec alone. etils' epath knows no memory://, and hands URLs to TensorFlow where that is
installed, with other credentials and other errors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from t5x_style.errors import UserError

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_EXTRAS = {"s3fs": "t5x_style[s3]", "gcsfs": "t5x_style[gs]"}


def scheme(url: str) -> str:
    """`s3` of s3://bucket/run."""
    return url.partition("://")[0].lower()


def filesystem(url: str) -> Any:
    """The fsspec filesystem of a URL; fsspec keeps one a process and thread.

    Listings are not kept: other processes write to the same folders.

    Raises:
      UserError: no such protocol, or its package is not installed.
    """
    import fsspec

    protocol = scheme(url)
    if protocol == "file":
        raise UserError(f"{url}: give a local path without file://")
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        remedy = f"pip install {package}" + (f", or {_EXTRAS[package]}" if package in _EXTRAS else "")
        raise UserError(f"{url}: {protocol}:// {f'needs {package}: {remedy}' if package else f'({error})'}") from error
    except ValueError as error:
        raise UserError(
            f"{url}: unknown protocol {protocol}://; give a local path, gs://, s3://, or another that fsspec knows"
        ) from error


@contextlib.contextmanager
def told(url: str, missing_ok: bool = False) -> Iterator[None]:
    """Turns what drivers raise into one line with the URL and the remedy.

    Args:
      missing_ok: let FileNotFoundError through, for callers that ask whether something is there.

    Raises:
      UserError: the file or bucket does not exist, there are no credentials or permissions, the server is not reached.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and missing_ok and not _no_bucket(error):
            raise
        message = _message(url, error)
        if message is None:
            raise
        raise UserError(message) from error


def _message(url: str, error: Exception) -> str | None:
    """The line for an error of a driver; None for those that are faults of ours."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    bucket = "/".join(url.split("/")[:3])
    if _no_bucket(error):
        return f"{url}: the bucket {bucket} does not exist; make it, or correct the path"
    if isinstance(error, FileNotFoundError):
        return f"{url} does not exist; correct the path"
    if kinds & {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "DefaultCredentialsError"}:
        return f"{url}: no credentials for {scheme(url)}:// ({text}); {_credentials(scheme(url))}"
    if isinstance(error, PermissionError) or _status(error) in (401, 403):
        return f"{url}: no permission ({text}); {_credentials(scheme(url))}"
    if kinds & {
        "ConnectionError",
        "EndpointConnectionError",
        "ClientConnectorError",
        "TimeoutError",
        "HTTPClientError",
    }:
        return f"{url}: the server is not reached ({text}); check the network and the endpoint, then run it again"
    if isinstance(error, OSError) or kinds & {"ClientError", "BotoCoreError", "HttpError", "ParamValidationError"}:
        return f"{url}: {text}; check the path and the permissions, then run it again"
    return None


def _no_bucket(error: Exception) -> bool:
    """S3 and Google both say `The specified bucket does not exist`."""
    return "bucket does not exist" in str(error) or "NoSuchBucket" in str(error)


def _status(error: Exception) -> int | None:
    code = getattr(error, "code", None)
    return int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else None


def _credentials(protocol: str) -> str:
    if protocol in ("s3", "s3a"):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, of an account that may use it"
    if protocol in ("gs", "gcs"):
        return "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
    return "give the driver's credentials (see the documentation of its fsspec package)"
