"""Tokenizers of folders: SentencePiece models and their conversion agree, files travel, what is broken says so."""

import io
import json

import pytest
import sentencepiece
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from t5x_style.data.vocabulary import Vocabulary, start_id
from t5x_style.errors import UserError
from t5x_style.huggingface.tokenizers import sentencepiece_models, tokenizer_files
from t5x_style.huggingface.tokenizers.tokenizers import (
    HuggingFaceTokenizer,
    vocabulary_files,
)

CORPUS = ["def add(a, b):\n    return a + b", "日本語 and café naïve 😀", "xaaaaay aaaa aaa xaa aay", "<s> 12 </s>"] * 4
IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": 3}
PLAIN = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
MODELS = {
    "native": {**PLAIN, "model_type": "bpe", "vocab_size": 420, "byte_fallback": True, "split_digits": True},
    "bpe": {"model_type": "bpe", "vocab_size": 120},
    "no dummy prefix": {
        **PLAIN,
        "model_type": "bpe",
        "vocab_size": 400,
        "byte_fallback": True,
        "add_dummy_prefix": False,
    },
    "symbols": {
        **PLAIN,
        "model_type": "bpe",
        "vocab_size": 420,
        "byte_fallback": True,
        "user_defined_symbols": ["<mask>", "<a b>", "<ma"],
    },
    "unigram": {"vocab_size": 120},
    "unigram bytes": {"vocab_size": 380, "byte_fallback": True},
}
PIECES = [
    "def ",
    "a",
    "aa",
    "x",
    " ",
    "  ",
    "\n",
    "<mask>",
    "<a b>",
    "日本",
    "😀",
    "é",
    "▁",
    "12",
    "ad",
    "return",
    "\t",
]
TEXT = st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.text(max_size=20))


def trained(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, hard_vocab_limit=False, minloglevel=2, **IDS, **options
    )
    return model.getvalue()


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """(SentencePiece, the converted pipeline, whether text can spell a control piece)."""
    path = tmp_path_factory.mktemp("model") / "m.model"
    path.write_bytes(trained(**MODELS[request.param]))
    pipeline = sentencepiece_models.build(path)
    reserved = ("<s>", "</s>", "<pad>", "<unk>", "<0x")
    return Vocabulary(path), pipeline, reserved if "model_type" not in MODELS[request.param] else ()


@settings(max_examples=300, deadline=None)
@given(TEXT)
@example("")
@example("   ")
@example(" a ")
@example("xaaaaayaaaa")
@example("unknown ჰ ﬁ ½ ℃")
@example("<mask>a<mask> <a b><ma")
def test_conversion_gives_sentencepieces_ids(pair, text):
    vocabulary, pipeline, reserved = pair
    if not any(name in text for name in reserved):
        assert pipeline.encode(text, add_special_tokens=False).ids == vocabulary.encode(text)


def test_merges_are_in_the_order_of_the_pieces():
    vocabulary = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4}
    found = sentencepiece_models.merges(vocabulary, ["a", "b", "ab", "ba", "aba"])
    assert found == [("a", "b"), ("b", "a"), ("a", "ba"), ("ab", "a")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(the native tokenizer, what is written of it)."""
    folder = tmp_path_factory.mktemp("native")
    (folder / "sentencepiece.model").write_bytes(trained(**MODELS["native"]))
    tokenizer_files.write(folder / "sentencepiece.model", folder / "written")
    return tokenizer_files.open_tokenizer(folder), tokenizer_files.open_tokenizer(folder / "written")


@settings(max_examples=300, deadline=None)
@given(TEXT)
@example("<s>text</s><pad>")
@example("\n\n x")
def test_a_written_tokenizer_is_the_native_one(written, text):
    ours, theirs = written
    for special in (False, True):
        assert theirs.encode(text, add_special_tokens=special) == ours.encode(text, add_special_tokens=special)
    ids = ours.encode(text, add_special_tokens=True)
    assert theirs.decode(ids) == ours.decode(ids) == text.replace("▁", " ")
    assert theirs.encode_batch([text, "a"], add_special_tokens=True) == ours.encode_batch([text, "a"], True)


def test_ids_and_fingerprint_of_a_written_tokenizer(written):
    ours, theirs = written
    assert isinstance(ours, Vocabulary)
    assert isinstance(theirs, HuggingFaceTokenizer)
    for name in ("size", "pad_id", "eos_id", "bos_id", "unk_id", "fingerprint"):
        assert getattr(theirs, name) == getattr(ours, name), name
    assert [theirs.piece(token) for token in range(ours.size)] == [ours.piece(token) for token in range(ours.size)]
    assert start_id(ours) == start_id(theirs) == 3


def test_without_bos_rows_begin_with_padding(tmp_path):
    model = io.BytesIO()
    options = {**MODELS["native"], **IDS, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, hard_vocab_limit=False, minloglevel=2, **options
    )
    (tmp_path / "sentencepiece.model").write_bytes(model.getvalue())
    tokenizer_files.write(tmp_path / "sentencepiece.model", tmp_path / "written")
    theirs = HuggingFaceTokenizer(tmp_path / "written")
    assert (theirs.bos_id, start_id(theirs)) == (None, 0)
    assert theirs.encode("a", add_special_tokens=True) == [0, *theirs.encode("a")]


def byte_level(folder, **config):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def bytes_only(tmp_path_factory):
    return HuggingFaceTokenizer(byte_level(tmp_path_factory.mktemp("bytes")))


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_byte_level_round_trip(bytes_only, text):
    assert bytes_only.decode(bytes_only.encode(text)) == text


def test_special_tokens_of_every_source(tmp_path):
    config = {
        "bos_token": {"content": "<a>", "lstrip": False},
        "eos_token": "<b>",
        "added_tokens_decoder": {"281": {"content": "<b>", "special": True}, "280": {"content": "<c>"}},
        "extra_special_tokens": ["<d>"],
    }
    tokenizer = HuggingFaceTokenizer(byte_level(tmp_path, **config))
    assert tokenizer.encode("x<c>y<b><a><d>")[1::2][:1] == [280]
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.size) == (281, 282, 284)
    assert tokenizer.pad_id is None
    assert tokenizer.decode(tokenizer.encode("<a>x<c>y<b><d>")) == "x<c>y"  # <c> is added, not special
    split = HuggingFaceTokenizer(byte_level(tmp_path / "split", **config, split_special_tokens=True))
    assert split.decode(split.encode("<b>x")) == "<b>x"


def test_older_special_token_files(tmp_path):
    byte_level(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<e>"}}))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<f>": 281, "<e>": 280}))
    tokenizer = HuggingFaceTokenizer(tmp_path)
    assert (tokenizer.eos_id, tokenizer.encode("<f>"), tokenizer.size) == (280, [281], 282)


def test_ids_outside_decode_to_nothing(bytes_only):
    assert bytes_only.decode([*bytes_only.encode("ab"), 5000, -1]) == "ab"
    assert bytes_only.piece(5000) == ""


def test_start_id_needs_bos_or_padding(bytes_only):
    with pytest.raises(UserError, match="no BOS and no padding id"):
        start_id(bytes_only)


def test_files_are_carried_unchanged(tmp_path):
    source = byte_level(tmp_path / "source", eos_token="<e>")
    (source / "chat_template.jinja").write_text("{{ x }}")
    (source / "model.safetensors").write_bytes(b"no tokenizer")
    copies = tokenizer_files.copy(source, tmp_path / "target")
    assert [path.name for path in copies] == ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    for path in copies:
        assert path.read_bytes() == (source / path.name).read_bytes()
    opened = [HuggingFaceTokenizer(folder) for folder in (source, tmp_path / "target")]
    assert opened[0].fingerprint == opened[1].fingerprint
    assert opened[0].encode("def") == opened[1].encode("def")


def test_check_size(written):
    vocabulary, _ = written
    tokenizer_files.check_size(vocabulary, vocabulary.size, "here")
    with pytest.raises(UserError, match=r"here: the tokenizer has \d+ ids, the model only 7"):
        tokenizer_files.check_size(vocabulary, 7, "here")


def test_no_tokenizer(tmp_path):
    assert vocabulary_files(tmp_path) == []
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")  # of no use without vocab.json
    assert vocabulary_files(tmp_path) == []
    with pytest.raises(UserError, match="holds no tokenizer"):
        HuggingFaceTokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "tokenizer cannot be read"),
        ("tokenizer.json", '{"format": 1}', "holds no tokenizer but another JSON object"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', "tokenizer cannot be read"),
        ("tokenizer.model", "text", "is no SentencePiece model"),
        ("tokenizer.model", "", "it holds no pieces"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        HuggingFaceTokenizer(tmp_path)


def test_broken_settings(tmp_path):
    byte_level(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(UserError, match="holds no JSON object"):
        HuggingFaceTokenizer(tmp_path)


def test_a_class_without_a_rule(tmp_path):
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    with pytest.raises(UserError, match="no rule for a BertJapaneseTokenizer"):
        HuggingFaceTokenizer(tmp_path)


def test_models_without_counterpart(tmp_path):
    (tmp_path / "w.model").write_bytes(trained(model_type="char", vocab_size=60))
    with pytest.raises(UserError, match="only BPE and unigram"):
        sentencepiece_models.build(tmp_path / "w.model")
    (tmp_path / "s.model").write_bytes(trained(model_type="bpe", vocab_size=100, treat_whitespace_as_suffix=True))
    with pytest.raises(UserError, match="spaces as suffixes"):
        sentencepiece_models.build(tmp_path / "s.model")
