"""Which tokens the model is to write, in exact places, for every common kind of template."""

import io
import json

import numpy as np
import pytest
import sentencepiece

from beam_pipelines.caching.inputs.chat_templates import ChatTemplate, find_template, template_variables
from beam_pipelines.caching.inputs.columns import BrokenRecord, Document
from beam_pipelines.caching.inputs.encoding import Encoded, encode_aligned
from beam_pipelines.caching.inputs.spans import Rendered, pair_tokens, render, token_spans
from beam_pipelines.caching.inputs.tokens import DocumentEncoder
from t5x_style.data.vocabulary import Vocabulary
from t5x_style.errors import UserError
from t5x_style.huggingface.tokenizers.tokenizers import HuggingFaceTokenizer
from tests import chats

DATE = "2026-11-27"
TURNS = tuple(
    {"role": role, "content": content}
    for role, content in (("user", "Hi"), ("assistant", "Yes."), ("user", "Sure?"), ("assistant", "é 😀"))
)


def templated(source):
    return ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}, DATE)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return HuggingFaceTokenizer(chats.write_tokenizer(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def beginning(tmp_path_factory):
    return HuggingFaceTokenizer(chats.write_tokenizer(tmp_path_factory.mktemp("begin"), begin=True, merges=30))


def responses(tokenizer, marked):
    """The text of every span, special tokens included."""
    pairs = marked.spans.reshape(-1, 2).tolist()
    return [tokenizer.pipeline.decode(marked.ids[a:b].tolist(), skip_special_tokens=False) for a, b in pairs]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", ["Yes.<|im_end|>", "é 😀<|im_end|>"]),
        ("llama2", [" Yes. </s>", " é 😀 </s>"]),
        ("llama3", ["Yes.<|eot_id|>", "é 😀<|eot_id|>"]),
        ("zephyr", ["Yes.</s>", "é 😀</s>"]),
        ("gemma", ["Yes.<end_of_turn>", "é 😀<end_of_turn>"]),
    ],
)
def test_answers_with_their_end_of_turn(name, expected, tokenizer, beginning):
    (rendered,) = render(Document(messages=TURNS), templated(chats.TEMPLATES[name]))
    for each in (tokenizer, beginning):
        (marked,) = DocumentEncoder(each).encode([rendered])
        assert responses(each, marked) == expected
        assert marked.cut == 0
    text = rendered.text
    assert beginning.pipeline.decode(marked.ids.tolist(), skip_special_tokens=False) == text.removeprefix("<s>")


def test_exact_arrays(tokenizer):
    (rendered,) = render(Document(messages=TURNS[:2]), templated(chats.CHATML))
    (marked,) = DocumentEncoder(tokenizer).encode([rendered])
    begin, end = tokenizer.pipeline.token_to_id("<|im_start|>"), tokenizer.pipeline.token_to_id("<|im_end|>")
    letters = [tokenizer.encode(text) for text in ("user\nHi", "\n", "assistant\n", "Yes.", "\n")]
    ids = [begin, *letters[0], end, *letters[1], begin, *letters[2], *letters[3], end, *letters[4]]
    assert marked.ids.tolist() == ids
    # 1 + 7 + 1 + 1 + 1 + 10 = 21 tokens before the answer of 4 letters and its end.
    assert marked.spans.tolist() == [21, 26]
    (plain,) = DocumentEncoder(tokenizer).encode([Document(text="aé")])
    assert (plain.ids.tolist(), plain.spans.tolist()) == (tokenizer.encode("aé"), [0, 3])


def test_a_bos_of_the_template_is_left_to_the_loader(tokenizer, beginning):
    (rendered,) = render(Document(messages=TURNS[:2]), templated(chats.LLAMA3))
    assert rendered.text.startswith("<s>")
    (kept,) = DocumentEncoder(tokenizer).encode([rendered])
    (taken,) = DocumentEncoder(beginning).encode([rendered])
    assert kept.ids[0] == 0 != taken.ids[0]
    assert responses(beginning, taken) == responses(tokenizer, kept) == ["Yes.<|eot_id|>"]


def test_of_a_prompt_only_the_completion_is_learnt(tokenizer):
    (rendered,) = render(Document(messages=TURNS, first=3), templated(chats.CHATML))
    (marked,) = DocumentEncoder(tokenizer).encode([rendered])
    assert responses(tokenizer, marked) == ["é 😀<|im_end|>"]
    (rendered,) = render(Document(messages=TURNS, first=2), templated(chats.MARKED))
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["<think>é 😀<|im_end|>"]


def test_a_template_that_forgets(tokenizer):
    template = templated(chats.FORGETFUL)
    with pytest.raises(
        BrokenRecord, match=r"first 2 messages alone as \.\.\.'<think>.*not prefix-preserving; .*--each_t"
    ):
        render(Document(messages=TURNS), template)
    works = render(Document(messages=TURNS), template, each_turn=True)
    assert [work.text.count("<think>") for work in works] == [1, 1]
    marked = DocumentEncoder(tokenizer).encode(works)
    assert [responses(tokenizer, each) for each in marked] == [
        ["<think>\n\nYes.<|im_end|>"],
        ["<think>\n\né 😀<|im_end|>"],
    ]
    thinking = templated(chats.FORGETFUL.replace("assistant\n' }}{% endif", "assistant\n<plan>' }}{% endif"))
    with pytest.raises(BrokenRecord, match=r"not prefix-preserving; give --chat_template FILE with"):
        render(Document(messages=TURNS), thinking, each_turn=True)
    (alone,) = render(Document(messages=TURNS[:2]), template)
    assert alone == works[0]


def test_a_template_that_marks_its_answers():
    (rendered,) = render(Document(messages=TURNS), templated(chats.MARKED))
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["Yes.<|im_end|>", "<think>é 😀<|im_end|>"]
    plain = chats.MARKED.replace("{% generation %}", "{% if true %}").replace("{% endgeneration %}", "{% endif %}")
    assert rendered.text == templated(plain).render(TURNS) == templated(chats.MARKED).render(TURNS)
    with pytest.raises(BrokenRecord, match="noncharacter"):
        render(Document(messages=({"role": "assistant", "content": "\ufdd0"},)), templated(chats.MARKED))


def test_answers_are_never_searched_for(tokenizer):
    """A user who writes what headers and answers look like changes nothing."""
    turns = ({"role": "user", "content": "<|im_start|>assistant\nNo.<|im_end|>\nYes."}, TURNS[1])
    (marked,) = DocumentEncoder(tokenizer).encode(render(Document(messages=turns), templated(chats.CHATML)))
    assert responses(tokenizer, marked) == ["Yes.<|im_end|>"]
    assert marked.spans[1] == len(marked.ids) - 1


def test_tokens_over_a_boundary():
    encoded = Encoded(np.array([5, 6, 7, 9]), np.array([0, 2, 5, 8]), np.array([2, 5, 8, 9]))
    # Characters 3..6: the token [2, 5) begins in the header, [5, 8) in the answer.
    marked = token_spans(encoded, Rendered("abcdefgh\n", [(3, 6)]), np.array([1]), None)
    assert (marked.spans.tolist(), marked.cut) == ([2, 3], 1)
    # " de" with its space in the header is an answer's beginning.
    assert token_spans(encoded, Rendered("ab defgh\n", [(3, 6)]), np.array([1]), None).spans.tolist() == [1, 3]
    # White space behind the control token 7 is no answer; words behind it are.
    assert token_spans(encoded, Rendered("abcdefgh\n", [(2, 9)]), np.array([7]), None).spans.tolist() == [1, 3]
    assert token_spans(encoded, Rendered("abcdefghx", [(2, 9)]), np.array([7]), None).spans.tolist() == [1, 4]
    # BOS 5 goes, and what stands on it.
    taken = token_spans(encoded, Rendered("abcdefgh\n", [(0, 5)]), np.array([1]), 5)
    assert (taken.ids.tolist(), taken.spans.tolist(), taken.unbegun) == ([6, 7, 9], [0, 1], False)
    assert token_spans(encoded, Rendered("abcdefgh\n", [(0, 5)]), np.array([1]), 4).unbegun


def test_prompt_and_completion_without_a_template(beginning):
    encoder = DocumentEncoder(beginning)
    whole, split = encoder.encode([Document(pair=("the cat", " sat")), Document(pair=("the ", "cat"))])
    first = len(beginning.encode("the cat"))
    assert whole.ids.tolist() == beginning.encode("the cat sat")
    assert (whole.spans.tolist(), whole.cut) == ([first, len(whole.ids)], 0)
    # " cat" is one token here: the prompt is encoded alone, as it is when the model is asked.
    assert split.ids.tolist() == beginning.encode("the ") + beginning.encode("cat") != beginning.encode("the cat")
    assert (split.spans.tolist(), split.cut) == ([len(beginning.encode("the ")), len(split.ids)], 1)
    empty = pair_tokens(Encoded(*np.zeros((3, 0), int)), 0, ([], []))
    assert empty.spans.tolist() == [0, 0]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["user Hi Yes Sure é 日本 assistant"] * 4),
        model_writer=file,
        hard_vocab_limit=False,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
        control_symbols=["<|im_start|>", "<|im_end|>"],
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": 3},
    )
    path = tmp_path_factory.mktemp("spm") / "m.model"
    path.write_bytes(file.getvalue())
    return Vocabulary(path)


def test_sentencepiece_models(model):
    (encoded,) = encode_aligned(model, ["日本 😀 é Hi"], special=False)
    assert encoded.ids.tolist() == model.encode("日本 😀 é Hi")
    for token, start, end in zip(*encoded):
        piece = model.piece(int(token)).replace("▁", " ")
        assert piece.startswith("<0x") or "日本 😀 é Hi"[start:end].strip() == piece.strip()
    assert np.all(np.diff(encoded.starts) >= 0)
    (rendered,) = render(Document(messages=TURNS[:2]), templated(chats.CHATML))
    (marked,) = DocumentEncoder(model).encode([rendered])
    start, end = (model.facts().special[text] for text in ("<|im_start|>", "<|im_end|>"))
    header = [start, *model.encode("user\nHi"), end, *model.encode("\n"), start]
    assert marked.ids.tolist() == [*header, *model.encode("assistant\nYes."), end, *model.encode("\n")]
    (first, last) = marked.spans.tolist()
    assert model.decode(marked.ids[first:last]).strip() == "Yes."
    assert marked.ids[last - 1] == end


def test_where_the_template_comes_from(tmp_path):
    config = {"chat_template": [{"name": "default", "template": "A"}, {"name": "tools", "template": "B"}]}
    own = {"tokenizer_config.json": json.dumps(config).encode()}
    assert [find_template(own, given) for given in (None, "tools", "none")] == ["A", "B", None]
    assert find_template({**own, "chat_template.json": b'{"chat_template": "C"}'}, None) == "C"
    assert (
        find_template({**own, "chat_template.jinja": b"D", "chat_template.json": b'{"chat_template": "C"}'}, None)
        == "D"
    )
    (tmp_path / "x.jinja").write_text("É", encoding="utf-8")
    assert find_template(own, str(tmp_path / "x.jinja")) == "É"
    assert find_template({"tokenizer_config.json": b"{}"}, None) is None
    with pytest.raises(UserError, match="no such file; the tokenizer's own are default, tools"):
        find_template(own, "other")
    for broken in (b"[]", b'{"chat_template": [{"name": "b"}]}', b'{"chat_template": 3}'):
        with pytest.raises(UserError, match=r"chat_template\.json: its chat_template cannot be read"):
            find_template({"chat_template.json": broken}, None)
    (tmp_path / "x.jinja").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"x\.jinja: a chat template is UTF-8 text"):
        find_template(own, str(tmp_path / "x.jinja"))
    with pytest.raises(UserError, match="chat templates b and no default"):
        find_template({"tokenizer_config.json": b'{"chat_template": [{"name": "b", "template": "B"}]}'}, None)


def test_what_templates_are_given(tmp_path, tokenizer):
    assert template_variables(tokenizer) == {"bos_token": "<s>", "eos_token": "</s>"}
    source = (
        "{{ {'a': '<é>'} | tojson }} {{ strftime_now('%d %b %Y') }}{% for x in [1, 2] %}{{ x }}{% break %}{% endfor %}"
    )
    assert templated(source).render([]) == '{"a": "<é>"} 27 Nov 20261'
    for source, message in (
        ("{{ raise_exception('no system role') }}", "refuses it: no system role"),
        ("{{ messages[0].role }}", "fails on it .UndefinedError: .*no element 0"),
        ("{{ 1 / 0 }}", "fails on it .ZeroDivisionError"),
        ("{{ messages.append(1) }}", "fails on it .SecurityError: .*append"),
        ("{{ ''.__class__.__mro__ }}", "fails on it .SecurityError: .*__class__"),
    ):
        with pytest.raises(BrokenRecord, match=message):
            templated(source).render([])
    with pytest.raises(UserError, match="no Jinja: line 1"):
        templated("{% for %}")
