"""FastTextQuality: scores, the threshold at its boundary, models that are not there."""

import dataclasses
import json
import pickle
import shutil

import pytest

from beam_pipelines.quality import classifier
from beam_pipelines.web.document import Document, configuration
from beam_pipelines.web.filters.fasttext_quality import FastTextQuality
from t5x_style.errors import UserError


def document(text):
    return Document("0" * 32, text, "", "", "", "", 0.0, "{}")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    examples = classifier.Examples([f"good {n} treaty" for n in range(40)], [f"bad {n} Offer" for n in range(40)], {})
    training = classifier.Training(dimensions=32, buckets=0, epochs=50, learning_rate=0.5)
    path = tmp_path_factory.mktemp("model") / "quality.bin"
    classifier.train(examples, 0.2, training)[0].save_model(str(path))
    return str(path)


def test_threshold_at_its_boundary(model):
    stage = FastTextQuality(model)
    score = next(stage.measures(document("a good treaty"))).value
    assert 0.5 < score <= 1
    assert dataclasses.replace(stage, threshold=score).judge(document("a good treaty")).reason == ""
    above = dataclasses.replace(stage, threshold=min(1.0, score + 1e-6))
    assert above.judge(document("a good treaty")) == ("quality_score_low", score, above.threshold)
    assert stage.apply(document("bad Offer")).verdict.reason == "quality_score_low"
    bad = FastTextQuality(model, label="__label__cc", threshold=0.5)
    assert bad.judge(document("bad Offer")).reason == ""


@pytest.mark.parametrize("text", ["", " \n\u00a0", "\0"])
def test_no_words_score_zero(model, text):
    assert next(FastTextQuality(model).measures(document(text))).value == 0.0


@pytest.mark.parametrize("text", ["\ud800 good", "good\n\ntreaty", "汉字" * 500, "x " * 50_000, "good\0treaty", "word"])
def test_odd_texts_have_scores(model, text):
    assert 0 < next(FastTextQuality(model).measures(document(text))).value <= 1


def test_normalisation_comes_from_the_card(model, tmp_path):
    assert FastTextQuality(model).normalisation == "spaces"
    copy = tmp_path / "quality.bin"
    shutil.copy(model, copy)
    (tmp_path / "quality.json").write_text(json.dumps({"kind": "fasttext", "normalisation": "fasttext"}))
    stage = FastTextQuality(str(copy))
    assert stage.normalisation == "fasttext"
    assert configuration(stage)["normalisation"] == "fasttext"
    upper, lower = (next(stage.measures(document(text))).value for text in ("GOOD TREATY", "good treaty"))
    assert upper == lower
    assert FastTextQuality(str(copy), normalisation="spaces").normalisation == "spaces"
    assert pickle.loads(pickle.dumps(stage)) == stage


def test_bad_parameters(model, tmp_path):
    with pytest.raises(UserError, match=r"FastTextQuality\.model"):
        FastTextQuality(str(tmp_path / "nowhere.bin"))
    with pytest.raises(UserError, match="threshold"):
        FastTextQuality(model, threshold=1.1)
    with pytest.raises(UserError, match="normalisation"):
        FastTextQuality(model, normalisation="lower")
    with pytest.raises(UserError, match="no label '__label__x'"):
        FastTextQuality(model, label="__label__x").judge(document("a"))
    (tmp_path / "junk.bin").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"junk\.bin"):
        FastTextQuality(str(tmp_path / "junk.bin")).judge(document("a"))
