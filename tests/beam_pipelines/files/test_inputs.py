"""Inputs by globs, by lists of paths, and parts of them."""

import argparse
import gzip

import pytest

from beam_pipelines.files import inputs
from t5x_style.errors import UserError


def resolve(*argv):
    parser = argparse.ArgumentParser()
    inputs.add_arguments(parser)
    return inputs.resolve(parser.parse_args(argv))


@pytest.fixture(params=["warc.paths", "warc.paths.gz"])
def listed(request, tmp_path):
    text = "\ufeffcrawl/a.warc.gz\r\n\n# comment\ncrawl/b.warc.gz\ns3://other/c.warc.gz\n/data/d.warc.gz\ncrawl/a.warc.gz\n"
    path = tmp_path / request.param
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


REST = ["s3://other/c.warc.gz", "/data/d.warc.gz"]


def test_a_list(listed):
    web = "https://data.commoncrawl.org/"
    assert resolve("--input_paths", listed) == [f"{web}crawl/a.warc.gz", f"{web}crawl/b.warc.gz", *REST]


@pytest.mark.parametrize("prefix", ["s3://commoncrawl", "s3://commoncrawl/"])
def test_a_prefix(listed, prefix):
    found = resolve("--input_paths", listed, "--input_prefix", prefix)
    assert found == ["s3://commoncrawl/crawl/a.warc.gz", "s3://commoncrawl/crawl/b.warc.gz", *REST]


def test_no_prefix(listed):
    assert resolve("--input_paths", listed, "--input_prefix", "")[0] == "crawl/a.warc.gz"


@pytest.mark.parametrize(
    ("part", "expected"), [("0:2", [0, 1]), ("1:3", [1, 2]), (":1", [0]), ("2:", [2, 3]), (":", [0, 1, 2, 3])]
)
def test_slices(listed, part, expected):
    assert resolve("--input_paths", listed, "--input_slice", part) == [
        resolve("--input_paths", listed)[index] for index in expected
    ]


@pytest.mark.parametrize("part", ["4:5", "0:5", "2:2", "3:1", "10:"])
def test_slices_that_reach_outside(listed, part):
    with pytest.raises(UserError, match=f"--input_slice {part}: there are 4 input files, counted from 0"):
        resolve("--input_paths", listed, "--input_slice", part)


@pytest.mark.parametrize("part", ["10", "a:b", "-1:", "0:10:2", "1.5:2"])
def test_slices_that_are_none(listed, part):
    with pytest.raises(UserError, match="give START:STOP"):
        resolve("--input_paths", listed, f"--input_slice={part}")


def test_globs_and_lists_together(tmp_path, listed):
    for name in ("x-2.warc.gz", "x-1.warc.gz"):
        (tmp_path / name).write_bytes(b"")
    found = resolve("--input", str(tmp_path / "x-*"), "--input_paths", listed, "--input_slice", "1:3")
    assert found == [str(tmp_path / "x-2.warc.gz"), "https://data.commoncrawl.org/crawl/a.warc.gz"]


def test_errors(tmp_path):
    with pytest.raises(UserError, match="give --input GLOB"):
        resolve()
    (tmp_path / "raw\udcff.warc.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"raw.udcff.warc.gz': the file's name is not valid UTF-8"):
        resolve("--input", str(tmp_path / "raw*"))
    with pytest.raises(UserError, match="no file matches --input"):
        resolve("--input", str(tmp_path / "*.warc"))
    with pytest.raises(UserError, match="nowhere: no such file"):
        resolve("--input_paths", str(tmp_path / "nowhere"))
    (tmp_path / "empty").write_text("# nothing\n\n")
    with pytest.raises(UserError, match="the list is empty"):
        resolve("--input_paths", str(tmp_path / "empty"))
    (tmp_path / "page").write_text("<html> no list\n")
    with pytest.raises(UserError, match="is no path; the list has one path a line"):
        resolve("--input_paths", str(tmp_path / "page"))


def test_a_list_of_local_files_is_not_asked_of_a_web_server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.warc.gz").write_bytes(b"")
    (tmp_path / "paths").write_text("a.warc.gz\n")
    with pytest.raises(UserError, match=r"lies on this disk.*--input_prefix \./"):
        resolve("--input_paths", "paths")
    assert resolve("--input_paths", "paths", "--input_prefix", "./") == ["./a.warc.gz"]
