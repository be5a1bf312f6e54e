"""WARC files made in the test, so that nothing but the test decides what is in them; runs of the command on them."""

import gzip
import io
import shutil
import zlib
from pathlib import Path

import pytest

PROSE = (
    "The river rises in the hills to the north of the town and runs with little fall through meadows that have been "
    "flooded every winter since the mill was built. People who live along the bank say that {0} is the best month to "
    "walk there, because the water is clear and the path to the old bridge is dry. {1} of them remember the year when "
    "the ice carried the {2} bridge away, and what it took to build the one that stands today out of {3} stone."
)

STOCK = "the of and to that with have be house river stone winter people bridge water path town year light"


def prose(number: int) -> str:
    """English text of about 90 words; two numbers differ in a few words."""
    return PROSE.format(f"month{number}", f"Number{number}", f"wooden{number}", f"grey{number}")


def distinct_prose(number: int) -> str:
    """English text that shares hardly a 5-gram with another number's."""
    words = STOCK.split()
    state = number * 7919 + 1
    picked = []
    for _ in range(90):
        state = (state * 1103515245 + 12345) % 2**31
        picked.append(words[(state >> 16) % len(words)])
    sentences = [" ".join(picked[start : start + 15]).capitalize() + "." for start in range(0, 90, 15)]
    return f"Here is what we know about the history of place {number} and of the people who have been there. " + (
        "\n".join(sentences)
    )


def html_page(text: str, title: str = "A title", meta: str = "") -> bytes:
    """A page with navigation around one paragraph per line."""
    paragraphs = "".join(f"<p>{line}</p>" for line in text.split("\n"))
    return (
        f"<html><head><title>{title}</title>{meta}</head><body><nav><a href='/'>Home</a> <a href='/x'>More</a></nav>"
        f"<main>{paragraphs}</main><footer>Imprint</footer></body></html>"
    ).encode()


def http(body: bytes, status: str = "200 OK", headers: str = "Content-Type: text/html; charset=utf-8\r\n") -> bytes:
    """An HTTP response."""
    return f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body


def record(block: bytes, url: str, kind: str = "response", content_type: str = "application/http; msgtype=response"):
    """One WARC record."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-05-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{zlib.crc32(url.encode()):012d}>\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def write_warc(path: Path, records: list[bytes], compress: bool = True) -> list[int]:
    """Writes records, each its own gzip member; returns their offsets."""
    buffer, offsets = io.BytesIO(), []
    for item in records:
        offsets.append(buffer.tell())
        buffer.write(gzip.compress(item, mtime=0) if compress else item)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return offsets


class Warc:
    """The functions above as one fixture."""

    prose = staticmethod(prose)
    distinct_prose = staticmethod(distinct_prose)
    html_page = staticmethod(html_page)
    http = staticmethod(http)
    record = staticmethod(record)
    write = staticmethod(write_warc)

    @staticmethod
    def pages(path: Path, texts: list[str]) -> list[int]:
        """A WARC file with one HTML page per text."""
        return write_warc(path, [record(http(html_page(t)), f"http://x/{path.name}/{i}") for i, t in enumerate(texts)])


@pytest.fixture(scope="session")
def warc() -> type[Warc]:
    """Builders of WARC files."""
    return Warc


GERMAN = "Der Fluss entspringt in den Bergen und fließt durch die Wiesen bis zur alten Mühle am Rand der Stadt. " * 3


class Runs:
    """Runs of the command and what they leave."""

    @staticmethod
    def arguments(crawl: Path, output: Path, *more: str) -> list[str]:
        """A command line of the quickstart's recipe; the page that hangs the parser is given a second."""
        own = ["--gin.extract.Extract.timeout=1.0", "--gin.MIN_WORDS=50"]
        files = ["--input", str(crawl / "*.warc.gz"), "--output", str(output)]
        return [*files, "--gin_file", "gin/web/quickstart.gin", *own, *more]

    @staticmethod
    def clean(crawl: Path, output: Path, *more: str) -> None:
        """Runs the command to its end."""
        from beam_pipelines import clean_web

        assert clean_web.main(Runs.arguments(crawl, output, *more)) == 0

    @staticmethod
    def rows(folder: Path) -> list[dict]:
        """All rows of the Parquet files in a folder."""
        import pyarrow.parquet as pq

        return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]

    @staticmethod
    def contents(folder: Path) -> dict[str, bytes]:
        """Every file that must come out the same whatever happened on the way."""
        paths = [*folder.glob("documents/*"), *folder.glob("rejected/*"), folder / "work" / "samples.json"]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    @staticmethod
    def times(folder: Path, pattern: str = "**/*") -> dict[Path, tuple[int, int]]:
        """(inode, time) of files: another pair where one was written again."""
        found = [path for path in folder.glob(pattern) if path.is_file()]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}

    @staticmethod
    def copy(folder: Path, target: Path) -> Path:
        """A copy with the files' times, to change."""
        shutil.copytree(folder, target)
        return target


@pytest.fixture(scope="session")
def runs() -> type[Runs]:
    """Runs of the command."""
    return Runs


@pytest.fixture(scope="session")
def crawl(tmp_path_factory) -> Path:
    """Three files: prose, copies, near copies, German, short pages, broken records. Not to be changed."""
    folder = tmp_path_factory.mktemp("crawl")
    one = [distinct_prose(number) for number in range(30)]
    Warc.pages(folder / "a.warc.gz", [*one, GERMAN, "Too short to stay here.", one[3], ""])
    near = distinct_prose(5).replace("history", "story")
    offsets = Warc.pages(folder / "b.warc.gz", [one[0], near, *map(distinct_prose, range(100, 120)), one[7]])
    content = bytearray((folder / "b.warc.gz").read_bytes())
    content[offsets[10] + 30 : offsets[10] + 60] = bytes(30)  # the page of number 108
    (folder / "b.warc.gz").write_bytes(content)
    pages = [record(http(b"x", "404 Not Found"), "http://x/c/0")]
    pages += [record(one[1].encode(), "http://x/c/1", "conversion", "text/plain")]
    pages += [record(http(b"<div>" * 200_000), "http://x/c/2")]  # hangs the parser
    pages += [record(http(html_page(distinct_prose(200))), "http://x/c/3")]
    write_warc(folder / "c.warc.gz", pages)
    return folder


@pytest.fixture(scope="session")
def cleaned(crawl, tmp_path_factory) -> Path:
    """A finished run, one process. Not to be changed."""
    folder = tmp_path_factory.mktemp("cleaned") / "out"
    Runs.clean(crawl, folder)
    return folder
