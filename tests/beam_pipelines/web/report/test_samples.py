"""Which documents are shown to people: the same ones however the units are cut and ordered, and few of them."""

import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.web import parquet
from beam_pipelines.web.document import Document, Verdict
from beam_pipelines.web.report import samples
from beam_pipelines.web.report.samples import Candidates, Picks, Smallest, distance, fetch


def document_id(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()


@given(st.lists(st.integers(0, 40)), st.integers(1, 8))
def test_smallest(values, count):
    kept = Smallest(count)
    for value in values:
        kept.add((value,))
    assert [value for (value,) in kept.items] == sorted(values)[:count]


def test_distance():
    assert distance(45, 50) == pytest.approx(0.1)
    assert distance(0.02, 0) == 0.02
    assert distance(-3, -2) == 0.5


def unit(numbers) -> dict:
    """Candidates of documents 0..: the even ones stay, odd ones are too short by their number."""
    found = Candidates()
    for number in numbers:
        if number % 2:
            found.reject(document_id(number), "quality", Verdict("words_low", 100 - number, 100))
        else:
            found.keep(document_id(number))
    return json.loads(json.dumps(found.result()))  # through the unit's result file


def picked(cuts: list[list[int]]) -> tuple[set[int], set[int], set[int]]:
    """(kept, nearest, drawn) numbers of the documents picked from units of these documents."""
    picks = Picks()
    for index, numbers in enumerate(cuts):
        picks.add(0, index, unit(numbers), last=True)
    kept, rejected = picks.places()
    evens = [[n for n in numbers if n % 2 == 0] for numbers in cuts]
    odds = [[n for n in numbers if n % 2] for numbers in cuts]
    places = rejected["quality", "words_low"]
    return (
        {evens[place.unit][place.row] for place in kept},
        {odds[place.unit][place.row] for place in places if place.near},
        {odds[place.unit][place.row] for place in places if not place.near},
    )


def test_the_same_whatever_the_units():
    numbers = list(range(300))
    whole = picked([numbers])
    assert picked([numbers[:7], numbers[7:100], [], numbers[100:]]) == whole
    random.Random(1).shuffle(numbers)
    assert picked([numbers[:150], numbers[150:]]) == whole
    kept, nearest, drawn = whole
    by_id = sorted(range(300), key=document_id)
    assert kept == set([n for n in by_id if n % 2 == 0][: samples.KEPT])
    assert nearest == {1, 3, 5, 7, 9}
    assert drawn == set([n for n in by_id if n % 2][: samples.PER_REASON]) - nearest


def test_a_units_candidates_are_few():
    found = Candidates()
    for number in range(20_000):
        found.reject(document_id(number), f"stage{number % 8}", Verdict(f"reason{number % 40}", 0.123456 * number, 7.0))
        found.keep(document_id(number))
    assert len(json.dumps(found.result())) < 30_000
    picks = Picks()
    for index in range(200):
        picks.add(0, index, found.result(), last=True)
    kept, rejected = picks.places()
    assert len(kept) == samples.KEPT
    assert all(len(places) <= samples.PER_REASON + samples.NEAREST for places in rejected.values())


def test_kept_ones_come_from_the_last_map_job_only():
    picks = Picks()
    picks.add(0, 0, unit(range(10)), last=False)
    kept, rejected = picks.places()
    assert kept == []
    assert len(rejected["quality", "words_low"]) == 5
    assert all(place.job == 0 for place in rejected["quality", "words_low"])


def test_values_without_a_threshold_are_only_drawn():
    found = Candidates()
    found.reject(document_id(1), "read", Verdict("http_status", 404))
    found.reject(document_id(2), "dedup", Verdict("duplicate"))
    reasons = found.result()["rejected"]
    assert reasons["read"]["http_status"]["nearest"] == reasons["dedup"]["duplicate"]["nearest"] == []
    assert len(reasons["dedup"]["duplicate"]["drawn"]) == 1


def document(number: int, text: str, metadata: str = "{}") -> Document:
    return Document(document_id(number), text, "web", f"http://x/{number}", "", "en", 0.5, metadata)


def test_fetch_reads_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", 4)  # rows of several groups
    found, picks = Candidates(), Picks()
    kept, rejected = tmp_path / "kept.parquet", tmp_path / "rejected.parquet"
    with open(kept, "wb") as file, parquet.Table(file, parquet.DOCUMENTS) as table:
        for number in range(11):
            table.add(parquet.document_row(document(number, f"{number} " * 2000)), 1)
            found.keep(document_id(number))
    with open(rejected, "wb") as file, parquet.Table(file, parquet.REJECTED) as table:
        for number in range(20, 31):
            verdict = Verdict("words_low", number, 31)
            metadata = json.dumps({"duplicate_of": "abc"}) if number == 25 else "{}"
            table.add(parquet.rejected_row(document(number, f"{number} words", metadata), "quality", verdict), 1)
            found.reject(document_id(number), "quality", verdict)
        lost = document(99, "", json.dumps({"file": "a.warc", "offset": 7, "detail": "cut off"}))
        table.add(parquet.rejected_row(lost, "read", Verdict("truncated")), 0)
        found.reject(lost.id, "read", Verdict("truncated"))
    picks.add(0, 0, found.result(), last=True)
    shown = fetch(picks, [str(kept)], [[str(rejected)]])
    assert sorted(int(sample["text"].split()[0]) for sample in shown["kept"]) == list(range(11))
    assert all(len(sample["text"]) == samples.CHARACTERS < sample["characters"] for sample in shown["kept"])
    quality, read = shown["rejected"]
    assert (quality["stage"], quality["reason"]) == ("quality", "words_low")
    near = [sample for sample in quality["samples"] if sample["near"]]
    assert [sample["value"] for sample in near] == [30, 29, 28, 27, 26]
    for sample in quality["samples"]:
        assert sample["text"] == f"{sample['value']:.0f} words"
        assert sample["url"] == f"http://x/{sample['value']:.0f}"
        assert sample["threshold"] == 31
        assert sample["note"] == ("duplicate of abc" if sample["value"] == 25 else "")
    assert read["samples"][0]["note"] == "a.warc at byte 7 cut off"


def test_a_run_shows_what_its_files_hold(cleaned, runs):
    shown = json.loads((cleaned / "work" / "samples.json").read_text())
    rejected = {row["id"]: row for row in runs.rows(cleaned / "rejected")}
    kept = {row["id"]: row for row in runs.rows(cleaned / "documents")}
    assert len(shown["kept"]) == samples.KEPT
    assert [sample["id"] for sample in shown["kept"]] == sorted(kept)[: samples.KEPT]
    groups = {(group["stage"], group["reason"]): group["samples"] for group in shown["rejected"]}
    assert set(groups) == {(row["stage"], row["reason"]) for row in rejected.values()}
    for (stage, reason), group in groups.items():
        for sample in group:
            row = rejected[sample["id"]]
            assert (row["stage"], row["reason"]) == (stage, reason)
            assert (row["text"][: samples.CHARACTERS], row["url"]) == (sample["text"], sample["url"])
    (short,) = groups["gopher_quality", "words_low"]
    assert (short["value"], short["threshold"], short["near"]) == (5, 50, True)
