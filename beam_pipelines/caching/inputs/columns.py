"""What a record's columns mean: a text, a prompt with its completion, or a conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

TEXT, PAIR, CHAT = "text", "prompt+completion", "messages"
_SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
ASSISTANT = "assistant"
KNOWN_ROLES = frozenset({"system", "developer", "user", ASSISTANT, "tool", "function", "ipython"})


class BrokenRecord(Exception):
    """What is wrong with one record, without its place."""


class Columns(NamedTuple):
    """form: TEXT, PAIR or CHAT. names: the columns that are read."""

    form: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "+".join(self.names)


class Document(NamedTuple):
    """What becomes an example, without its tokens.

    Attributes:
      text: of a plain document. pair: prompt and completion that no template renders.
      messages: of a conversation, {"role", "content", ...} each. first: what is answered before this message is given,
        not learnt.
    """

    text: str | None = None
    pair: tuple[str, str] | None = None
    messages: tuple[dict[str, Any], ...] = ()
    first: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tokenise."""
        return not (self.text or any(self.pair or ()) or self.messages)

    @property
    def hollow(self) -> bool:
        """Whether it has answers to learn, none of which holds anything."""
        if self.pair is not None:
            return not self.pair[1].strip()
        answers = [message for message in self.messages[self.first :] if message["role"] == ASSISTANT]
        # What else a message says, such as calls of tools, is rendered too.
        return bool(answers) and not any(message["content"].strip() or len(message) > 2 for message in answers)

    def content(self) -> str:
        """The same string for equal documents, wherever they stand."""
        return self.text if self.text is not None else json.dumps([self.pair, self.messages, self.first])

    def size(self) -> int:
        """Characters, about."""
        parts = self.pair or [str(message.get("content")) for message in self.messages]
        return len(self.text) if self.text is not None else sum(map(len, parts))


def choose_columns(record: Mapping[str, Any] | str, feature: str | None) -> Columns:
    """Which columns are read.

    Args:
      record: the first one that is not blank.
      feature: as given: a column with texts or conversations, or "prompt+completion"; None: what the record has.

    Raises:
      BrokenRecord: it has none of them, or something else in them.
    """
    if isinstance(record, str):
        if feature not in (None, "text"):
            raise BrokenRecord(f"--feature {feature}: a text file has no columns; leave the option out")
        return Columns(TEXT, ("text",))
    has = ", ".join(map(str, record)) or "none"
    if feature is None:
        pair = "prompt+completion" if {"prompt", "completion"} <= record.keys() else ""
        found = [name for name in ("text", pair, "messages", "conversations") if name in record or name == pair != ""]
        if not found:
            raise BrokenRecord(
                f"no column text, messages, conversations, or prompt and completion; it has {has}: give --feature NAME"
            )
        feature = found[0]
    if feature == "prompt+completion":
        names: tuple[str, ...] = ("prompt", "completion")
    else:
        names = (feature,)
    if missing := [name for name in names if name not in record]:
        raise BrokenRecord(f"no column {missing[0]!r} (--feature {feature}); it has {has}")
    if len(names) == 2:
        return Columns(PAIR, names)
    if not isinstance(record[feature], (str, Sequence)) or isinstance(record[feature], bytes):
        raise BrokenRecord(
            f"column {feature!r} is {_kind(record[feature])} where a text or a list of messages is needed"
        )
    return Columns(TEXT if isinstance(record[feature], str) else CHAT, names)


def document_of(record: Mapping[str, Any] | str, columns: Columns, template: bool) -> Document:
    """The document of a record.

    Args:
      template: whether a chat template renders prompts and completions.

    Example: {"prompt": "2+2=", "completion": "4"} gives pair ("2+2=", "4"), and with a template the messages
    {"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"} with first 1.

    Raises:
      BrokenRecord: a column is missing or holds something else.
    """
    if isinstance(record, str):
        if columns.form != TEXT:
            raise BrokenRecord(f"a text where the columns {columns} are read; give text files a cache of their own")
        return Document(text=record)
    for name in columns.names:
        if name not in record:
            raise BrokenRecord(f"no column {name!r}; it has {', '.join(map(str, record)) or 'none'}")
    if columns.form == TEXT:
        return Document(text=_string(record[columns.names[0]], f"column {columns.names[0]!r}"))
    if columns.form == CHAT:
        return _chat((), _messages(record[columns.names[0]], columns.names[0]), template)
    prompt, completion = (record[name] for name in columns.names)
    for name, value in zip(columns.names, (prompt, completion)):
        if not isinstance(value, (str, Sequence)) or isinstance(value, bytes):
            raise BrokenRecord(f"column {name!r} is {_kind(value)} where a text or a list of messages is needed")
    if isinstance(prompt, str) and isinstance(completion, str):
        pair = (_string(prompt, "the prompt"), _string(completion, "the completion"))
        if not template or not any(pair):
            return Document(pair=pair)
        turns = tuple({"role": role, "content": text} for role, text in zip(("user", ASSISTANT), pair))
        return Document(messages=turns, first=1)
    if isinstance(prompt, str) or isinstance(completion, str):
        raise BrokenRecord(
            f"prompt and completion are {_kind(prompt)} and {_kind(completion)}; both have to be texts, or lists of "
            "messages"
        )
    return _chat(_messages(prompt, "prompt"), _messages(completion, "completion"), template)


def _chat(prompt: tuple[dict[str, Any], ...], answer: tuple[dict[str, Any], ...], template: bool) -> Document:
    if not template:
        raise BrokenRecord(
            "messages need a chat template and the tokenizer has none; give --chat_template FILE (Jinja)"
        )
    return Document(messages=prompt + answer, first=len(prompt))


def _string(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise BrokenRecord(f"{place} is {_kind(value)} where a text is needed")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BrokenRecord(f"{place} holds half of a surrogate pair (character {error.start})") from error
    return value


def _messages(value: Any, name: str) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BrokenRecord(f"column {name!r} is {_kind(value)} where a list of messages is needed")
    return tuple(_message(message, f"message {number} of {name!r}") for number, message in enumerate(value))


def _message(message: Any, place: str) -> dict[str, Any]:
    """{"role", "content"} and whatever else it says; ShareGPT's from and value are mapped to them.

    Example: {"from": "gpt", "value": "Yes."} -> {"role": "assistant", "content": "Yes."}
    """
    if not isinstance(message, Mapping):
        raise BrokenRecord(f"{place} is {_kind(message)} where an object with role and content is needed")
    # Parquet gives every message all the fields that any message has.
    fields = {key: value for key, value in message.items() if value is not None}
    if "role" not in fields and "from" in fields:
        speaker = fields.pop("from")
        if speaker not in _SHAREGPT:
            raise BrokenRecord(f"{place} is from {speaker!r}; known are {', '.join(_SHAREGPT)}")
        fields |= {"role": _SHAREGPT[speaker], "content": fields.pop("value", None)}
    if not isinstance(fields.get("role"), str):
        raise BrokenRecord(f"{place} has no role; it has {', '.join(map(str, fields)) or 'nothing'}")
    if "content" not in fields and "content" not in message and "value" not in message:
        raise BrokenRecord(f"{place} has no content; it has {', '.join(map(str, fields))}")
    content = fields.get("content")
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        content = "".join(part["text"] for part in content)
    return {**fields, "content": _string(content, f"the content of {place}")}


def _is_text_part(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        int: "a number",
        float: "a number",
        bool: "true or false",
        str: "a text",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)
