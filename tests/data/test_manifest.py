import json
from pathlib import Path

import pytest

from t5x_style.data.manifest import (
    LengthHistogram,
    Mixture,
    read_manifest,
    read_mixture,
    write_manifest,
    write_mixture,
)
from t5x_style.data.shards import write_shard
from t5x_style.errors import UserError


def manifest_path(make_cache, task="docs"):
    return Path(make_cache.folder) / task / "train" / "manifest.json"


def test_written_and_read(make_cache, documents):
    written = make_cache("docs", documents(11), append_eos=["targets"], trim={"targets": None})
    assert read_manifest(make_cache.folder, "docs", "train") == written
    value = json.loads(manifest_path(make_cache).read_text())
    assert value["format"] == 2
    assert value["examples"] == 11 == sum(shard["examples"] for shard in value["shards"])
    assert value["tokens"]["targets"] == sum(len(example["targets"]) for example in documents(11))
    assert value["vocabularies"]["0" * 64]["class"] == "SentencePieceVocabulary"
    assert [shard["file"] for shard in value["shards"]] == [
        "00000-of-00002.array_record",
        "00001-of-00002.array_record",
    ]


def test_shards_are_byte_identical(tmp_path, documents):
    write_shard(tmp_path / "a", documents(20), {})
    write_shard(tmp_path / "b", documents(20), {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_failed_shard_leaves_nothing(tmp_path):
    with pytest.raises(UserError):
        write_shard(tmp_path / "a", [{"targets": [1]}, {"targets": ["x", 1.5]}], {})
    assert list(tmp_path.iterdir()) == []


def test_missing_cache_names_the_command(make_cache, documents):
    with pytest.raises(UserError, match=r"python -m beam_pipelines.cache_tasks --task docs --output "):
        read_manifest(make_cache.folder, "docs", "train")
    make_cache("docs", documents(3), split="validation")
    with pytest.raises(UserError, match="cached splits: validation"):
        read_manifest(make_cache.folder, "docs", "train")


def test_truncated_and_missing_shards(make_cache, documents):
    make_cache("docs", documents(30))
    shard = manifest_path(make_cache).parent / "00001-of-00002.array_record"
    content = shard.read_bytes()
    shard.write_bytes(content[:-7])
    with pytest.raises(UserError, match=r"00001-of-00002.array_record has \d+ bytes.*truncated.*cache_tasks"):
        read_manifest(make_cache.folder, "docs", "train")
    shard.unlink()
    with pytest.raises(UserError, match=r"00001-of-00002\.array_record is missing"):
        read_manifest(make_cache.folder, "docs", "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "format 3, this version reads formats up to 2"),
        ({"examples": 29}, "do not add up"),
        ({"shards": None}, "malformed"),
        ({"tokens": "many"}, "malformed"),
        ({"vocabularies": {}}, "unknown vocabulary"),
        ({"lengths": {"targets": {"edges": [0], "counts": [1, 2]}}}, "malformed"),
    ],
)
def test_damaged_manifest(make_cache, documents, change, message):
    make_cache("docs", documents(30))
    path = manifest_path(make_cache)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_manifest(make_cache.folder, "docs", "train")


def test_cut_manifest_is_one_line(make_cache, documents):
    make_cache("docs", documents(3))
    path = manifest_path(make_cache)
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match="not valid JSON"):
        read_manifest(make_cache.folder, "docs", "train")


def test_mixture(tmp_path):
    assert read_mixture(tmp_path, "mix") is None
    mixture = Mixture("mix", "tokens", {"a": 0.25, "b": 3})
    write_mixture(tmp_path / "mix", mixture)
    assert read_mixture(tmp_path, "mix") == mixture
    write_mixture(tmp_path / "mix", Mixture("mix", "pages", {"a": 1.0}))
    with pytest.raises(UserError, match="unit 'pages'"):
        read_mixture(tmp_path, "mix")


def test_histogram():
    histogram = LengthHistogram.of([0, 0, 1, 5, 8])
    assert histogram == LengthHistogram((0, 1, 2, 4, 8, 16), (2, 1, 0, 1, 1))
    assert histogram.empty == 2
    assert histogram.upper_bound == 15
    assert LengthHistogram.of([]).upper_bound == 0
    assert LengthHistogram((0, 1, 2), (0, 0, 3)).upper_bound is None  # the last bin is open
    assert LengthHistogram((0, 1, 2), (0, 3, 0)).upper_bound == 1
    assert LengthHistogram((0, 4), (5, 0)).empty == 0  # bin 0 holds more than the empty ones


def test_write_manifest_path(make_cache, documents):
    manifest = make_cache("docs", documents(3))
    assert write_manifest(manifest_path(make_cache).parent, manifest) == str(manifest_path(make_cache))
