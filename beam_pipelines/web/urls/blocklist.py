"""Blocked domains and addresses from the UT1 collection and from plain lists, in a few bytes an entry."""

from __future__ import annotations

import os
import posixpath
import re
import threading
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from absl import logging
from xxhash import xxh3_64_intdigest

from beam_pipelines.files import storage
from beam_pipelines.files.list_files import digest, read_chunks
from beam_pipelines.web.urls.hash_table import HashTable
from beam_pipelines.web.urls.url_normal import normalise_host, normalise_url, split_url
from t5x_style.errors import UserError

_PLAIN_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789-._\n"  # of lists that hold nothing but lower-case domains
_TO_MEND = (b"\nwww.", b"\n.", b".\n", b"..")  # what normalise_host would change in them
_ALL_BUT_DOTS_AND_ENDS = _PLAIN_BYTES.replace(b".", b"").replace(b"\n", b"")
_COMMENT = re.compile(r"(?:^|\s)[#!].*")
_HOSTS_LINE = re.compile(r"(?:0\.0\.0\.0|127\.\d+\.\d+\.\d+|::1?|fe80::1%lo0|255\.255\.255\.255)\s+(.*)")
_HOSTS_OF_THE_MACHINE = frozenset(
    {"localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost", "ip6-loopback", "0.0.0.0"}
)
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_-])?|\[[0-9a-f:.]+\]")
_LOCK = threading.Lock()
_LOADED: dict[tuple, Blocklist] = {}  # one per configuration and process


@dataclass(frozen=True)
class Blocklist:
    """What is blocked.

    Attributes:
      domains: hosts; each stands for all hosts below it, too.
      urls: addresses as `normalise_url` spells them; each stands for all below it, too.
      url_hosts: the hosts of `urls`.
      deepest: most slashes in one of `urls`.
      single_label: whether a top-level domain is among `domains`.
    """

    domains: HashTable
    urls: HashTable
    url_hosts: HashTable
    deepest: int
    single_label: bool

    def blocks_host(self, host: str) -> bool:
        """Whether the host or a domain above it is listed; `host` as `normalise_host` gives it."""
        return self.domains.contains_parent(host, self.single_label)

    def blocks_url(self, host: str, url: str) -> bool:
        """Whether the address, or one that it starts with up to a `/` or `?`, is listed.

        Example: with "example.com/a" listed, "http://example.com/a/b?c=1" -> True, "http://example.com/ab" -> False.

        Args:
          host: as `normalise_host(url)` gives it.
        """
        if not len(self.urls) or not self.url_hosts.contains(host):
            return False
        normal = normalise_url(url)
        if self.urls.contains(normal):
            return True
        path = normal.partition("?")[0]
        end = 0
        for _ in range(self.deepest + 1):
            end = path.find("/", end + 1)
            if end < 0:
                return path != normal and self.urls.contains(path)
            if self.urls.contains(path[:end]):
                return True
        return False


def list_paths(directory: str, categories: Sequence[str], lists: Sequence[str]) -> list[str]:
    """The files of a blocklist: `domains` and `urls` (or `.gz`) of each category's folder, then the plain lists.

    Raises:
      UserError: the directory, a category or a list is missing; names the categories there are.
    """
    paths = []
    if directory:
        there = _categories(directory)
        if not there:
            raise UserError(
                f"{directory}: no blocklist in the UT1 format (a folder for each category with a file `domains` or "
                "`urls`); unpack blacklists.tar.gz of the University of Toulouse and give its folder"
            )
        unknown = [name for name in categories if name not in there]
        if unknown:
            raise UserError(f"{directory}: no category {', '.join(unknown)}; there are {', '.join(sorted(there))}")
        paths += [path for name in categories for path in there[name]]
    for path in lists:
        if not storage.exists(path):
            raise UserError(f"{path}: no such blocklist file; check the path")
        paths.append(path)
    return paths


def _categories(directory: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in ("domains", "domains.gz", "urls", "urls.gz"):
        for path in storage.matches(storage.join(directory, "*", name)):
            found.setdefault(posixpath.basename(posixpath.dirname(path)), []).append(path)
    return found


def load(directory: str, categories: tuple[str, ...], lists: tuple[str, ...], cache: str = "") -> Blocklist:
    """The blocklist of the files that `list_paths` names, read once per process.

    Args:
      directory, categories, lists: as for `list_paths`.
      cache: a local folder that keeps the finished tables; workers that find them there map them into memory, which
        they then share. '' builds them in every process (5 million domains: some seconds).

    Raises:
      UserError: a file is missing or damaged.
    """
    key = (directory, categories, lists, cache)
    if (loaded := _LOADED.get(key)) is not None:
        return loaded
    with _LOCK:
        if key not in _LOADED:
            paths = list_paths(directory, categories, lists)
            _LOADED[key] = _cached(paths, cache) if cache else _built(paths)
        return _LOADED[key]


def _built(paths: Sequence[str]) -> Blocklist:
    reader = _Reader()
    for path in paths:
        reader.read(path)
    return Blocklist(
        HashTable.from_hashes(reader.domains),
        HashTable.from_hashes(reader.urls),
        HashTable.from_hashes(reader.url_hosts),
        reader.deepest,
        reader.single_label,
    )


class _Reader:
    """Hashes of the entries of any number of files."""

    def __init__(self) -> None:
        self.domains, self.urls, self.url_hosts = array("Q"), array("Q"), array("Q")
        self.deepest, self.single_label = 0, False

    def read(self, path: str) -> None:
        """Adds a file's entries; says in the log how many lines are none."""
        skipped: list[str] = []
        for chunk in read_chunks(path):
            lines = b"\n%b\n" % chunk.strip(b"\n")
            if not chunk.translate(None, _PLAIN_BYTES) and not any(part in lines for part in _TO_MEND):
                self._add_plain(lines)
                continue
            for line in chunk.decode("utf-8", "replace").split("\n"):
                for entry in entries(line):
                    if not self._add(entry):
                        skipped.append(entry)
        if skipped:
            logging.warning("%s: %d entries are no host and no address, e.g. %r", path, len(skipped), skipped[0][:100])

    def _add_plain(self, lines: bytes) -> None:
        """The quick way for lines that are hosts as `normalise_host` gives them: 5 million in a second or two."""
        names = lines.split()
        self.domains.extend(map(xxh3_64_intdigest, names))
        if b"\n\n" in lines.translate(None, _ALL_BUT_DOTS_AND_ENDS):  # a line without a dot, or a blank one
            self.single_label = self.single_label or any(b"." not in name for name in names)

    def _add(self, entry: str) -> bool:
        host = normalise_host(entry)
        if not _HOST.fullmatch(host) and not host.startswith("xn--"):
            return False
        rest = split_url(entry)[1]
        if rest.strip("/\\"):
            url = normalise_url(entry)
            self.urls.append(xxh3_64_intdigest(url.encode()))
            self.url_hosts.append(xxh3_64_intdigest(host.encode()))
            self.deepest = max(self.deepest, url.count("/"))
        else:
            self.domains.append(xxh3_64_intdigest(host.encode()))
            self.single_label = self.single_label or "." not in host
        return True


def entries(line: str) -> list[str]:
    """The hosts and addresses of one line of a list.

    Example: "0.0.0.0 a.com b.com # why" -> ["a.com", "b.com"]; "*.a.com" -> ["a.com"]; "||a.com^" -> ["a.com"];
    "# why" -> [].
    """
    text = _COMMENT.sub("", line.replace("\ufeff", "")).strip()
    if not text:
        return []
    if match := _HOSTS_LINE.fullmatch(text):
        return [name for name in match.group(1).split() if name.lower() not in _HOSTS_OF_THE_MACHINE]
    if text.lower() in _HOSTS_OF_THE_MACHINE:
        return []
    if text.startswith("||") and text.endswith("^"):  # ad blockers' way to write a domain
        text = text[2:-1]
    return [text.removeprefix("*").lstrip(".")]


def _cached(paths: Sequence[str], cache: str) -> Blocklist:
    """Maps the tables in `cache`, after building them if they are not there."""
    if not storage.is_local(cache):
        raise UserError(f"{cache}: finished tables are mapped into memory, which needs a folder on the local disk")
    name = f"blocklist-{digest(paths)}"
    described = storage.join(cache, f"{name}.json")
    if not storage.exists(described):
        built = _built(paths)
        tables = {"domains": built.domains, "urls": built.urls, "url_hosts": built.url_hosts}
        for part, table in tables.items():
            with storage.atomic_writer(_table_path(cache, name, part)) as file:
                np.save(file, table.slots)
        sizes = {part: [table.bits, len(table)] for part, table in tables.items()}
        storage.write_json(described, {**sizes, "deepest": built.deepest, "single_label": built.single_label})
    found = storage.read_json(described)

    def mapped(part: str) -> HashTable:
        return HashTable(np.load(_table_path(cache, name, part), mmap_mode="r"), *found[part])

    return Blocklist(
        mapped("domains"), mapped("urls"), mapped("url_hosts"), found["deepest"], bool(found["single_label"])
    )


def _table_path(cache: str, name: str, part: str) -> str:
    return os.path.join(cache, f"{name}-{part}.npy")
