"""train_ngram_lm and perplexity_thresholds: outputs, reruns, tokens, errors, from the command line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines import perplexity_thresholds, train_ngram_lm
from beam_pipelines.quality import reader
from beam_pipelines.quality.buckets import Scorer, bucket_of, resolve_sentences
from beam_pipelines.quality.text_form import Sentences, ccnet_line
from t5x_style.errors import UserError

WORDS = [f"word{n}" for n in range(80)]


def documents(count, seed=0):
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    return [
        "\n".join(
            " ".join(generator.choice(WORDS, 8, p=weights / weights.sum())) + "."
            for _ in range(generator.integers(1, 4))
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    texts = [*documents(120), ""]
    pq.write_table(pa.table({"id": list(map(str, range(121))), "text": texts}), folder / "a.parquet")
    arguments = ["--input", str(folder / "a.parquet"), "--order", "3", "--output", str(folder / "out")]
    assert train_ngram_lm.main(arguments) == 0
    return folder, arguments, texts


def test_card_and_files(trained):
    folder, _, texts = trained
    card = json.loads((folder / "out" / "lm.json").read_text())
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["lm.arpa", "lm.json", "lm.npz"]
    assert card["tokens"] == sum(len(text.split()) for text in texts)
    assert card["sentences"] == sum(len(text.splitlines()) for text in texts)
    assert [order["ngrams"] for order in card["orders"]] == reader.read(str(folder / "out" / "lm.arpa")).ngrams()
    assert [order["pruned"] for order in card["orders"]] == [0, 0, 0]
    sentences = Sentences().split("Word1, word2!\n\nunseen")
    scores = [reader.read(str(folder / "out" / name)).token_scores(sentences) for name in ("lm.arpa", "lm.npz")]
    np.testing.assert_array_equal(*scores)


def test_reruns(trained, capsys):
    folder, arguments, _ = trained
    stamp = (folder / "out" / "lm.arpa").stat().st_mtime_ns
    assert train_ngram_lm.main(arguments) == 0
    assert (folder / "out" / "lm.arpa").stat().st_mtime_ns == stamp
    assert train_ngram_lm.main([*arguments, "--prune", "0", "0", "1"]) == 2
    assert "another prune" in capsys.readouterr().err
    other = [*arguments[:-1], str(folder / "again"), "--block_tokens", "100"]
    assert train_ngram_lm.main(other) == 0
    assert sorted(path.name for path in (folder / "again").iterdir()) == ["lm.arpa", "lm.json", "lm.npz"]
    for name in ("lm.arpa", "lm.npz", "lm.json"):
        assert (folder / "again" / name).read_bytes() == (folder / "out" / name).read_bytes()
    (folder / "again" / "lm.arpa").write_text("changed")
    assert train_ngram_lm.main(other) == 2
    assert "was changed" in capsys.readouterr().err


def test_sentencepiece_pieces_go_with_the_model(trained, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    _, arguments, texts = trained
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(texts).splitlines()),
        model_prefix=str(tmp_path / "sp"),
        vocab_size=60,
        minloglevel=2,
    )
    options = ["--sentencepiece", str(tmp_path / "sp.model"), "--normalisation", "ccnet"]
    assert train_ngram_lm.main([*arguments[:-1], str(tmp_path / "out"), *options]) == 0
    model = str(tmp_path / "out" / "lm.npz")
    sentences = resolve_sentences(model, "", "")
    assert sentences == Sentences("ccnet", str(tmp_path / "out" / "sentencepiece.model"))
    assert sentences.split("Word1 word2.\n\n")[0][0].startswith("▁")
    assert Scorer(model, sentences).perplexity("Word1 word2.") == pytest.approx(
        Scorer(model, sentences).perplexity("wörd7 word4.")  # ccnet: no accents, digits are 0
    )


def test_thresholds(trained, tmp_path, capsys):
    folder, _, _ = trained
    model = str(folder / "out" / "lm.npz")
    pq.write_table(pa.table({"text": [*documents(60, seed=5), "..."]}), tmp_path / "reference.parquet")
    arguments = ["--model", model, "--documents", str(tmp_path / "*.parquet"), "--output", str(tmp_path / "t.json")]
    assert perplexity_thresholds.main(arguments) == 0
    found = json.loads((tmp_path / "t.json").read_text())
    scorer = Scorer(model, Sentences())
    values = [scorer.perplexity(text) for text in documents(60, seed=5)]
    assert (found["documents"], found["without_words"]) == (60, 1)
    np.testing.assert_allclose([found["head"], found["tail"]], np.percentile(values, [30, 60]))
    buckets = [bucket_of(value, found["head"], found["tail"]) for value in values]
    assert [buckets.count(bucket) for bucket in ("head", "middle", "tail")] == [18, 18, 24]
    assert perplexity_thresholds.main(arguments) == 0
    assert perplexity_thresholds.main([*arguments, "--percentiles", "10", "50"]) == 2
    assert "another percentiles" in capsys.readouterr().err


def test_bad_input_is_one_line(trained, tmp_path, capsys):
    folder, arguments, _ = trained

    def error(command, *given):
        assert command.main([*given]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ")
        assert printed.count("\n") == 1
        return printed

    data, out = arguments[:2], ["--output", str(tmp_path / "out")]
    (tmp_path / "blank.txt").write_text("...\n \n")
    assert "--order 0" in error(train_ngram_lm, *data, *out, "--order", "0")
    assert "pruning thresholds" in error(train_ngram_lm, *data, *out, "--prune", "1")
    assert "no sentence" in error(train_ngram_lm, "--input", str(tmp_path / "blank.txt"), *out)
    assert not list((tmp_path / "out").iterdir())
    assert "--input" in error(train_ngram_lm, "--input", str(tmp_path / "none*.txt"), *out)
    assert "--sentencepiece" in error(train_ngram_lm, *data, *out, "--sentencepiece", "nowhere.model")
    model, blank = ["--model", str(folder / "out" / "lm.npz")], ["--documents", str(tmp_path / "blank.txt")]
    assert "--model" in error(perplexity_thresholds, "--model", str(tmp_path / "x"), *blank, *out)
    assert "has words" in error(perplexity_thresholds, *model, *blank, "--output", str(tmp_path / "t.json"))
    assert "--percentiles" in error(perplexity_thresholds, *model, *blank, *out, "--percentiles", "60", "30")
    assert "kenlm cannot read" in error(perplexity_thresholds, *model, *blank, *out, "--reader", "kenlm")


def test_sentences():
    assert Sentences().split("Hello, World.\n\n \u2028Bye!") == [["hello", "world"], ["bye"]]
    assert Sentences("none").split("A\u00a0B <s> c\0") == [["A", "B", "c"]]
    assert Sentences().split("\ud800 x") == [["x"]]
    assert Sentences().split("") == Sentences("ccnet").split(" \n\u3000") == []
    assert ccnet_line("Café，12 °C\u200b") == "cafe,00 °c"
    with pytest.raises(UserError, match="normalisation"):
        Sentences("lower")
