"""Counting, modified Kneser-Ney and the reader against the slow reference, and against KenLM where it is installed."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.quality import arpa, counting, reader
from beam_pipelines.quality.kneser_ney import estimate, find_discounts, pruning_thresholds
from t5x_style.errors import UserError

SENTENCES = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=7), min_size=1, max_size=14)


class NaiveModel:
    """Modified Kneser-Ney from the paper's formulas (equations 23 to 27), with dictionaries and recursion: slow."""

    def __init__(self, sentences, order, thresholds=None):
        self.order = order
        thresholds = thresholds or [0] * order
        occurrences = [Counter() for _ in range(order + 1)]
        for sentence in sentences:
            words = ["<s>", *sentence, "</s>"]
            for k in range(1, order + 1):
                for start in range(len(words) - k + 1):
                    occurrences[k][tuple(words[start : start + k])] += 1
        self.vocabulary = {"<unk>", "<s>", "</s>"} | {word for (word,) in occurrences[1]}
        self.counts = [None] * (order + 1)
        for k in range(1, order + 1):
            if k == order:
                counts = dict(occurrences[k])
            else:
                left = defaultdict(set)
                for ngram in occurrences[k + 1]:
                    left[ngram[1:]].add(ngram[0])
                counts = {
                    ngram: (count if ngram[0] == "<s>" else len(left[ngram])) for ngram, count in occurrences[k].items()
                }
            if k == 1:
                counts.pop(("<s>",), None)
            self.counts[k] = counts
        self.kept = [None] + [
            {ngram for ngram in self.counts[k] if k == 1 or occurrences[k][ngram] > thresholds[k - 1]}
            for k in range(1, order + 1)
        ]
        self.discounts = [None] + [self._discounts(self.counts[k]) for k in range(1, order + 1)]

    @staticmethod
    def _discounts(counts):
        n = Counter(counts.values())
        if not (n[1] and n[2] and n[3]):
            return (0.5, 1.0, 1.5)
        y = n[1] / (n[1] + 2 * n[2])
        found = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        return tuple(found) if all(0 <= d <= k for k, d in enumerate(found, 1)) else (0.5, 1.0, 1.5)

    def discount(self, k, ngram):
        return self.discounts[k][min(self.counts[k][ngram], 3) - 1]

    def gamma(self, context):
        """The weight of the lower order behind `context`."""
        k = len(context) + 1
        following = [ngram for ngram in self.counts[k] if ngram[:-1] == context]
        total = sum(self.counts[k][ngram] for ngram in following)
        if not total:
            return 1.0
        freed = sum(self.discount(k, ngram) if ngram in self.kept[k] else self.counts[k][ngram] for ngram in following)
        return freed / total

    def probability(self, word, context):
        """p(word | context), the context at most order - 1 words."""
        word = word if word in self.vocabulary else "<unk>"
        k = len(context) + 1
        lower = self.probability(word, context[1:]) if context else 1.0 / (len(self.vocabulary) - 1)
        total = sum(count for ngram, count in self.counts[k].items() if ngram[:-1] == context)
        if not total:
            return lower
        ngram = (*context, word)
        own = (self.counts[k][ngram] - self.discount(k, ngram)) / total if ngram in self.kept[k] else 0.0
        return own + self.gamma(context) * lower

    def sentence_score(self, sentence):
        """log10 probability, the end included."""
        words = ["<s>", *(word if word in self.vocabulary else "<unk>" for word in sentence), "</s>"]
        return sum(
            math.log10(self.probability(word, tuple(words[max(0, index - self.order + 1) : index])))
            for index, word in enumerate(words)
            if index
        )


def random_sentences(count, words=60, seed=0):
    """Sentences with a skewed vocabulary, so that all counts of counts are there."""
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, words + 1)
    return [
        [f"w{n}" for n in generator.choice(words, generator.integers(1, 12), p=weights / weights.sum())]
        for _ in range(count)
    ]


def train(sentences, order, folder, thresholds=(), name="lm.arpa", block_tokens=4_000_000):
    counts = counting.count_ngrams(sentences, order, str(folder), block_tokens)
    levels = estimate(counts, thresholds)
    arpa.write(str(folder / name), levels, counts.words)
    return reader.read(str(folder / name)), levels


@given(SENTENCES, SENTENCES, st.integers(1, 4), st.lists(st.integers(0, 2), max_size=2))
@settings(max_examples=150, deadline=None)
def test_equal_to_the_reference(tmp_path_factory, sentences, unseen, order, pruning):
    thresholds = [0, *sorted(pruning)][:order]
    model, _ = train(sentences, order, tmp_path_factory.mktemp("lm"), thresholds)
    naive = NaiveModel(sentences, order, pruning_thresholds(thresholds, order))
    texts = [*sentences, *unseen, ["never", "a", "seen"]]
    expected = [naive.sentence_score(sentence) for sentence in texts]
    np.testing.assert_allclose(model.sentence_scores(texts), expected, rtol=2e-6, atol=2e-6)


def test_equal_to_the_reference_without_fallback(tmp_path):
    sentences = random_sentences(300, words=500)
    model, levels = train(sentences, 3, tmp_path)
    assert not any(level.fell_back for level in levels)
    naive = NaiveModel(sentences, 3)
    for level, discounts in zip(levels, naive.discounts[1:], strict=True):
        np.testing.assert_allclose(level.discounts, discounts, rtol=1e-12)
    texts = [*sentences[:20], *random_sentences(10, words=600, seed=1)]
    expected = [naive.sentence_score(sentence) for sentence in texts]
    np.testing.assert_allclose(model.sentence_scores(texts), expected, rtol=1e-5)


@pytest.mark.parametrize("thresholds", [(), (0, 0, 1), (0, 1, 3)])
def test_probabilities_sum_to_one_for_seen_and_unseen_contexts(tmp_path, thresholds):
    sentences = random_sentences(300)
    model, _ = train(sentences, 4, tmp_path, thresholds)
    words = [word for word in model.vocabulary if word not in ("<s>", "</s>")]
    for context in ([], ["w0"], sentences[3][:3], ["w1", "w59", "w1"], ["unknown"], ["w0", "unknown"], ["w59"] * 5):
        scores = [model.token_scores([[*context, word]])[len(context)] for word in words]
        ending = model.token_scores([context])[-1]
        assert np.sum(10.0 ** np.array([*scores, ending])) == pytest.approx(1.0, abs=1e-5)


def test_discounts():
    assert find_discounts(np.array([1, 1, 1, 1, 2, 2, 3, 4, 9, 0])) == ((0.5, 1.25, 1.0), False)
    assert find_discounts(np.array([1, 1, 2, 4])) == ((0.5, 1.0, 1.5), True)  # no 3
    assert find_discounts(np.array([1, 1, 1, 2, 3, 3, 3, 3]))[1]  # D2 = 2 - 3 * .6 * 4 < 0


def test_pruning_thresholds():
    assert pruning_thresholds((), 3) == [0, 0, 0]
    assert pruning_thresholds((0, 1), 4) == [0, 1, 1, 1]
    for wrong in [(1,), (0, 2, 1), (0, 0, 0, 0), (0, -1)]:
        with pytest.raises(UserError, match="pruning"):
            pruning_thresholds(wrong, 3)


def test_pruning_removes_what_occurs_at_most_so_often(tmp_path):
    sentences = random_sentences(200)
    _, levels = train(sentences, 3, tmp_path, (0, 0, 1))
    padded = Counter(
        tuple(words[i : i + 3]) for s in sentences for words in [["<s>", *s, "</s>"]] for i in range(len(words) - 2)
    )
    assert len(levels[2].rows) == sum(count > 1 for count in padded.values())
    assert levels[2].pruned == sum(count == 1 for count in padded.values())


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40),
)
def test_unique_rows(rows):
    array = np.array(rows, np.uint32)
    distinct, counts = counting.unique_rows(array)
    found = [tuple(int(v) for v in row) for row in distinct]
    assert dict(zip(found, counts.tolist(), strict=True)) == dict(Counter(rows))
    assert found == sorted(found, key=lambda row: row[::-1])


def test_blocks_do_not_matter(tmp_path):
    sentences = random_sentences(300)
    whole = counting.count_ngrams(sentences, 4, str(tmp_path))
    assert not list(tmp_path.glob("block-*"))
    for block_tokens in (50, 333):
        parts = counting.count_ngrams(iter(sentences), 4, str(tmp_path), block_tokens)
        assert list(tmp_path.glob("block-*"))
        assert parts.words == whole.words
        assert (parts.sentences, parts.tokens) == (300, sum(map(len, sentences)))
        np.testing.assert_array_equal(parts.rows, whole.rows)
        np.testing.assert_array_equal(parts.counts, whole.counts)


def test_no_text(tmp_path):
    with pytest.raises(UserError, match="no sentence"):
        estimate(counting.count_ngrams([], 3, str(tmp_path)))


def test_equal_to_kenlm(tmp_path):
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed: pip install kenlm (needs CMake)")
    sentences = random_sentences(2000, words=300)
    for thresholds in [(), (0, 0, 1)]:
        model, _ = train(sentences, 5, tmp_path, thresholds)
        reference = kenlm.Model(str(tmp_path / "lm.arpa"))
        texts = [*sentences[:200], *random_sentences(200, words=400, seed=2), ["one"], ["w0"] * 50]
        expected = [reference.score(" ".join(sentence), bos=True, eos=True) for sentence in texts]
        np.testing.assert_allclose(model.sentence_scores(texts), expected, rtol=1e-5)
        tokens = [score for score, _, _ in reference.full_scores(" ".join(sentences[0]), bos=True, eos=True)]
        np.testing.assert_allclose(model.token_scores(sentences[:1]), tokens, rtol=1e-5)
