"""Runs seqio Tasks once, or tokenises files, and keeps the examples as token shards (docs/cache_tasks.md).

python -m beam_pipelines.cache_tasks --task NAME [--task ...] [--module USER_MODULE ...] --output DIR
python -m beam_pipelines.cache_tasks --input 'mine/*.jsonl' --tokenizer FOLDER_OR_FILE --output DIR
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Sequence

from absl import logging

from beam_pipelines.caching.inputs.options import add_arguments as add_input_arguments
from beam_pipelines.caching.inputs.options import input_options
from beam_pipelines.jobs.runners import Runner, add_arguments, split_arguments
from t5x_style import command_line, logs
from t5x_style.errors import UserError, run_main


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and the options left for Beam."""
    parser = command_line.parser("beam_pipelines.cache_tasks", __doc__)
    parser.add_argument("--task", action="append", help="a Task or Mixture; may be repeated")
    parser.add_argument("--module", action="append", default=[], help="module that registers Tasks; default: tasks.*")
    parser.add_argument("--output", required=True, help="cache folder")
    parser.add_argument("--splits", default="", help="comma list; default: all splits of each Task")
    parser.add_argument("--data_dir", help="sets T5X_STYLE_DATA_DIR before the modules are imported")
    _add_task_options(parser)
    add_input_arguments(parser)
    add_arguments(parser)
    own, beam_options = split_arguments(parser, argv)
    return parser.parse_args(own), beam_options


def _add_task_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--skip", action="append", default=[], help="Task to leave out; may be repeated")
    parser.add_argument(
        "--stop_at_placeholder",
        action="store_true",
        help="leave out what stands behind CacheDatasetPlaceholder, for an objective of the loader to do",
    )
    parser.add_argument(
        "--sequence_length", default="", help="such as inputs=512,targets=114: for steps that depend on it"
    )


def run(argv: Sequence[str]) -> None:
    """Parses the command line and caches."""
    arguments, beam_options = parse_arguments(argv)
    if "://" in arguments.output:
        raise UserError(f"--output {arguments.output}: ArrayRecord shards are written to a local or mounted folder")
    if (inputs := input_options(arguments)) is not None:
        from beam_pipelines.caching.inputs import cache_inputs

        cache_inputs.run(inputs, arguments.runner, arguments.workers, beam_options)
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    started = time.monotonic()
    # TensorFlow and seqio take seconds: not before the command line is known to be right.
    from beam_pipelines.caching.cache import cache, choose_workers, make_plan
    from beam_pipelines.caching.options import Options, parse_lengths

    options = Options(arguments.stop_at_placeholder, parse_lengths(arguments.sequence_length))
    plan = make_plan(
        arguments.task,
        modules=tuple(arguments.module),
        output=os.path.abspath(arguments.output),
        splits=tuple(filter(None, arguments.splits.split(","))),
        data_dir=None if arguments.data_dir is None else os.path.abspath(os.path.expanduser(arguments.data_dir)),
        options=options,
        skip=tuple(arguments.skip),
    )
    workers = choose_workers(plan, arguments.workers, arguments.runner)
    with contextlib.ExitStack() as stack:
        stack.enter_context(logs.without_native_lines("normalizer.cc("))
        runner = stack.enter_context(Runner(arguments.runner, workers, beam_options))
        manifests = cache(plan, runner)
    examples = sum(manifest.examples for manifest in manifests)
    tokens = sum(manifest.token_count for manifest in manifests)
    logging.info(
        "cached %d Tasks: %d splits, %d examples, %d tokens, %.1f s",
        len({manifest.task for manifest in manifests}),
        len(manifests),
        examples,
        tokens,
        time.monotonic() - started,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
