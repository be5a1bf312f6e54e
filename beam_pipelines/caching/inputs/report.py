"""The last lines of `cache_tasks --input`: what was cached, what was left out, what to run next."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from absl import logging

from beam_pipelines.caching.inputs.columns import KNOWN_ROLES
from beam_pipelines.caching.inputs.learnable import counted, roles_of
from beam_pipelines.caching.inputs.options import InputOptions
from beam_pipelines.caching.inputs.splitting import TRAIN, VALIDATION
from t5x_style import files
from t5x_style.data.manifest import Manifest


def log_result(
    options: InputOptions,
    manifests: Sequence[Manifest],
    results: Mapping[str, Mapping[str, Any]],
    pending: Collection[str],
    seconds: float,
) -> None:
    """Logs the totals of all units, the speed of those that were done now (`pending`), and the next command."""

    def total(key: str) -> int:
        return sum(int(result.get(key, 0)) for result in results.values())

    done = sum(sum(part["tokens"].get("targets", 0) for part in results[name]["splits"].values()) for name in pending)
    for manifest in manifests:
        if not manifest.examples:
            logging.warning("%s: split %s has no example", manifest.task, manifest.split)
    if total("broken"):
        first = next(result["first_broken"] for result in results.values() if result["broken"])
        logging.warning("%d broken records were left out; the first: %s", total("broken"), first)
    if unknown := {role: count for role, count in roles_of(results).items() if role not in KNOWN_ROLES}:
        logging.warning(
            "messages of unknown roles (misspelt?): %s; only what the assistant says is learnt", counted(unknown)
        )
    if total("hollow"):
        logging.warning("%d records have empty answers only: kept, there is little to learn of them", total("hollow"))
    if total("unanswered"):
        fate = "left out" if options.each_turn else "kept, with nothing to learn for a loss on answers"
        logging.warning("%d conversations have no answer of an assistant: %s", total("unanswered"), fate)
    if total("cut"):
        logging.warning(
            "%d answers begin within a token (a prompt that ends with a space?): see docs/cache_tasks.md", total("cut")
        )
    if total("unbegun"):
        logging.warning(
            "%d conversations are rendered without the BOS that the tokenizer puts before a text; the loader puts it, "
            "apply_chat_template of transformers does not",
            total("unbegun"),
        )
    logging.info(
        "cached %s: %s, %d tokens, %d of them responses; %d empty, %d broken; %d of %d units in %.1f s, %d tokens/s",
        posixpath.join(options.output, options.name),
        ", ".join(f"{manifest.examples} examples for {manifest.split}" for manifest in manifests),
        sum(manifest.token_count for manifest in manifests),
        total("responses"),
        total("empty"),
        total("broken"),
        len(pending),
        len(results),
        seconds,
        done / max(seconds, 1e-3),
    )
    logging.info("next: %s", next_command(options, [manifest.split for manifest in manifests if manifest.examples]))


def next_command(options: InputOptions, splits: Sequence[str] = (TRAIN, VALIDATION)) -> str:
    """The fine-tuning of a folder on this cache; a tokenizer that is a folder is taken for the model's.

    Args:
      splits: that have examples; without one for validation there is no evaluation.

    Example: t5x_style train --gin_file=gin/runs/finetune.gin --gin.INIT_FROM="'llama'" ...
    """
    values = {"INIT_FROM": options.tokenizer, "CACHE_DIR": options.output, "MODEL_DIR": "MODEL_DIR"}
    # A tokenizer alone is no start: only the folder of a model, or a MODEL_DIR, is.
    if not any(files.is_file(files.join(options.tokenizer, name)) for name in ("config.json", "model.json")):
        values["INIT_FROM"] = "FOLDER"
    if options.name != "data":
        values["NAME"] = options.name
    if TRAIN not in splits and splits:
        values["train/DataConfig.split"] = splits[0]
    bindings = [f"--gin.{name}=\"'{value}'\"" for name, value in values.items()]
    if VALIDATION not in splits or splits[0] == VALIDATION:
        bindings.append("--gin.TrainRun.evaluation=None")
    return f"t5x_style train --gin_file=gin/runs/finetune.gin {' '.join(bindings)}"
