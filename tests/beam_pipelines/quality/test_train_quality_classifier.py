"""train_quality_classifier: the sample, the split, the metrics, the card, reruns, the command line."""

import gzip
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import train_quality_classifier
from beam_pipelines.quality import classifier, metrics
from beam_pipelines.quality.text_form import fasttext_line, spaces_line
from beam_pipelines.quality.texts import Text, find_files, read_texts
from t5x_style.errors import UserError

SMALL = ["--dimensions", "32", "--buckets", "0", "--epochs", "20"]
GOOD = [
    "treaty",
    "parliament",
    "century",
    "scholars",
    "published",
    "river",
    "mountain",
    "species",
    "theory",
    "language",
]
BAD = ["buy", "cheap", "click", "now", "offer", "free", "shipping", "cart", "login", "subscribe", "discount", "sale"]


def texts(words, count, seed):
    generator = np.random.default_rng(seed)
    common = ["the", "of", "and", "a", "is"]
    return [" ".join(generator.choice([*words, *common], 12)) for _ in range(count)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    rows = [{"id": f"p{n}", "text": text} for n, text in enumerate(texts(GOOD, 160, 1))]
    pq.write_table(pa.Table.from_pylist(rows), folder / "good.parquet")
    with gzip.open(folder / "bad.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in [*texts(BAD, 240, 2), "", rows[0]["text"]])
    arguments = ["--positive", str(folder / "good.parquet"), "--negative", str(folder / "*.jsonl.gz")]
    assert train_quality_classifier.main([*arguments, *SMALL, "--output", str(folder / "out")]) == 0
    return folder, arguments


def test_card(trained):
    card = json.loads((trained[0] / "out" / "quality.json").read_text())
    assert card["documents"] == {
        "positive_seen": 160,
        "positive_empty": 0,
        "negative_seen": 242,
        "negative_empty": 1,
        "in_both": 1,
    }
    sizes = [
        card[side][label] for side in ("train", "held_out") for label in (classifier.POSITIVE, classifier.NEGATIVE)
    ]
    assert sizes[0] + sizes[2] == sizes[1] + sizes[3] == 159
    assert min(sizes[2:]) > 5
    assert card["metrics"]["area_under_curve"] > 0.95
    assert [row["threshold"] for row in card["metrics"]["thresholds"]] == list(classifier.THRESHOLDS)
    recalls = [row["recall"] for row in card["metrics"]["thresholds"]]
    assert recalls == sorted(recalls, reverse=True)
    assert sum(row["count"] for row in card["metrics"]["calibration"]["bins"]) == sum(sizes[2:])


def test_reruns(trained, capsys):
    folder, arguments = trained
    before = (folder / "out" / "quality.bin").read_bytes()
    stamp = (folder / "out" / "quality.bin").stat().st_mtime_ns
    assert train_quality_classifier.main([*arguments, *SMALL, "--output", str(folder / "out")]) == 0
    assert (folder / "out" / "quality.bin").stat().st_mtime_ns == stamp
    assert train_quality_classifier.main([*arguments, *SMALL, "--seed", "3", "--output", str(folder / "out")]) == 2
    assert "another seed" in capsys.readouterr().err
    assert train_quality_classifier.main([*arguments, *SMALL, "--output", str(folder / "again")]) == 0
    assert (folder / "again" / "quality.bin").read_bytes() == before


@pytest.mark.slow
def test_quantised(trained):
    folder, arguments = trained
    assert (
        train_quality_classifier.main(
            [*arguments, *SMALL, "--dimensions", "8", "--quantize", "--output", str(folder / "small")]
        )
        == 0
    )
    assert sorted(path.name for path in (folder / "small").iterdir()) == ["quality.ftz", "quality.json"]
    assert json.loads((folder / "small" / "quality.json").read_text())["metrics"]["area_under_curve"] > 0.9


def test_bad_input_is_one_line(tmp_path, capsys, trained):
    _, arguments = trained

    def error(*given):
        assert train_quality_classifier.main([*given, "--output", str(tmp_path / "out")]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ")
        assert printed.count("\n") == 1
        return printed

    (tmp_path / "one.txt").write_text("only one document\n")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": 1}\n')
    (tmp_path / "page.html").write_text("<p>")
    one = str(tmp_path / "one.txt")
    assert "--positive" in error("--positive", str(tmp_path / "none*"), "--negative", one)
    assert "known formats" in error("--positive", one, "--negative", str(tmp_path / "page.html"))
    assert "broken.jsonl line 2" in error("--positive", one, "--negative", str(tmp_path / "broken.jsonl"))
    assert "leave none" in error("--positive", one, *arguments[2:])
    assert "no column 'body'" in error(*arguments, "--field", "body")
    assert "--held_out 1.0" in error(*arguments, "--held_out", "1")
    assert "--epochs 0" in error(*arguments, "--epochs", "0")


def test_sample_depends_on_the_texts_only():
    positive = [Text(str(n), text) for n, text in enumerate(texts(GOOD, 50, 3))]
    negative = [Text(str(n), text) for n, text in enumerate(texts(BAD, 80, 4))]
    sample = classifier.sample_examples(positive, negative, spaces_line, 30, 0)
    again = classifier.sample_examples(positive[::-1] + positive, negative[::-1], spaces_line, 30, 0)
    assert (sample.positive, sample.negative) == (again.positive, again.negative)
    assert len(sample.positive) == len(sample.negative) == 30
    assert sample.positive != classifier.sample_examples(positive, negative, spaces_line, 30, 1).positive
    everything = classifier.sample_examples(positive, negative, spaces_line, 1000, 0)
    assert len(everything.positive) == len(everything.negative) == 50


def test_vectors_take_enough_memory_to_start_from_zeros():
    assert classifier.Training(dimensions=100).buckets == 2_000_000
    for dimensions in (3, 100):
        raised = classifier.Training(dimensions=dimensions, buckets=10).buckets
        assert 4 * dimensions * (raised - 1) < classifier.LEAST_VECTOR_BYTES <= 4 * dimensions * raised


def test_held_out_share():
    lines = [f"text {n}" for n in range(4000)]
    assert 0.08 < sum(classifier.is_held_out(line, 0.1) for line in lines) / 4000 < 0.12
    assert all(classifier.is_held_out(line, 0.3) for line in lines if classifier.is_held_out(line, 0.1))


def test_normalisation():
    assert fasttext_line("It's (almost) 3.5!") == "it ' s ( almost ) 3 . 5 !"
    assert fasttext_line("A\u00a0b\n\u3000 c\0") == "a b c"
    assert spaces_line(" A\u2028b\ud800 ") == "A b?"
    assert fasttext_line(" \n\u00a0") == ""
    assert spaces_line("a </s> b __label__cc") == "a b cc"
    assert fasttext_line("a </s> b") == "a b"


def test_labels_in_the_text_are_no_labels():
    form = spaces_line
    texts = (
        [f"good{n} __label__cc </s> __label__other" for n in range(30)],
        [f"bad{n} __label__hq x" for n in range(30)],
    )
    sides = [[Text("", text) for text in side] for side in texts]
    examples = classifier.sample_examples(*sides, form, 100, 0)
    model, _ = classifier.train(examples, 0.2, classifier.Training(dimensions=32, buckets=0))
    assert sorted(model.get_labels()) == [classifier.NEGATIVE, classifier.POSITIVE]


def test_area_under_curve():
    positive = np.array([True, True, False, False])
    assert metrics.area_under_curve(np.array([0.9, 0.5, 0.5, 0.1]), positive) == 0.875
    assert math.isnan(metrics.area_under_curve(np.array([0.9]), np.array([True])))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_area_under_curve_is_the_share_of_ordered_pairs(rows):
    high = [score for score, positive in rows if positive]
    low = [score for score, positive in rows if not positive]
    found = metrics.area_under_curve(np.array([score for score, _ in rows]), np.array([p for _, p in rows]))
    if high and low:
        pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in high for b in low]
        assert found == pytest.approx(sum(pairs) / len(pairs))


def test_thresholds_and_calibration():
    scores = np.array([0.1, 0.25, 0.8, 0.9])
    positive = np.array([False, True, False, True])
    assert metrics.at_thresholds(scores, positive, [0.25, 0.95]) == [
        {"threshold": 0.25, "precision": 0.666667, "recall": 1.0, "negatives_kept": 0.5},
        {"threshold": 0.95, "precision": None, "recall": 0.0, "negatives_kept": 0.0},
    ]
    found = metrics.calibration(np.array([1.0, 0.0, 0.0, 0.0]), np.array([True, False, False, True]), 2)
    assert found == {
        "bins": [
            {"count": 3, "mean_score": 0.0, "positives": 0.333333},
            {"count": 1, "mean_score": 1.0, "positives": 1.0},
        ],
        "expected_error": 0.25,
    }


def test_texts_of_every_format(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n  two \u2028 x\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"id": 7, "text": "three"}\n', encoding="utf-8")
    pq.write_table(pa.table({"text": ["four", None]}), tmp_path / "c.parquet")
    paths = find_files([str(tmp_path / "*")], "--input")
    assert list(read_texts(paths)) == [
        ("a.txt:1", "one"),
        ("a.txt:3", "  two \u2028 x"),
        ("7", "three"),
        ("c.parquet:1", "four"),
        ("c.parquet:2", ""),
    ]
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"cut off here" * 50)[:20])
    with pytest.raises(UserError, match=r"d\.txt\.gz"):
        list(read_texts([str(tmp_path / "d.txt.gz")]))
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"e\.parquet"):
        list(read_texts([str(tmp_path / "e.parquet")]))
