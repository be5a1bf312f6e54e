"""Archives cut at every place, with wrong lengths, mislabelled, as ARC; nothing is lost without a count."""

import gzip
import io
import random

import pytest

from beam_pipelines.web.archives.arc_records import arc_entries
from beam_pipelines.web.archives.archive_records import Broken, archive_records


def lz4(content):
    from fastwarc.stream_io import Lz4Writer

    return compressed(Lz4Writer, content)


def zstd(content):
    from fastwarc.stream_io import ZstdWriter

    return compressed(ZstdWriter, content)


def compressed(writer_type, content):
    class Kept(io.BytesIO):
        def close(self):
            pass

    buffer = Kept()
    writer = writer_type(buffer)
    writer.write(content)
    writer.close()
    return buffer.getvalue()


CODECS = {"": bytes, "gzip": lambda content: gzip.compress(content, mtime=0), "lz4": lz4, "zstd": zstd}


def items(content, file="file"):
    """(kind, offset) of each record, ("cut", offset) behind one that is not whole, ("broken", offset) of each break."""
    found, ids = [], set()
    for item in archive_records(io.BytesIO(content), file, 1 << 20):
        assert item.id not in ids
        ids.add(item.id)
        if isinstance(item, Broken):
            assert item.detail
            found.append(("broken", item.offset))
        else:
            found.append((item.kind, item.offset))
            if not item.is_whole():
                found.append(("cut", item.offset))
    return found


def noise(seed, length):
    return "".join(random.Random(seed).choices("abcdefghij klm\n", k=length)).encode()


@pytest.fixture(scope="module")
def warc_parts(warc):
    request = "application/http; msgtype=request"
    return [
        warc.record(b"software: x\r\n" + noise(1, 100), "", "warcinfo", "application/warc-fields"),
        warc.record(b"GET / HTTP/1.1\r\nX: " + noise(2, 150), "http://x/1", "request", request),
        warc.record(warc.http(b"<html>" + noise(3, 200)), "http://x/1"),
        warc.record(noise(4, 150), "http://x/1", "metadata", "text/x"),
        warc.record(b"GET / HTTP/1.1\r\nX: " + noise(5, 150), "http://x/2", "request", request),
        warc.record(warc.http(b"<html>" + noise(6, 200)), "http://x/2"),
    ]


def arc_record(url, block, mime="text/html", length=None, version=1):
    middle = "" if version == 1 else " 200 checksum - 1234 file.arc"
    line = f"{url} 1.2.3.4 20240501123000 {mime}{middle} {len(block) if length is None else length}\n"
    return line.encode() + block + b"\n"


def arc_parts(version=1):
    names = "URL IP-address Archive-date Content-type Archive-length"
    head = f"{version} 0 Somebody\n{names}\n".encode()
    pages = [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>" + noise(10 + i, 200) for i in range(4)]
    parts = [arc_record("filedesc://a.arc", head, "text/plain", version=version)]
    return parts + [arc_record(f"http://x/{i}", page, version=version) for i, page in enumerate(pages)]


KINDS = ["warcinfo", "request", "response", "metadata", "request", "response"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.arc", "anything"])
def test_the_name_does_not_decide(warc_parts, codec, name):
    content = b"".join(map(CODECS[codec], warc_parts))
    assert [kind for kind, _ in items(content, name)] == KINDS
    content = b"".join(map(CODECS[codec], arc_parts()))
    assert [kind for kind, _ in items(content, name)] == ["warcinfo"] + ["response"] * 4


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("form", ["warc", "arc"])
def test_cut_anywhere(warc_parts, codec, form):
    plain = warc_parts if form == "warc" else arc_parts()
    kinds = KINDS if form == "warc" else ["warcinfo"] + ["response"] * 4
    parts = [CODECS[codec](part) for part in plain]
    content = b"".join(parts)
    starts = [sum(map(len, parts[:index])) for index in range(len(parts) + 1)]
    step = 1 if codec == "gzip" else 3
    slack = {"": 4, "gzip": 13, "lz4": 10, "zstd": 8}[codec]  # the content ends before the record's last bytes
    for cut in range(1, len(content), step):
        found = items(content[:cut])
        whole = max(index for index in range(len(starts)) if starts[index] <= cut)
        good = [item for item in found if item[0] not in ("cut", "broken")]
        bad = [offset for kind, offset in found if kind in ("cut", "broken")]
        assert good[:whole] == list(zip(kinds, starts))[:whole], cut
        inside, left = cut - starts[whole], starts[min(whole + 1, len(parts))] - cut
        if inside == 0 or left <= slack or not found:  # nothing at all: ReadWarc reports "no_records"
            assert len(bad) <= 1, cut
        elif inside < {"lz4": 20, "zstd": 4}.get(codec, 0):
            assert len(bad) <= 1, cut  # a frame's header alone: the reader takes it for the end
        else:
            assert len(bad) == 1, (cut, found)
            assert bad[0] in (starts[whole], starts[max(whole - 1, 0)]), cut


@pytest.mark.parametrize("codec", ["", "gzip"])
@pytest.mark.parametrize("damaged", range(5))
@pytest.mark.parametrize("length", ["10", "5000", "99999999", "99999999999999999999", "", "-5", "x"])
def test_a_wrong_length_costs_only_its_own_record(warc_parts, codec, damaged, length):
    parts = list(warc_parts)
    start = parts[damaged].index(b"Content-Length: ")
    end = parts[damaged].index(b"\r\n", start)
    parts[damaged] = parts[damaged][:start] + b"Content-Length: " + length.encode() + parts[damaged][end:]
    parts = [CODECS[codec](part) for part in parts]
    starts = [sum(map(len, parts[:index])) for index in range(len(parts))]
    found = items(b"".join(parts))
    for index, kind in enumerate(KINDS):
        if index != damaged:
            assert (kind, starts[index]) in found, found
    assert len([kind for kind, _ in found if kind in ("cut", "broken")]) >= 1


def test_records_of_a_file_that_is_compressed_as_a_whole(warc_parts):
    content = gzip.compress(b"".join(warc_parts))
    assert [kind for kind, _ in items(content)] == KINDS  # items() checks that the ids differ
    first = [item.id for item in archive_records(io.BytesIO(content), "f", 1)]
    assert first == [item.id for item in archive_records(io.BytesIO(content), "f", 1)]
    content = gzip.compress(b"".join(arc_parts()))
    assert [kind for kind, _ in items(content)] == ["warcinfo"] + ["response"] * 4


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\0" * 5000, b"\x1f\x8b", b"\x1f\x8b\x08", b"WARC", b"WARC/1.0\r\n\r\n"]
)
@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.arc", "a.arc.gz", "a.warc.lz4", "a.warc.zst"])
def test_files_of_nothing(content, name):
    assert len([kind for kind, _ in items(content, name) if kind == "broken"]) <= 1


@pytest.mark.parametrize("rest", [b"junk", bytes(5), bytes(1000)])
def test_what_follows_the_last_record_is_one_break(warc_parts, rest):
    content = b"".join(map(CODECS["gzip"], warc_parts))
    assert [kind for kind, _ in items(content + rest)] == [*KINDS, "broken"]


def test_an_arc_without_its_first_record_is_one():
    assert [kind for kind, _ in items(b"".join(arc_parts()[1:]))] == ["response"] * 4


def fields(entry):
    record = entry.record
    header = {name: record.headers.get(name) for name in ("WARC-Target-URI", "WARC-Date", "Content-Type")}
    return entry.kind, entry.offset, entry.left_out, record.content_length, header


@pytest.mark.parametrize("version", [1, 2])
def test_arc_headers(version):
    parts = arc_parts(version)
    content = b"".join(parts)
    found = [fields(entry) for entry in arc_entries(io.BytesIO(content), "", 100)]
    assert [offset for _, offset, *_ in found] == [sum(map(len, parts[:i])) for i in range(5)]
    header = {
        "WARC-Target-URI": "http://x/0",
        "WARC-Date": "2024-05-01T12:30:00Z",
        "Content-Type": "application/http; msgtype=response",
    }
    size = 200 + len(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>")
    assert found[1] == ("response", len(parts[0]), size - 100, 100, header)


def test_arc_addresses_with_spaces_and_records_that_are_no_http():
    parts = [
        arc_record("http://x/a b c", b"HTTP/1.0 200 OK\r\n\r\nx"),
        arc_record("dns:x", b"20240501 x", "text/dns"),
        arc_record("http://x/old", b"<html>without a header</html>"),
    ]
    found = [fields(entry) for entry in arc_entries(io.BytesIO(b"\n".join(parts)), "", 1000)]
    assert [(kind, header["WARC-Target-URI"], header["Content-Type"]) for kind, _, _, _, header in found] == [
        ("response", "http://x/a b c", "application/http; msgtype=response"),
        ("resource", "dns:x", "text/dns"),
        ("resource", "http://x/old", "text/html"),
    ]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("damage", ["length", "header"])
def test_a_damaged_arc_record_costs_only_itself(codec, damage):
    parts = arc_parts()
    page = b"HTTP/1.1 200 OK\r\n\r\n" + noise(5, 100)
    parts[2] = arc_record("http://x/bad", page, length=100_000) if damage == "length" else b"no header\n" + page + b"\n"
    parts = [CODECS[codec](part) for part in parts]
    starts = [sum(map(len, parts[:index])) for index in range(5)]
    found = items(b"".join(parts))
    for index in (0, 1, 3, 4):
        assert ("response" if index else "warcinfo", starts[index]) in found, found
    assert len([kind for kind, _ in found if kind in ("cut", "broken")]) == 1
