"""From an EvaluationRun to its results file: every model on every Task and token cache, skipping what is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

from t5x_style import files
from t5x_style.errors import UserError
from t5x_style.evaluation import baselines, models, perplexity, prompts, samples, seqio_tasks
from t5x_style.evaluation.models import Functions, Named
from t5x_style.evaluation.results import Results
from t5x_style.evaluation.run import EvaluationRun
from t5x_style.progress import Progress
from t5x_style.training.tokenizer import of_no_text

DATA_DIR_VARIABLE = "T5X_STYLE_DATA_DIR"


def evaluate(run: EvaluationRun, open_model: Callable[[Named, int], Any] = models.open_model) -> dict[str, Any]:
    """Evaluates and writes `run.output` after every Task.

    Args:
      run: what to do.
      open_model: (named model, batch size) -> (Functions, vocabulary).

    Returns:
      The content of the results file (see results.py).

    Raises:
      UserError: the run, a model, a Task or a cache is not as it should be.
    """
    run.check()
    files.check_writable(files.parent(run.output), "--output's folder")
    chosen = models.named(run.models, run.step)
    results = Results(run.output)
    if run.data_dir is not None:
        os.environ[DATA_DIR_VARIABLE] = str(run.data_dir)  # read by the Tasks when they open their data
    names = _task_names(run, results)
    work = _Evaluation(run, results, open_model)
    with Progress("evaluate", len(chosen) * (len(names) + len(run.perplexity)), "tasks") as progress:
        for model in chosen:
            results.start_model(model.name, model.path, model.step)
            work.model(model, names, progress)
    results.save()
    return results.content


def _task_names(run: EvaluationRun, results: Results) -> list[str]:
    if not run.tasks and run.perplexity:
        return []
    groups = seqio_tasks.load_modules(run.modules)
    wanted = run.tasks or [name for names in groups.values() for name in names]
    if not wanted:
        raise UserError("no Task to evaluate: the modules list none in EVALUATIONS; give --task NAME")
    names = seqio_tasks.resolve(wanted)
    for group, members in groups.items():
        if kept := [name for name in members if name in names]:
            results.set_group(group, kept)
    return names


class _Evaluation:
    """The examples that all models share, and the model that is open."""

    def __init__(self, run: EvaluationRun, results: Results, open_model: Callable[[Named, int], Any]):
        self._run, self._results, self._open = run, results, open_model
        self._tasks: dict[str, seqio_tasks.TaskData] = {}
        self._index: dict[str, Any] | None = None

    def model(self, model: Named, names: Sequence[str], progress: Progress) -> None:
        """Computes what is missing of one model, which is opened only if something is."""
        run, opened = self._run, None
        identity = model.identity()
        jobs = [("tasks", name) for name in names] + [("perplexity", name) for name in run.perplexity]
        for kind, name in jobs:
            settings = run.task_settings() if kind == "tasks" else run.perplexity_settings()
            key = files.fingerprint([identity, settings, self._data_key(kind, name)])
            if not self._results.finished(model.name, kind, name, key, settings):
                opened = opened or self._open(model, run.batch_size)
                began = time.monotonic()
                compute = self._task if kind == "tasks" else self._perplexity
                result = compute(name, *opened)
                seconds = round(time.monotonic() - began, 3)
                head = {"key": key, "settings": settings, "step": model.step, "seconds": seconds}
                self._results.add(model.name, kind, name, {**head, **result})
                figures = ", ".join(f"{metric} {value:.4g}" for metric, value in result["metrics"].items())
                logging.info("%s, %s: %s (%.1f s)", model.name, name, figures, seconds)
            progress.advance(1, f"{model.name} {name}")

    def _data_key(self, kind: str, name: str) -> str:
        """Fingerprint of the data: of the examples' index for Tasks, of the manifest for token caches."""
        if kind == "perplexity":
            path = files.join(self._cache_dir(), name, self._run.perplexity_split, "manifest.json")
            return files.file_sha256(path) if files.exists(path) else ""
        return files.fingerprint(self._examples_index())

    def _examples_index(self) -> dict[str, Any]:
        """The data folder's examples.json; {} for Tasks with other data."""
        if self._index is None:
            folder = os.environ.get(DATA_DIR_VARIABLE, "")
            path = files.join(folder, "examples", "examples.json")
            self._index = files.read_json(path) if folder and files.exists(path) else {}
        return self._index

    def _cache_dir(self) -> str:
        folder = self._run.data_dir or os.environ.get(DATA_DIR_VARIABLE, "")
        if self._run.cache_dir is None and not folder:
            raise UserError("perplexity needs the token caches; give --cache_dir DIR or --data_dir DIR")
        return self._run.cache_dir or files.join(folder, "cache")

    def _task(self, name: str, functions: Functions, vocabulary: Any) -> dict[str, Any]:
        run = self._run
        if name not in self._tasks:
            self._tasks[name] = seqio_tasks.load(name, run.split, run.max_examples)
        data = self._tasks[name]
        seqio_tasks.check_vocabulary(data, vocabulary)
        inputs, cut = prompts.cut(data.inputs, run.length - run.max_new_tokens, run.trim_inputs)
        outputs: dict[str, Any] = {}
        result: dict[str, Any] = {"examples": len(set(data.groups)), "rows": len(inputs), "cut_inputs": cut}
        if seqio_tasks.PREDICTION in data.kinds:
            outputs[seqio_tasks.PREDICTION] = functions.predict(inputs, run.max_new_tokens)
            result["unfinished_outputs"] = sum(
                len(row) >= run.max_new_tokens for row in outputs[seqio_tasks.PREDICTION]
            )
        if seqio_tasks.SCORE in data.kinds:
            outputs[seqio_tasks.SCORE] = functions.score(inputs, data.targets)
        computed = seqio_tasks.compute(data, outputs)
        own = samples.baseline(data)
        return {
            **result,
            "metrics": computed.metrics,
            "majority": own,
            "baselines": baselines.for_metrics(name, computed.metrics, own, self._examples_index(), run.split),
            "samples": samples.collect(data, computed, outputs, run.samples),
        }

    def _perplexity(self, name: str, functions: Functions, vocabulary: Any) -> dict[str, Any]:
        run, folder = self._run, self._cache_dir()
        manifest, documents = perplexity.read_documents(folder, name, run.perplexity_split, run.perplexity_documents)
        feature = manifest.features[perplexity.FEATURE]
        known = None if feature.vocabulary is None else manifest.vocabularies[feature.vocabulary]
        if not of_no_text(known) and feature.vocabulary != vocabulary.fingerprint:
            raise UserError(
                f"cache {name!r} in {folder} was tokenised with another vocabulary ({str(feature.vocabulary)[:12]}) "
                f"than the model's ({vocabulary.fingerprint[:12]}); cache it again"
            )
        eos = vocabulary.eos_id if perplexity.FEATURE in manifest.append_eos else None
        counts = perplexity.measure(
            documents, run.perplexity_settings()["perplexity_length"], functions.score, vocabulary.decode, eos
        )
        return {"metrics": perplexity.summarise(counts)}
