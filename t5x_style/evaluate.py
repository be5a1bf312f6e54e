"""Evaluates models on seqio Tasks and token caches and writes one JSON of results.

    python -m t5x_style.evaluate --model base=out/pretrain --model tuned=out/tune --data_dir out \\
        --task 'documentation_*' --perplexity documents --output out/evaluation.json

Without --task and --perplexity: every Task that the modules list in EVALUATIONS. A rerun skips what the output holds
already for the same model, data and settings, and computes the rest again. Exit codes: 0 done, 2 the input is wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Sequence

from t5x_style import command_line, config, logs
from t5x_style.errors import run_main
from t5x_style.evaluation.run import EvaluationRun

REPEATED = {"models": "model", "tasks": "task", "modules": "module", "perplexity": "perplexity"}
HELP = {
    "models": "MODEL_DIR or NAME=MODEL_DIR, repeatable",
    "output": "JSON file of results",
    "tasks": "seqio Task or pattern such as 'documentation_*', repeatable",
    "modules": "Python module that registers Tasks, repeatable (default: tasks.documentation)",
    "perplexity": "token cache whose perplexity is measured, repeatable",
    "data_dir": "folder of the Tasks' data, sets T5X_STYLE_DATA_DIR",
    "cache_dir": "folder of the token caches (default: DATA_DIR/cache)",
    "step": "checkpoint (default: the newest)",
    "split": "of the Tasks",
    "max_examples": "at most so many examples a Task, spread over the split",
    "batch_size": "rows at a time",
    "length": "tokens of inputs and answer together, as in training",
    "trim_inputs": "the side that long inputs lose",
    "max_new_tokens": "of a generated answer",
    "samples": "examples a Task kept in the results",
    "perplexity_split": "of the token caches",
    "perplexity_length": "tokens of a row, as in pretraining (default: LENGTH)",
    "perplexity_documents": "at most so many documents, spread over the cache",
}


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("t5x_style.evaluate", __doc__)
    config.add_arguments(parser)
    hints = typing.get_type_hints(EvaluationRun)
    for field in dataclasses.fields(EvaluationRun):
        shown = HELP[field.name]
        if field.name in REPEATED:
            parser.add_argument(f"--{REPEATED[field.name]}", dest=field.name, action="append", help=shown)
        elif typing.get_origin(hints[field.name]) is typing.Literal:
            parser.add_argument(f"--{field.name}", choices=typing.get_args(hints[field.name]), help=shown)
        else:
            number = hints[field.name] in (int, int | None)
            default = "" if field.default in (None, "") else f" (default: {field.default})"
            parser.add_argument(f"--{field.name}", type=int if number else str, help=shown + default)
    return parser


def parse(argv: Sequence[str]) -> EvaluationRun:
    """The run that gin files and flags describe; flags win.

    Raises:
      UserError: an argument or a gin file is wrong.
    """
    arguments, bindings = config.parse_arguments(_parser(), argv)
    run = EvaluationRun()
    if arguments.gin_file or bindings:
        run = config.load(EvaluationRun, arguments.gin_file, bindings).root
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(EvaluationRun)}
    given = {name: tuple(value) if name in REPEATED else value for name, value in given.items() if value is not None}
    return dataclasses.replace(run, **given)


def _main(argv: Sequence[str]) -> int:
    run = parse(argv)
    run.check()

    from t5x_style.evaluation.evaluate_models import evaluate

    with logs.without_native_lines("normalizer.cc("):
        evaluate(run)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
