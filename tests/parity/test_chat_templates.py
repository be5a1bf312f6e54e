"""Conversations as `cache_tasks --input` renders and tokenises them, against transformers' apply_chat_template."""

import importlib.util

import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)
pytest.importorskip("jinja2")
pytest.importorskip("zstandard")

import numpy as np
import transformers

from beam_pipelines.caching.inputs.chat_templates import ChatTemplate, find_template, template_variables
from beam_pipelines.caching.inputs.columns import Document
from beam_pipelines.caching.inputs.spans import render
from beam_pipelines.caching.inputs.tokens import DocumentEncoder
from t5x_style.huggingface.tokenizers.tokenizers import HuggingFaceTokenizer
from tests import chats

pytestmark = pytest.mark.parity
CONVERSATIONS = [
    [("user", "Hi"), ("assistant", "Yes.")],
    [("user", "  hello\n\nworld "), ("assistant", "é 😀\n"), ("user", "</s> <|im_end|>?"), ("assistant", "no  ")],
    [
        ("user", "日本 <think>"),
        ("assistant", "the cat sat. "),
        ("user", "x"),
        ("assistant", ""),
        ("user", "only asked"),
    ],
]


def turns(pairs):
    return tuple({"role": role, "content": content} for role, content in pairs)


@pytest.mark.parametrize("begin", [False, True], ids=["no begin", "begin"])
@pytest.mark.parametrize("name", [*chats.TEMPLATES, "marked", "forgetful"])
def test_ids_and_answers_equal_those_of_transformers(tmp_path, name, begin):
    source = {**chats.TEMPLATES, "marked": chats.MARKED, "forgetful": chats.FORGETFUL}[name]
    folder = chats.write_tokenizer(tmp_path, source, begin=begin, merges=40)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = HuggingFaceTokenizer(folder)
    template = ChatTemplate(find_template(ours.own_files(), None), template_variables(ours), "2026-11-27")
    encoder = DocumentEncoder(ours)
    for messages in map(turns, CONVERSATIONS):
        if name == "forgetful":
            messages = messages[:2]
        expected = theirs.apply_chat_template(list(messages), tokenize=True, return_dict=False)
        (rendered,) = render(Document(messages=messages), template)
        assert rendered.text == theirs.apply_chat_template(list(messages), tokenize=False)
        (marked,) = encoder.encode([rendered])
        taken = int(begin and expected[0] == theirs.bos_token_id)
        assert marked.ids.tolist() == expected[taken:]
        for count in range(1, len(messages) + 1, 2):
            asked = theirs.apply_chat_template(list(messages[:count]), tokenize=False, add_generation_prompt=True)
            assert template.render(messages[:count], add_generation_prompt=True) == asked
        if name == "marked":
            found = theirs.apply_chat_template(
                list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
            mask = np.zeros(len(marked.ids), int)
            for start, end in marked.spans.reshape(-1, 2):
                mask[start:end] = 1
            assert mask.tolist() == found["assistant_masks"]


def test_variables_and_functions_of_templates(tmp_path):
    source = (
        "{{ [bos_token, eos_token] | tojson }}{{ {'é<': none} | tojson(indent=1) }}{{ pad_token is defined }}"
        "{% for x in [1, 2] %}{{ x }}{% break %}{% endfor %}{{ tools is none }}{{ documents is none }}"
    )
    folder = chats.write_tokenizer(tmp_path, source)
    template = ChatTemplate(source, template_variables(HuggingFaceTokenizer(folder)), "2026-11-27")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    messages = turns(CONVERSATIONS[0])
    assert template.render(messages) == theirs.apply_chat_template(list(messages), tokenize=False)
