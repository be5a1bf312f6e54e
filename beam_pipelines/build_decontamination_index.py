"""Builds the index of evaluation examples that the decontamination stage looks documents up in.

python -m beam_pipelines.build_decontamination_index --input 'eval/*.jsonl.gz' --output decontamination.npz
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from beam_pipelines.quality.texts import find_files, input_names, read_texts
from beam_pipelines.web.decontamination.evaluation_files import fields_of, read_examples
from beam_pipelines.web.decontamination.ngram_index import IndexBuilder, read
from t5x_style import command_line
from t5x_style.errors import UserError, run_main
from t5x_style.files import fingerprint, require_writable
from t5x_style.progress import track
from tasks.splits import SPLITS


def build(
    inputs: Sequence[str],
    output: str,
    ngram: int = 13,
    min_words: int = 8,
    fields: Sequence[str] = (),
    contexts: bool = False,
    splits: Sequence[str] = (),
    documents: Sequence[str] = (),
) -> dict[str, Any]:
    """Reads the evaluation sets and writes the index file.

    Args:
      inputs: globs of evaluation files; a set is called as its file.
      output: path of the index (.npz).
      ngram, min_words: see `ngram_index.IndexBuilder`.
      fields: where the texts are, for files that `evaluation_files.KNOWN_FILES` does not know, or instead of it.
      contexts: passages that the sets took from public pages too.
      splits: of Parquet documents, only those of these splits (see `tasks.splits`).
      documents: globs of training documents in which each n-gram's occurrences are counted.

    Returns:
      The index's header.

    Raises:
      UserError: bad arguments, unreadable files, no text long enough, or a file that holds another index.
    """
    builder = IndexBuilder(ngram, min_words)
    if not output.endswith(".npz"):
        raise UserError(f"--output {output!r} must end in .npz")
    paths = find_files(inputs, "--input", ())
    fields_by_path = {path: fields_of(path, fields) for path in paths}
    corpus = find_files(documents, "--documents") if documents else []
    config = {
        "ngram": ngram,
        "min_words": min_words,
        "contexts": contexts,
        "splits": list(splits),
        "fields": [
            [path.rsplit("/", 1)[-1], list(found.texts), list(found.contexts)] for path, found in fields_by_path.items()
        ],
        "input": fingerprint(input_names(paths)),
        "documents": fingerprint(input_names(corpus)) if corpus else "",
    }
    path = Path(output).absolute()
    require_writable(path.parent, "--output")
    if path.exists():
        return _finished(path, config)
    for name in track(paths, "reading evaluation sets"):
        for example in read_examples(name, fields_by_path[name], contexts, splits):
            builder.add(example.set_name, example.name, example.texts)
    index = builder.finish(config)
    if corpus:
        texts = track(read_texts(corpus), "counting n-grams", unit="documents")
        index = index.count_documents(text.text for text in texts)
    index.save(str(path))
    for name, counts in index.header["sets"].items():
        logging.info(
            "%-24s %7d examples, %7d texts indexed, %6d shorter than %d words, %6d repeated",
            name,
            counts["examples"],
            counts["texts"],
            counts["too_short"],
            min_words,
            counts["repeated"],
        )
    logging.info("%s: %d n-grams", path, len(index.hashes))
    return dict(index.header)


def _finished(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    header = dict(read(str(path)).header)
    recorded = header["config"]
    if recorded != config:
        different = sorted(key for key in {*config, *recorded} if recorded.get(key) != config.get(key))
        raise UserError(
            f"{path} holds an index with another {', '.join(different)}; delete it or pass another --output"
        )
    logging.info("%s is complete, nothing to do", path)
    return header


def run(argv: Sequence[str]) -> None:
    """Parses the command line and builds."""
    parser = command_line.parser("beam_pipelines.build_decontamination_index", __doc__, allow_abbrev=False)
    parser.add_argument("--input", dest="inputs", nargs="+", required=True, metavar="GLOB", help="evaluation files")
    parser.add_argument("--output", required=True, metavar="FILE", help="the index (.npz)")
    parser.add_argument("--ngram", type=int, default=13, help="words of an n-gram (default 13)")
    parser.add_argument("--min_words", type=int, default=8, help="shorter texts are left out (default 8)")
    parser.add_argument(
        "--fields", nargs="+", default=(), metavar="FIELD", help="of the texts: question choices.*.text body+question"
    )
    parser.add_argument("--contexts", action="store_true", help="passages from public pages too")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=(), help="of Parquet documents")
    parser.add_argument("--documents", nargs="+", default=(), metavar="GLOB", help="count n-grams in these documents")
    build(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
