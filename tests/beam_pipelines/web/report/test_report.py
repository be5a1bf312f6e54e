"""report.html: right numbers, nothing that a crawled page could run or fetch, left alone while it shows the same."""

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from beam_pipelines.files import storage
from beam_pipelines.web import report
from beam_pipelines.web.report import __main__ as command
from beam_pipelines.web.report import page, signals, stages

EVIL = '</pre><script>alert(1)</script><img src=x onerror="alert(2)">\'"&\ud800\x00\x1b javascript:alert(3) ]]> <!--'
VOID = {"meta", "br", "img", "path", "line"}


class Reader(HTMLParser):
    """Checks that elements are closed in order; collects elements, attributes, text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.names, self.attributes, self.text = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(content: str) -> Reader:
    reader = Reader()
    reader.feed(content)
    reader.close()
    assert reader.open == []
    return reader


def sample(text: str, **more) -> dict:
    values = {"id": "0" * 32, "url": "http://x/", "language": "en", "value": None, "threshold": None, "near": False}
    return {**values, "note": "", "text": text, "characters": len(text), **more}


def stage(name: str, came: int, rejected: dict, **more) -> dict:
    kept = came - sum(rejected.values())
    empty = {"edits": {}, "signals": {}, "seconds": 0.5}
    return {"name": name, "in": came, "kept": kept, "rejected": rejected, **empty, **more}


def run(evil: str = "x") -> dict:
    """All that a page is made of; `evil` wherever text of others can come in."""
    words = {"counts": {"10": 2, "60": 5, "2000": 1}, "limits": [[50, 1000]]}
    quality = stage("quality" + evil, 8, {"words_low" + evil: 2, "words_high": 1}, signals={"words" + evil: words})
    made = [stage("read", 10, {"truncated": 2}), {**quality, "edits": {"lines_removed" + evil: 4}}]
    facts = {"documents": 5, "characters": 5000, "records": {"response" + evil: 10}, "code": "v" + evil}
    group = {"stage": "quality" + evil, "reason": "words_low" + evil}
    shown = sample(
        "text " + evil, url="http://x/" + evil, note=evil, language=evil, value=45.0, threshold=50, near=True
    )
    configuration = [
        {"class": "beam_pipelines.web.archives.read_warc.ReadWarc", "name": "read"},
        {"class": "a.b.C", "name": evil},
    ]
    return {
        "stats": {"stages": made, **facts, "inputs": [{"file": evil, "path": "s3://" + evil, "bytes": 1234}]},
        "run": {"configuration": configuration, "code": "v" + evil},
        "samples": {"kept": [sample(evil)], "rejected": [{**group, "samples": [shown]}]},
    }


def test_nothing_of_a_page_is_run_or_fetched():
    content = page.build("name" + EVIL, **run(EVIL))
    found = read(content)
    assert not found.names & {"script", "img", "iframe", "link", "object", "embed", "form", "base", "foreignobject"}
    assert ("content", page.POLICY) in found.attributes
    for name, value in found.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "srcset", "action", "xlink:href")
        assert name != "href" or re.fullmatch(r"#[a-z]+", value)
    assert "url(" not in page.STYLE
    assert "@import" not in page.STYLE
    content.encode("utf-8")
    assert "\x00" not in content
    assert any("<script>alert(1)</script>" in text for text in found.text)  # shown as text


def test_the_page_has_all_numbers():
    text = " ".join(read(page.build("crawl", **run())).text)
    for expected in (
        "50.0 % of 10",
        "1,000 a document",
        "37.5 %",
        "value 45, limit 50 (near)",
        "lines removedx",
        "0.5",
    ):
        assert expected in text, expected


def test_the_policy_stands_before_any_content():
    content = page.build("x", **run())
    assert content.index("Content-Security-Policy") < content.index("<body")


def test_an_empty_run_has_a_page():
    """No input record at all: no division by zero, every part says that it is empty."""
    nothing = run()
    nothing["stats"] = {
        **nothing["stats"],
        "stages": [stage("read", 0, {}, seconds=0.0)],
        "documents": 0,
        "characters": 0,
    }
    nothing["samples"] = {"kept": [], "rejected": []}
    nothing["run"]["configuration"] = nothing["run"]["configuration"][:1]
    text = " ".join(read(page.build("x", **nothing)).text)
    assert "No document was rejected." in text
    assert "No stage of this recipe measures a signal." in text


def test_refinedwebs_shares():
    def configuration(*modules):
        return [{"class": f"beam_pipelines.web.{module}.X"} for module in modules]

    assert stages.refinedweb_shares(configuration("read_warc", "extract", "language", "language")) == [
        None,
        1.49,
        50.66,
        None,
    ]
    inner = {"class": "beam_pipelines.web.filters.gopher_quality.GopherQuality"}
    outer = {"class": "beam_pipelines.web.text.language_parameters.ByLanguage", "stages": {"en": inner}}
    assert stages.refinedweb_shares([outer]) == [16.19]
    kept = 100.0
    for percent in stages.REFINEDWEB.values():
        kept *= 1 - percent / 100
    assert kept == pytest.approx(stages.REFINEDWEB_KEPT, abs=0.2)  # the published shares are rounded


@pytest.mark.parametrize(
    ("values", "limits", "expected"),
    [
        ([0, 0.5, 0.9], [0.3], signals.Axis(0, 0.9, False, False)),
        ([3, 20_000], [50], signals.Axis(3, 20_000, True, False)),
        ([0, 3, 20_000], [], signals.Axis(3, 20_000, True, True)),
        ([-5, 20_000], [], signals.Axis(-5, 20_000, False, False)),
        ([7], [], signals.Axis(7, 7, False, False)),
        ([0], [], signals.Axis(0, 0, False, False)),
    ],
)
def test_axes(values, limits, expected):
    axis = signals.make_axis(values, limits)
    assert axis == expected
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)


def drawn(figure: str, kind: str) -> int:
    """Bars of a colour."""
    return re.search(rf'class="{kind}" d="([^"]*)"', figure).group(1).count("M")


def test_a_histogram_parts_its_bars_at_the_limits():
    counts = {"10": 5, "49": 1, "50": 2, "1000": 3, "1100": 1}
    figure = signals.histogram("words", {"counts": counts, "limits": [[50, 1000]]})
    assert "12 documents, 58.3 % outside" in figure
    assert drawn(figure, "lost") == 3
    assert drawn(figure, "kept") == 2
    assert figure.count('<line class="limit"') == 2


def test_histograms_of_every_shape():
    read(signals.histogram("none", {"counts": {}, "limits": []}))
    odd = signals.histogram("odd", {"counts": {"nan": 1, "inf": 2, "3": 1}, "limits": [[None, math.inf]]})
    assert "3 without a finite value" in odd
    assert "inf" not in re.findall(r'd="([^"]*)"', odd)[0]
    many = {"counts": {"0.5": 1}, "limits": [[None, n / 100] for n in range(40)]}
    assert signals.histogram("per language", many).count('<line class="limit"') == signals.MOST_LIMITS
    read(signals.histogram("negative", {"counts": {"-3": 2, "0": 1, "4": 1}, "limits": [[-1, None]]}))


def test_a_run_writes_it_and_leaves_it_alone(cleaned, tmp_path, runs, capsys):
    output = runs.copy(cleaned, tmp_path / "out")
    path = output / "report.html"
    content = path.read_text()
    read(content)
    stats = json.loads((output / "stats.json").read_text())
    for made in stats["stages"]:
        assert made["name"] in content
        assert all(reason in content for reason in made["rejected"])
        assert all(f"<b>{signal}</b>" in content for signal in made["signals"])
    before = path.stat().st_mtime_ns
    assert report.write_report(str(output)) is False
    assert path.stat().st_mtime_ns == before
    stats["stages"][0]["seconds"] += 100
    (output / "stats.json").write_text(json.dumps(stats))
    assert report.write_report(str(output)) is True
    path.write_text("cut off")
    assert command.main([str(output)]) == 0
    assert path.read_text().endswith("</html>\n")
    assert command.main([str(tmp_path)]) == 2
    assert "no stats.json" in capsys.readouterr().err


def test_remote_output(cleaned):
    for name in ("stats.json", "work/configuration.json", "work/samples.json"):
        storage.write_json(f"memory://report/{name}", json.loads((cleaned / name).read_text()))
    assert report.write_report("memory://report") is True
    assert report.write_report("memory://report/") is False


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to show the page in")
def test_a_browser_runs_no_script_of_a_page(tmp_path: Path):
    """As a browser reads it, escaping and policy together."""
    path = tmp_path / "report.html"
    path.write_bytes(
        page.build("x", **run("</pre><script>document.title='RUN'</script><svg onload=alert(1)>")).encode()
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    shown = subprocess.run([CHROMIUM, *flags, path.as_uri()], capture_output=True, text=True, timeout=120).stdout
    assert "<title>Web data: x</title>" in shown
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert 'class="plots"' in shown
