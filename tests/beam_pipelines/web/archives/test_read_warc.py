"""Reading: good records, every way a record can be bad, and that the rest of a damaged file is still read."""

import gzip
import io
import random
import zlib
from collections import Counter

import pytest
from fastwarc import stream_io

from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.document import Page, Unreadable, record_id


def read(path, **parameters):
    records = Counter()
    return list(ReadWarc(**parameters).pages(str(path), path.name, records)), records


def outcomes(items):
    return ["page" if isinstance(item, Page) else item.reason for item in items]


def test_a_page_carries_its_place(warc, tmp_path):
    path = tmp_path / "a.warc.gz"
    body = warc.html_page("text")
    records = [warc.record(b"software: x\r\n", "", "warcinfo", "application/warc-fields")]
    records += [
        warc.record(warc.http(body), "http://x/1"),
        warc.record(b"GET / HTTP/1.1\r\n\r\n", "http://x/1", "request"),
    ]
    offsets = warc.write(path, records)
    (page,), counts = read(path, source="mine")
    assert page == Page(
        record_id("a.warc.gz", offsets[1]),
        "a.warc.gz",
        offsets[1],
        "mine",
        "http://x/1",
        "2024-05-01T00:00:00Z",
        body,
        "utf-8",
        True,
    )
    assert counts == {"warcinfo": 1, "response": 1, "request": 1}
    assert len(page.id) == 32
    assert page.id != record_id("a.warc.gz", 0) != record_id("b.warc.gz", 0)


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        ("200 OK", "Content-Type: text/html\r\n", b"<html>x</html>", "page"),
        ("200 OK", "Content-Type: application/xhtml+xml\r\n", b"<html>x</html>", "page"),
        ("200 OK", "", b"<!doctype html><HTML>x</HTML>", "page"),  # no type, but HTML
        ("404 Not Found", "Content-Type: text/html\r\n", b"<html>x</html>", "http_status"),
        ("301 Moved", "Location: /\r\n", b"", "http_status"),
        ("200 OK", "Content-Type: image/png\r\n", b"\x89PNG", "content_type"),
        ("200 OK", "", b"\x00\x01\x02", "content_type"),
        ("200 OK", "Content-Type: text/html\r\n", b"", "empty_page"),
        ("200 OK", "Content-Type: text/html\r\n", b" \r\n\0", "empty_page"),
        ("200 OK", "Content-Type: text/html\r\n", b"x" * 1001, "too_long"),
        ("200 OK", "Content-Type: text/html\r\n", b"x" * 1000, "page"),
    ],
)
def test_http(warc, tmp_path, status, headers, body, expected):
    warc.write(tmp_path / "a.warc.gz", [warc.record(warc.http(body, status, headers), "http://x/")])
    items, _ = read(tmp_path / "a.warc.gz", max_page_bytes=1000)
    assert outcomes(items) == [expected]


BODY = b"<html><p>" + b"some text " * 30 + b"</p></html>"


def squeezed(writer, content):
    class Kept(io.BytesIO):
        def close(self):
            pass

    buffer = Kept()
    stream = getattr(stream_io, writer)(buffer)
    stream.write(content)
    stream.close()
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(20))
def test_brotli_is_undone_whatever_bytes_it_has(warc, tmp_path, seed):
    body = b"<html>" + random.Random(seed).randbytes(2000)  # compressed, it holds every byte, `<` among them
    headers = "Content-Type: text/html\r\nContent-Encoding: br\r\n"
    block = warc.http(squeezed("BrotliWriter", body), headers=headers)
    warc.write(tmp_path / "a.warc.gz", [warc.record(block, "http://x/")])
    assert read(tmp_path / "a.warc.gz")[0][0].content == body


def test_what_only_claims_to_be_brotli_is_taken_as_it_is(warc, tmp_path):
    body = b"\n some words first <html><body>x</body></html>"
    block = warc.http(body, headers="Content-Type: text/html\r\nContent-Encoding: br\r\n")
    warc.write(tmp_path / "a.warc.gz", [warc.record(block, "http://x/")])
    assert read(tmp_path / "a.warc.gz")[0][0].content == body


@pytest.mark.parametrize(
    ("headers", "stored"),
    [
        ("Content-Encoding: gzip\r\n", gzip.compress(BODY, mtime=0)),
        ("Content-Encoding: gzip\r\n", BODY),  # stored decoded under the header of the encoded payload
        ("Content-Encoding: deflate\r\n", zlib.compress(BODY)),
        ("Content-Encoding: deflate\r\n", zlib.compress(BODY)[2:-4]),  # raw deflate
        ("Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
        ("Transfer-Encoding: chunked\r\n", BODY),
        ("Content-Encoding: br\r\n", BODY),
        ("Content-Encoding: br\r\n", squeezed("BrotliWriter", BODY)),
        ("Content-Encoding: zstd\r\n", squeezed("ZstdWriter", BODY)),
        ("Content-Encoding: zstd\r\n", BODY),
        ("Content-Encoding: deflate, GZIP\r\n", gzip.compress(zlib.compress(BODY), mtime=0)),
        ("Content-Encoding: identity\r\n", BODY),
    ],
)
def test_encodings(warc, tmp_path, headers, stored):
    block = warc.http(stored, headers="Content-Type: text/html\r\n" + headers)
    warc.write(tmp_path / "a.warc.gz", [warc.record(block, "http://x/")])
    items, _ = read(tmp_path / "a.warc.gz")
    assert outcomes(items) == ["page"]
    assert items[0].content == BODY


def test_a_compression_bomb_is_cut_short(warc, tmp_path):
    bomb = gzip.compress(b"<html>" + b"\0" * 50_000_000)
    block = warc.http(bomb, headers="Content-Type: text/html\r\nContent-Encoding: gzip\r\n")
    warc.write(tmp_path / "a.warc.gz", [warc.record(block, "http://x/")])
    items, _ = read(tmp_path / "a.warc.gz", max_page_bytes=1_000_000)
    assert outcomes(items) == ["too_long"]


def test_wet(warc, tmp_path):
    text = "Zeile eins\nZeile zwei äöü"
    item = warc.record(text.encode(), "http://x/", "conversion", "text/plain")
    warc.write(tmp_path / "a.warc.wet.gz", [item])
    (page,), _ = read(tmp_path / "a.warc.wet.gz")
    assert (page.content.decode(), page.html, page.charset) == (text, False, "utf-8")


@pytest.mark.parametrize("name", ["a.arc", "a.arc.gz"])
def test_arc(warc, tmp_path, name):
    def arc(url, block, mime="text/html"):
        line = f"{url} 1.2.3.4 20240501123000 {mime} {len(block)}\n".encode()
        return line + block + b"\n"

    gone = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\ngone"
    parts = [
        arc(
            "filedesc://a.arc", b"1 0 Somebody\nURL IP-address Archive-date Content-type Archive-length\n", "text/plain"
        ),
        arc("http://x/1", warc.http(BODY)),
        arc("http://x/2", gone),
        arc("http://x/3", b"<html>no header</html>"),
        arc("http://x/4.png", b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\nPNG", "image/png"),
        arc("http://x/5", warc.http(BODY * 50, headers="Content-Type: text/html; charset=latin-1\r\n")),
    ]
    if name.endswith(".gz"):
        parts = [gzip.compress(part) for part in parts]
    (tmp_path / name).write_bytes(b"".join(parts))
    items, records = read(tmp_path / name, max_page_bytes=len(BODY) * 10)
    assert outcomes(items) == ["page", "http_status", "page", "content_type", "too_long"]
    assert records == {"warcinfo": 1, "response": 4, "resource": 1}
    first = items[0]
    offset = len(parts[0])
    assert first == Page(
        record_id(name, offset), name, offset, "web", "http://x/1", "2024-05-01T12:30:00Z", BODY, "utf-8", True
    )
    assert (items[2].content, items[2].charset) == (b"<html>no header</html>", "")


def test_wget_writes_brackets_around_the_uri(warc, tmp_path):
    warc.write(tmp_path / "a.warc.gz", [warc.record(warc.http(BODY), "<http://x/>")])
    assert read(tmp_path / "a.warc.gz")[0][0].url == "http://x/"


@pytest.fixture
def ten(warc, tmp_path):
    path = tmp_path / "ten.warc.gz"
    offsets = warc.pages(path, [warc.distinct_prose(number) for number in range(10)])
    return path, offsets


@pytest.mark.parametrize("damaged", [0, 4, 9])
def test_a_damaged_record_costs_itself_only(ten, damaged):
    path, offsets = ten
    content = bytearray(path.read_bytes())
    start = offsets[damaged] + 30
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    items, records = read(path)
    pages = [item for item in items if isinstance(item, Page)]
    assert [page.offset for page in pages] == [offset for offset in offsets if offset != offsets[damaged]]
    bad = [item for item in items if isinstance(item, Unreadable)]
    assert [item.reason for item in bad] == ["broken_record"]
    assert bad[0].detail
    assert records["broken"] == 1


def test_damage_at_the_magic_number_of_a_member(ten):
    path, offsets = ten
    content = bytearray(path.read_bytes())
    content[offsets[3] : offsets[3] + 4] = b"xxxx"
    path.write_bytes(content)
    items, _ = read(path)
    assert outcomes(items).count("page") == 9
    assert outcomes(items).count("broken_record") == 1


@pytest.mark.parametrize("where", ["header", "payload"])
def test_a_file_cut_short(ten, where):
    path, offsets = ten
    cut = offsets[9] + (40 if where == "header" else 350)
    path.write_bytes(path.read_bytes()[:cut])
    items, _ = read(path)
    assert outcomes(items)[:9] == ["page"] * 9
    assert outcomes(items)[9:] == ["broken_record" if where == "header" else "truncated"]
    assert items[9].offset == offsets[9]


def test_uncompressed_files_and_a_broken_header_among_them(warc, tmp_path):
    path = tmp_path / "a.warc"
    pages = [warc.record(warc.http(warc.html_page(warc.prose(i))), f"http://x/{i}") for i in range(5)]
    offsets = warc.write(path, pages, compress=False)
    items, _ = read(path)
    assert [item.offset for item in items] == offsets
    content = bytearray(path.read_bytes())
    content[offsets[2] : offsets[2] + 8] = b"XXXX/9.9"
    path.write_bytes(content)
    items, _ = read(path)
    assert [item.offset for item in items if isinstance(item, Page)] == [offsets[i] for i in (0, 1, 3, 4)]
    assert outcomes(items).count("broken_record") == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no_records"),
        (gzip.compress(b"", mtime=0), "no_records"),
        (b"hello", "broken_record"),
        (gzip.compress(b"hello", mtime=0), "broken_record"),
        (bytes(5000), "broken_record"),
    ],
)
def test_files_without_a_record(tmp_path, content, expected):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(content)
    items, _ = read(path)
    assert outcomes(items) == [expected]
    assert items[0].file == "a.warc.gz"


def test_a_failing_disk_is_no_bad_record(ten, monkeypatch):
    path, _ = ten

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 0:
                raise OSError("disk is gone")
            return super().read(min(size, 500) if size > 0 else 500)

    monkeypatch.setattr("beam_pipelines.files.storage.open_read", lambda _: Failing(path.read_bytes()))
    with pytest.raises(RuntimeError, match="disk is gone"):
        read(path)


def test_fixtures_of_other_projects_never_stop_the_reader(shared_data):
    files = sorted((shared_data / "web" / "fixtures").iterdir())
    assert files
    expected = {
        "clipped.warc.gz": ["truncated"],
        "example-trunc.warc": ["page", "broken_record"],
        "example-bad-non-chunked.warc.gz": ["page"],
        "example-wrong-chunks.warc.gz": ["page"],
        "whirlwind.warc.wet.gz": ["page"],
        "whirlwind.warc.wat.gz": [],
    }
    for path in files:
        items, _ = read(path)
        if path.name in expected:
            assert outcomes(items) == expected[path.name], path.name
    assert outcomes(read(shared_data / "web" / "fixtures" / "clueweb-quirk.warc.gz")[0]) == ["page"] * 29
