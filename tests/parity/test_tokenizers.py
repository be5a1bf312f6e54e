"""Tokenizers of folders against AutoTokenizer: equal ids, with and without special tokens, and equal texts."""

import importlib.util
import io
import json

import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import sentencepiece
import tokenizers
import transformers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from t5x_style.data.vocabulary import Vocabulary
from t5x_style.huggingface.tokenizers import tokenizer_files
from t5x_style.huggingface.tokenizers.tokenizers import HuggingFaceTokenizer

pytestmark = pytest.mark.parity

CORPUS = [
    "def add(a, b):\n    return a + b  # 日本語 and café, naïve",
    "The quick brown fox jumps over the lazy dog; isn't it 12345?",
    "好的 我们 是 学生。 “quoted” 😀 😀 emoji\ttab",
    "multilingual <s> text with words, Words, WORDS and numbers 3.14",
] * 5
TEXTS = [
    "",
    " ",
    "   ",
    "The quick brown fox",
    " leading and trailing  ",
    "double  spaces   here",
    "line\nbreaks\n\n and\ttabs\r\n",
    "日本語の文章と中文",
    "😀👩‍👩‍👧 emoji 🇩🇪",
    "isn't naïve café CAFÉ ÅNGSTRÖM",
    "unknown ჰ ﬁ ½ ℃ characters",
    "<s>text</s> inside <s> and </s>",
    "[CLS] a [SEP] b [MASK]",
    "<pad><unk><mask>a <mask> b",
    "<|endoftext|>again<|endoftext|>",
    "a<extra_id_0>b <extra_id_1> c<sep><cls>",
    "``quoted'' ''text``",
    "12,345.67 a-b_c",
    "▁ literal ▁sign <0x0A>",
]


def check(folder, texts=TEXTS):
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = HuggingFaceTokenizer(folder)
    for text in texts:
        for special in (False, True):
            expected = theirs(text, add_special_tokens=special)["input_ids"]
            assert ours.encode(text, add_special_tokens=special) == expected, (text, special)
        ids = ours.encode(text, add_special_tokens=True)
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert ours.encode_batch(texts, add_special_tokens=True) == theirs(texts)["input_ids"]
    assert ours.size == len(theirs)
    for role in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"):
        assert ours.special.get(role) == getattr(theirs, f"{role}_id"), role


def byte_level(special, size=350):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=special)
    tokenizer.train_from_iterator(CORPUS, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    return state["vocab"], state["merges"]


def wordpiece():
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=special))
    return tokenizer.get_vocab()


def sentencepiece_model(**settings):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, minloglevel=2, hard_vocab_limit=False, **settings
    )
    return model.getvalue()


def write_vocab(folder, vocabulary, merges=None):
    ordered = sorted(vocabulary, key=vocabulary.get)
    if merges is None:
        (folder / "vocab.txt").write_text("\n".join(ordered) + "\n", encoding="utf-8")
        return
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def bert(folder, **settings):
    write_vocab(folder, wordpiece())
    return "BertTokenizer", settings


def gpt2(folder, **settings):
    write_vocab(folder, *byte_level(["<|endoftext|>"]))
    return "GPT2Tokenizer", settings


def qwen2(folder, **settings):
    write_vocab(folder, *byte_level(["<|endoftext|>"]))
    return "Qwen2Tokenizer", settings


def roberta(folder, **settings):
    write_vocab(folder, *byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]))
    return "RobertaTokenizer", settings


def t5(folder, **settings):
    model = sentencepiece_model(vocab_size=150, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (folder / "spiece.model").write_bytes(model)
    return "T5Tokenizer", settings


def llama(folder, **settings):
    model = sentencepiece_model(
        vocab_size=450,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
    )
    (folder / "tokenizer.model").write_bytes(model)
    return "LlamaTokenizer", settings


def albert(folder, **settings):
    model = sentencepiece_model(
        vocab_size=150, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"]
    )
    (folder / "spiece.model").write_bytes(model)
    return "AlbertTokenizer", settings


def xlnet(folder, **settings):
    model = sentencepiece_model(
        vocab_size=150,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        control_symbols=["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"],
    )
    (folder / "spiece.model").write_bytes(model)
    return "XLNetTokenizer", settings


def xlm_roberta(folder, **settings):
    (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_model(vocab_size=150, unk_id=0, bos_id=1, eos_id=2))
    return "XLMRobertaTokenizer", settings


FOLDERS = {
    "bert": (bert, {}),
    "bert-cased": (bert, {"do_lower_case": False}),
    "bert-no-chinese": (bert, {"tokenize_chinese_chars": False, "strip_accents": False}),
    "gpt2": (gpt2, {}),
    "gpt2-bos": (gpt2, {"add_bos_token": True, "pad_token": "<|endoftext|>"}),
    "gpt2-new-pad": (gpt2, {"pad_token": "<|pad|>"}),
    "qwen2": (qwen2, {}),
    "roberta": (roberta, {}),
    "roberta-space": (roberta, {"add_prefix_space": True}),
    "t5": (t5, {}),
    "llama": (llama, {"add_bos_token": True, "add_eos_token": False}),
    "llama-eos": (llama, {"add_bos_token": True, "add_eos_token": True, "pad_token": "</s>"}),
    "llama-legacy": (llama, {"legacy": True}),
    "albert": (albert, {}),
    "albert-cased": (albert, {"do_lower_case": False, "keep_accents": True}),
    "xlnet": (xlnet, {}),
    "xlm-roberta": (xlm_roberta, {}),
}


# LlamaTokenizer does not save `legacy`, so it reads its own folder in another way than it wrote it.
READ = {
    f"{name}-{form}": (name, form)
    for form in ("older files", "tokenizer.json")
    for name in FOLDERS
    if (name, form) != ("llama-legacy", "tokenizer.json")
}


@pytest.mark.parametrize(("name", "form"), READ.values(), ids=READ)
def test_ids_and_texts_equal(name, form, tmp_path):
    make, settings = FOLDERS[name]
    older = tmp_path / "older"
    older.mkdir()
    kind, config = make(older, **settings)
    (older / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **config}))
    if form == "older files":
        check(older)
        return
    transformers.AutoTokenizer.from_pretrained(older).save_pretrained(tmp_path / "new")
    assert (tmp_path / "new" / "tokenizer.json").is_file()
    check(tmp_path / "new")


@pytest.mark.parametrize("bos", [3, -1])
@pytest.mark.parametrize("kind", ["native", "bpe", "unigram"])
def test_autotokenizer_opens_what_is_written_for_sentencepiece(kind, bos, tmp_path):
    settings = {"vocab_size": 450, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": bos}
    if kind != "unigram":
        settings["model_type"] = "bpe"
    if kind == "native":
        settings |= {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    (tmp_path / "sentencepiece.model").write_bytes(sentencepiece_model(**settings))
    vocabulary = Vocabulary(tmp_path)
    folder = tmp_path / "written"
    tokenizer_files.write(tmp_path / "sentencepiece.model", folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    texts = TEXTS if kind != "unigram" else [text for text in TEXTS if not any(s in text for s in ("<s>", "<pad>"))]
    for text in texts:
        assert theirs(text)["input_ids"] == vocabulary.encode(text, add_special_tokens=True), text
        assert theirs(text, add_special_tokens=False)["input_ids"] == vocabulary.encode(text), text
    if kind == "native":  # without byte fallback an unknown character is shown in two ways
        for text in texts:
            assert theirs.decode(vocabulary.encode(text), skip_special_tokens=True) == vocabulary.decode(
                vocabulary.encode(text)
            )
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id) == (0, 1, 2)
    assert theirs.bos_token_id == (bos if bos >= 0 else None)
    check(folder, texts)
    assert HuggingFaceTokenizer(folder).fingerprint == vocabulary.fingerprint


def test_inputs_of_encoder_decoders_end(tmp_path):
    model = sentencepiece_model(vocab_size=450, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, model_type="bpe")
    (tmp_path / "sentencepiece.model").write_bytes(model)
    tokenizer_files.write(tmp_path / "sentencepiece.model", tmp_path / "written", begin=False, end=True)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "written")
    assert theirs("The fox")["input_ids"] == [*Vocabulary(tmp_path).encode("The fox"), 1]
