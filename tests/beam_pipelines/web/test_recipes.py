"""The gin recipes: the parameters that make each what it is called, and runs of all of them."""

import json
from pathlib import Path

import pytest

from beam_pipelines import clean_web
from beam_pipelines.web.gin_names import NAMES
from beam_pipelines.web.recipe import CleanWeb
from t5x_style import config

GIN = Path(__file__).parents[3] / "gin" / "web"
RECIPES = sorted(path.stem for path in GIN.glob("*.gin"))


def stages(recipe, *bindings):
    root = config.load(CleanWeb, [str(GIN / f"{recipe}.gin")], list(bindings), NAMES).root
    return {stage.name: stage for stage in root.stages}


def test_what_there_is():
    assert RECIPES == ["c4", "fineweb", "gopher", "multilingual", "quickstart", "refinedweb"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_heads_say_where_parameters_are_from_and_how_to_run(recipe):
    head = (GIN / f"{recipe}.gin").read_text(encoding="utf-8").partition("\n\n")[0]
    for part in ("# Expected:", "# Wall time:", "# Command:"):
        assert part in head
    assert "arXiv" in head or "arxiv" in head or recipe == "quickstart"


def test_refinedweb():
    found = stages("refinedweb")
    assert list(found) == [
        *("read", "url_filter", "extract", "tidy", "language", "gopher_repetition", "gopher_quality", "line_wise"),
        *("minhash_dedup", "exact_substring", "url_dedup", "anonymise_pii"),
    ]
    minhash, substring = found["minhash_dedup"], found["exact_substring"]
    assert (minhash.bands, minhash.rows, minhash.ngram) == (450, 20, 5)
    assert (substring.length, substring.keep, substring.min_characters) == (50, "first", 20)
    assert (found["language"].languages, found["language"].threshold) == (("en",), 0.65)
    assert found["line_wise"].max_removed_words == 0.05
    assert found["url_filter"].curated_sources


def test_fineweb():
    """The numbers of the released pipeline: datatrove's defaults and C4 without end marks."""
    found = stages("fineweb")
    rules = found["c4"]
    assert (rules.end_marks, rules.min_words, rules.min_sentences) == ((), 3, 5)
    own = found["fineweb_quality"]
    assert (own.min_punctuated_lines, own.max_short_lines, own.short_line) == (0.12, 0.67, 30)
    assert (own.max_duplicate_line_characters, own.max_newlines_per_word) == (0.01, 0.3)
    minhash = found["minhash_dedup"]
    assert (minhash.bands, minhash.rows, minhash.ngram) == (14, 8, 5)
    assert not found["url_filter"].curated_sources
    assert set(found["anonymise_pii"].kinds) == {"email", "ip_address"}


def test_c4():
    found = stages("c4")
    rules = found["c4"]
    assert (rules.min_words, rules.min_sentences, rules.max_word_length) == (5, 3, 1000)  # the published code's
    assert rules.end_marks == (".", "?", "!", '"')
    assert (found["line_dedup"].unit, found["line_dedup"].span) == ("sentences", 3)


def test_gopher():
    found = stages("gopher")
    assert found["gopher_repetition"].counting == "every"
    assert found["minhash_dedup"].ngram == 13


def test_multilingual():
    found = stages("multilingual")
    assert found["language"].languages == ()
    german = found["gopher_quality"].parameters["de"]
    assert "und" in german["stop_words"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_on_damaged_files_and_real_pages(recipe, shared_data, tmp_path):
    """The run itself refuses a funnel that does not add up; here it must also be of this size."""
    inputs = [str(shared_data / "web" / "fixtures" / "*"), str(shared_data / "web" / "pages-00000-of-00004.warc.gz")]
    fast = "--gin.EXTRACTOR='landmarks'"
    output = tmp_path / "out"
    gin_file = str(GIN / f"{recipe}.gin")
    assert clean_web.main(["--input", *inputs, "--output", str(output), "--gin_file", gin_file, fast]) == 0
    stats = json.loads((output / "stats.json").read_text())
    funnel = {stage["name"]: stage for stage in stats["stages"]}
    assert list(funnel) == list(stages(recipe))
    assert funnel["read"]["in"] >= 141  # a quarter of the 564 pages, and what the fixtures hold
    assert funnel["read"]["rejected"]["truncated"] >= 1
    assert 0 < stats["documents"] == stats["stages"][-1]["kept"] < funnel["read"]["kept"]
