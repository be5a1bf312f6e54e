"""One unit of a cache of files: its records become examples of one shard for training and one for validation."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines.caching.inputs import reading
from beam_pipelines.caching.inputs.chat_templates import ChatTemplate
from beam_pipelines.caching.inputs.columns import BrokenRecord, Columns, Document, document_of
from beam_pipelines.caching.inputs.reading import Piece
from beam_pipelines.caching.inputs.spans import Rendered, render
from beam_pipelines.caching.inputs.splitting import place_of
from beam_pipelines.caching.inputs.tokens import DocumentEncoder
from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit, write_result
from t5x_style.data.manifest import Feature, LengthHistogram
from t5x_style.data.shards import shard_name, write_shard
from t5x_style.errors import UserError
from t5x_style.huggingface.tokenizers.tokenizer_files import open_tokenizer

TARGETS, SPANS = "targets", "response_spans"
MOST_ROLES = 100  # that are told apart: a column may hold anything
BATCH_DOCUMENTS, BATCH_CHARACTERS = 512, 1_000_000


@dataclass
class Tally:
    """What a unit did not keep, and what is odd about what it kept.

    Attributes:
      documents: what is neither empty nor broken. roles: their messages by role.
      empty: blank lines and records without text. broken: left out; first_broken: what is wrong with the first.
      unanswered: conversations without an answer to learn. hollow: documents whose answers are all empty.
      cut: answers that began within a token.
      unbegun: conversations whose template wrote no BOS, although the loader puts one.
      responses: tokens that the model is to write.
    """

    documents: int = 0
    roles: dict[str, int] = field(default_factory=dict)
    empty: int = 0
    broken: int = 0
    first_broken: str = ""
    unanswered: int = 0
    hollow: int = 0
    cut: int = 0
    unbegun: int = 0
    responses: int = 0


class Source(NamedTuple):
    """How records are read; see the options of the command."""

    columns: Columns
    template: str | None
    variables: dict[str, str]
    date: str
    each_turn: bool
    skip_broken: bool


def read_documents(
    piece: Piece, source: Source, tally: Tally
) -> Generator[tuple[int, str, Sequence[Document | Rendered]], None, None]:
    """(position, content, what is tokenised) of every document of a piece: itself, or a conversation as texts.

    Raises:
      UserError: a broken record, unless they are skipped: one line with its place.
    """
    template = _template(source)
    for position, value, fault in reading.read(piece, source.columns.names):
        try:
            if fault:
                raise BrokenRecord(fault)
            document = Document() if value is None else document_of(value, source.columns, template is not None)
            if document.empty:
                tally.empty += 1
                continue
            works: Sequence[Document | Rendered] = [document]
            if document.messages:
                assert template is not None, "document_of refuses messages without one"
                works = render(document, template, source.each_turn)
        except BrokenRecord as error:
            tally.broken += 1
            if not source.skip_broken or not tally.first_broken:
                tally.first_broken = f"{reading.where(piece, position)}: {error}"
            if not source.skip_broken:
                raise UserError(
                    f"{tally.first_broken}; mend it, or leave such records out with --skip_broken"
                ) from error
            continue
        tally.documents += 1
        for message in document.messages:
            role = message["role"]
            if role in tally.roles or len(tally.roles) < MOST_ROLES:
                tally.roles[role] = tally.roles.get(role, 0) + 1
        if not any(work.spans if isinstance(work, Rendered) else True for work in works):
            tally.unanswered += 1
        elif document.hollow:
            tally.hollow += 1
        yield position, document.content(), works


@functools.lru_cache(maxsize=2)
def _compiled(source: str, variables: tuple[tuple[str, str], ...], date: str) -> ChatTemplate:
    return ChatTemplate(source, dict(variables), date)


def _template(source: Source) -> ChatTemplate | None:
    if source.template is None:
        return None
    return _compiled(source.template, tuple(sorted(source.variables.items())), source.date)


class _Item(NamedTuple):
    """A document of a batch: its place between the splits, where it stands, what is tokenised."""

    place: float
    piece: Piece
    position: int
    work: Document | Rendered


@dataclass(frozen=True)
class TokenizeInput:
    """The unit's function; a class so that every runner can pickle it.

    Attributes:
      output, name: `output`/`name`/<split> receives the shards. job_folder: the results.
      tokenizer: its path; fingerprint: what it has to be.
      threshold: documents placed below it go to `splits[1]`, all others to `splits[0]`.
    """

    output: str
    name: str
    job_folder: str
    tokenizer: str
    fingerprint: str
    source: Source
    features: dict[str, Feature] = field(hash=False)
    threshold: float
    splits: tuple[str, ...]

    def __call__(self, unit: Unit) -> None:
        try:
            self._run(unit)
        except UserError as error:
            storage.write_json(error_path(self.job_folder, unit.name), {"message": str(error)})
            raise

    def _run(self, unit: Unit) -> None:
        tally = Tally()
        pieces = [Piece(*each) for each in unit.arguments["pieces"]]
        other: list[dict[str, np.ndarray]] = []

        def kept() -> Iterator[dict[str, np.ndarray]]:
            for place, example in self._examples(pieces, tally):
                if place < self.threshold and len(self.splits) > 1:
                    other.append(example)
                else:
                    yield example

        name = shard_name(unit.arguments["index"], unit.arguments["count"])
        result: dict[str, Any] = {}
        for split, examples in zip(self.splits, (kept(), other)):
            path = Path(self.output) / self.name / split / name
            shard, lengths = write_shard(path, examples, self.features)
            result[split] = {
                "examples": shard.examples,
                "bytes": shard.bytes,
                "tokens": dict(shard.tokens),
                "lengths": {key: list(LengthHistogram.of(values).counts) for key, values in lengths.items()},
            }
        write_result(self.job_folder, unit, {"splits": result, **vars(tally)})

    def _examples(self, pieces: Sequence[Piece], tally: Tally) -> Iterator[tuple[float, dict[str, np.ndarray]]]:
        batch: list[_Item] = []
        characters = 0
        for piece in pieces:
            for position, content, works in read_documents(piece, self.source, tally):
                batch += [_Item(place_of(content), piece, position, work) for work in works]
                characters += sum(len(work.text) if isinstance(work, Rendered) else work.size() for work in works)
                if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                    yield from self._tokenised(batch, tally)
                    batch, characters = [], 0
        yield from self._tokenised(batch, tally)

    def _tokenised(self, batch: list[_Item], tally: Tally) -> Iterator[tuple[float, dict[str, np.ndarray]]]:
        encoder = _encoder(self.tokenizer, self.fingerprint)
        for item, marked in zip(batch, encoder.encode([item.work for item in batch]), strict=True):
            if not marked.ids.size:
                tally.empty += 1
                continue
            _check_ids(marked.ids, encoder.size, item.piece, item.position)
            tally.cut += marked.cut
            tally.unbegun += marked.unbegun
            tally.responses += int((marked.spans[1::2] - marked.spans[::2]).sum())
            yield item.place, {TARGETS: marked.ids, SPANS: marked.spans}


@functools.lru_cache(maxsize=1)
def _encoder(path: str, fingerprint: str) -> DocumentEncoder:
    tokenizer = open_tokenizer(path)
    if tokenizer.fingerprint != fingerprint:
        raise UserError(f"--tokenizer {path} changed while the command ran; run it again")
    return DocumentEncoder(tokenizer)


def _check_ids(ids: np.ndarray, size: int, piece: Piece, position: int) -> None:
    if ids.min() < 0 or ids.max() >= size:
        bad = int(ids[(ids < 0) | (ids >= size)][0])
        raise UserError(
            f"{reading.where(piece, position)}: the tokenizer gives id {bad}, outside its own [0, {size}); "
            "its files do not belong together"
        )


def error_path(job_folder: str, unit: str) -> str:
    """Where a failing unit leaves its message: runners wrap exceptions, each in its own way."""
    return storage.join(job_folder, f"error-{unit}.json")
