"""The stages of the quickstart: each one is a command of the project that a user could type."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Callable
from pathlib import Path

from t5x_style import files
from t5x_style.errors import UserError

MINIMUM_DOCUMENTS = 2_000


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
      name, title: for the file of finished stages and for people.
      arguments: what follows `python`.
      check: run after the command; raises UserError if its result cannot carry the next stage.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    check: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Size:
    """How much the quickstart does; `FULL` is what the README's figures are for, `SMALL` what the tests run.

    Attributes:
      crawl, clean, tokenizer, examples, evaluate: further arguments of these commands.
      train, tune: gin overrides of the two runs.
      minimum_documents: fewer documents after cleaning are an error.
    """

    crawl: tuple[str, ...] = ()
    clean: tuple[str, ...] = ()
    tokenizer: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    tune: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()
    minimum_documents: int = MINIMUM_DOCUMENTS


FULL = Size(evaluate=("--max_examples", "100", "--max_new_tokens", "32", "--perplexity_documents", "200"))
SMALL_RUN = ("--gin.VOCAB_SIZE=1024", "--gin.WARMUP_STEPS=2", "--gin.llama.layers=2")
SMALL = Size(
    crawl=(
        *("--packages", "numpy,matplotlib", "--package_pages", "600", "--package_modules", "2"),
        *("--min_pages", "300"),
    ),
    tokenizer=("--vocab_size", "1024"),
    examples=("--package_examples", "20"),
    train=(*SMALL_RUN, "--gin.STEPS=12", "--gin.EVAL_EVERY=6", "--gin.LENGTH=128"),
    tune=(*SMALL_RUN, "--gin.STEPS=6", "--gin.EVAL_EVERY=3", "--gin.LENGTH=256"),
    evaluate=("--max_examples", "4", "--max_new_tokens", "4", "--perplexity_documents", "4"),
    minimum_documents=300,
)
# Classification by the score of each option, the other clusters by generated text.
EVALUATED = ("documentation_*_rank", "documentation_summary*", "documentation_arguments*")


def plan(output: Path, size: Size, inputs: list[str] | None, workers: int) -> list[Stage]:
    """The stages in order.

    Args:
      output: the quickstart's folder. size: FULL or SMALL.
      inputs: WARC/WET globs instead of the machine's own documentation. There are no object pages in them, so
        the instruction stages are left out.
      workers: processes of the Beam stages.
    """
    crawl = [] if inputs else [_crawl(output, size, workers)]
    shared = [_clean(output, size, inputs, workers), _tokenizer(output, size)]
    examples = [] if inputs else [_examples(output, size)]
    tuned = [] if inputs else [_tune(output, size)]
    return [
        *crawl,
        *shared,
        *examples,
        _cache(output, instruct=not inputs, workers=workers),
        _pretrain(output, size),
        *tuned,
        _evaluate(output, size, instruct=not inputs),
        _report(output, "pretrain" if inputs else "tune"),
    ]


def _crawl(output: Path, size: Size, workers: int) -> Stage:
    arguments = ("-m", "beam_pipelines.sources.documentation", "--output", str(output), "--workers", str(workers))
    return Stage("crawl", "record this machine's documentation as WARC files", arguments + size.crawl)


def _clean(output: Path, size: Size, inputs: list[str] | None, workers: int) -> Stage:
    arguments = (
        *("-m", "beam_pipelines.clean_web", "--input", *(inputs or [str(output / "crawl" / "*.warc.gz")])),
        *("--output", str(output / "web"), "--gin_file", "web/quickstart.gin", "--workers", str(workers)),
        *(() if inputs else ("--gin.SOURCE='documentation'",)),
    )

    def check() -> None:
        kept = files.read_json(output / "web" / "stats.json")["stages"][-1]["kept"]
        if kept < size.minimum_documents:
            raise UserError(
                f"{kept} documents are left after cleaning, {size.minimum_documents} are needed; see "
                f"{output / 'web' / 'stats.json'} for what was dropped and why, and give more input"
            )

    return Stage("clean", "extract, identify the language, filter, deduplicate", arguments + size.clean, check)


def _documents(output: Path) -> str:
    return str(output / "web" / "documents" / "*.parquet")


def _tokenizer(output: Path, size: Size) -> Stage:
    arguments = (
        *("-m", "beam_pipelines.train_tokenizer", "--documents", _documents(output)),
        *("--output", str(output / "tokenizer")),
    )
    return Stage("tokenizer", "train a SentencePiece tokenizer", arguments + size.tokenizer)


def _examples(output: Path, size: Size) -> Stage:
    arguments = (
        *("-m", "beam_pipelines.build_examples", "--documents", _documents(output)),
        *("--output", str(output / "examples")),
    )
    return Stage("examples", "build well-posed instruction examples", arguments + size.examples)


def _cache(output: Path, instruct: bool, workers: int) -> Stage:
    tasks: tuple[str, ...] = ("--task", "documents", "--module", "tasks.documents")
    if instruct:
        tasks += ("--task", "documentation_instruct", "--module", "tasks.documentation")
    arguments = (
        *("-m", "beam_pipelines.cache_tasks", *tasks, "--splits", "train,validation,test"),
        *("--data_dir", str(output), "--output", str(output / "cache"), "--workers", str(workers)),
    )
    return Stage("cache", "tokenise the tasks into shards", arguments)


def _train(output: Path, folder: str, gin_file: str) -> tuple[str, ...]:
    return (
        *("-m", "t5x_style.train", f"--gin_file={gin_file}", f"--gin.MODEL_DIR='{output / folder}'"),
        f"--gin.CACHE_DIR='{output / 'cache'}'",
        f"--gin.TOKENIZER='{output / 'tokenizer' / 'sentencepiece.model'}'",
    )


def _pretrain(output: Path, size: Size) -> Stage:
    arguments = _train(output, "pretrain", "runs/quickstart_pretrain.gin")
    return Stage("pretrain", "pretrain a small decoder", arguments + size.train)


def _tune(output: Path, size: Size) -> Stage:
    arguments = (*_train(output, "tune", "runs/quickstart_instruct.gin"), f"--gin.INIT_FROM='{output / 'pretrain'}'")
    return Stage("tune", "tune it on instructions", arguments + size.tune)


def _evaluate(output: Path, size: Size, instruct: bool) -> Stage:
    models: tuple[str, ...] = ("--model", f"base={output / 'pretrain'}")
    tasks: tuple[str, ...] = ()
    if instruct:
        models += ("--model", f"tuned={output / 'tune'}")
        tasks = (*(part for name in EVALUATED for part in ("--task", name)), "--module", "tasks.documentation")
    arguments = (
        *("-m", "t5x_style.evaluate", *models, "--perplexity", "documents", *tasks),
        *("--perplexity_length", "256"),  # rows as in pretraining (LENGTH of runs/quickstart_pretrain.gin)
        *("--data_dir", str(output), "--output", str(output / "evaluation.json")),
    )
    return Stage("evaluate", "perplexity and task metrics of base and tuned", arguments + size.evaluate)


def _report(output: Path, folder: str) -> Stage:
    report = output / folder / "report.html"
    arguments = ("-m", "t5x_style.report", "--quickstart", str(output), "--output", str(report))
    return Stage("report", "draw the report", arguments)


def report_path(stages: list[Stage]) -> str:
    """Where the last stage writes the report."""
    return stages[-1].arguments[-1]


def check_inputs(inputs: list[str]) -> None:
    """Raises UserError for a local glob that matches nothing; remote ones are checked by clean_web."""
    for pattern in inputs:
        if "://" not in pattern and not glob.glob(pattern):
            raise UserError(f"--input {pattern!r} matches no file; quote the pattern and check the path")
