"""PerplexityBuckets: the buckets at their boundaries, what goes into the metadata, both readers."""

import dataclasses
import json
import pickle

import pytest

from beam_pipelines import perplexity_thresholds, train_ngram_lm
from beam_pipelines.web.document import Document, configuration
from beam_pipelines.web.filters.perplexity import PerplexityBuckets
from t5x_style.errors import UserError

TEXT = "the cat sat on the mat\nthe dog sat on the cat\nthe cat ran\n" * 5


def document(text, metadata='{"title": "é"}'):
    return Document("0" * 32, text, "", "", "", "", 0.0, metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm")
    (path / "text.txt").write_text(TEXT)
    assert train_ngram_lm.main(["--input", str(path / "text.txt"), "--output", str(path), "--order", "3"]) == 0
    return path


def test_buckets_at_their_boundaries(folder):
    model = str(folder / "lm.npz")
    stage = PerplexityBuckets(model, (1.0, 1e9))
    outcome = stage.apply(document("The cat sat."))
    value = outcome.measures[0].value
    assert 1 < value < 30
    metadata = json.loads(outcome.document.metadata)
    assert metadata == {"title": "é", "perplexity": round(value, 3), "bucket": "middle"}
    assert outcome.verdict.reason == ""
    below, above = value - 1e-6, value + 1e-6

    def bucket(head, tail, keep=("head", "middle", "tail")):
        outcome = PerplexityBuckets(model, (head, tail), keep=keep).apply(document("The cat sat."))
        return json.loads(outcome.document.metadata)["bucket"], outcome.verdict

    assert bucket(value, above)[0] == "head"
    assert bucket(below, value)[0] == "middle"
    assert bucket(1.0, below)[0] == "tail"
    assert bucket(1.0, below, keep=("head", "middle"))[1] == ("bucket_tail", value, below)
    assert bucket(value, above, keep=("middle",))[1] == ("bucket_head", value, value)
    assert bucket(1.0, below, keep="tail")[1].reason == ""


def test_limits_of_the_histogram(folder):
    def limits(*keep):
        outcome = PerplexityBuckets(str(folder / "lm.npz"), (5, 10), keep=keep).apply(document("cat"))
        return outcome.measures[0][2:4]

    assert limits("head", "middle") == (None, 10)
    assert limits("middle") == (5, 10)
    assert limits("middle", "tail") == (5, None)


@pytest.mark.parametrize("text", ["", " \n\u00a0", "\0", "...\n!"])
def test_no_words(folder, text):
    outcome = PerplexityBuckets(str(folder / "lm.npz"), (5, 10)).apply(document(text))
    assert outcome.verdict == ("no_words", 0.0, 1.0)
    assert outcome.document.text == text


@pytest.mark.parametrize("text", ["\ud800 cat", "cat\0cat", "汉字", "the cat " * 20_000, "cat\n" * 3000, "unseen"])
def test_odd_texts(folder, text):
    for name in ("lm.npz", "lm.arpa"):
        outcome = PerplexityBuckets(str(folder / name), (5, 1e99)).apply(document(text, ""))
        assert 1 <= outcome.measures[0].value < 1e6
        assert outcome.document.text == text


def test_thresholds_file(folder, tmp_path):
    model, path = str(folder / "lm.npz"), str(tmp_path / "thresholds.json")
    options = ["--documents", str(folder / "text.txt"), "--output", path]
    assert perplexity_thresholds.main(["--model", model, *options]) == 0
    stage = PerplexityBuckets(model, path)
    written = json.loads((tmp_path / "thresholds.json").read_text())
    assert stage.thresholds == (written["head"], written["tail"])
    assert pickle.loads(pickle.dumps(stage)) == stage
    assert PerplexityBuckets(str(folder / "lm.arpa"), path).thresholds == stage.thresholds
    (tmp_path / "text.txt").write_text(TEXT + "more")
    assert train_ngram_lm.main(["--input", str(tmp_path / "text.txt"), "--output", str(tmp_path / "other")]) == 0
    with pytest.raises(UserError, match="another model"):
        PerplexityBuckets(str(tmp_path / "other" / "lm.npz"), path)
    other = PerplexityBuckets(str(tmp_path / "other" / "lm.npz"), (5, 6))
    assert configuration(other)["model_identity"] != configuration(stage)["model_identity"]


def test_kenlm_reads_the_same(folder):
    pytest.importorskip("kenlm", reason="kenlm is not installed: pip install kenlm (needs CMake)")
    stage = PerplexityBuckets(str(folder / "lm.arpa"), (5, 10))
    for text in (TEXT, "an unseen dog sat\n\non the mat", "x"):
        own = stage.scorer.perplexity(text)
        assert dataclasses.replace(stage, reader="kenlm").scorer.perplexity(text) == pytest.approx(own, rel=1e-5)


def test_bad_parameters(folder, tmp_path):
    model = str(folder / "lm.npz")
    for thresholds in [(5,), (6, 5), (0, 5), (5, float("inf")), (float("nan"), 5)]:
        with pytest.raises(UserError, match="thresholds"):
            PerplexityBuckets(model, thresholds)
    with pytest.raises(UserError, match="do not exist"):
        PerplexityBuckets(model, str(tmp_path / "nowhere.json"))
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(UserError, match="not a file of perplexity thresholds"):
        PerplexityBuckets(model, str(tmp_path / "other.json"))
    with pytest.raises(UserError, match=r"PerplexityBuckets\.model"):
        PerplexityBuckets(str(tmp_path), (5, 6))
    with pytest.raises(UserError, match="keep"):
        PerplexityBuckets(model, (5, 6), keep=("best",))
    with pytest.raises(UserError, match="keep"):
        PerplexityBuckets(model, (5, 6), keep=())
    with pytest.raises(UserError, match="reader"):
        PerplexityBuckets(model, (5, 6), reader="fast")
    foreign = tmp_path / "foreign.arpa"
    foreign.write_bytes((folder / "lm.arpa").read_bytes())
    with pytest.raises(UserError, match="no card"):
        PerplexityBuckets(str(foreign), (5, 6))
    assert PerplexityBuckets(str(foreign), (5, 6), normalisation="words").model_identity.endswith(" bytes")
