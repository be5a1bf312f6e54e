"""Files as pieces and records: every line once whatever the cuts, places of faults, formats."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.caching.inputs import lines, reading
from beam_pipelines.caching.inputs.reading import Piece, Record
from t5x_style.errors import UserError


def values(units):
    return [record.value for pieces in units for piece in pieces for record in reading.read(piece)]


@given(
    content=st.lists(st.sampled_from(["", "a", "é", "日本語", "😀😀", "x" * 9, "\r"]), max_size=12),
    ended=st.booleans(),
    width=st.integers(1, 20),
)
def test_any_cut_gives_every_line_once(tmp_path_factory, content, ended, width):
    path = tmp_path_factory.getbasetemp() / "cuts.txt"
    data = ("\n".join(content) + "\n" * ended).encode()
    path.write_bytes(data)
    units = reading.cut([str(path)], range_bytes=width)
    assert len(units) == max(1, -(-len(data) // width))
    expected = [line.rstrip(b"\r").decode() for line in data.split(b"\n")]
    assert values(units) == (expected[:-1] if not expected[-1] and not data.endswith(b"\r") else expected)


def test_lines_of_the_docstring_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"ab\ncd\n")
    assert [list(lines.read_lines(str(path), *part)) for part in ((0, 1), (1, 4), (4, 6))] == [
        [(0, b"ab\n")],
        [(3, b"cd\n")],
        [],
    ]
    path.write_bytes(b"\xef\xbb\xbfab\ncd\n")
    assert [line for _, line in lines.read_lines(str(path))] == [b"ab\n", b"cd\n"]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_json_lines_and_where_they_stand(tmp_path, ending):
    path = tmp_path / f"a.jsonl{ending}"
    data = b'{"text": "\xc3\xa9"}\n\n{"text": 1\n[1]\n"x"'
    frames = zstandard.compress(data[:9]) + zstandard.compress(data[9:])
    path.write_bytes({"": data, ".gz": gzip.compress(data), ".zst": frames}[ending])
    ((piece,),) = reading.cut([str(path)])
    found = list(reading.read(piece))
    assert found[:2] == [Record(0, {"text": "é"}), Record(15, None)]
    assert [bool(record.fault) for record in found] == [False, False, True, True, True]
    assert "a JSON list where an object" in found[3].fault
    assert [reading.where(piece, record.position) for record in found] == [f"{path}, line {n}" for n in range(1, 6)]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
def test_compressed_files_that_are_cut_off_are_told(tmp_path, pack):
    path = tmp_path / ("a.txt.gz" if pack is gzip.compress else "a.txt.zst")
    path.write_bytes(pack(b"line\n" * 1000)[:-6])
    with pytest.raises(UserError, match="damaged compressed data"):
        values(reading.cut([str(path)]))


def test_parquet_by_row_groups(tmp_path):
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a", "b", None, "d", "e"], "other": range(5)}), path, row_group_size=2)
    units = reading.cut([path], range_bytes=1)
    assert [[piece[2:] for piece in pieces] for pieces in units] == [[(0, 1)], [(1, 2)], [(2, 3)]]
    records = [list(reading.read(piece, ("text",))) for (piece,) in units]
    assert records[1] == [Record(2, {"text": None}), Record(3, {"text": "d"})]
    assert reading.where(units[2][0], records[2][0].position) == f"{path}, row 5"
    with pytest.raises(UserError, match=r"a.parquet: no column 'body'; it has text, other"):
        list(reading.read(units[0][0], ("body",)))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        reading.cut([str(tmp_path / "b.parquet")])


def test_whole_files_as_documents_are_joined_into_units(tmp_path):
    for name, text in (("a", "one\ntwo\n"), ("b", ""), ("c", "three")):
        (tmp_path / f"{name}.txt").write_text(text)
    paths = reading.find_files([str(tmp_path / "*.txt")])
    units = reading.cut(paths, reading.FILE, range_bytes=9)
    assert [len(pieces) for pieces in units] == [2, 1]
    assert values(units) == ["one\ntwo\n", "", "three"]


def test_text_that_is_no_utf8_is_a_fault(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"fine\n\xff\n")
    good, bad = reading.read(Piece(str(tmp_path / "a.txt"), reading.TEXT))
    assert (good.value, bad.value) == ("fine", None)
    assert "not UTF-8" in bad.fault


def test_files_that_are_not_read(tmp_path):
    for name in ("a.jsonl", "_part.jsonl", "c.csv"):
        (tmp_path / name).write_text(json.dumps({}))
    assert reading.find_files([str(tmp_path / "*.jsonl")]) == [str(tmp_path / "a.jsonl")]
    for pattern, message in (("none*", "no file matches"), ("*.csv", "tells no known format"), ("_*", "begin with _")):
        with pytest.raises(UserError, match=message):
            reading.find_files([str(tmp_path / pattern)])
    with pytest.raises(UserError, match=r"is a folder, add '/\*\.jsonl'"):
        reading.find_files([str(tmp_path)])
