"""Which documents a tokenizer is trained on and which it is measured on: a stable sample of the splits."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.files import storage
from t5x_style.errors import UserError
from tasks.splits import split_of_document, stable_hash

COLUMNS = ("id", "text", "metadata")
ROWS_PER_BATCH = 1024


@dataclass(frozen=True)
class Sample:
    """Texts by split, in an order that depends only on their ids and the seed."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    documents: int  # read in all
    train_documents: int  # of the training split, of which `train` is a sample


def find_documents(pattern: str) -> list[str]:
    """The Parquet files that a glob (local or cloud) names, sorted.

    Raises:
      UserError: there is none.
    """
    try:
        return storage.expand([pattern])
    except UserError as error:
        raise UserError(str(error).replace("--input", "--documents")) from error


def read_documents(paths: Sequence[str]) -> Iterator[dict[str, str]]:
    """Rows {"id", "text", "metadata"} of the files in order.

    Raises:
      UserError: a file is no Parquet file or lacks a column.
    """
    for path in paths:
        with storage.open_read(path) as file:
            try:
                table = pq.ParquetFile(file)
            except (pa.ArrowInvalid, OSError) as error:
                raise UserError(f"{path}: not a readable Parquet file ({error}); clean the crawl again") from error
            missing = [name for name in COLUMNS if name not in table.schema_arrow.names]
            if missing:
                raise UserError(f"{path}: no column {', '.join(missing)}; --documents takes clean_web's documents")
            for batch in table.iter_batches(batch_size=ROWS_PER_BATCH, columns=list(COLUMNS)):
                yield from batch.to_pylist()


class _SmallestHashes:
    """Keeps the texts with the smallest hashes that together reach `characters`; memory stays bounded by it."""

    def __init__(self, characters: int):
        self._limit, self._characters = characters, 0
        self._heap: list[tuple[int, str, str]] = []  # (-hash, id, text): the largest hash on top

    def add(self, key: int, identifier: str, text: str) -> None:
        heapq.heappush(self._heap, (-key, identifier, text))
        self._characters += len(text)
        while self._characters - len(self._heap[0][2]) >= self._limit:
            self._characters -= len(heapq.heappop(self._heap)[2])

    def texts(self) -> tuple[str, ...]:
        return tuple(text for _, _, text in sorted(self._heap, key=lambda entry: (-entry[0], entry[1])))


def sample_documents(
    rows: Iterable[dict[str, str]], max_characters: int, held_out_characters: int, seed: int
) -> Sample:
    """Draws training text from the training split and held-out text from the validation split.

    Args:
      rows: documents with id, text, metadata.
      max_characters: about how much training text; whole documents, the last may go beyond.
      held_out_characters: the same for the held-out text.
      seed: another seed draws another sample.
    """
    train, held_out = _SmallestHashes(max_characters), _SmallestHashes(held_out_characters)
    documents = train_documents = 0
    for row in rows:
        documents += 1
        split = split_of_document(row)
        if not row["text"]:
            continue
        key = stable_hash(f"tokenizer/{seed}/{row['id']}")
        if split == "train":
            train_documents += 1
            train.add(key, row["id"], row["text"])
        elif split == "validation":
            held_out.add(key, row["id"], row["text"])
    return Sample(train.texts(), held_out.texts(), documents, train_documents)
