"""Parameters by language: the packaged files against prose in each language, and the stage that looks them up."""

import dataclasses
import gzip
import json
import pickle
from collections import defaultdict
from pathlib import Path

import pytest

from beam_pipelines.web.document import KEEP, Document, configuration
from beam_pipelines.web.filters.c4 import C4, LongLines
from beam_pipelines.web.filters.fineweb import FineWebQuality
from beam_pipelines.web.filters.gopher_quality import GopherQuality
from beam_pipelines.web.text.language_parameters import PACKAGED, ByLanguage, read_parameters
from t5x_style.errors import UserError

HERE = Path(__file__).parents[1]
PROSE = json.loads((HERE / "prose_by_language.json").read_text(encoding="utf-8"))
LANGUAGES = sorted(path.stem for path in PACKAGED.glob("*.json"))
TYDIQA = {
    "arabic": "ar",
    "bengali": "bn",
    "english": "en",
    "finnish": "fi",
    "indonesian": "id",
    "japanese": "ja",
    "korean": "ko",
    "russian": "ru",
    "swahili": "sw",
    "telugu": "te",
    "thai": "th",
}


def document(text: str, language: str) -> Document:
    return Document("0" * 32, text, "", "", "", language, 1.0, "{}")


def test_every_language_has_prose_to_test_it():
    assert set(LANGUAGES) == set(PROSE)


@pytest.mark.parametrize("language", LANGUAGES)
def test_prose_passes_with_room(language):
    quality = ByLanguage(GopherQuality())
    outcome = quality.apply(document(PROSE[language], language))
    assert outcome.verdict == KEEP
    values = {measure.signal: measure for measure in outcome.measures}
    length = values["mean_word_length"]
    assert 1.2 * length.minimum <= length.value <= length.maximum / 1.2
    assert values["stop_words"].value >= 4
    assert values["language_parameters"].value == 1
    for stage in (FineWebQuality(), C4(min_sentences=1, min_words=3)):
        assert ByLanguage(stage).apply(document(PROSE[language], language)).verdict == KEEP


def test_a_language_does_not_pass_for_another():
    """Stop words tell languages apart: under the parameters of most others, a paragraph is rejected."""
    quality = ByLanguage(GopherQuality(min_words=20))
    others = [(text, other) for text in PROSE for other in LANGUAGES if other != text]
    passed = [pair for pair in others if quality.apply(document(PROSE[pair[0]], pair[1])).verdict == KEEP]
    assert len(passed) < 0.2 * len(others)
    for pair in (("de", "en"), ("zh", "ja"), ("ru", "ar"), ("en", "fi"), ("th", "hi")):
        assert pair not in passed


def multilingual_texts(folder: Path) -> list[tuple[str, str]]:
    """(language, text): school exercises, ten at a time, and encyclopedia articles."""
    questions = defaultdict(list)
    with gzip.open(folder / "eval" / "mgsm.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            questions[row["language"]].append(row["question"])
    texts = [
        (language, "\n".join(rows[start : start + 10])) for language, rows in questions.items() for start in (0, 100)
    ]
    with gzip.open(folder / "eval" / "tydiqa_tiny_dev.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = map(json.loads, file)
        return texts + [(TYDIQA[row["language"]], row["document_plaintext"]) for row in rows]


def test_real_texts_pass(shared_data):
    quality = ByLanguage(GopherQuality(), unknown="reject")
    texts = multilingual_texts(shared_data)
    assert len(texts) > 30
    for language, text in texts:
        assert quality.apply(document(text, language)).verdict == KEEP, (language, text[:80])


def test_values_come_from_the_stage_then_the_file_then_the_recipe():
    stage = ByLanguage(GopherQuality(min_words=30), parameters={"de": {"min_stop_words": 5}, "xx": {"min_words": 7}})
    german = stage.parameters["de"]
    assert german["max_mean_word_length"] == 12
    assert german["min_stop_words"] == 5
    words = "der die und das mit " + "wort " * 24
    assert stage.apply(document(words, "de")).verdict == ("words_low", 29, 30)
    assert stage.apply(document("der die und das " + "wort " * 26, "de")).verdict == ("stop_words_low", 4, 5)
    assert stage.apply(document("word " * 6, "xx")).verdict == ("words_low", 6, 7)
    assert stage.name == "gopher_quality"
    assert ByLanguage(GopherQuality(), name="quality").name == "quality"


def test_unknown_languages_are_counted_and_take_the_defaults_or_go():
    text = PROSE["en"]
    outcome = ByLanguage(GopherQuality()).apply(document(text, "tlh"))
    assert outcome.verdict == KEEP
    assert outcome.measures[0][:2] == ("language_parameters", 0)
    assert outcome.measures[1:] == GopherQuality().apply(document(text, "en")).measures
    outcome = ByLanguage(GopherQuality(), unknown="reject").apply(document(text, "tlh"))
    assert outcome.verdict == ("no_language_parameters", 0, 1)
    assert ByLanguage(GopherQuality(), unknown="reject").apply(document(text, "")).verdict.reason


def test_stages_that_edit():
    text = "我们今天去了河边的老磨坊。\n菜单\n它在那里已经三百年了，没有人记得。\n你还会再来看看它吗？"
    outcome = ByLanguage(C4()).apply(document(text, "zh"))
    assert outcome.verdict == KEEP
    assert outcome.document.text == text.replace("菜单\n", "")
    assert outcome.edits["lines_no_end_mark"] == 1
    assert ByLanguage(C4()).apply(document(text, "en")).verdict.reason == "sentences_low"


def test_lines_are_shorter_in_chinese():
    line = "河" * 70
    assert ByLanguage(LongLines()).apply(document("\n".join([line] * 3), "zh")).verdict == KEEP
    assert ByLanguage(LongLines()).apply(document("\n".join([line] * 3), "en")).verdict.reason == "long_lines_low"


def test_the_configuration_holds_every_value_and_the_stage_pickles():
    stage = ByLanguage(GopherQuality())
    assert configuration(stage)["parameters"]["de"]["max_mean_word_length"] == 12
    copy = pickle.loads(pickle.dumps(stage))
    assert copy == stage
    assert copy.apply(document(PROSE["de"], "de")).verdict == KEEP
    assert dataclasses.replace(stage, unknown="reject").parameters == stage.parameters


def test_a_folder_of_ones_own(tmp_path):
    (tmp_path / "de.json").write_text('{"GopherQuality": {"min_words": 5}}', encoding="utf-8")
    stage = ByLanguage(GopherQuality(min_stop_words=0), folder=str(tmp_path))
    assert stage.parameters == {"de": {"min_words": 5}}
    assert stage.apply(document("nur fünf Wörter sind hier", "de")).verdict == KEEP
    assert read_parameters(tmp_path, "C4") == {"de": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"GopherQuality": {"min_wrods": 5}}', "de.*min_wrods"),
        ('{"GopherQuality": {"name": "x"}}', "de.*name"),
        ('{"GopherQuality": {"min_words": -5}}', "de.*min_words"),
        ('{"GopherQuality": 5}', "de.json"),
        ("[]", "de.json"),
        ("{", "de.json.*JSON"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, message):
    (tmp_path / "de.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        ByLanguage(GopherQuality(), folder=str(tmp_path))


def test_other_mistakes_are_refused(tmp_path):
    with pytest.raises(UserError, match="folder"):
        ByLanguage(GopherQuality(), folder=str(tmp_path))
    with pytest.raises(UserError, match="unknown"):
        ByLanguage(GopherQuality(), unknown="keep")
    with pytest.raises(UserError, match="stage"):
        ByLanguage(GopherQuality)
