"""ARPA files: round trip, compression, foreign and broken files, saved tables."""

import gzip

import numpy as np
import pytest

from beam_pipelines.quality import arpa, counting, reader
from beam_pipelines.quality.kneser_ney import estimate
from t5x_style.errors import UserError

# p(a|<s>) is listed; p(b|<s> a) is not and backs off from "<s> a" and from "a".
SMALL = """
\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-2\t<unk>
-99\t<s>\t-0.5
-1\t</s>
-0.7\ta\t-0.25
-0.9\tb\t-0.125

\\2-grams:
-0.3\t<s> a
-0.4\ta a
-0.2\tb </s>

\\end\\
"""


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_backoff_by_hand(tmp_path):
    model = reader.read(write(tmp_path / "a.arpa", SMALL))
    assert (model.order, model.ngrams()) == (2, [5, 3])
    np.testing.assert_allclose(model.token_scores([["a", "b"]]), [-0.3, -0.25 - 0.9, -0.2], rtol=1e-6)
    np.testing.assert_allclose(model.token_scores([["x", "a"]]), [-0.5 - 2, -0.7, -0.25 - 1], rtol=1e-6)
    np.testing.assert_allclose(model.sentence_scores([["a"], ["b"]]), [-0.3 - 0.25 - 1, -0.5 - 0.9 - 0.2], rtol=1e-6)
    assert len(model.sentence_scores([])) == len(model.token_scores([])) == 0
    assert reader.perplexity(-8.0, [["a", "b", "c"]]) == pytest.approx(100)
    assert reader.perplexity(-8.0, [["a"], ["b"]]) == pytest.approx(100)


def test_round_trip_and_compression_and_tables(tmp_path):
    generator = np.random.default_rng(1)
    alphabet = ["a", "naïve", "汉字", "\u2028x", "</w>", "\u00a0", "d"]
    sentences = [list(generator.choice(alphabet, 6)) for _ in range(80)]
    counts = counting.count_ngrams(sentences, 4, str(tmp_path))
    levels = estimate(counts)
    for name in ("plain.arpa", "packed.arpa.gz"):
        arpa.write(str(tmp_path / name), levels, counts.words)
    assert gzip.decompress((tmp_path / "packed.arpa.gz").read_bytes()) == (tmp_path / "plain.arpa").read_bytes()
    arpa.write(str(tmp_path / "again.arpa.gz"), levels, counts.words)
    assert (tmp_path / "again.arpa.gz").read_bytes() == (tmp_path / "packed.arpa.gz").read_bytes()
    for level, entries in zip(levels, arpa.read(str(tmp_path / "packed.arpa.gz")), strict=True):
        words = np.array(counts.words, object)[level.rows].ravel().tolist()
        assert entries.words == words
        np.testing.assert_allclose(entries.log10_probability, level.log10_probability, rtol=1e-6)
        if level.log10_backoff is not None:
            np.testing.assert_allclose(entries.log10_backoff, level.log10_backoff, rtol=1e-6, atol=1e-12)
    model = reader.read(str(tmp_path / "plain.arpa"))
    assert model.ngrams() == [len(level.rows) for level in levels]
    reader.save(model, str(tmp_path / "tables.npz"))
    saved = reader.load(str(tmp_path / "tables.npz"))
    assert saved is reader.load(str(tmp_path / "tables.npz"))
    np.testing.assert_array_equal(saved.token_scores(sentences), model.token_scores(sentences))
    assert saved.vocabulary == model.vocabulary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("\\data\\", "data"), "not an ARPA file"),
        (("ngram 2=3", "ngram 3=3"), "'ngram 2=COUNT' expected"),
        (("ngram 2=3", "ngram 2=4"), "2-grams cannot be read"),
        (("ngram 2=3", "ngram 2=2"), "is the file complete"),
        (("\\2-grams:", "\\3-grams:"), "expected where"),
        (("-0.3\t<s> a", "-0.3\t<s> a b"), "no 2 words between tabs in '-0.3"),
        (("-0.3\t<s> a", "minus\t<s> a"), "cannot be read"),
        (("-0.3\t<s> a", "-0.3\t<s> z"), "'z' in a 2-gram"),
        (("-0.4\ta a", "-0.4\t<s> a"), "2-gram occurs twice"),
        (("\tb\t", "\ta\t"), "word occurs twice"),
        (("\t<unk>", "\t<oov>"), "has no <unk>"),
    ],
)
def test_broken_files(tmp_path, change, message):
    assert SMALL.count(change[0]) >= 1
    path = write(tmp_path / "broken.arpa", SMALL.replace(*change, 1))
    with pytest.raises(UserError, match=message):
        reader.read(path)


def test_an_ngram_without_its_suffix(tmp_path):
    text = SMALL.replace("ngram 2=3\n", "ngram 2=3\nngram 3=1\n").replace("\\end", "\\3-grams:\n-1\t<s> a b\n\n\\end")
    with pytest.raises(UserError, match="without its last 2 words"):
        reader.read(write(tmp_path / "a.arpa", text))


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        reader.read(str(tmp_path / "nowhere.arpa"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="ARPA"):
        reader.read(str(tmp_path / "binary"))
    (tmp_path / "zip").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UserError, match="tables cannot be read"):
        reader.read(str(tmp_path / "zip"))
    whole = gzip.compress(SMALL.encode())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.gz"):
        reader.read(str(tmp_path / "cut.gz"))
    assert (
        reader.read(
            write(
                tmp_path / "empty_order.arpa",
                SMALL.replace("2=3", "2=0").replace("-0.3\t<s> a\n-0.4\ta a\n-0.2\tb </s>\n", ""),
            )
        ).order
        == 1
    )


def test_full_and_crowded_tables():
    generator = np.random.default_rng(0)
    for count in (0, 1, 11, 5000):
        keys = np.unique(generator.integers(0, 2**40, count).astype(np.uint64))
        table = reader.Table.build(keys, np.arange(len(keys)), np.arange(len(keys)))
        assert len(table) == len(keys)
        slot, found = table.find(keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF))
        assert found.all()
        np.testing.assert_array_equal(table.log10_probability[slot], np.arange(len(keys)))
        other = np.setdiff1d(generator.integers(0, 2**40, 2000).astype(np.uint64), keys)
        assert not table.find(other >> np.uint64(32), other & np.uint64(0xFFFFFFFF))[1].any()
