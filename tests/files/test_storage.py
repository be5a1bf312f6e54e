"""The seam: the same calls on the local disk, memory:// and S3, and each mistake as one line."""

import os
from pathlib import Path

import pytest

from t5x_style import files
from t5x_style.errors import UserError
from t5x_style.files import remote


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path):
    if request.param == "local":
        return tmp_path / "place"
    if request.param == "memory":
        return f"memory://{tmp_path.name}/"
    return f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"


def test_what_is_written_is_found_read_listed_and_removed(place):
    run = files.join(place, "run")
    files.check_writable(run, "MODEL_DIR")
    assert files.list_names(run) == []
    files.atomic_write_json(files.join(run, "model.json"), {"b": 1, "a": "ü"})
    files.atomic_write_text(files.join(run, "tokenizer", "x.model"), "one")
    files.atomic_write_text(files.join(run, "tokenizer", "x.model"), "two!")
    assert files.read_json(files.join(run, "model.json")) == {"a": "ü", "b": 1}
    assert files.read_text(files.join(run, "tokenizer", "x.model")) == "two!"
    assert files.list_names(run) == ["model.json", "tokenizer"]
    assert files.file_sizes(run) == {"model.json": 26}
    assert files.folder_of_files(run) == {"model.json": 26, "tokenizer/x.model": 4}
    assert files.is_dir(run)
    assert files.is_dir(files.join(run, "tokenizer"))
    assert files.is_file(files.join(run, "model.json"))
    assert not files.is_file(run)
    assert not files.exists(files.join(run, "nothing"))
    versions = files.file_versions(run)
    files.atomic_write_json(files.join(run, "model.json"), {"b": 1, "a": "ö"})
    assert files.file_versions(run) != versions
    files.remove(files.join(run, "model.json"))
    files.remove(files.join(run, "model.json"))
    assert files.list_names(run) == ["tokenizer"]
    files.remove_tree(run)
    files.remove_tree(run)
    assert not files.exists(run)


def test_a_folder_goes_up_and_comes_down(place, tmp_path):
    for name in ("a", "below/b"):
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_text(name)
    sizes = files.upload(tmp_path / "up", files.join(place, "up"))
    assert sizes == {"a": 1, "below/b": 7}
    files.download(files.join(place, "up"), tmp_path / "down", {"below/b": 7})
    assert files.folder_of_files(tmp_path / "down") == {"below/b": 7}
    with pytest.raises(UserError, match=r"below/b has 7 bytes, not 8"):
        files.download(files.join(place, "up"), tmp_path / "down", {"below/b": 8})


def test_a_url_never_becomes_a_local_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.join("gs://bucket/run/", "checkpoints", "4") == "gs://bucket/run/checkpoints/4"
    assert files.parent("memory://x/results.json") == "memory://x"
    assert files.name("s3://bucket/run/") == "run"
    with pytest.raises(UserError, match=r"--output 's3://bucket/run' is a URL; give a local path"):
        files.require_writable("s3://bucket/run", "--output")
    files.atomic_write_text("memory://never/local", "x")
    assert list(tmp_path.iterdir()) == []


def test_protocols_that_cannot_be_opened():
    with pytest.raises(UserError, match=r"^nope://x/y: unknown protocol nope://; give a local path, gs://, s3://"):
        files.read_bytes("nope://x/y")
    with pytest.raises(UserError, match=r"^file:///x: give a local path without file://"):
        files.exists("file:///x")


@pytest.mark.parametrize(("url", "remedy"), [("s3://b/x", "pip install s3fs"), ("gs://b/x", "pip install gcsfs")])
def test_a_missing_package_is_named(url, remedy, monkeypatch):
    import fsspec

    def missing(*_, **__):
        raise ImportError("Install it")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(UserError, match=rf"^{url}: {url[:5]} needs \w+: {remedy}, or t5x_style\[{url[:2]}\]$"):
        files.exists(url)


def test_a_missing_file_and_a_missing_bucket(root, s3_bucket):
    with pytest.raises(UserError, match=r"/nothing does not exist; correct the path$"):
        files.read_bytes(files.join(root, "nothing"))
    for call in (files.read_bytes, files.exists, files.list_names, files.folder_of_files):
        with pytest.raises(UserError, match=r"^s3://no-such-bucket/x: the bucket s3://no-such-bucket does not exist"):
            call("s3://no-such-bucket/x")
    with pytest.raises(UserError, match=r"^MODEL_DIR cannot be written: s3://no-such-bucket/x: the bucket"):
        files.check_writable("s3://no-such-bucket/x", "MODEL_DIR")


def test_credentials_permission_and_a_server_that_is_not_there(s3_bucket, monkeypatch):
    drivers = remote.filesystem("s3://")
    with (
        pytest.raises(UserError, match=r"x: no permission \(Forbidden\); set AWS_ACCESS_KEY_ID"),
        remote.told("s3://b/x"),
    ):
        raise PermissionError("Forbidden")
    drivers.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UserError, match=r"^s3://b/x: the server is not reached"):
        files.read_bytes("s3://b/x")
    drivers.clear_instance_cache()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=r"^s3://b/x: no credentials for s3:// .*; set AWS_ACCESS_KEY_ID"):
        files.read_bytes("s3://b/x")
    drivers.clear_instance_cache()


def test_errors_that_are_ours_are_not_hidden():
    with pytest.raises(ZeroDivisionError), remote.told("s3://b/x"):
        raise ZeroDivisionError


def test_a_cut_local_write_leaves_nothing(tmp_path, monkeypatch):
    files.atomic_write_text(tmp_path / "x", "old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.atomic_write_text(tmp_path / "x", "new")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"
