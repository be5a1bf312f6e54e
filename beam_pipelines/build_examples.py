"""Documents -> instruction examples: `python -m beam_pipelines.build_examples --documents GLOB --output DIR/examples`.

Reads the object pages among cleaned documents and writes, for each of five questions, examples that have exactly one
right answer, split by object and with balanced labels, to `DIR/examples/<task>/<split>-00000-of-0000N.parquet`;
examples.json, written last, counts what was kept and dropped and why, and holds the trivial baselines.

One deterministic pass in one process: negatives, balancing and duplicates need all candidates at once, and these
are a few thousand short texts (8,000 documents take a few seconds), so that Beam would only add its start-up time.
"""

from __future__ import annotations

import functools
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging

from beam_pipelines.examples import candidates, methods
from beam_pipelines.examples.baselines import baselines
from beam_pipelines.examples.candidates import Candidate
from beam_pipelines.examples.pages import KINDS, ObjectPage, object_page
from beam_pipelines.examples.selection import balanced_splits, choose_labels, well_posed
from t5x_style import command_line
from t5x_style.errors import UserError, run_main
from t5x_style.files import atomic_write_bytes, atomic_write_json, fingerprint, read_json, require_writable
from t5x_style.progress import track
from tasks.splits import SPLITS

CODE = 1  # raise it when the examples of unchanged documents change
MANIFEST = "examples.json"
ROWS_PER_FILE = 1000


@dataclass(frozen=True)
class Limits:
    """How much is kept.

    Attributes:
      train: training examples a task, at most.
      evaluation: validation examples and test examples a task, at most.
      packages: packages offered as options, at most.
      package_examples: training examples that a package needs to be offered.
    """

    train: int = 2000
    evaluation: int = 200
    packages: int = 8
    package_examples: int = 60


@dataclass(frozen=True)
class Question:
    """One task: its columns, and how to get candidates from all pages."""

    task: str
    fields: tuple[str, ...]
    ask: Callable[[Sequence[ObjectPage]], tuple[list[Candidate], Counter[str]]]
    options: tuple[str, ...] | None = None  # None: any text is an answer
    options_from_data: bool = False


def _each(
    ask: Callable[[ObjectPage], Candidate | str],
) -> Callable[[Sequence[ObjectPage]], tuple[list[Candidate], Counter[str]]]:
    return functools.partial(candidates.each_page, ask=ask)


QUESTIONS = (
    Question("documentation_package", ("docstring",), _each(candidates.package), (), options_from_data=True),
    Question("documentation_kind", ("docstring",), _each(candidates.kind), KINDS),
    Question("documentation_summary", ("body",), _each(candidates.summary)),
    Question("documentation_arguments", ("docstring",), _each(candidates.arguments)),
    Question("documentation_method", ("page", "class_name", "method"), methods.candidates, methods.OPTIONS),
)


def build(documents: str, output: str, limits: Limits) -> dict:
    """Writes all examples below `output` and returns what examples.json holds.

    A folder that is already complete for the same documents and limits is left as it is.

    Args:
      documents: glob of Parquet files with the columns text and metadata.
      output: the folder; one folder a task is made in it.
      limits: how much is kept.

    Raises:
      UserError: no such documents, too few packages, or a folder made from other documents or limits.
    """
    files = _files(documents)
    inputs = [{"file": path.name, "bytes": path.stat().st_size} for path in files]
    config = {"code": CODE, "limits": asdict(limits), "inputs": inputs}
    folder = require_writable(output, "--output")
    manifest = folder / MANIFEST
    if manifest.exists():
        found = read_json(manifest)
        if found.get("config") == config:
            logging.info("%s: complete, nothing to do", manifest)
            return found
        raise UserError(
            f"{manifest} was made with other documents or limits (its fingerprint {fingerprint(found.get('config'))}, "
            f"now {fingerprint(config)}); choose another --output or delete this folder"
        )
    pages, read = _read_pages(files)
    tasks = {question.task: _write_task(folder, question, pages, limits) for question in QUESTIONS}
    report = {"format": 1, "config": config, "documents": read, "tasks": tasks}
    atomic_write_json(manifest, report)
    return report


def _files(pattern: str) -> list[Path]:
    path = Path(pattern)
    anchor = Path(path.anchor or ".")
    files = sorted(anchor.glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    if not files:
        raise UserError(f"--documents {pattern}: no file matches; make them with `python -m beam_pipelines.clean_web`")
    return files


def _read_pages(files: Sequence[Path]) -> tuple[list[ObjectPage], dict]:
    """Object pages in file and row order, one for each object, and {"read", "object pages", "dropped": {reason: n}}."""
    pages: dict[str, ObjectPage] = {}
    dropped: Counter[str] = Counter()
    read = 0
    for text, metadata in _rows(files):
        read += 1
        page = object_page(text, metadata)
        if isinstance(page, str):
            dropped[page] += 1
        elif page.name in pages:
            dropped["second page of the object"] += 1
        else:
            pages[page.name] = page
    return list(pages.values()), {"read": read, "object pages": len(pages), "dropped": dict(dropped)}


def _rows(files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for path in track(files, "examples: read documents", unit="files"):
        try:
            table = pq.read_table(path, columns=["text", "metadata"])
        except (pa.ArrowInvalid, KeyError, OSError) as error:
            raise UserError(f"{path}: not a documents file with columns text and metadata ({error})") from error
        yield from zip(table["text"].to_pylist(), table["metadata"].to_pylist())


def _write_task(folder: Path, question: Question, pages: Sequence[ObjectPage], limits: Limits) -> dict:
    found, dropped = question.ask(pages)
    posed, repeated = well_posed(found)
    options = question.options
    if question.options_from_data:
        options = choose_labels(posed, limits.package_examples, limits.packages, limits.train)
        if not options:
            raise UserError(
                f"{question.task}: fewer than two packages have {limits.package_examples} training examples; "
                "crawl more packages or lower --package_examples"
            )
    caps = {split: limits.train if split == "train" else limits.evaluation for split in SPLITS}
    splits, left = balanced_splits(posed, caps, options or ())
    return {
        "candidates": len(found),
        "dropped": dict(dropped + repeated + left),
        "options": list(options) if options is not None else None,
        "splits": {
            split: {
                "examples": len(chosen),
                "labels": dict(Counter(candidate.label for candidate in chosen)) if options else None,
                "baselines": dict(baselines(question.task, splits["train"], chosen)),
                "files": _write_split(folder / question.task, split, question, chosen, options),
            }
            for split, chosen in splits.items()
        },
    }


def _write_split(
    folder: Path, split: str, question: Question, chosen: Sequence[Candidate], options: tuple[str, ...] | None
) -> list[str]:
    """Writes one split, an empty one as a file without rows; returns the file names."""
    columns = ("id", "object", "answer", *question.fields)
    schema = pa.schema(
        [(name, pa.string()) for name in columns] + ([("options", pa.list_(pa.string()))] if options else [])
    )
    count = max(1, -(-len(chosen) // ROWS_PER_FILE))
    names = [f"{split}-{index:05d}-of-{count:05d}.parquet" for index in range(count)]
    for index, name in enumerate(names):
        rows = [
            {
                **{"id": candidate.id, "object": candidate.object, "answer": candidate.answer},
                **candidate.fields,
                **({"options": options} if options else {}),
            }
            for candidate in chosen[index * ROWS_PER_FILE : (index + 1) * ROWS_PER_FILE]
        ]
        content = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), content)
        atomic_write_bytes(folder / name, content.getvalue())
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; exit code 2 and one line for a UserError."""
    return run_main(_run, argv)


def _run(argv: Sequence[str]) -> None:
    parser = command_line.parser("beam_pipelines.build_examples", __doc__)
    parser.add_argument("--documents", required=True, help="glob of the cleaned documents' Parquet files")
    parser.add_argument("--output", required=True, help="folder of the examples")
    defaults = Limits()
    for name, what in (
        ("train", "training examples a task, at most"),
        ("evaluation", "validation and test examples a task, at most"),
        ("packages", "packages offered as options, at most"),
        ("package_examples", "training examples that a package needs to be offered"),
    ):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} (default {default})")
    arguments = vars(parser.parse_args(argv))
    documents, output = arguments.pop("documents"), arguments.pop("output")
    if min(arguments.values()) < 1:
        raise UserError(f"limits must be positive, got {arguments}")
    report = build(documents, output, Limits(**arguments))
    for task, entry in report["tasks"].items():
        sizes = {split: part["examples"] for split, part in entry["splits"].items()}
        logging.info("%s: %s %s", task, sizes, json.dumps(entry["splits"]["test"]["baselines"]))


if __name__ == "__main__":
    raise SystemExit(main())
