"""The whole page: complete, self-contained, escaped, and honest about what is missing."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from t5x_style.errors import UserError
from t5x_style.report import write_report

SECTIONS = ["Curation", "Tokenizer", "Training data", "Loss", "Speed", "Evaluation", "Perplexity", "Samples"]
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """Collects tags and text, and checks that every element is closed where it should be."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def page_of(quickstart, without=()):
    """The page drawn anew, without the figures of these parts."""
    for name in without:
        path = quickstart / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Page(write_report(quickstart=quickstart).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reported(whole_quickstart, tmp_path_factory):
    """A folder with its complete report. Not to be changed."""
    folder = shutil.copytree(whole_quickstart, tmp_path_factory.mktemp("report") / "quickstart_run")
    assert write_report(quickstart=folder) == folder / "tune" / "report.html"
    return folder


@pytest.fixture(scope="module")
def written(reported):
    """The text of the complete report, for tests that read it."""
    return (reported / "tune" / "report.html").read_text(encoding="utf-8")


def test_complete_report(written):
    page = Page(written)
    assert page.tags.count("svg") == 5
    for title in SECTIONS:
        assert title in page.texts
    assert "The funnel adds up: 9,000 in = 7,400 kept + 1,600 rejected, and so does every stage." in page.text
    assert "unigram entropy 1.01" in page.text  # log 6 - (2 log 2 + 3 log 3) / 6 = 1.0114
    assert "85.0 %" in page.text  # tuned, held-out templates
    assert "base: 32.0 %" in page.text
    assert "0.850" in page.text
    assert "8 min 32 s" in page.text


def test_self_contained_without_scripts(written):
    page = Page(written)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not [value for name, value in page.attributes if name.startswith("on")]
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith("#"), (name, value)
    assert "url(http" not in written
    assert "@import" not in written


def test_crawled_text_is_escaped(written):
    assert "<script" not in written
    assert "<b>short" not in written
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; $" in written
    assert "\x00" not in written


def test_ids_of_figures_do_not_collide(written):
    figures = re.findall(r"<svg.*?</svg>", written, flags=re.DOTALL)
    clips = [set(re.findall(r'<clipPath id="([^"]+)"', figure)) for figure in figures]
    assert all(not one & other for n, one in enumerate(clips) for other in clips[:n])


def test_same_report_from_the_same_files(written, reported, tmp_path):
    def without_time(text):
        return re.sub(r"Made [^.]*\.", "", text)

    again = write_report(quickstart=reported, output=tmp_path / "r.html").read_text(encoding="utf-8")
    assert without_time(again) == without_time(written)


def test_funnel_that_does_not_add_up(quickstart):
    stats = json.loads((quickstart / "web" / "stats.json").read_text())
    stats["stages"][1]["kept"] = 8499
    (quickstart / "web" / "stats.json").write_text(json.dumps(stats))
    text = page_of(quickstart, without=("cache", "pretrain", "evaluation.json")).text
    assert "Does not add up. extract: 8900 in, but 8499 kept + 400 rejected = 8899" in text
    assert "Does not add up. language: 8500 in, but extract kept 8499" in text
    assert "The funnel adds up" not in text


PARTS = {
    "web": "the pages were not cleaned here",
    "tokenizer": "the tokenizer was not trained here",
    "cache": "no task was cached here",
    "evaluation.json": "nothing was evaluated",
}


@pytest.mark.parametrize(
    "part",
    [pytest.param(part, marks=[] if part == "evaluation.json" else [pytest.mark.slow]) for part in sorted(PARTS)],
)
def test_a_missing_part_is_named(quickstart, part):
    text = page_of(quickstart, without=(part,)).text
    assert PARTS[part] in text
    for name, words in PARTS.items():
        assert (words in text) == (name == part)


def test_an_empty_folder_gives_a_report_of_what_is_missing(tmp_path):
    path = write_report(quickstart=tmp_path, output=tmp_path / "r.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert all(words in page.text for words in PARTS.values())
    assert "No metrics.jsonl" in page.text
    assert "nothing was timed" in page.text
    assert "svg" not in page.tags


def test_one_model_dir_alone(quickstart):
    path = write_report(quickstart / "pretrain")
    assert path == quickstart / "pretrain" / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 2  # loss, throughput


def test_a_run_with_few_and_broken_points(quickstart):
    rows = [{"step": 1, "kind": "train", "loss": None}, {"step": 2, "kind": "train", "loss": 4.0}]
    (quickstart / "pretrain" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"st')
    (quickstart / "tune" / "metrics.jsonl").write_text("")
    assert "4.000 → 4.000" in page_of(quickstart, without=("web", "cache", "evaluation.json")).text


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        write_report(quickstart=tmp_path / "none")
    with pytest.raises(UserError, match="nothing to report on"):
        write_report()
    with pytest.raises(UserError, match=r"write it with t5x_style\.evaluate"):
        write_report(quickstart=tmp_path, evaluation=tmp_path / "none.json")


def test_command_line_and_no_heavy_imports(quickstart):
    code = (
        "import sys; from t5x_style.report.__main__ import main; "
        f"code = main(['--quickstart', {str(quickstart)!r}, '--output', {str(quickstart / 'r.html')!r}]); "
        "heavy = {'tensorflow', 'seqio', 'apache_beam', 'torch', 'gin'} & set(sys.modules); "
        "sys.exit(code or len(heavy))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (quickstart / "r.html").stat().st_size > 10_000


def test_tokenizer_specimen_and_crawl(quickstart, tmp_path):
    import sentencepiece

    (quickstart / "tune" / "tokenizer").mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["def mean of numbers 1 0 2 4"] * 20),
        model_prefix=str(quickstart / "tune" / "tokenizer" / "sentencepiece"),
        vocab_size=290,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=3,
        minloglevel=2,
    )
    crawl = {"total_pages": 1234, "pages": {"class": 34, "module": 1200}, "dropped": {"<hung>": 5}}
    (quickstart / "crawl").mkdir()
    (quickstart / "crawl" / "crawl.json").write_text(
        json.dumps({**crawl, "packages": {"jax": {"pages": {"class": 34}}}})
    )
    page = page_of(quickstart, without=("cache", "pretrain", "evaluation.json"))
    assert "Crawl: 1,234 pages of 1 packages (class 34, module 1,200). Skipped: <hung> 5." in page.text
    assert "␣def␣mean" in "".join(page.texts)
    assert re.search(r"68 characters, \d+ tokens", page.text)
    text = (quickstart / "tune" / "report.html").read_text(encoding="utf-8")
    assert "<span>1</span><span>0</span><span>2</span><span>4</span>" in text
    assert "<span>&lt;0x" in text  # a byte that no piece covers, escaped


def test_results_of_another_checkpoint_are_named(written, quickstart):
    path = quickstart / "evaluation.json"
    results = json.loads(path.read_text())
    assert "evaluate them again" not in Page(written).text
    results["models"]["tuned"]["step"] = 900
    path.write_text(json.dumps(results))
    assert "5 results of tuned are not of step 900: evaluate them again." in page_of(quickstart, without=("web",)).text
