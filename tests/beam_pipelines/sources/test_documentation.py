"""The documentation crawl: objects found, pages, hanging modules, deterministic WARC files, reruns."""

import ast
import hashlib
import itertools
import json
import re
import sys

import pytest

pytest.importorskip("warcio")

from warcio.archiveiterator import ArchiveIterator

from beam_pipelines.sources.documentation import __main__ as command
from beam_pipelines.sources.documentation import packages, pydoc_pages
from beam_pipelines.sources.documentation.docstring_html import docstring_html
from beam_pipelines.sources.documentation.objects import argument_names, documented_objects
from beam_pipelines.sources.documentation.packages import Distribution, Source, module_name
from beam_pipelines.sources.documentation.pages import object_page
from beam_pipelines.sources.documentation.plan import Settings, capped, plan

SOURCE = '''
from typing import overload

class Decoder(Base, metaclass=Meta):
    """Decodes "text" & <tags> into values.

    Args:
      strict: whether broken input raises.
    """

    def __init__(self, strict=True): ...

    def decode(self, text: str, *rest, limit=3, **options) -> int:
        """Decodes one text and returns the number of its values, however many lines it may have."""

    @staticmethod
    def name(value):
        """Short."""

    def _hidden(self): """Not public, but a method of the class."""

@overload
def parse(x: int): ...
def parse(x, /, y, *, z=None):
    """Parses x and y into one thing with z, if z is given."""

async def fetch(): """Fetches something from somewhere, some day."""
def bare(): ...
def _private(): """Private functions have no page of their own."""
def short(): """Tiny."""
'''


def objects(minimum=20, method_minimum=40):
    return documented_objects(SOURCE, "pkg", "pkg.codec", minimum, method_minimum)


def test_finds_public_documented_objects_in_order():
    found, skipped = objects()
    assert [(each.kind, each.qualified_name) for each in found] == [
        ("class", "pkg.codec.Decoder"),
        ("function", "pkg.codec.Decoder.decode"),
        ("function", "pkg.codec.parse"),
        ("function", "pkg.codec.fetch"),
    ]
    assert skipped == {"function: no docstring": 1, "function: short docstring": 1, "method: short docstring": 1}
    decoder, decode, parse, fetch = found
    assert decoder.method_names == ("__init__", "decode", "name", "_hidden")
    assert [method.name for method in decoder.public_methods] == ["decode", "name"]
    assert decoder.signature == "class Decoder(Base, metaclass=Meta)"
    assert decode.arguments == ("text", "rest", "limit", "options")
    assert decode.signature == "def decode(self, text: str, *rest, limit=3, **options) -> int"
    assert (parse.arguments, fetch.signature) == (("x", "y", "z"), "async def fetch()")
    static = ast.parse("@staticmethod\ndef f(value): ...").body[0]
    assert argument_names(static, method=True) == ("value",)


def test_broken_source_is_counted():
    assert documented_objects("def (", "p", "p.m")[1] == {"source file: SyntaxError": 1}
    assert documented_objects("\0", "p", "p.m")[1].total() == 1
    assert documented_objects("", "p", "p.m") == ([], {})


def test_page_has_meta_signature_and_boilerplate():
    found, _ = objects()
    page = object_page(found[0], [each.name for each in found], "1.2")
    meta = dict(re.findall(r'<meta name="(\w+)" content="([^"]*)">', page))
    assert meta["kind"] == "class"
    assert (meta["object"], meta["package"], meta["module"]) == ("pkg.codec.Decoder", "pkg", "pkg.codec")
    assert meta["methods"] == "__init__,decode,name,_hidden"
    assert meta["summary"] == "Decodes &quot;text&quot; &amp; &lt;tags&gt; into values."
    assert "<tags>" not in page
    assert "<h2>Args</h2>" in page
    assert "<dt>strict:</dt><dd>whether broken input raises.</dd>" in page
    assert "<nav" in page
    assert "<footer>" in page
    assert 'href="http://docs.python.local/pkg/codec/Decoder.decode.html"' in page
    assert 'content="text,rest,limit,options"' in object_page(found[1], ["Decoder.decode"], "1.2")


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Adds.\n\n>>> add(1, 2)\n3", "<p>Adds.</p>\n<pre>&gt;&gt;&gt; add(1, 2)\n3</pre>"),
        ("Parameters\n----------\nx : int\n    The `x`.\ny : int", "<h2>Parameters</h2>\n<dl>\n<dt>x : int</dt>"
         "<dd>The <code>x</code>.</dd>\n<dt>y : int</dt>\n</dl>"),
        ("Returns:\n  A sum.", "<h2>Returns</h2>\n<p>A sum.</p>"),
        ("Use::\n\n    a < b", "<p>Use::</p>\n<pre>a &lt; b</pre>"),
        ("", ""),
    ],
)  # fmt: skip
def test_docstring_html(docstring, expected):
    assert docstring_html(docstring) == expected


def test_bullets_become_a_list():
    assert "<li>one more</li>\n<li>two</li>" in docstring_html("- one\n  more\n- two")


@pytest.mark.parametrize(
    ("parts", "module"),
    [
        (("numpy", "__init__.py"), "numpy"),
        (("six.py",), "six"),
        (("a", "_b", "c.py"), "a._b.c"),
        (("a", "tests", "c.py"), None),
        (("a", "c_test.py"), None),
        (("a", "__main__.py"), None),
        (("a-1.dist", "c.py"), None),
        (("jaxlib", "mlir", "dialects", "x.py"), None),
    ],
)
def test_module_names(parts, module):
    assert module_name(parts) == module


def test_core_closure_has_the_core_and_not_the_extras(monkeypatch, tmp_path):
    found, missing = packages.core_closure()
    names = {packages.normalised(each.metadata["Name"]) for each in found} | set(missing)
    assert {"jax", "flax", "numpy", "grain"} <= names
    assert not {"tensorflow", "seqio", "apache-beam", "pytest", "t5x-style"} & names
    if packages.LOCK.exists():  # a checkout that is not installed reads the lock

        def not_installed(name):
            raise packages.importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(packages.importlib.metadata, "requires", not_installed)
        locked, _ = packages.core_closure()
        assert {"jax", "numpy"} <= {packages.normalised(each.metadata["Name"]) for each in locked}


def test_excluded_standard_modules():
    modules = packages.public_modules(packages.standard_library())
    assert {"json", "json.decoder", "math", "sys"} <= set(modules)
    assert not {"antigravity", "this", "idlelib", "tkinter", "test"} & {name.split(".")[0] for name in modules}
    assert not any(part.startswith("_") for name in modules for part in name.split("."))


def test_hanging_crashing_and_failing_modules_cost_one_module(tmp_path, monkeypatch):
    bodies = {
        "hangs_module": "import time\ntime.sleep(60)",
        "crashes_module": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "exits_module": "raise SystemExit(3)",
        "fails_module": "raise RuntimeError('no')",
        "wants_module": "import tensorflow",
        "reads_module": "import sys\nprint('noise')\nassert not sys.stdin.read()\nADDRESS = object()",
        "last_module": '"""The last one."""\nSECRET = __import__("os").environ\nNUMBER = 3',
    }
    for name, body in bodies.items():
        (tmp_path / f"{name}.py").write_text(body)
    plain = pydoc_pages.worker_environment
    monkeypatch.setattr(pydoc_pages, "worker_environment", lambda home: {**plain(home), "PYTHONPATH": str(tmp_path)})
    monkeypatch.setenv("A_TOKEN", "hunter2")
    results = pydoc_pages.render_modules(["json", *bodies], timeout=6)
    assert [(module, outcome) for module, outcome, _ in results] == [
        ("json", "ok"),
        ("hangs_module", "hung"),
        ("crashes_module", "crashed"),
        ("exits_module", "SystemExit"),
        ("fails_module", "RuntimeError"),
        ("wants_module", "ImportError"),
        ("reads_module", "ok"),
        ("last_module", "ok"),
    ]
    pages = {module: page for module, _, page in results}
    assert "JSONDecoder" in pages["json"]
    assert "NUMBER" in pages["last_module"]
    assert not any("hunter2" in page or sys.prefix in page or "0x7f" in page for page in pages.values())


def test_cap_prefers_paragraphs_and_does_not_depend_on_order():
    names = [f"p.f{number}" for number in range(100)]
    lengths = [300 if number % 4 == 0 else 80 for number in range(100)]
    kept = {names[position] for position in capped(names, lengths, 30)}
    assert len(kept) == 30
    assert {name for name, length in zip(names, lengths) if length == 300} <= kept
    assert kept == {names[::-1][position] for position in capped(names[::-1], lengths[::-1], 30)}


def test_plan_keeps_packages_whole_and_objects_first():
    sources = tuple(Source(f"p{n % 3}", f"p{n % 3}.m{n}", "x") for n in sorted(range(400), key=lambda n: n % 3))
    units = plan([Distribution("d", "1", sources)], Settings(package_modules=10))
    with_sources = [unit for unit in units if unit.sources]
    assert units[: len(with_sources)] == with_sources
    assert sum(len(unit.sources) for unit in with_sources) == 400
    owners = [{source.package for source in unit.sources} for unit in with_sources]
    assert all(not a & b for a, b in itertools.pairwise(owners))
    assert sum(len(unit.modules) for unit in units) == 30
    assert sum(count for unit in units for _, count in unit.dropped) == 400 - 30


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("part-*"))}


def test_crawl_is_deterministic_resumable_and_counts(tmp_path, capsys):
    arguments = ["--packages", "json,logging,email", "--min_pages", "50", "--workers", "2"]
    first, second = tmp_path / "a" / "crawl", tmp_path / "b" / "crawl"
    assert command.main([*arguments, "--output", str(tmp_path / "a")]) == 0
    assert command.main([*arguments[:-1], "1", "--output", str(tmp_path / "b")]) == 0
    assert digests(first) == digests(second)
    assert (first / "crawl.json").read_bytes() == (second / "crawl.json").read_bytes()
    report = json.loads((first / "crawl.json").read_text())
    urls, kinds = [], []
    for path in sorted(first.glob("part-*.warc.gz")):
        with open(path, "rb") as file:
            for record in ArchiveIterator(file):
                urls.append(record.rec_headers.get_header("WARC-Target-URI"))
                page = record.content_stream().read().decode()
                kinds.append(re.search(r'<meta name="kind" content="(\w+)">', page)[1])
                assert record.http_headers.get_statuscode() == "200"
    assert len(urls) == len(set(urls)) == report["total_pages"]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == report["pages"]
    assert "http://docs.python.local/json/decoder/JSONDecoder.html" in urls
    assert "http://docs.python.local/json/index.html" in urls
    assert report["dropped"]["function: no docstring"] > 0
    # an interrupted run: one part is missing, the other stays untouched
    missing = sorted(second.glob("part-*"))[0]
    kept = sorted(second.glob("part-*"))[1]
    inode = kept.stat().st_ino
    missing.unlink()
    (second / "counts" / missing.name.replace(".warc.gz", ".json")).unlink()
    (second / "crawl.json").unlink()
    assert command.main([*arguments, "--output", str(tmp_path / "b")]) == 0
    assert digests(first) == digests(second)
    assert kept.stat().st_ino == inode
    assert command.main([*arguments, "--package_pages", "3", "--output", str(tmp_path / "b")]) == 2
    assert "other settings" in capsys.readouterr().err


def test_too_few_pages_and_bad_arguments(tmp_path, capsys):
    assert command.main(["--packages", "json", "--output", str(tmp_path)]) == 2
    assert "under the 2000" in capsys.readouterr().err
    assert not (tmp_path / "crawl" / "crawl.json").exists()
    assert command.main(["--workers", "0", "--output", str(tmp_path)]) == 2
    assert "--workers" in capsys.readouterr().err


def test_sample_stays_under_its_limit(tmp_path):
    assert command.main(["--max_pages", "120", "--output", str(tmp_path), "--workers", "1"]) == 0
    report = json.loads((tmp_path / "crawl" / "crawl.json").read_text())
    assert 60 <= report["total_pages"] <= 120
    assert len([package for package in report["packages"].values() if package["pages"]]) > 10
