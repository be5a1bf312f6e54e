"""Copies of remote files: made once, bounded, never evicted in use, made again when the file changes."""

import subprocess
import sys
import textwrap
import threading

import pytest

from t5x_style import files
from t5x_style.errors import UserError
from t5x_style.files import remote

KIB = 1024


def write(root, name, size=KIB, fill=b"x"):
    url = files.join(root, name)
    files.atomic_write_bytes(url, fill * size)
    return url


def copies(cache):
    return len(list((cache / "files").iterdir()))


def set_limit(monkeypatch, kib):
    monkeypatch.setenv("T5X_STYLE_CACHE_GIB", str(kib * KIB / 2**30))


def test_a_file_is_copied_once_and_again_when_it_changes(root, cache, monkeypatch):
    url = write(root, "a", fill=b"1")
    first = files.local_copy(url)
    assert first.read_bytes() == b"1" * KIB
    assert first.name.endswith("-a")
    files.release(first)
    assert not first.exists()
    with monkeypatch.context() as patch:
        patch.setattr(remote.filesystem(url), "get_file", None)  # a second copy would fail
        again = files.local_copy(url)
        assert files.local_copy(url) == again
    files.release(again)
    assert again.exists()  # one of its two readers still has it
    write(root, "a", fill=b"2")
    changed = files.local_copy(url)
    assert changed.read_bytes() == b"2" * KIB
    assert again.read_bytes() == b"1" * KIB
    assert copies(cache) == 2


def test_the_longest_unused_goes_first_and_nothing_in_use(root, cache, monkeypatch):
    set_limit(monkeypatch, 3)
    a, b, c, d = (write(root, name) for name in "abcd")
    in_use = files.local_copy(a)
    for url in (b, c, b):  # b was asked for last
        files.release(files.local_copy(url))
    files.release(files.local_copy(d))  # there is room for one of b and c
    assert in_use.read_bytes() == b"x" * KIB
    assert copies(cache) == 3
    monkeypatch.setattr(remote.filesystem(a), "get_file", None)
    files.release(files.local_copy(b))
    with pytest.raises(TypeError):
        files.local_copy(c)


def test_what_does_not_fit_is_said(root, monkeypatch):
    set_limit(monkeypatch, 2)
    held = files.local_copies([write(root, "a"), write(root, "b")])
    with pytest.raises(UserError, match=r"/c: .* GiB do not fit into the cache .*; set T5X_STYLE_CACHE_GIB higher"):
        files.local_copies([write(root, "c"), write(root, "a")])
    assert [path.exists() for path in held] == [True, True]
    with pytest.raises(UserError, match=r"GiB are read from here, the local cache holds at most .*; set T5X_STYLE"):
        files.check_room(root, 3 * KIB)
    monkeypatch.setenv("T5X_STYLE_CACHE_GIB", "much")
    with pytest.raises(UserError, match="T5X_STYLE_CACHE_GIB='much' must be a number of GiB above 0"):
        files.check_room(root, 1)


def test_a_cut_copy_is_no_copy(root, cache, monkeypatch):
    url = write(root, "a")
    driver = remote.filesystem(url)
    with monkeypatch.context() as patch:
        patch.setattr(driver, "get_file", lambda _, path: open(path, "wb").close())
        with pytest.raises(UserError, match="has 1024 bytes, 0 came"):
            files.local_copy(url)
    assert copies(cache) == 0
    assert files.local_copy(url).stat().st_size == KIB


def test_readers_in_threads_and_another_process_share_one_copy(s3_bucket, tmp_path, cache):
    """The other process is killed while it reads: its copy stays whole for us, and can be evicted afterwards."""
    url = write(f"{s3_bucket}/{tmp_path.name}", "shared", size=64 * KIB)
    program = """
        import sys, time
        from t5x_style import files
        print(files.local_copy(sys.argv[1]), flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), url]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found = []
    threads = [threading.Thread(target=lambda: found.append(files.local_copy(url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    theirs = other.stdout.readline().strip()
    other.kill()
    other.wait()
    assert len(set(found)) == 1
    assert found[0].read_bytes() == b"x" * 64 * KIB
    assert copies(cache) == 1
    assert theirs != str(found[0])
    (copy,) = (cache / "files").iterdir()
    assert copy.stat().st_nlink == 3
    subprocess.run([sys.executable, "-c", "from t5x_style import files; files.staging_folder('x')"], check=True)
    assert copy.stat().st_nlink == 2  # a new process has removed what the killed one left


def test_a_folder_is_copied_without_what_is_skipped(root):
    for name in ("model.json", "tokenizer/a", "checkpoints/4/params/d/1", "events"):
        write(root, name, size=3)
    local = files.local_folder(root, skip=("checkpoints", "events"))
    assert files.folder_of_files(local) == {"model.json": 3, "tokenizer/a": 3}
    assert local.name == files.name(root)
