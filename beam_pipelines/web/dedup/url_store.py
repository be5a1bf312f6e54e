"""Which addresses earlier runs kept: a folder of sorted hashes that one run leaves and the next one reads.

    store.json        format, number of parts, number of addresses, digest of each part
    part-00000.npy    uint64 [n, 2], ascending: 128-bit hashes of normalised addresses, of the first range of hashes
    ...

A run may have another number of parts than the stores it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.web.dedup.hashing import range_of
from beam_pipelines.web.urls.url_normal import normalise_url
from t5x_style.errors import UserError
from t5x_style.files import fingerprint

MANIFEST = "store.json"
FORMAT = "url_store 1: XXH3-128 of normalise_url"
# Addresses that every rule of normalise_url touches: their spelling tells whether a store was made by other rules.
_SAMPLES = (
    "HTTPS://user@www.Example.com:443/a/../b//?utm_source=x&z=1&a=%7e#top",
    "http://b\u00fccher.example.:8080/%c3%a4 ;jsessionid=1/?B=2&fbclid=3&a",
    "example.org/index.html",
)


@dataclass(frozen=True)
class UrlStore:
    """One store that is to be read.

    Attributes:
      folder: local or remote.
      parts: files it consists of.
      identity: fingerprint of its manifest, and with it of its content.
      spelling: fingerprint of the rules by which its addresses were normalised.
    """

    folder: str
    parts: int
    identity: str
    spelling: str


def spelling() -> str:
    """Fingerprint of what `normalise_url` does to a few addresses."""
    return fingerprint([normalise_url(url) for url in _SAMPLES])


def part_name(part: int) -> str:
    """File name of a part."""
    return f"part-{part:05d}.npy"


def open_store(folder: str) -> UrlStore:
    """Reads a store's manifest.

    Raises:
      UserError: there is none, or it is of something else.
    """
    path = storage.join(folder, MANIFEST)
    if not storage.exists(path):
        raise UserError(f"url store {folder}: no {MANIFEST} there; give the url_store folder of a finished run")
    manifest = storage.read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path}: not a store of this format ({FORMAT}); give the url_store folder of a finished run")
    return UrlStore(folder, manifest["parts"], fingerprint(manifest), manifest["spelling"])


def write_manifest(folder: str, parts: Sequence[tuple[int, str]]) -> None:
    """Writes `store.json`, last of a store's files, if it is not there like this.

    Args:
      folder: of the store.
      parts: (addresses, digest) of each part.

    Raises:
      UserError: a part is gone.
    """
    there = set(storage.list_files(folder, ".npy"))
    for part in range(len(parts)):
        if part_name(part) not in there:
            raise UserError(f"{storage.join(folder, part_name(part))} is gone; delete the run's folder, run it again")
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "spelling": spelling(),
        "parts": len(parts),
        "urls": sum(count for count, _ in parts),
        "digests": [digest for _, digest in parts],
    }
    path = storage.join(folder, MANIFEST)
    if not storage.exists(path) or storage.read_json(path) != manifest:
        storage.write_json(path, manifest)


def write_part(folder: str, part: int, hashes: np.ndarray) -> str:
    """Writes one part, uint64 [n, 2] ascending; returns its digest."""
    import xxhash

    with storage.atomic_writer(storage.join(folder, part_name(part))) as file:
        np.save(file, hashes, allow_pickle=False)
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(hashes, "<u8").data)


def read_part(stores: Sequence[UrlStore], part: int, parts: int) -> np.ndarray:
    """uint64 [n, 2], in no order: what the stores hold of one of a run's `parts` ranges of hashes.

    Raises:
      UserError: a file of a store is gone.
    """
    found = [np.zeros((0, 2), np.uint64)]
    for store in stores:
        for index in range(store.parts):
            # [index / store.parts, (index + 1) / store.parts) meets [part / parts, (part + 1) / parts)
            if index * parts < (part + 1) * store.parts and part * store.parts < (index + 1) * parts:
                hashes = _read(storage.join(store.folder, part_name(index)))
                found.append(hashes[range_of(hashes[:, 0], parts) == part])
    return np.concatenate(found)


def _read(path: str) -> np.ndarray:
    try:
        with storage.open_read(path) as file:
            return np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: this part of the url store is gone; copy the whole folder") from error
