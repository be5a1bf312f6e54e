import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.errors import UserError
from tasks.splits import SPLITS, document_key, page_key, split_of, split_of_document, stable_hash

# Written down once: a change of these moves objects between training and evaluation.
GOLDEN = {
    "": "train",
    "numpy.linalg.norm": "train",
    "asyncio.Queue": "train",
    "json.JSONDecoder": "train",
    "é": "train",
    "package.f12": "validation",
    "package.f13": "validation",
    "package.f101": "validation",
    "package.f67": "test",
    "package.f68": "test",
    "package.f138": "test",
}


def test_splits_never_change():
    assert {key: split_of(key) for key in GOLDEN} == GOLDEN
    assert stable_hash("numpy.linalg.norm") == 4356913637346558016


def test_shares_are_90_5_5():
    counts = Counter(split_of(f"package.module.function_{number}") for number in range(40_000))
    assert set(counts) == set(SPLITS)
    # Five standard deviations of a binomial with n = 40,000.
    assert abs(counts["train"] - 36_000) < 300
    assert abs(counts["validation"] - 2_000) < 220
    assert abs(counts["test"] - 2_000) < 220


@given(st.text())
def test_every_key_has_one_split(key):
    assert split_of(key) in SPLITS
    assert split_of(key) == split_of(key)


def test_lone_surrogates_have_a_split():
    assert split_of("\ud800") in SPLITS


@pytest.mark.parametrize(
    ("name", "module", "expected"),
    [
        ("json.decoder.JSONDecoder", "json.decoder", "json.decoder.JSONDecoder"),
        ("json.decoder.JSONDecoder.decode", "json.decoder", "json.decoder.JSONDecoder"),
        ("json.loads", "json", "json.loads"),
        ("json.loads", "", "json.loads"),
        ("jsonx.loads", "json", "jsonx.loads"),
    ],
)
def test_methods_share_the_key_of_their_class(name, module, expected):
    assert page_key(name, module) == expected


def test_document_key():
    page = json.dumps({"title": "t", "meta": {"object": "os.path.join", "module": "os.path"}})
    assert document_key("0" * 32, page) == "os.path.join"
    assert document_key("0" * 32, json.dumps({"title": "t", "meta": {}})) == "0" * 32
    assert document_key("0" * 32, json.dumps({"title": 'an "object"', "meta": None})) == "0" * 32
    assert document_key("0" * 32, "") == "0" * 32
    assert split_of_document({"id": "0" * 32, "metadata": page}) == split_of("os.path.join")


@pytest.mark.parametrize("metadata", ['{"meta": {"object": "x"', '["object"]'])
def test_broken_metadata_is_a_user_error(metadata):
    with pytest.raises(UserError, match="document abc: metadata"):
        document_key("abc", metadata)
