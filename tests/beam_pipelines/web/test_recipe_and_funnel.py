"""Recipes that make no sense are refused; a funnel that does not add up is an error."""

import copy

import pytest

from beam_pipelines.web.exact_dedup import ExactDedup
from beam_pipelines.web.extract import Extract
from beam_pipelines.web.funnel import check
from beam_pipelines.web.gopher_quality import GopherQuality
from beam_pipelines.web.language import Language
from beam_pipelines.web.minhash import MinHashDedup
from beam_pipelines.web.read_warc import ReadWarc
from beam_pipelines.web.recipe import CleanWeb
from t5x_style.errors import UserError


def test_segments():
    quality, exact, minhash, late = GopherQuality(), ExactDedup(), MinHashDedup(), Language(name="late")
    recipe = CleanWeb([ReadWarc(), Extract(), quality, exact, late, minhash])
    assert recipe.segments() == [(None, [quality]), (exact, [late]), (minhash, [])]
    assert CleanWeb([ReadWarc(), Extract()]).segments() == [(None, [])]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "must begin"),
        ([Extract(), ReadWarc()], "must begin"),
        ([ReadWarc(), Extract(), Extract(name="again")], "Extract can stand only at the start"),
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
