"""https:// against a server in this process: ranges or none, broken connections, busy answers, and what is an error."""

import gzip
import http.server
import threading
from collections import Counter
from urllib.parse import unquote

import pytest

from beam_pipelines.files import http_files, storage
from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.document import Page
from t5x_style.errors import UserError


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, in the way that `server.mode` says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(False)

    def do_GET(self):
        self._answer(True)

    def _answer(self, body):
        server = self.server
        server.requests.append((self.command, self.path, self.headers.get("Range")))
        if server.busy:
            server.busy -= 1
            return self._send(503, b"busy", body, {"Retry-After": "0"})
        if "no_head" in server.mode and not body:
            return self._send(405, b"", body)
        content = server.files.get(unquote(self.path))
        if content is None:
            return self._send(403 if self.path.startswith("/secret") else 404, b"no", body)
        start, status, extra = 0, 200, {}
        given = self.headers.get("Range")
        if given and "no_ranges" not in server.mode:
            first, _, last = given.removeprefix("bytes=").partition("-")
            start, status = int(first), 206
            extra = {"Content-Range": f"bytes {start}-{last or len(content) - 1}/{len(content)}"}
            content = content[start : int(last) + 1 if last else None]
        self._send(status, content, body, extra)

    def _send(self, status, content, body, extra=None):
        self.send_response(status)
        if "no_length" not in self.server.mode:
            self.send_header("Content-Length", str(len(content)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if body and self.server.cut and len(content) > 1000:
            self.server.cut -= 1
            self.server.busy = self.server.busy_after_cut
            content = content[: len(content) // 3]
        if body:
            self.wfile.write(content)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http_files, "RETRY_SECONDS", (0.01,) * 4)
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.files, made.mode, made.busy, made.cut, made.requests = {}, set(), 0, 0, []
    made.busy_after_cut = 0
    made.url = f"http://127.0.0.1:{made.server_address[1]}"
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


CONTENT = bytes(index * 7919 % 251 for index in range(300_000))


@pytest.mark.parametrize("mode", [set(), {"no_ranges"}, {"no_length"}, {"no_head"}])
def test_reading_and_seeking(server, mode):
    server.files["/a b.bin"], server.mode = CONTENT, mode
    with storage.open_read(f"{server.url}/a b.bin") as file:
        assert file.read(10) == CONTENT[:10]
        file.seek(0)
        assert file.read() == CONTENT
        for start in (299_990, 5, 150_000):
            file.seek(start)
            assert (file.tell(), file.read(20)) == (start, CONTENT[start : start + 20])


def test_a_file_is_one_request(server, monkeypatch):
    monkeypatch.setattr(http_files, "BUFFER_BYTES", 1000)
    server.files["/a"] = CONTENT
    with storage.open_read(f"{server.url}/a") as file:
        while file.read(777):
            pass
    assert server.requests == [("GET", "/a", None)]


def test_sizes(server):
    server.files.update({f"/{number}": b"x" * number for number in range(40)})
    paths = [f"{server.url}/{number}" for number in range(40)]
    assert storage.sizes(paths) == list(range(40))
    server.mode = {"no_head"}
    assert storage.sizes(paths[:3]) == [0, 1, 2]
    server.mode = {"no_length"}
    assert storage.size(paths[7]) == 7  # by the range of one byte
    server.mode = {"no_length", "no_ranges"}
    with pytest.raises(UserError, match="does not say how long the file is"):
        storage.size(paths[7])
    server.mode = set()
    with pytest.raises(UserError, match=r"/nowhere: no such file \(HTTP status 404\)"):
        storage.sizes([*paths, f"{server.url}/nowhere"])


def test_local_sizes(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    assert storage.sizes([str(tmp_path / "a")]) == [3]
    with pytest.raises(UserError, match="/b"):
        storage.sizes([str(tmp_path / "a"), str(tmp_path / "b")])


def test_busy_servers_and_broken_connections_are_tried_again(server):
    server.files["/a"] = CONTENT
    server.busy = 3
    assert storage.size(f"{server.url}/a") == len(CONTENT)
    server.cut, server.requests = 4, []
    with storage.open_read(f"{server.url}/a") as file:
        assert file.read() == CONTENT
    assert [given for _, _, given in server.requests[:2]] == [None, "bytes=100000-"]


def test_after_the_last_attempt_the_error_is_raised(server):
    server.files["/a"], server.busy = CONTENT, 100
    with pytest.raises(OSError, match="503"):
        storage.open_read(f"{server.url}/a")
    assert len(server.requests) == 5
    server.busy, server.cut, server.busy_after_cut = 0, 1, 100
    with storage.open_read(f"{server.url}/a") as file, pytest.raises(OSError, match="503"):
        file.read()


def test_nobody_listens(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="refused"):
        storage.open_read(f"{server.url}/a")


def test_errors_that_repeating_cannot_mend(server):
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        storage.open_read(f"{server.url}/nowhere")
    with pytest.raises(PermissionError, match="refuses access"):
        storage.open_read(f"{server.url}/secret")
    assert len(server.requests) == 2
    assert not storage.exists(f"{server.url}/nowhere")
    server.files["/a"] = b""
    assert storage.exists(f"{server.url}/a")
    with pytest.raises(UserError, match="cannot write to a web server"), storage.atomic_writer(f"{server.url}/out/a"):
        pass


def test_a_web_server_has_no_globs(server):
    assert storage.expand([f"{server.url}/a?b=c"]) == [f"{server.url}/a?b=c"]
    with pytest.raises(
        UserError, match=r"a web server cannot list its files; give exact addresses, or .*--input_paths"
    ):
        storage.expand([f"{server.url}/*.warc.gz"])


@pytest.mark.parametrize("mode", [set(), {"no_ranges"}])
def test_warc_over_http(server, warc_pages, mode):
    server.files["/crawl/a.warc.gz"], server.mode, server.cut = warc_pages, mode, 1
    items = list(ReadWarc().pages(f"{server.url}/crawl/a.warc.gz", "a.warc.gz", Counter()))
    assert [isinstance(item, Page) for item in items] == [True] * 20


def test_a_server_that_fails_for_good_ends_the_job_and_is_no_bad_record(server, warc_pages):
    server.files["/a.warc.gz"], server.cut, server.busy_after_cut = warc_pages, 1, 100
    with pytest.raises(RuntimeError, match="503"):
        list(ReadWarc().pages(f"{server.url}/a.warc.gz", "a.warc.gz", Counter()))


@pytest.fixture
def warc_pages():
    pieces = []
    for number in range(20):
        block = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>" + CONTENT[number : number + 900].hex().encode()
        )
        head = (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://x/{number}\r\nWARC-Date: 2024-05-01T00:00:00Z"
            f"\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
        )
        pieces.append(gzip.compress(head.encode() + block + b"\r\n\r\n"))
    return b"".join(pieces)
