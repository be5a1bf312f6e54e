"""The driver of `cache_tasks --input`: plans units of files, runs them as one Beam job, writes manifests last."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from beam_pipelines.caching.inputs import reading, splitting
from beam_pipelines.caching.inputs.chat_templates import NONE, ChatTemplate, find_template, template_variables
from beam_pipelines.caching.inputs.columns import CHAT, TEXT, BrokenRecord, Columns, choose_columns
from beam_pipelines.caching.inputs.earlier import check_same, describe_inputs, read_settings, write_settings
from beam_pipelines.caching.inputs.learnable import check_learnable
from beam_pipelines.caching.inputs.options import InputOptions
from beam_pipelines.caching.inputs.reading import Piece
from beam_pipelines.caching.inputs.report import log_result
from beam_pipelines.caching.inputs.template_check import check_template
from beam_pipelines.caching.inputs.tokenize_unit import (
    SPANS,
    TARGETS,
    Source,
    Tally,
    TokenizeInput,
    error_path,
    read_documents,
)
from beam_pipelines.caching.manifests import build_manifest
from beam_pipelines.files import storage
from beam_pipelines.jobs.run_job import Job, run_job
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import Unit, distinct_names, result_path
from t5x_style import logs
from t5x_style.data.examples import id_storage
from t5x_style.data.manifest import (
    INPUTS_FOLDER,
    MANIFEST_FILE,
    Feature,
    Manifest,
    VocabularyInfo,
    write_manifest,
)
from t5x_style.data.vocabulary import Tokenizer
from t5x_style.data.vocabulary_facts import write_facts
from t5x_style.errors import UserError
from t5x_style.files import fingerprint, require_writable
from t5x_style.huggingface.tokenizers.tokenizer_files import open_tokenizer

JOB_FOLDER = INPUTS_FOLDER
VERSION = 1  # of what a unit makes of its records: another one makes older caches again


@dataclasses.dataclass(frozen=True)
class InputPlan:
    """One cache: its units, what runs them, and what its manifests will say."""

    options: InputOptions
    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]
    units: tuple[Unit, ...]
    function: TokenizeInput
    vocabulary: VocabularyInfo
    append_eos: tuple[str, ...]
    tokenizer: Tokenizer

    @property
    def code(self) -> str:
        """Of the settings: what the manifests and a rerun compare."""
        return fingerprint(self.settings)


def make_plan(options: InputOptions) -> InputPlan:
    """Reads the tokenizer and the first records, and plans the units; writes nothing but the output folder.

    Raises:
      UserError: no files, an unknown format, a tokenizer or template that cannot be read, columns that are not there,
        another cache in the folder.
    """
    require_writable(options.output, "--output")
    paths = reading.find_files(options.patterns)
    tokenizer = open_tokenizer(options.tokenizer)
    cut = reading.cut(paths, options.text_documents, options.range_bytes)
    columns = _columns(cut, options)
    template = _template_for(columns, tokenizer, options)
    job_folder = storage.join(options.output, JOB_FOLDER, options.name)
    before = read_settings(job_folder)
    today = datetime.date.today().isoformat()
    date = (before.get("date") or today) if template and "strftime_now" in template else ""
    source = Source(
        columns,
        template,
        {} if template is None else template_variables(tokenizer),
        date or today,
        options.each_turn,
        options.skip_broken,
    )
    if template is not None:
        # A broken one is told before the first record.
        compiled = ChatTemplate(template, source.variables, source.date)
        check_template(compiled, options.chat_template, cut, columns, options.each_turn)
    fraction = 0.0 if options.split else options.validation
    split = options.split or splitting.TRAIN
    settings = {
        "version": VERSION,
        "tokenizer": tokenizer.fingerprint,
        "feature": str(columns),
        "chat_template": None if template is None else fingerprint([template, source.variables]),
        "date": date,
        "each_turn": options.each_turn,
        "text_documents": options.text_documents,
        "validation": fraction,
        "split": split,
    }
    inputs = describe_inputs(options.patterns, paths)
    check_same(options, job_folder, before, settings, inputs)
    threshold = _threshold(cut, source, fraction)
    splits = (split, splitting.VALIDATION) if threshold else (split,)
    eos = tokenizer.eos_id is not None and template is None
    where = options.tokenizer if "://" in options.tokenizer else os.path.abspath(options.tokenizer)
    vocabulary = _vocabulary_info(tokenizer, where)
    features = {
        TARGETS: Feature("int32", 1, eos, tokenizer.fingerprint, "ids", id_storage(tokenizer.size)),
        SPANS: Feature("int32", 1, False, None, "numbers", "list"),
    }
    function = TokenizeInput(
        output=options.output,
        name=options.name,
        job_folder=job_folder,
        tokenizer=where,
        fingerprint=tokenizer.fingerprint,
        source=source,
        features=features,
        threshold=threshold,
        splits=splits,
    )
    units = _units(paths, cut, [fingerprint(settings), threshold])
    return InputPlan(options, settings, inputs, units, function, vocabulary, (TARGETS,) if eos else (), tokenizer)


def _template_for(columns: Columns, tokenizer: Tokenizer, options: InputOptions) -> str | None:
    """The source of the chat template that the columns are rendered by; None: as they are.

    Raises:
      UserError: messages without a template, or an option that would do nothing.
    """
    template = find_template(tokenizer.own_files(), options.chat_template)
    if columns.form == TEXT:
        if options.each_turn or options.chat_template not in (None, NONE):
            option = "--each_turn" if options.each_turn else f"--chat_template {options.chat_template}"
            raise UserError(f"{option}: column {columns} holds plain texts, there is nothing to render; leave it out")
        return None
    if columns.form == CHAT and template is None:
        lacking = "--chat_template none" if options.chat_template else f"--tokenizer {options.tokenizer} has none"
        raise UserError(
            f"column {columns} holds messages, which need a chat template ({lacking}); give --chat_template FILE"
        )
    if options.each_turn and template is None:
        raise UserError("--each_turn: there is no chat template, so there are no turns; leave it out")
    return template


def _vocabulary_info(tokenizer: Tokenizer, path: str) -> VocabularyInfo:
    """What a manifest says of a tokenizer."""
    kind = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    special = (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id, tokenizer.unk_id)
    return VocabularyInfo(kind, path, tokenizer.size, *special)


def _columns(cut: Sequence[Sequence[Piece]], options: InputOptions) -> Columns:
    """What the first record that is not blank decides; with --skip_broken, the first that is not broken."""
    first = ""
    for piece in (piece for pieces in cut for piece in pieces):
        for record in reading.read(piece):
            try:
                if record.fault:
                    raise BrokenRecord(record.fault)
                if record.value:
                    return choose_columns(record.value, options.feature)
            except BrokenRecord as error:
                first = first or f"{reading.where(piece, record.position)}: {error}"
                if not options.skip_broken:
                    raise UserError(first) from error
    if first:
        raise UserError(f"{first} (and so are all other records: --skip_broken leaves none)")
    raise UserError(f"--input {' '.join(options.patterns)}: there is no record in these files; check them")


def _threshold(cut: Sequence[Sequence[Piece]], source: Source, fraction: float) -> float:
    def contents() -> Generator[str, None, None]:
        tally = Tally()
        for pieces in cut:
            for piece in pieces:
                with contextlib.closing(read_documents(piece, source, tally)) as documents:
                    for _, content, works in documents:
                        if works:
                            yield content

    with contextlib.closing(contents()) as found:
        return splitting.choose_threshold(found, fraction)


def _units(paths: Sequence[str], cut: Sequence[Sequence[Piece]], made_by: list[Any]) -> tuple[Unit, ...]:
    names = dict(zip(paths, distinct_names(paths), strict=True))
    identities = {
        path: [names[path], size, os.stat(path).st_mtime_ns if storage.is_local(path) else None]
        for path, size in zip(paths, storage.sizes(paths), strict=True)
    }
    units = []
    for index, pieces in enumerate(cut):
        inputs = [[identities[piece.path], piece.kind, piece.start, piece.end] for piece in pieces]
        arguments = {
            "index": index,
            "count": len(cut),
            "pieces": [[os.path.abspath(p.path) if storage.is_local(p.path) else p.path, *p[1:]] for p in pieces],
        }
        made = fingerprint([*made_by, index, len(cut), inputs])
        units.append(Unit(f"{index:05d}-of-{len(cut):05d}", made, arguments))
    return tuple(units)


def cache(plan: InputPlan, runner: Runner) -> list[Manifest]:
    """Runs the unfinished units, writes the vocabulary and the manifests, and says what was done.

    Raises:
      UserError: a unit failed on its data, or there is no example, or no response, at all.
    """
    started = time.monotonic()
    folder, function = Path(plan.options.output) / plan.options.name, plan.function
    pending = _drop_stale(plan, folder)
    write_settings(function.job_folder, plan.settings, plan.inputs)
    job = Job(f"cache {plan.options.name}", function.job_folder, plan.units, dict(plan.settings), function)
    try:
        results = run_job(runner, job)
    except Exception as error:
        for unit in plan.units:
            if storage.exists(error_path(function.job_folder, unit.name)):
                message = storage.read_json(error_path(function.job_folder, unit.name))["message"]
                raise UserError(message) from error
        raise
    by_unit = dict(results.items())
    manifests = [_manifest(plan, split, by_unit) for split in function.splits]
    made = sum(manifest.examples for manifest in manifests)
    check_learnable(f"--input {' '.join(plan.options.patterns)}", function.source.columns, made, by_unit)
    write_facts(plan.options.output, plan.tokenizer.fingerprint, plan.tokenizer.facts(), plan.tokenizer.own_files())
    for split in folder.iterdir():
        current = {shard.file for m in manifests if m.split == split.name for shard in m.shards}
        for path in split.iterdir():
            if path.name not in current and path.name.endswith((".array_record", ".tmp")):
                path.unlink()
    for manifest in manifests:
        write_manifest(folder / manifest.split, manifest)
    log_result(plan.options, manifests, by_unit, pending, time.monotonic() - started)
    return manifests


def _manifest(plan: InputPlan, split: str, results: Mapping[str, dict]) -> Manifest:
    manifest = build_manifest(
        plan.options.name,
        split,
        plan.code,
        plan.function.features,
        {plan.tokenizer.fingerprint: plan.vocabulary},
        plan.append_eos,
        {},
        [result["splits"][split] for result in results.values()],
    )
    return dataclasses.replace(manifest, shards=tuple(shard for shard in manifest.shards if shard.examples))


def _drop_stale(plan: InputPlan, folder: Path) -> set[str]:
    """Names of the units to do. Where there are any, the manifests go first: nothing half new is ever taken for whole.

    A unit whose shards are gone is done again, and one that left out broken records which are not to be skipped now.
    """
    pending = set()
    for unit in plan.units:
        storage.delete(error_path(plan.function.job_folder, unit.name))
        path = result_path(plan.function.job_folder, unit.name)
        result = storage.read_json(path) if storage.exists(path) else {}
        if result.get("fingerprint") != unit.fingerprint:
            pending.add(unit.name)
        elif not _shards_stand(folder, unit, result) or (result["broken"] and not plan.options.skip_broken):
            storage.delete(path)
            storage.delete(storage.join(plan.function.job_folder, "manifest.json"))
            pending.add(unit.name)
    splits = set(plan.function.splits)
    for manifest in folder.glob(f"*/{MANIFEST_FILE}"):
        if pending or manifest.parent.name not in splits:
            manifest.unlink()
    return pending


def _shards_stand(folder: Path, unit: Unit, result: Mapping[str, Any]) -> bool:
    for split, made in result["splits"].items():
        path = folder / split / f"{unit.name}.array_record"
        if made["examples"] and not (path.is_file() and path.stat().st_size == made["bytes"]):
            return False
    return True


def run(options: InputOptions, runner: str, workers: int, beam_options: Sequence[str]) -> None:
    """Plans, chooses the workers, caches."""
    plan = make_plan(options)
    form = plan.function.source.columns.form
    logging.info(
        "%s: column %s (%s), %s, %s",
        ", ".join(options.patterns),
        plan.function.source.columns,
        {TEXT: "plain text", CHAT: "conversations"}.get(form, "prompts and completions"),
        "chat template" if plan.function.source.template else "no chat template",
        "EOS behind every example" if plan.append_eos else _why_no_eos(plan),
    )
    workers = max(1, min(workers, len(plan.units)))
    with contextlib.ExitStack() as stack:
        if workers > 1:
            # Every process would start a thread for every core.
            stack.enter_context(_environment("TOKENIZERS_PARALLELISM", "false"))
        stack.enter_context(logs.without_native_lines("normalizer.cc("))
        cache(plan, stack.enter_context(Runner(runner, workers, beam_options)))


def _why_no_eos(plan: InputPlan) -> str:
    if plan.function.source.template is not None:
        return "the template writes the ends of turns, nothing is appended"
    return "the vocabulary has no EOS, nothing is appended"


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
