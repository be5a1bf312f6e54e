"""Input files on the command line: globs, and lists of paths such as Common Crawl publishes for each crawl."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence

from beam_pipelines.files import storage
from beam_pipelines.files.list_files import read_lines
from t5x_style.errors import UserError

# https://commoncrawl.org/get-started; s3://commoncrawl/ serves the same paths, free of charge inside AWS us-east-1.
COMMON_CRAWL = "https://data.commoncrawl.org/"
_SLICE = re.compile(r"(\d*):(\d*)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --input, --input_paths, --input_prefix and --input_slice."""
    parser.add_argument(
        "--input",
        nargs="+",
        default=[],
        metavar="GLOB",
        help="WARC, WET or ARC files: globs on the local disk or in buckets, exact addresses on web servers",
    )
    parser.add_argument(
        "--input_paths",
        metavar="FILE",
        help="a list of files, one a line, plain or gzip, local or remote, e.g. warc.paths.gz of a Common Crawl",
    )
    parser.add_argument(
        "--input_prefix",
        default=COMMON_CRAWL,
        metavar="PREFIX",
        help="put before the relative entries of --input_paths (default: %(default)s; s3://commoncrawl/ inside AWS)",
    )
    parser.add_argument(
        "--input_slice",
        metavar="START:STOP",
        help="only these of all the input files, counted from 0; 0:10 are the first ten",
    )


def resolve(arguments: argparse.Namespace) -> list[str]:
    """The files that the arguments name, each once: those of --input, then those of --input_paths in its order.

    Example: a list with "crawl-data/a.warc.gz" -> ["https://data.commoncrawl.org/crawl-data/a.warc.gz"].

    Raises:
      UserError: there are no inputs, a glob matches nothing, the list is empty or missing, the slice reaches outside,
        a file's name is not UTF-8.
    """
    if not arguments.input and not arguments.input_paths:
        raise UserError("no input: give --input GLOB... or --input_paths FILE")
    paths = storage.expand(arguments.input)
    if arguments.input_paths:
        paths += _listed(arguments.input_paths, arguments.input_prefix)
    paths = list(dict.fromkeys(paths))
    for path in paths:
        if not _is_unicode(path):
            raise UserError(f"input {path!a}: the file's name is not valid UTF-8; rename it")
    return _sliced(paths, arguments.input_slice) if arguments.input_slice else paths


def _is_unicode(path: str) -> bool:
    """False for names whose bytes are no UTF-8: Python reads them as lone surrogates, which no output can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _listed(path: str, prefix: str) -> list[str]:
    entries = read_lines(path)
    if not entries:
        raise UserError(f"--input_paths {path}: the list is empty")
    if bad := next((entry for entry in entries if any(character.isspace() for character in entry)), None):
        raise UserError(f"--input_paths {path}: {bad[:100]!r} is no path; the list has one path a line")
    relative = next((entry for entry in entries if "://" not in entry and not entry.startswith("/")), "")
    if relative and prefix == COMMON_CRAWL and os.path.exists(relative):
        raise UserError(
            f"--input_paths {path}: {relative!r} lies on this disk, and relative entries are taken from {prefix}; "
            "give --input_prefix ./ for local files"
        )
    return [entry if "://" in entry or entry.startswith("/") else _joined(prefix, entry) for entry in entries]


def _joined(prefix: str, entry: str) -> str:
    return prefix + entry if not prefix or prefix.endswith("/") else f"{prefix}/{entry}"


def _sliced(paths: Sequence[str], text: str) -> list[str]:
    match = _SLICE.fullmatch(text)
    if match is None:
        raise UserError(f"--input_slice {text!r}: give START:STOP, e.g. 0:10 for the first ten files")
    start = int(match.group(1) or 0)
    stop = int(match.group(2)) if match.group(2) else len(paths)
    if not start < stop <= len(paths):
        raise UserError(f"--input_slice {text}: there are {len(paths)} input files, counted from 0")
    return list(paths[start:stop])
