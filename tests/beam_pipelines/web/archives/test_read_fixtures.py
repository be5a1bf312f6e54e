"""Odd files of other projects, counted and compared with warcio; huge pages and compression bombs in little memory."""

import gzip
import json
import subprocess
import sys
import zlib
from collections import Counter

import pytest

from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.document import Page

# file: (records by type, pages, what gave no page by reason, whether warcio reads it to the end)
TABLE = {
    "aut-example.warc.gz": (
        {"warcinfo": 1, "response": 299, "request": 261, "metadata": 261},
        94,
        {"content_type": 158, "http_status": 47},
        True,
    ),
    "clipped.warc.gz": ({"response": 1}, 0, {"truncated": 1}, True),
    "clueweb-quirk.warc.gz": ({"warcinfo": 1, "response": 29}, 29, {}, True),
    "example-bad-non-chunked.warc.gz": ({"warcinfo": 2, "response": 1, "request": 2, "revisit": 1}, 1, {}, False),
    "example-bad.warc.gz": ({"warcinfo": 1, "response": 2, "request": 2, "revisit": 1}, 1, {"http_status": 1}, False),
    "example-digest.warc": ({"request": 4}, 0, {}, True),
    "example-space-in-target-uri.warc.gz": ({"warcinfo": 1, "resource": 1}, 0, {"content_type": 1}, True),
    "example-trunc.warc": (
        {"warcinfo": 2, "response": 1, "request": 1, "broken": 1},
        1,
        {"broken_record": 1},  # two NUL bytes stand between two records
        True,
    ),
    "example-wget-bad-target-uri.warc.gz": (
        {"warcinfo": 1, "request": 1, "response": 1, "metadata": 1, "resource": 2},
        1,
        {"content_type": 2},
        True,
    ),
    "example-wrong-chunks.warc.gz": ({"response": 1, "request": 1}, 1, {}, False),
    "issue-514.warc": (
        {"warcinfo": 1, "request": 2, "response": 2, "metadata": 1, "resource": 2},
        1,
        {"http_status": 1, "content_type": 2},
        True,
    ),
    "sample-0000.warc.gz": (
        {"warcinfo": 1, "request": 22, "response": 22, "metadata": 1, "resource": 2},
        22,
        {"content_type": 2},
        True,
    ),
    "sample-0001.warc.gz": (
        {"warcinfo": 1, "request": 15, "response": 15, "metadata": 1, "resource": 2},
        15,
        {"content_type": 2},
        True,
    ),
    "warcfile.warc.gz": ({"warcinfo": 1, "request": 17, "response": 16, "metadata": 16}, 16, {}, True),
    "whirlwind.warc.gz": ({"warcinfo": 1, "request": 1, "response": 1, "metadata": 1}, 1, {}, True),
    "whirlwind.warc.wat.gz": ({"warcinfo": 1, "metadata": 1}, 0, {}, True),
    "whirlwind.warc.wet.gz": ({"warcinfo": 1, "conversion": 1}, 1, {}, True),
}


def read(path):
    records = Counter()
    items = list(ReadWarc().pages(str(path), path.name, records))
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert item.file == path.name
        assert 0 <= item.offset <= path.stat().st_size
    return records, [item for item in items if isinstance(item, Page)], [i for i in items if not isinstance(i, Page)]


@pytest.fixture(scope="module")
def fixtures(shared_data):
    return shared_data / "web" / "fixtures"


def test_the_table_names_every_fixture(fixtures):
    assert sorted(path.name for path in fixtures.iterdir()) == sorted(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_fixtures(fixtures, name):
    expected, pages, unreadable, _ = TABLE[name]
    records, found, bad = read(fixtures / name)
    assert records == expected
    assert len(found) == pages
    assert Counter(item.reason for item in bad) == unreadable
    assert all(item.detail for item in bad if item.reason in ("broken_record", "truncated"))


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row[3] and name != "clipped.warc.gz"])
def test_the_same_pages_as_warcio(fixtures, name):
    """warcio's records by the same rules; clipped.warc.gz it takes for whole."""
    from warcio.archiveiterator import ArchiveIterator

    urls = []
    with open(fixtures / name, "rb") as file:
        for record in ArchiveIterator(file):
            http = record.http_headers
            if record.rec_type == "conversion":
                urls.append(record.rec_headers.get_header("WARC-Target-URI"))
            elif record.rec_type == "response" and http and http.get_statuscode() == "200":
                kind = (http.get_header("Content-Type") or "").split(";")[0].strip().lower()
                if kind in ("text/html", "application/xhtml+xml") and record.content_stream().read().strip():
                    urls.append(record.rec_headers.get_header("WARC-Target-URI").strip("<>"))
    assert [page.url for page in read(fixtures / name)[1]] == urls


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["whirlwind.warc.gz", "issue-514.warc", "example-digest.warc", "whirlwind.warc.wet.gz"]
)
def test_fixtures_with_random_damage(fixtures, tmp_path, name, seed):
    import random

    generator = random.Random(f"{name} {seed}")
    content = bytearray((fixtures / name).read_bytes())
    for round_ in range(20):
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 5)):
            start = generator.randrange(len(damaged))
            match generator.randrange(3):
                case 0:
                    damaged[start] ^= 1 << generator.randrange(8)
                case 1:
                    del damaged[start : start + generator.randint(1, 2000)]
                case _:
                    damaged[start:start] = generator.randbytes(generator.randint(1, 2000))
            if not damaged:
                break
        path = tmp_path / f"{round_}-{name}"
        path.write_bytes(damaged)
        records, pages, bad = read(path)
        assert records or bad
        assert all(page.content for page in pages)


LIMITED = """
import json, resource, sys
from collections import Counter
from beam_pipelines.web.document import Page
from beam_pipelines.web.archives.read_warc import ReadWarc
import fastwarc.warc, fastwarc.stream_io

sizes = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmSize")]
limit = int(sizes[0]) * 1024 + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
records = Counter()
items = [
    ["page", len(item.content)] if isinstance(item, Page) else [item.reason, item.value]
    for item in ReadWarc().pages(sys.argv[1], "file", records)
]
print(json.dumps([items, records]))
"""


def read_in_memory(path, extra_bytes):
    """Reasons and values, in a process that may take only so much more memory than its imports."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(extra_bytes)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


BOMB = 384 << 20  # bytes; the limit below is what counts, a larger one takes longer to make
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def zeros(count, wbits, prefix=b""):
    """`prefix` and zeros, deflated without ever being held."""
    squeeze = zlib.compressobj(1, zlib.DEFLATED, wbits)
    pieces = [squeeze.compress(prefix)]
    block = bytes(1 << 24)
    pieces += [squeeze.compress(block) for _ in range(count >> 24)]
    return b"".join([*pieces, squeeze.flush()])


def head(length, extra="WARC-Type: response"):
    return (
        f"WARC/1.0\r\n{extra}\r\nWARC-Target-URI: http://x/\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
LIMIT = 150_000_000  # max_page_bytes is 16 MB: a page, its decoded content, buffers


@linux
@pytest.mark.parametrize("kind", ["response", pytest.param("request", marks=pytest.mark.slow)])
def test_a_member_that_expands_to_400_megabytes(warc, tmp_path, kind):
    path = tmp_path / "bomb.warc.gz"
    bomb = zeros(BOMB, 31, head(BOMB + len(HTTP), f"WARC-Type: {kind}") + HTTP)
    assert len(bomb) < 3_000_000
    good = gzip.compress(warc.record(warc.http(b"<html>x</html>"), "http://x/2"))
    end = gzip.compress(b"\r\n\r\n")
    path.write_bytes(bomb + end + good)
    items, records = read_in_memory(path, LIMIT)
    first = [["too_long", BOMB]] if kind == "response" else []
    assert items == [*first, ["page", 14]]
    assert records == ({"response": 2} if kind == "response" else {"request": 1, "response": 1})


@linux
def test_a_header_that_expands_to_400_megabytes(warc, tmp_path):
    path = tmp_path / "bomb.warc.gz"
    good = gzip.compress(warc.record(warc.http(b"<html>x</html>"), "http://x/2"))
    path.write_bytes(zeros(BOMB, 31, b"WARC/1.0\r\nX: ") + good)
    items, _ = read_in_memory(path, LIMIT)
    assert items == [["broken_record", None], ["page", 14]]


@linux
@pytest.mark.parametrize(
    ("encoding", "wbits"),
    [
        ("gzip", 31),
        pytest.param("deflate", 15, marks=pytest.mark.slow),
        ("deflate", -15),
        pytest.param("gzip, gzip", 31, marks=pytest.mark.slow),
    ],
)
def test_content_encodings_that_expand_to_400_megabytes(warc, tmp_path, encoding, wbits):
    body = zeros(BOMB, wbits, b"<html>")
    if encoding == "gzip, gzip":
        body = gzip.compress(body)
    headers = f"Content-Type: text/html\r\nContent-Encoding: {encoding}\r\n"
    warc.write(tmp_path / "a.warc.gz", [warc.record(warc.http(body, headers=headers), "http://x/")])
    items, _ = read_in_memory(tmp_path / "a.warc.gz", LIMIT)
    assert items == [["too_long", 16_000_001]]


@linux
@pytest.mark.parametrize(("encoding", "writer"), [("br", "BrotliWriter"), ("zstd", "ZstdWriter")])
def test_other_encodings_that_expand_to_400_megabytes(warc, tmp_path, encoding, writer):
    import io

    from fastwarc import stream_io

    class Kept(io.BytesIO):
        def close(self):
            pass

    buffer = Kept()
    stream = getattr(stream_io, writer)(buffer)
    stream.write(b"<html>")
    for _ in range(BOMB >> 24):
        stream.write(bytes(1 << 24))
    stream.close()
    assert len(buffer.getvalue()) < 100_000
    headers = f"Content-Type: text/html\r\nContent-Encoding: {encoding}\r\n"
    warc.write(tmp_path / "a.warc.gz", [warc.record(warc.http(buffer.getvalue(), headers=headers), "http://x/")])
    items, _ = read_in_memory(tmp_path / "a.warc.gz", LIMIT)
    assert items == [["too_long", 16_000_001]]


@linux
def test_an_arc_record_that_expands_to_400_megabytes(tmp_path):
    line = f"http://x/ 1.2.3.4 20240501123000 text/html {BOMB + len(HTTP)}\n".encode()
    good = b"http://x/2 1.2.3.4 20240501123000 text/html %d\n%s<html>x</html>\n" % (len(HTTP) + 14, HTTP)
    (tmp_path / "a.arc.gz").write_bytes(zeros(BOMB, 31, line + HTTP) + gzip.compress(b"\n" + good))
    items, _ = read_in_memory(tmp_path / "a.arc.gz", LIMIT)
    assert items == [["too_long", BOMB], ["page", 14]]


@linux
@pytest.mark.parametrize("compress", [pytest.param(True, marks=pytest.mark.slow), False])
def test_pages_of_fifty_megabytes(warc, tmp_path, compress):
    big = warc.http(b"<html>" + b"x" * 50_000_000)
    chunked = warc.http(
        b"%x\r\n" % 50_000_000 + b"x" * 50_000_000 + b"\r\n0\r\n\r\n",
        headers="Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n",
    )
    records = [
        warc.record(big, "http://x/1"),
        warc.record(chunked, "http://x/2"),
        warc.record(warc.http(b"<html>x"), "http://x/3"),
    ]
    warc.write(tmp_path / "a.warc", records, compress=compress)
    items, _ = read_in_memory(tmp_path / "a.warc", LIMIT)
    assert [reason for reason, _ in items] == ["too_long", "too_long", "page"]
    assert items[0][1] == 50_000_006


@pytest.mark.parametrize("body", [b"<html>\0\0a\0</html>", b"<html>\xff\xfe\x80</html>", b"<html>\xed\xa0\x80</html>"])
def test_nul_and_invalid_utf8_pass_as_they_are(warc, tmp_path, body):
    warc.write(tmp_path / "a.warc.gz", [warc.record(warc.http(body), "http://x/")])
    _, pages, bad = read(tmp_path / "a.warc.gz")
    assert ([page.content for page in pages], bad) == ([body], [])


def test_zero_length_records(warc, tmp_path):
    kinds = ["response", "request", "metadata", "resource", "conversion", "revisit", "continuation", "warcinfo", "odd"]
    warc.write(tmp_path / "a.warc.gz", [warc.record(b"", f"http://x/{kind}", kind) for kind in kinds])
    records, pages, bad = read(tmp_path / "a.warc.gz")
    assert sum(records.values()) == len(kinds)
    assert pages == []
    assert sorted(item.url for item in bad) == [f"http://x/{kind}" for kind in ("conversion", "resource", "response")]
