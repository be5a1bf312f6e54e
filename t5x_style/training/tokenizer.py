"""Which tokenizer a run has: the one it names, else the one that its token caches were made with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from t5x_style import files, model_dir
from t5x_style.checkpoints import checkpoints
from t5x_style.data import vocabulary_facts
from t5x_style.data.data_config import DataConfig
from t5x_style.data.manifest import VocabularyInfo
from t5x_style.data.sources import resolve_sources
from t5x_style.data.vocabulary import Tokenizer
from t5x_style.data.vocabulary_facts import FACTS_FILE
from t5x_style.errors import UserError
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface.tokenizers import tokenizer_files
from t5x_style.training.run import TrainRun


@dataclasses.dataclass(frozen=True)
class CachedIds:
    """Whose ids a token cache holds.

    Attributes:
      place: the cache, for messages. fingerprint: of its vocabulary, None where its ids are of no text.
      size: ids there are, None where that is not known. tokenizer: folder of the tokenizer's files in the cache, or
        None. complete: the cache keeps all there is of its vocabulary: one without files has none (bytes).
    """

    place: str
    fingerprint: str | None
    size: int | None
    tokenizer: str | None
    complete: bool


def cached_ids(data: DataConfig) -> CachedIds:
    """Reads a cache's manifests.

    Raises:
      UserError: the cache is missing or broken, or the objective cannot read it.
    """
    found = resolve_sources(data)
    known = None if of_no_text(found.vocabulary) else found.fingerprint
    folder = found.sources[0].cache_dir
    facts = "" if known is None else files.join(vocabulary_facts.folder_of(folder, known), FACTS_FILE)
    return CachedIds(
        place=f"cache {data.name!r} in {folder}",
        fingerprint=known,
        size=None if found.vocabulary is None else found.vocabulary.size,
        tokenizer=None if known is None else found.tokenizer_folder,
        complete=known is None or files.is_file(facts),
    )


def of_no_text(vocabulary: VocabularyInfo | None) -> bool:
    """Whether ids were cached as they came (seqio's PassThroughVocabulary): their tokenizer is not known."""
    return vocabulary is None or vocabulary.class_name.rpartition(".")[2] == "PassThroughVocabulary"


def of_run(run: TrainRun) -> Tokenizer | None:
    """The tokenizer of a run with its architecture; None where its caches hold ids of no text and the model has none.

    One that the run names comes first, else the one that its training cache holds. For a cache from before caches held
    any: the one of MODEL_DIR (a run that goes on) or of the folder it starts from, if that is the cache's. Where the
    run names none, the cache's must be that of the model it starts from.

    Raises:
      UserError: there is none, or its files are broken; a cache was made with another one; the model has too few rows.
    """
    assert run.model is not None
    settings = _settings(run)
    named = None if run.tokenizer is None else (run.tokenizer, tokenizer_files.open_tokenizer(run.tokenizer, settings))
    caches = [cached_ids(data) for data in [run.data, *([run.evaluation.data] if run.evaluation else [])]]
    chosen = named or _of_cache(run, caches[0], settings)
    if chosen is not None:
        _check(run, caches, *chosen)
    for cache in caches:
        if cache.size is not None and cache.size > run.model.vocab_size:
            raise UserError(
                f"{cache.place} has ids up to {cache.size - 1}, the model only {run.model.vocab_size} rows for them; "
                "cache it with the model's tokenizer"
            )
    return None if chosen is None else chosen[1]


def _check(run: TrainRun, caches: Sequence[CachedIds], source: str, found: Tokenizer) -> None:
    """Raises UserError where the tokenizer does not fit the model, or a cache was made with another one."""
    assert run.model is not None
    tokenizer_files.check_size(found, run.model.vocab_size, source)
    for cache in caches:
        if cache.fingerprint is not None and cache.fingerprint != found.fingerprint:
            advice = (
                "leave TrainRun.tokenizer out to take the cache's" if run.tokenizer else "use caches of one tokenizer"
            )
            raise UserError(
                f"{cache.place} was tokenised with another tokenizer ({_short(cache.fingerprint)}) than {source!r} "
                f"({_short(found.fingerprint)}); cache it again with that one, or {advice}"
            )


def _of_cache(run: TrainRun, cache: CachedIds, settings: Mapping[str, Any] | None) -> tuple[str, Tokenizer] | None:
    """Where the tokenizer of a cache is, and the tokenizer; None where it has none to have.

    Ids that were cached as they came are taken for those of the model's own tokenizer, where it has one.
    """
    assert run.model is not None
    if cache.fingerprint is None:
        own = _of_start(run, settings, needed=False)
        return own if own is not None and own[1].size <= run.model.vocab_size else None
    start = _of_start(run, settings, needed=cache.tokenizer is None and not cache.complete)
    if start is not None and _model(start[1].fingerprint) != _model(cache.fingerprint):
        raise UserError(
            f"{cache.place} was tokenised with another tokenizer ({_short(cache.fingerprint)}) than the model's own "
            f"{start[0]!r} ({_short(start[1].fingerprint)}); cache it again with that one, or name the one that you "
            "want as TrainRun.tokenizer"
        )
    if start is not None and start[1].fingerprint == cache.fingerprint:
        return start  # its files may say more: a chat template
    if cache.tokenizer is not None:
        return cache.tokenizer, tokenizer_files.open_tokenizer(cache.tokenizer, settings)
    if cache.complete:
        logging.warning("%s has no tokenizer: the ids are of another kind; MODEL_DIR gets none", cache.place)
        return None
    raise UserError(
        f"{cache.place} holds no tokenizer (older caches do not); name the one that it was made with as "
        "TrainRun.tokenizer (the macro TOKENIZER), or cache it again"
    )


def _of_start(run: TrainRun, settings: Mapping[str, Any] | None, needed: bool) -> tuple[str, Tokenizer] | None:
    """The tokenizer that the model came with: MODEL_DIR's where the run goes on, else its start's.

    One that cannot be read is an error only where it is needed.
    """
    init_from = run.init_from
    start = init_from if init_from is None or isinstance(init_from, str) else init_from.get("")
    for folder in [*([run.model_dir] if checkpoints.steps(run.model_dir) else []), *([start] if start else [])]:
        for place in (files.join(folder, tokenizer_files.TOKENIZER), folder):
            if not tokenizer_files.has_tokenizer(place):
                continue
            try:
                return place, tokenizer_files.open_tokenizer(place, settings)
            except UserError as error:
                if needed:
                    raise
                logging.warning("the model's own tokenizer is not compared with the cache's: %s", error)
                return None
    return None


def _settings(run: TrainRun) -> Mapping[str, Any] | None:
    """The config.json of the model, which tells the class of an older tokenizer."""
    starts = [run.init_from] if isinstance(run.init_from, str) else []
    for folder in [files.join(run.model_dir, model_dir.HUGGINGFACE), *starts]:
        for place in (folder, files.join(folder, model_dir.HUGGINGFACE)):
            if files.is_file(files.join(place, folders.CONFIG)):
                return files.read_json(files.join(place, folders.CONFIG))
    return None


def _model(fingerprint: str) -> str:
    """That of a SentencePiece model without what is added behind it: its ids mean the same."""
    return fingerprint.partition("+")[0]


def _short(fingerprint: str) -> str:
    return fingerprint[:12]
