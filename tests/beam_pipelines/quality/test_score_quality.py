"""score_quality: all three models over files of documents, what stays and goes, reruns, errors."""

import json

import pyarrow.parquet as pq
import pytest

from beam_pipelines import (
    build_decontamination_index,
    perplexity_thresholds,
    score_quality,
    train_ngram_lm,
    train_quality_classifier,
)
from beam_pipelines.web import parquet
from beam_pipelines.web.document import Document

QUESTION = "How many of the 17 grey geese that left the lake in May came back before the first snow fell?"
GOOD = "The old bridge over the river was built of stone in the year that the mill burned down."
BAD = "Buy now! Free shipping, click here, subscribe, sale sale sale, add to cart, login."


def write_documents(path, texts):
    with open(path, "wb") as file, parquet.Table(file, parquet.DOCUMENTS) as table:
        for number, text in enumerate(texts):
            document = Document(f"{path.stem}-{number}", text, "web", "http://x/", "", "en", 1.0, "{}")
            table.add(parquet.document_row(document), len(text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("score")
    write_documents(path / "a.parquet", [f"{GOOD} Number {n}." for n in range(12)] + [f"{GOOD} " * 20 + QUESTION])
    write_documents(path / "b.parquet", [f"{BAD} Offer {n}." for n in range(12)] + ["", "..."])
    (path / "good.txt").write_text("".join(f"{GOOD} Number {n}.\n" for n in range(40)))
    (path / "bad.txt").write_text("".join(f"{BAD} Offer {n}.\n" for n in range(40)))
    (path / "eval.jsonl").write_text(json.dumps({"question": QUESTION}) + "\n")

    def run(command, *arguments):
        assert command.main([str(argument) for argument in arguments]) == 0

    fast = ("--dimensions", 32, "--buckets", 0, "--epochs", 30)
    classes = ("--positive", path / "good.txt", "--negative", path / "bad.txt")
    run(train_quality_classifier, *classes, "--output", path / "classifier", *fast)
    run(train_ngram_lm, "--input", path / "good.txt", "--output", path / "lm", "--order", 3)
    model = path / "lm" / "lm.npz"
    run(perplexity_thresholds, "--model", model, "--documents", path / "*.txt", "--output", path / "thresholds.json")
    options = ("--fields", "question", "--output", path / "index.npz")
    run(build_decontamination_index, "--input", path / "eval.jsonl", *options)
    return path


def command(folder, output, *more):
    options = {
        "--documents": folder / "*.parquet",
        "--output": output,
        "--classifier": folder / "classifier" / "quality.bin",
        "--lm": folder / "lm" / "lm.npz",
        "--thresholds": folder / "thresholds.json",
        "--decontamination": folder / "index.npz",
    }
    return [str(part) for pair in options.items() for part in pair] + list(more)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_everything(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert score_quality.main(command(folder, out)) == 0
    summary = json.loads((out / "scores.json").read_text())
    assert [(stage["name"], stage["in"], stage["kept"]) for stage in summary["stages"]] == [
        ("decontaminate", 27, 27),
        ("fasttext_quality", 27, 14),
        ("perplexity", 14, 13),
    ]
    assert summary["stages"][0]["edits"]["contaminated_spans"] == 1
    assert summary["stages"][1]["rejected"] == {"quality_score_low": 13}
    assert summary["stages"][2]["rejected"] == {"no_words": 1}
    kept = [document for path in ("a", "b") for document in parquet.read_documents(f"{out}/documents/{path}.parquet")]
    assert [document.id for document in kept] == [f"a-{n}" for n in range(13)]
    assert QUESTION not in kept[-1].text
    metadata = json.loads(kept[-1].metadata)
    assert metadata["contamination"][0]["set"] == "eval"
    assert {"perplexity", "bucket"} < metadata.keys()
    rejected = pq.read_table(out / "rejected" / "b.parquet").to_pylist()
    assert [row["reason"] for row in rejected] == ["quality_score_low"] * 13 + ["no_words"]
    scores = pq.read_table(out / "scores" / "a.parquet").to_pylist()
    assert {row["signal"] for row in scores} == {
        "contaminated_ngrams",
        "contamination_pieces",
        "quality_score",
        "perplexity",
    }
    before = contents(out)
    assert len(before) == 6
    (out / "work" / "unit-b.json").unlink()  # as if killed before the second unit
    assert score_quality.main(command(folder, out)) == 0
    assert contents(out) == before
    assert score_quality.main(command(folder, out, "--min_score", "0.5")) == 2
    assert "other stages" in capsys.readouterr().err


def test_workers_do_not_matter(folder, tmp_path):
    for workers in (1, 2):
        assert score_quality.main(command(folder, tmp_path / str(workers), "--workers", str(workers))) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_bad_input_is_one_line(folder, tmp_path, capsys):
    def error(*arguments):
        assert score_quality.main([*map(str, arguments), "--output", str(tmp_path / "out")]) == 2
        printed = capsys.readouterr().err.strip().splitlines()
        assert printed[-1].startswith("error: ")
        return printed[-1]

    documents = ("--documents", folder / "a.parquet")
    assert "nothing to apply" in error(*documents)
    assert "go together" in error(*documents, "--lm", folder / "lm" / "lm.npz")
    assert "FastTextQuality.model" in error(*documents, "--classifier", folder / "none.bin")
    assert "--documents" in error("--documents", folder / "none*.parquet", "--decontamination", folder / "index.npz")
    counts = ("--decontamination", folder / "index.npz", "--max_documents", "3")
    assert "has no counts" in error(*documents, *counts)
