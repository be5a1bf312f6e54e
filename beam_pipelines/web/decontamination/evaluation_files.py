"""Reads the texts of evaluation sets in their own formats: which fields hold them is a table by file name.

A text is a field or several joined by +, as a page would show them one after the other. `question.choices.*.text` is
the text of every choice. Passages that evaluation sets took from public pages (Wikipedia, news) are contexts: they are
left out unless asked for, since a page with only the passage does not give the answer away (GPT-3, appendix C).
"""

from __future__ import annotations

import csv
import fnmatch
import gzip
import io
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.files import storage
from t5x_style.errors import UserError
from tasks.splits import split_of_document

IDS = ("id", "task_id", "example_id")
SUFFIXES = (".parquet", ".jsonl", ".json", ".tsv", ".csv")


class Fields(NamedTuple):
    """Where the texts of an example are.

    Attributes:
      texts: fields, or several joined by +.
      contexts: of passages from public sources.
    """

    texts: Sequence[str]
    contexts: Sequence[str] = ()


# The first pattern that fits a file's name, in lower case.
KNOWN_FILES: Mapping[str, Fields] = {
    "gsm8k*": Fields(["question", "answer"]),
    "humaneval*": Fields(["prompt", "canonical_solution"]),
    "mbpp*": Fields(["text", "code"]),
    "bbh_cot_prompts*": Fields(["prompt"]),
    "bbh*": Fields(["input"]),
    "mgsm*": Fields(["question"]),
    "mmlu*": Fields(["row.0", "row.0+row.1+row.2+row.3+row.4"]),
    "truthfulqa*": Fields(["Question", "Question+Best Answer"]),
    "piqa*": Fields(["goal+sol1", "goal+sol2", "sol1", "sol2"]),
    "qasc*": Fields(["question.stem", "question.stem+question.choices.*.text"]),
    "asdiv*": Fields(["body+question"]),
    "svamp*": Fields(["Body+Question"]),
    "tydiqa*": Fields(["question_text"], ["document_plaintext"]),
    "boolq*": Fields(["question"], ["passage"]),
    "cb_*": Fields(["premise", "hypothesis"]),
    "copa*": Fields(["premise+choice1", "premise+choice2"]),
    "multirc*": Fields(["passage.questions.*.question"], ["passage.text"]),
    "rte*": Fields(["premise", "hypothesis"]),
    "record*": Fields(["qas.*.query"], ["passage.text"]),
    "wsc*": Fields(["text"]),
    "wic*": Fields(["sentence1", "sentence2"]),
    "*.parquet": Fields(["text"]),
}


class Example(NamedTuple):
    """An example of an evaluation set; `name` is its id or its row, from 1."""

    set_name: str
    name: str
    texts: list[str]


def fields_of(path: str, fields: Sequence[str] = ()) -> Fields:
    """The fields to read: `fields` where given, else what the table says for the file's name.

    Raises:
      UserError: the file is in no known format, or nothing says which fields.
    """
    name = posixpath.basename(path).lower()
    if not name.removesuffix(".gz").endswith(SUFFIXES):
        raise UserError(f"{path}: none of the formats {', '.join(SUFFIXES)} (.gz or not)")
    if fields:
        return Fields(list(fields))
    for pattern, found in KNOWN_FILES.items():
        if fnmatch.fnmatch(name, pattern):
            return found
    raise UserError(f"{path}: unknown evaluation set; say which fields hold its texts with --fields")


def read_examples(path: str, fields: Fields, contexts: bool = False, splits: Sequence[str] = ()) -> Iterator[Example]:
    """The examples of one file.

    Args:
      path: of a file.
      fields: where the texts are.
      contexts: the passages too.
      splits: only documents (Parquet with id and metadata) of these splits, see `tasks.splits`; () for all.

    Raises:
      UserError: the file cannot be read, or a row lacks a field.
    """
    wanted = [*fields.texts, *(fields.contexts if contexts else ())]
    set_name = _stem(path)
    number = 0
    try:
        for number, row in enumerate(_rows(path), 1):
            if splits and split_of_document(row) not in splits:
                continue
            name = next((str(row[key]) for key in IDS if row.get(key) is not None), str(number))
            yield Example(set_name, name, [text for field in wanted for text in _texts(row, field)])
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path} row {number}: no field {error}; say which fields hold its texts") from error
    except (ValueError, EOFError, gzip.BadGzipFile, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: cannot be read behind row {number} ({error})") from error


def _stem(path: str) -> str:
    name = posixpath.basename(path).removesuffix(".gz")
    return name.rsplit(".", 1)[0]


def _rows(path: str) -> Iterator[dict[str, Any]]:
    with storage.open_read(path) as raw:
        if path.endswith(".parquet"):
            for batch in pq.ParquetFile(raw).iter_batches(batch_size=1000):
                yield from batch.to_pylist()
            return
        binary = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
        file = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")  # type: ignore[arg-type]
        kind = path.removesuffix(".gz").rsplit(".", 1)[1].lower()
        if kind == "jsonl":
            yield from (json.loads(line) for line in file if line.strip())
        elif kind == "json":
            content = json.load(file)
            lists = [content] if isinstance(content, list) else [v for v in content.values() if isinstance(v, list)]
            if len(lists) != 1:
                raise ValueError("neither a list nor an object with one list of examples")
            yield from lists[0]
        else:
            yield from csv.DictReader(file, delimiter="\t" if kind == "tsv" else ",")


def _texts(row: Any, field: str) -> list[str]:
    """The texts of a field; several where one * is in it and nothing is joined.

    Example: {"q": "a?", "c": [{"t": "b"}, {"t": "d"}]}: "c.*.t" -> ["b", "d"], "q+c.*.t" -> ["a? b d"].
    """
    parts = field.split("+")
    found = [list(_walk(row, part.split("."))) for part in parts]
    return found[0] if len(parts) == 1 else [" ".join(text for texts in found for text in texts)]


def _walk(value: Any, path: Sequence[str]) -> Iterator[str]:
    if not path:
        if value is not None:
            yield str(value)
    elif path[0] == "*":
        for item in value:
            yield from _walk(item, path[1:])
    else:
        yield from _walk(value[int(path[0]) if isinstance(value, list) else path[0]], path[1:])
