"""Recipes that make no sense are refused; a funnel that does not add up is an error."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.dedup.exact_dedup import ExactDedup
from beam_pipelines.web.dedup.minhash import MinHashDedup
from beam_pipelines.web.document import Measure, Page
from beam_pipelines.web.extraction.extract import Extract
from beam_pipelines.web.filters.gopher_quality import GopherQuality
from beam_pipelines.web.funnel import check, funnel
from beam_pipelines.web.recipe import CleanWeb
from beam_pipelines.web.report.samples import Candidates, Picks
from beam_pipelines.web.text.language import Language
from t5x_style.errors import UserError


@dataclass(frozen=True)
class ByAddress:
    """A page stage."""

    name: str = "by_address"

    def page_measures(self, page: Page) -> Iterator[Measure]:
        yield Measure("slashes", page.url.count("/"), maximum=5)


def test_segments():
    quality, exact, minhash, late = GopherQuality(), ExactDedup(), MinHashDedup(), Language(name="late")
    recipe = CleanWeb([ReadWarc(), Extract(), quality, exact, late, minhash])
    assert recipe.segments() == [(None, [quality]), (exact, [late]), (minhash, [])]
    assert CleanWeb([ReadWarc(), Extract()]).segments() == [(None, [])]
    paged = CleanWeb([ReadWarc(), ByAddress(), Extract(method="resiliparse"), quality])
    assert paged.page_stages == [ByAddress()]
    assert paged.extractor == Extract(method="resiliparse")
    assert paged.segments() == [(None, [quality])]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "must begin"),
        ([Extract(), ReadWarc()], "must begin"),
        ([ReadWarc(), Extract(), Extract(name="again")], "hold one Extract"),
        ([ReadWarc(), Extract(), ByAddress()], "ByAddress cannot stand after Extract"),
        ([ReadWarc(), GopherQuality(), Extract()], "GopherQuality cannot stand before Extract"),
        ([ReadWarc(), Extract(), 7], "int .* is no stage"),
        ([ReadWarc(), Extract(), Language(), Language()], "two stages are called 'language'"),
    ],
)
def test_recipes_that_make_no_sense(stages, message):
    with pytest.raises(UserError, match=message):
        CleanWeb(stages)


def test_configurations_differ_exactly_when_parameters_do():
    def recipe(**changes):
        return CleanWeb([ReadWarc(), Extract(), GopherQuality(**changes)]).configuration()

    assert recipe() == recipe()
    assert recipe() != recipe(min_words=51)


STATS = {
    "stages": [
        {"name": "read", "in": 10, "kept": 8, "rejected": {"truncated": 2}},
        {"name": "quality", "in": 8, "kept": 5, "rejected": {"hashes": 1, "long_words": 2}},
    ]
}
FILES = {
    "a": {"documents": 5, "rejected": {"read": {"truncated": 1}, "quality": {"hashes": 1, "long_words": 2}}},
    "b": {"documents": 0, "rejected": {"read": {"truncated": 1}}},
}


def test_a_funnel_that_adds_up():
    check(STATS, FILES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stats, files: stats["stages"][0].update({"in": 11}), "read: 11 in, 8 kept, 2 rejected"),
        (lambda stats, files: stats["stages"][1].update({"in": 9, "kept": 6}), "read kept 8"),
        (lambda stats, files: files["b"]["rejected"].clear(), "files hold {'truncated': 1}"),
        (lambda stats, files: files["b"].update(documents=1), r"documents/ holds 6"),
        (lambda stats, files: files["a"]["rejected"].update(other={"x": 1}), "no stage"),
    ],
)
def test_a_funnel_that_does_not(change, message):
    stats, files = copy.deepcopy(STATS), copy.deepcopy(FILES)
    change(stats, files)
    with pytest.raises(RuntimeError, match=message):
        check(stats, files)


def tally(came: int, rejected: dict, **more) -> dict:
    empty = {"edits": {}, "signals": {}, "seconds": 0.25}
    return {"in": came, "kept": came - sum(rejected.values()), "rejected": rejected, **empty, **more}


def unit_result(stages: dict, documents: int, **more) -> dict:
    counts = {"documents": documents, "characters": 10 * documents, "records": {}}
    return {"stages": stages, "candidates": Candidates().result(), **counts, **more}


def test_units_and_jobs_add_up():
    """Two units, two map jobs: counts, edits, histograms, seconds; documents are the last job's."""

    def words(value, maximum):
        return {"signals": {"words": {"counts": {value: 2}, "limits": [[5, maximum]]}}}

    first = {
        "a": unit_result(
            {"read": tally(3, {}), "quality": tally(3, {"long": 1}, edits={"lines": 2}, **words("7", 9))}, 2
        ),
        "b": unit_result({"read": tally(2, {}), "quality": tally(2, {}, edits={"lines": 1}, **words("7", 8))}, 2),
    }
    first["a"]["records"] = {"response": 4}
    last = {
        "a": unit_result({"dedup": tally(2, {"duplicate": 1})}, 1),
        "b": unit_result({"dedup": tally(2, {})}, 2),
    }
    files = {
        "a": {"documents": 1, "rejected": {"quality": {"long": 1}, "dedup": {"duplicate": 1}}},
        "b": {"documents": 2, "rejected": {}},
    }
    stats = funnel(["read", "quality", "dedup"], [first, last], files, {"dedup": 7.0}, Picks())
    read, quality, dedup = stats["stages"]
    assert (read["in"], read["kept"], read["seconds"]) == (5, 5, 0.5)
    assert (quality["in"], quality["kept"], quality["rejected"]) == (5, 4, {"long": 1})
    assert quality["edits"] == {"lines": 3}
    assert quality["signals"] == {"words": {"counts": {"7": 4}, "limits": [[5, 9], [5, 8]]}}
    assert (dedup["kept"], dedup["rejected"], dedup["seconds"]) == (3, {"duplicate": 1}, 7.5)
    assert (stats["documents"], stats["characters"], stats["records"]) == (3, 30, {"response": 4})
    files["b"]["documents"] = 3
    with pytest.raises(RuntimeError, match="documents/ holds 4"):
        funnel(["read", "quality", "dedup"], [first, last], files, {}, Picks())
