"""What columns become: texts, pairs, conversations, and one line for what is none of them."""

import pytest

from beam_pipelines.caching.inputs.columns import CHAT, PAIR, TEXT, BrokenRecord, Columns, choose_columns, document_of
from beam_pipelines.caching.inputs.splitting import choose_threshold, place_of

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
PROMPTS = Columns(PAIR, ("prompt", "completion"))


@pytest.mark.parametrize(
    ("record", "feature", "expected"),
    [
        ({"id": 1, "text": "a", "messages": []}, None, Columns(TEXT, ("text",))),
        ({"completion": "a", "prompt": "b"}, None, PROMPTS),
        ({"messages": TURNS}, None, Columns(CHAT, ("messages",))),
        ({"conversations": []}, None, Columns(CHAT, ("conversations",))),
        ({"text": "a", "body": "b"}, "body", Columns(TEXT, ("body",))),
        ({"chat": TURNS}, "chat", Columns(CHAT, ("chat",))),
        ("a line", None, Columns(TEXT, ("text",))),
    ],
    ids=["text", "pair", "messages", "conversations", "named", "named chat", "line"],
)
def test_the_first_record_chooses(record, feature, expected):
    assert choose_columns(record, feature) == expected


@pytest.mark.parametrize(
    ("record", "feature", "message"),
    [
        ({"prompt": "a", "answer": "b"}, None, "it has prompt, answer: give --feature NAME"),
        ({"text": "a"}, "body", "no column 'body' .* it has text"),
        ("a line", "body", "a text file has no columns"),
        ({"text": None}, None, "column 'text' is null where a text or a list of messages is needed"),
        ({"n": 7, "text": "a"}, "n", "column 'n' is a number where a text"),
        ({"text": b"a"}, None, "column 'text' is bytes where a text"),
    ],
    ids=["none", "missing", "line", "null", "number", "bytes"],
)
def test_columns_that_are_not_there(record, feature, message):
    with pytest.raises(BrokenRecord, match=message):
        choose_columns(record, feature)


def test_prompts_become_turns_where_there_is_a_template():
    record = {"prompt": "Hi", "completion": "Yes"}
    assert document_of(record, PROMPTS, template=False).pair == ("Hi", "Yes")
    rendered = document_of(record, PROMPTS, template=True)
    assert (list(rendered.messages), rendered.first) == (TURNS, 1)
    lists = document_of({"prompt": TURNS[:1], "completion": TURNS[1:]}, PROMPTS, template=True)
    assert lists == rendered


def test_sharegpt_and_what_parquet_adds():
    spoken = [{"from": "system", "value": "Be."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]
    found = document_of({"c": spoken}, Columns(CHAT, ("c",)), True).messages
    assert list(found) == [{"role": "system", "content": "Be."}, *TURNS]
    parts = {"role": "user", "name": None, "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}
    assert document_of({"c": [parts]}, Columns(CHAT, ("c",)), True).messages == (TURNS[0],)


@pytest.mark.parametrize(
    ("record", "columns", "message"),
    [
        ({"text": 3}, Columns(TEXT, ("text",)), "column 'text' is a number where a text is needed"),
        ({"text": None}, Columns(TEXT, ("text",)), "column 'text' is null where a text is needed"),
        ({"text": "\ud83d"}, Columns(TEXT, ("text",)), "half of a surrogate pair"),
        ({"body": "a"}, Columns(TEXT, ("text",)), "no column 'text'; it has body"),
        ("line", PROMPTS, "a text where the columns prompt\\+completion are read"),
        ({"prompt": "a", "completion": TURNS}, PROMPTS, "are a text and a list"),
        ({"c": "Hi"}, Columns(CHAT, ("c",)), "a text where a list of messages"),
        ({"c": ["Hi"]}, Columns(CHAT, ("c",)), "message 0 of 'c' is a text"),
        ({"c": [{"content": "Hi"}]}, Columns(CHAT, ("c",)), "message 0 of 'c' has no role; it has content"),
        ({"c": [*TURNS, {"role": "user"}]}, Columns(CHAT, ("c",)), "message 2 of 'c' has no content; it has role"),
        ({"c": [{"role": "user", "content": None}]}, Columns(CHAT, ("c",)), "content of message 0 of 'c' is null"),
        ({"c": [{"from": "gpt", "value": None}]}, Columns(CHAT, ("c",)), "content of message 0 of 'c' is null"),
        ({"prompt": "q", "completion": None}, PROMPTS, "column 'completion' is null where a text or a list of"),
        ({"prompt": 4, "completion": 5.0}, PROMPTS, "column 'prompt' is a number where a text or a list of messages"),
        ({"prompt": "q"}, PROMPTS, "no column 'completion'; it has prompt"),
        ({"c": [{"from": "tool", "value": "x"}]}, Columns(CHAT, ("c",)), "is from 'tool'"),
    ],
    ids=[
        "number",
        "null",
        "surrogate",
        "missing",
        "line",
        "mixed",
        "string",
        "strings",
        "role",
        "content",
        "null content",
        "null value",
        "null completion",
        "numbers",
        "no completion",
        "tool",
    ],
)
def test_broken_records(record, columns, message):
    with pytest.raises(BrokenRecord, match=message):
        document_of(record, columns, template=True)


def test_messages_need_a_template():
    with pytest.raises(BrokenRecord, match="give --chat_template FILE"):
        document_of({"messages": TURNS}, Columns(CHAT, ("messages",)), template=False)


def test_the_threshold_leaves_no_side_empty():
    texts = [str(number) for number in range(40)]
    assert choose_threshold(texts, 0.25) == 0.25
    low, high = sorted(["a", "b"], key=place_of)
    for fraction, expected in ((0.001, [True, False]), (0.999, [True, False])):
        threshold = choose_threshold(["a", "b", "a"], fraction)
        assert [place_of(text) < threshold for text in (low, high)] == expected
    assert choose_threshold(["a", "a"], 0.5) == 0.0
    assert choose_threshold(texts, 0.0) == 0.0


def test_the_threshold_looks_no_further_than_it_must():
    def endless():
        number = 0
        while True:
            yield str(number)
            number += 1

    assert choose_threshold(endless(), 0.05) == 0.05
    assert choose_threshold(("same" for _ in range(10**9)), 0.5) == 0.5
