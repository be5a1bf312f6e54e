"""Paths as text: what is on the local disk, what is a URL, and how parts are joined. Never pathlib for a URL.

`Path("gs://bucket/run")` is gs:/bucket/run, a folder below the working directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

Where: TypeAlias = str | os.PathLike


def is_remote(path: Where) -> bool:
    """Is it a URL (`scheme://...`)?"""
    return "://" in os.fspath(path)


def path_of(path: Where) -> str:
    """The path as text: a local one as pathlib writes it, a URL without the `/` at its end.

    >>> path_of("./out/run/"), path_of("s3://bucket/run/")
    ('out/run', 's3://bucket/run')
    """
    text = os.fspath(path)
    if not is_remote(text):
        return str(Path(text))
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{rest.rstrip('/')}"


def join(folder: Where, *parts: Where) -> str:
    """A path below a folder.

    >>> join("out", "model.json"), join("memory://run/", "checkpoints", "4")
    ('out/model.json', 'memory://run/checkpoints/4')
    """
    if not is_remote(folder):
        return str(Path(folder, *parts))
    return "/".join([path_of(folder), *(os.fspath(part).strip("/") for part in parts)])


def name(path: Where) -> str:
    """The last part.

    >>> name("s3://bucket/runs/base/")
    'base'
    """
    return Path(path).name if not is_remote(path) else path_of(path).rpartition("/")[2]


def parent(path: Where) -> str:
    """The folder that a file is in.

    >>> parent("s3://bucket/results.json"), parent("results.json")
    ('s3://bucket', '.')
    """
    return str(Path(path).parent) if not is_remote(path) else path_of(path).rpartition("/")[0]
