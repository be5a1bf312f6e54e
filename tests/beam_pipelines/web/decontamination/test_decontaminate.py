"""Decontamination: hashes and spans against naive references, both actions, limits, evaluation files, the command."""

import csv
import gzip
import json
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines import build_decontamination_index
from beam_pipelines.text.words import normalised_words
from beam_pipelines.web.decontamination import ngram_index
from beam_pipelines.web.decontamination.decontaminate import Decontaminate, normalised_spans
from beam_pipelines.web.decontamination.evaluation_files import Fields, fields_of, read_examples
from beam_pipelines.web.decontamination.ngram_index import IndexBuilder
from beam_pipelines.web.document import Document
from t5x_style.errors import UserError
from tasks.splits import split_of

QUESTION = "How many of the 17 grey geese that left the lake in May came back before the first snow fell?"
WORDS = normalised_words(QUESTION)  # 20 words


def filler(characters, word="filler"):
    """About so many characters of words that no example has."""
    return " ".join(f"{word}{n}" for n in range(characters))[:characters]


def document(text, metadata="{}", identifier="0" * 32):
    return Document(identifier, text, "", "", "", "", 0.0, metadata)


def write_index(path, texts=(QUESTION,), **options):
    builder = IndexBuilder(**options)
    for number, text in enumerate(texts, 1):
        builder.add("geese", str(number), [text])
    builder.finish({}).save(str(path))
    return str(path)


@pytest.fixture
def index(tmp_path):
    return write_index(tmp_path / "index.npz")


def test_cut_with_surroundings_and_what_is_recorded(index):
    planted = "HOW many -- of the 17 'grey' geese, that left the lake?? in May came back before the first snow fell"
    text = f"{filler(1000)} {planted} {filler(900, 'after')}"
    outcome = Decontaminate(index).apply(document(text, '{"title": "t"}'))
    assert outcome.verdict.reason == ""
    metadata = json.loads(outcome.document.metadata)
    (record,) = metadata.pop("contamination")
    assert metadata == {"title": "t"}
    assert (record["set"], record["example"]) == ("geese", "1")
    assert text[record["start"] : record["end"]] == planted
    assert normalised_words(record["ngram"]) == WORDS[:13]
    before, after = outcome.document.text.split("\n\n")
    assert text.startswith(before)
    assert text.endswith(after)
    # 200 characters on each side and what was left of the word at the border.
    assert 0 <= record["start"] - len(before) - 200 <= 12
    assert 0 <= len(text) - len(after) - record["end"] - 200 <= 12
    assert before.split() == text.split()[: len(before.split())]
    assert after.split() == text.split()[-len(after.split()) :]
    assert outcome.edits == {
        "contaminated_spans": 1,
        "characters_removed": len(text) - len(outcome.document.text),
    }
    assert [measure.signal for measure in outcome.measures] == ["contaminated_ngrams", "contamination_pieces"]
    assert [measure.value for measure in outcome.measures] == [8, 2]


def test_drop(index):
    text = f"{filler(500)} {QUESTION}"
    outcome = Decontaminate(index, action="drop").apply(document(text))
    assert outcome.verdict == ("contaminated", 8, 0)
    assert outcome.document.text == text
    assert json.loads(outcome.document.metadata)["contamination"][0]["example"] == "1"
    assert outcome.edits == {}
    assert Decontaminate(index, action="drop").apply(document(filler(500))).verdict.reason == ""


def test_one_word_less_than_an_ngram(index):
    stage = Decontaminate(index, action="drop")
    assert stage.apply(document(" ".join(WORDS[3:16]))).verdict.value == 1
    for words in (WORDS[3:15], [*WORDS[:12], "x", *WORDS[13:]][:13]):
        outcome = stage.apply(document(" ".join(words)))
        assert outcome.verdict.reason == ""
        assert outcome.measures[0].value == 0
        assert outcome.document.metadata == "{}"


def test_short_examples_count_as_a_whole(tmp_path):
    texts = [" ".join(WORDS[:8]), " ".join(WORDS[8:15])]
    path = write_index(tmp_path / "short.npz", texts)
    stage = Decontaminate(path, action="drop")
    assert stage.apply(document(filler(99) + " " + texts[0])).verdict.value == 1
    assert stage.apply(document(filler(99) + " " + texts[1])).verdict.reason == ""  # 7 words: left out
    assert stage.apply(document(texts[0].rsplit(" ", 1)[0])).verdict.reason == ""
    header = ngram_index.read(path).header
    assert header["sets"]["geese"] == {"examples": 2, "texts": 1, "too_short": 1, "repeated": 0}


def test_pieces_at_the_limit(index):
    gap = filler(620)
    text = f"{gap} " + f"{QUESTION} {gap} " * 3
    assert len(Decontaminate(index).apply(document(text)).document.text.split("\n\n")) == 4
    assert Decontaminate(index, max_pieces=4).apply(document(text)).verdict.reason == ""
    assert Decontaminate(index, max_pieces=3).apply(document(text)).verdict == ("contamination_pieces_high", 4, 3)


def test_short_pieces_at_the_limit(index):
    stage = Decontaminate(index, characters=0, min_piece_characters=100)
    kept = stage.apply(document(filler(100) + "\n" + QUESTION[:-1]))
    assert (kept.verdict.reason, kept.document.text) == ("", filler(100))
    lost = stage.apply(document(filler(99) + "\n" + QUESTION[:-1]))
    assert lost.verdict == ("nothing_left", 99, 100)
    assert stage.apply(document(QUESTION)).verdict == ("nothing_left", 1, 100)  # the question mark


def test_cuts_that_meet_are_one(index):
    text = f"{filler(500)} {QUESTION} {filler(300)} {QUESTION} {filler(600)}"
    outcome = Decontaminate(index).apply(document(text))
    assert outcome.edits["contaminated_spans"] == 2
    assert len(outcome.document.text.split("\n\n")) == 2
    assert len(json.loads(outcome.document.metadata)["contamination"]) == 2


def test_common_ngrams_are_ignored(tmp_path):
    texts = [f"{QUESTION} number{n}" for n in range(3)]
    path = write_index(tmp_path / "common.npz", texts)
    contaminated = document(QUESTION)
    assert Decontaminate(path, action="drop", max_texts=3).apply(contaminated).verdict.reason == "contaminated"
    assert Decontaminate(path, action="drop", max_texts=2).apply(contaminated).verdict.reason == ""
    assert Decontaminate(path, action="drop", max_texts=2).apply(document(texts[0])).verdict.value == 1
    assert Decontaminate(path, action="drop", max_texts=None).apply(contaminated).verdict.value == 8
    with pytest.raises(UserError, match="has no counts"):
        Decontaminate(path, max_documents=10)
    counted = ngram_index.read(path).count_documents([QUESTION, QUESTION + " " + QUESTION, "other words"])
    counted.save(str(tmp_path / "counted.npz"))
    path = str(tmp_path / "counted.npz")
    assert Decontaminate(path, action="drop", max_documents=2).apply(contaminated).verdict.reason == "contaminated"
    assert Decontaminate(path, action="drop", max_documents=1).apply(contaminated).verdict.reason == ""


def test_documents_that_are_examples_stay(tmp_path):
    identifier = "a" * 32
    builder = IndexBuilder()
    builder.add("documents", identifier, [QUESTION])
    builder.finish({}).save(str(tmp_path / "index.npz"))
    stage = Decontaminate(str(tmp_path / "index.npz"), action="drop")
    assert stage.apply(document(QUESTION, identifier=identifier)).verdict.reason == ""
    assert stage.apply(document(QUESTION)).verdict.reason == "contaminated"


@pytest.mark.parametrize("text", ["", " \n", "word", "\0", "\ud800\ud800", "汉字" * 300, "x " * 30_000])
def test_odd_texts_stay(index, text):
    outcome = Decontaminate(index).apply(document(text, ""))
    assert (outcome.verdict.reason, outcome.document.text, outcome.edits) == ("", text, {})


def test_odd_characters_around_a_match(index):
    text = f"{filler(400)} İİ\u0130 汉字。\0 {QUESTION.upper()} ΣΑΣ \ud800 {filler(400, 'İ')}"
    outcome = Decontaminate(index).apply(document(text))
    (record,) = json.loads(outcome.document.metadata)["contamination"]
    assert text[record["start"] : record["end"]] == QUESTION.upper()[:-1]


@given(st.text(alphabet="aBİßΣς 'é\u0301-汉字：ไทั\n_\ud800", max_size=40))
@settings(max_examples=200, deadline=None)
def test_spans_are_those_of_the_words(text):
    words = normalised_words(text)
    starts, ends = normalised_spans(text, words)
    assert len(starts) == len(ends) == len(words)
    assert all(starts < ends)
    assert all(ends[:-1] <= starts[1:])
    for word, start, end in zip(words, starts, ends):
        covered = text[start:end].lower().replace("ς", "σ")
        # Lower case İ is two characters, and a word may begin or end between them.
        assert covered == word.replace("ς", "σ") or ("İ" in text[start:end] and word in covered)


@pytest.mark.parametrize("text", ["甲a：Σ\u0081", "ΑΣ\u0e31B"])
def test_a_sigma_beside_scripts_without_spaces(text):
    """Case rules look across the full-width colon and Thai marks, at which the words are parted."""
    words = normalised_words(text)
    starts, ends = normalised_spans(text, words)
    assert "Σ" in text[starts[-1] : ends[-1]] or "Σ" in text[starts[0] : ends[0]]


def test_spans_of_other_words():
    with pytest.raises(ValueError, match="word 1"):
        normalised_spans("one two", ["one", "three"])


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 14))
@settings(max_examples=200, deadline=None)
def test_equal_ngrams_have_equal_hashes_and_others_not(words, length):
    hashes = ngram_index.ngram_hashes(ngram_index.word_hashes(words), length).tolist()
    grams = [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]
    assert len(hashes) == len(grams)
    assert len(set(zip(grams, hashes))) == len(set(grams)) == len(set(hashes))


def test_no_collisions_in_a_long_text():
    words = [f"w{n % 997}x{n % 1009}" for n in range(40_000)]
    hashes = ngram_index.ngram_hashes(ngram_index.word_hashes(words), 13)
    assert len(np.unique(hashes)) == len(hashes) == 40_000 - 12


def naive_matches(text, examples, length):
    """Starts of the words of `text` where an n-gram of an example begins."""
    grams = {tuple(e[i : i + length]) for e in map(normalised_words, examples) for i in range(len(e) - length + 1)}
    words = normalised_words(text)
    return [start for start in range(len(words)) if tuple(words[start : start + length]) in grams]


@given(
    st.lists(st.text(alphabet="ab ", min_size=12, max_size=40), min_size=1, max_size=4), st.text("abc ", max_size=80)
)
@settings(max_examples=100, deadline=None)
def test_finds_what_a_naive_search_finds(examples, text):
    builder = IndexBuilder(3, 3)
    for number, example in enumerate(examples):
        builder.add("set", str(number), [example])
    if all(len(normalised_words(example)) < 3 for example in examples):
        with pytest.raises(UserError, match="nothing to index"):
            builder.finish({})
        return
    found = builder.finish({}).find(normalised_words(text))
    assert found.starts.tolist() == naive_matches(text, examples, 3)


def test_a_real_gsm8k_example(shared_data, tmp_path):
    source = shared_data / "eval" / "gsm8k_test.jsonl.gz"
    assert build_decontamination_index.main(["--input", str(source), "--output", str(tmp_path / "i.npz")]) == 0
    with gzip.open(source, "rt") as file:
        question = [json.loads(line)["question"] for line in file][41]
    stage = Decontaminate(str(tmp_path / "i.npz"))
    disguised = re.sub(r"\s+", "  ", question.upper().replace(".", " --").replace(",", ";"))
    text = f"{filler(700)}\n{disguised}\n{filler(700)}"
    outcome = stage.apply(document(text))
    records = json.loads(outcome.document.metadata)["contamination"]
    assert {(record["set"], record["example"]) for record in records} == {("gsm8k_test", "42")}
    covered = text[records[0]["start"] : records[-1]["end"]]
    assert normalised_words(covered) == normalised_words(question)
    twelve = f"{filler(700)} {' '.join(question.split()[:12])} {filler(700)}"
    assert len(normalised_words(" ".join(question.split()[:12]))) == 12
    assert stage.apply(document(twelve)).document.text == twelve
    options = ["--ngram", "12", "--output", str(tmp_path / "twelve.npz")]
    assert build_decontamination_index.main(["--input", str(source), *options]) == 0
    outcome = Decontaminate(str(tmp_path / "twelve.npz")).apply(document(twelve))
    assert outcome.measures[0].value == 1
    assert question.split()[3] not in outcome.document.text


def test_every_evaluation_file_there(shared_data):
    paths = sorted((shared_data / "eval").rglob("*.gz"))
    for path in paths:
        examples = [example for example, _ in zip(read_examples(str(path), fields_of(str(path)), True), range(40))]
        assert len(examples) >= 11
        assert all(example.texts and all(text.strip() for text in example.texts) for example in examples), path


def test_formats_and_fields(tmp_path):
    rows = [{"id": "x1", "q": "a b", "c": [{"t": "d"}, {"t": "e"}], "n": 3}, {"q": "f", "c": [], "n": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "data": rows}))
    with gzip.open(tmp_path / "c.tsv.gz", "wt", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([["q", "n"], ["a b\u2028c", "3"]])
    pq.write_table(pa.table({"id": ["y"], "text": ["g h"]}), tmp_path / "d.parquet")

    def texts(name, *fields, **options):
        return [(e.name, e.texts) for e in read_examples(str(tmp_path / name), Fields(list(fields)), **options)]

    assert texts("a.jsonl", "q", "c.*.t") == [("x1", ["a b", "d", "e"]), ("2", ["f"])]
    assert texts("b.json", "q+c.*.t+n") == [("x1", ["a b d e 3"]), ("2", ["f"])]
    assert texts("c.tsv.gz", "q") == [("1", ["a b\u2028c"])]
    assert texts("d.parquet", "text") == [("y", ["g h"])]
    with pytest.raises(UserError, match=r"a\.jsonl row 1: no field 'p'"):
        texts("a.jsonl", "p")
    (tmp_path / "a.jsonl").write_text('{"q": 1}\n{"q"')
    with pytest.raises(UserError, match=r"a\.jsonl: cannot be read behind row 1"):
        texts("a.jsonl", "q")
    (tmp_path / "b.json").write_text('{"version": 1}')
    with pytest.raises(UserError, match=r"b\.json"):
        texts("b.json", "q")


def test_splits_of_documents(tmp_path):
    identifiers = [f"{n:032x}" for n in range(200)]
    rows = [{"id": name, "text": f"{QUESTION} {name}", "metadata": "{}"} for name in identifiers]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "documents.parquet")
    options = ["--splits", "validation", "test", "--output", str(tmp_path / "i.npz")]
    assert build_decontamination_index.main(["--input", str(tmp_path / "documents.parquet"), *options]) == 0
    held_out = {name for name in identifiers if split_of(name) != "train"}
    assert 0 < len(held_out) < 60
    assert ngram_index.read(str(tmp_path / "i.npz")).sources == held_out


def test_command(tmp_path, capsys):
    (tmp_path / "questions.jsonl").write_text(json.dumps({"body": QUESTION, "short": "too short"}) + "\n")
    pq.write_table(pa.table({"text": [QUESTION, "another text"]}), tmp_path / "documents.parquet")
    output = str(tmp_path / "out" / "index.npz")
    command = ["--input", str(tmp_path / "questions.jsonl"), "--output", output]
    arguments = [*command, "--fields", "body", "short"]

    def error(*given):
        assert build_decontamination_index.main([*given]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ")
        assert printed.count("\n") == 1
        return printed

    assert "unknown evaluation set" in error(*command)
    assert "nothing to index" in error(*command, "--fields", "short")
    assert not (tmp_path / "out" / "index.npz").exists()
    assert "no field 'title'" in error(*command, "--fields", "title")
    assert "minimum from 1 to 13" in error(*arguments, "--min_words", "14")
    assert ".npz" in error("--input", str(tmp_path / "questions.jsonl"), "--output", str(tmp_path / "x"))
    assert "none of the formats" in error("--input", __file__, "--output", output)
    assert build_decontamination_index.main([*arguments, "--documents", str(tmp_path / "documents.parquet")]) == 0
    content = (tmp_path / "out" / "index.npz").read_bytes()
    read = ngram_index.read(output)
    assert read.document_counts.tolist() == [1] * 8
    assert read.header["counted_documents"] == 2
    assert "another documents" in error(*arguments)
    assert build_decontamination_index.main([*arguments, "--documents", str(tmp_path / "documents.parquet")]) == 0
    assert (tmp_path / "out" / "index.npz").read_bytes() == content
    (tmp_path / "out" / "index.npz").unlink()
    assert build_decontamination_index.main([*arguments, "--documents", str(tmp_path / "documents.parquet")]) == 0
    assert (tmp_path / "out" / "index.npz").read_bytes() == content


def test_bad_parameters(index, tmp_path):
    for wrong in ({"action": "mark"}, {"characters": -1}, {"max_pieces": -1}, {"max_texts": -1}):
        with pytest.raises(UserError, match=f"Decontaminate.{next(iter(wrong))}"):
            Decontaminate(index, **wrong)
    with pytest.raises(UserError, match="does not exist"):
        Decontaminate(str(tmp_path / "nowhere.npz"))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    with pytest.raises(UserError, match="not a decontamination index"):
        Decontaminate(str(tmp_path / "junk.npz"))
    stage = Decontaminate(index)
    assert pickle.loads(pickle.dumps(stage)) == stage
