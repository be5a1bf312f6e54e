"""The options of `cache_tasks --input`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re

from beam_pipelines.caching.inputs import reading
from t5x_style.data import vocabulary_facts
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """What the command line says.

    Attributes:
      patterns: globs of files. tokenizer: folder or file. output: the cache. name: the folder in it.
      feature: column, "prompt+completion", or None: what the first record has.
      chat_template: a file, "none", the name of one of the tokenizer's, or None: its own.
      each_turn: one example for every answer of a conversation.
      text_documents: what a document of a text file is, "line" or "file".
      validation: share of the documents. split: all go there instead.
      skip_broken: broken records are counted and left out.
      range_bytes: a unit's share of a large file.
    """

    patterns: tuple[str, ...]
    tokenizer: str
    output: str
    name: str = "data"
    feature: str | None = None
    chat_template: str | None = None
    each_turn: bool = False
    text_documents: str = reading.LINE
    validation: float = 0.05
    split: str | None = None
    skip_broken: bool = False
    range_bytes: int = reading.RANGE_BYTES

    def __post_init__(self):
        for option, value in (("--name", self.name), ("--split", self.split)):
            if value is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
                raise UserError(f"{option} {value!r} names a folder; give letters, digits, _ . or -")
        if self.name == vocabulary_facts.FOLDER:
            raise UserError(f"--name {self.name}: the cache keeps its vocabularies there; give another name")
        if not 0 <= self.validation < 1:
            raise UserError(f"--validation {self.validation} is a share of the documents; give one in [0, 1)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `--input`; all have to be left out with `--task`."""
    group = parser.add_argument_group("files instead of Tasks")
    group.add_argument("--input", action="append", nargs="+", metavar="GLOB", help="JSONL, text or Parquet files")
    group.add_argument("--tokenizer", metavar="PATH", help="Hugging Face folder, tokenizer.json or SentencePiece model")
    group.add_argument("--name", help="of the cache, as Tasks have one; default: data")
    group.add_argument(
        "--feature",
        metavar="COLUMN",
        help="a column of texts or conversations, or prompt+completion; default: what the first record has of text, "
        "prompt and completion, messages, conversations",
    )
    group.add_argument(
        "--chat_template", metavar="FILE", help="Jinja, or none; default: the tokenizer's own, where it has one"
    )
    group.add_argument("--each_turn", action="store_true", help="one example for every answer of a conversation")
    group.add_argument("--text_documents", choices=(reading.LINE, reading.FILE), help="of text files; default: line")
    group.add_argument("--validation", type=float, metavar="SHARE", help="of the documents; default: 0.05")
    group.add_argument("--split", metavar="NAME", help="all documents go to this split")
    group.add_argument("--skip_broken", action="store_true", help="count broken records instead of stopping")


def input_options(arguments: argparse.Namespace) -> InputOptions | None:
    """The options where `--input` is given; None with `--task`.

    Raises:
      UserError: neither or both, an option of the other, a value that is out of range.
    """
    tasks = ("module", "splits", "data_dir")
    own = ("tokenizer", "name", "feature", "chat_template", "each_turn", "text_documents", "validation", "split")
    values = {name: getattr(arguments, name) for name in (*own, "skip_broken")}
    given = {name: value for name, value in values.items() if value is not None and value is not False}
    if bool(arguments.task) == bool(arguments.input):
        raise UserError("give either --task NAME (a seqio Task) or --input GLOB --tokenizer FOLDER_OR_FILE (files)")
    if arguments.task:
        if given:
            raise UserError(f"--{next(iter(given))} is an option of --input; a Task has its own")
        return None
    if wrong := [name for name in tasks if getattr(arguments, name)]:
        raise UserError(f"--{wrong[0]} is an option of --task; leave it out with --input")
    if "tokenizer" not in given:
        raise UserError("--input needs --tokenizer: a Hugging Face folder, a tokenizer.json or a SentencePiece model")
    if "split" in given and "validation" in given:
        raise UserError(f"--split {given['split']} takes all documents; leave out --validation")
    patterns = tuple(pattern for patterns in arguments.input for pattern in patterns)
    return InputOptions(patterns, output=os.path.abspath(arguments.output), **given)
