"""Candidates among near-duplicates meet the formula; the whole measurement is benchmarks/web_dedup_recall.py."""

import random

import numpy as np
import pytest

from beam_pipelines.text.words import normalised_words
from benchmarks.web_dedup_recall import SCHEMES, clustered_similarities, grams, jaccard, main, recall_bins, variants
from benchmarks.web_filters import read_texts
from benchmarks.web_minhash import made_texts


def pages(count):
    return [text.split() for text in made_texts(count, 250)]


def test_worked_similarity():
    assert jaccard(grams(list("abcdef")), grams(list("abcdeg"))) == 1 / 3
    assert jaccard(grams(["a"]), grams(["a"])) == 1
    assert len(grams(list("ababababab"))) == 2


def test_variants_cover_all_similarities():
    one, other = pages(2)
    made = list(variants(one, other, random.Random(1)))
    assert len({kind for kind, _ in made}) == 5
    similarities = [jaccard(grams(one), grams(words)) for _, words in made]
    assert min(similarities) < 0.6
    assert max(similarities) > 0.97
    assert made == list(variants(one, other, random.Random(1)))


@pytest.mark.parametrize(("bands", "rows"), SCHEMES)
def test_candidates_meet_the_formula(bands, rows):
    found = recall_bins(pages(30), bands, rows)
    assert sum(one.pairs for one in found) == 30 * 45
    assert len(found) > 8
    assert max(one.deviation for one in found) <= 4


def test_the_measurement_can_fail():
    """14 bands are not what 8 bands would give."""
    found = recall_bins(pages(30), 14, 8)
    wrong = [one._replace(expected=1 - (1 - one.expected) ** (8 / 14)) for one in found]
    assert max(one.deviation for one in wrong) > 4


def test_precision_of_clusters():
    similarities = np.array(clustered_similarities(pages(20), 450, 20))
    assert len(similarities) > 20
    assert (similarities > 0.5).mean() > 0.95


@pytest.mark.slow
def test_on_real_pages(shared_data, capsys):
    files = [str(shared_data / "web" / "pages-*.warc.gz")]
    assert main(["--pages", *files, "--texts", "40"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert float(last.split()[2]) <= 4
    assert len(normalised_words(read_texts(files, 1)[0])) > 0
