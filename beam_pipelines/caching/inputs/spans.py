"""Which characters of a conversation, and which tokens, the model is to write: `response_spans`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_pipelines.caching.inputs.chat_templates import ChatTemplate
from beam_pipelines.caching.inputs.columns import ASSISTANT, BrokenRecord, Document
from beam_pipelines.caching.inputs.encoding import Encoded

Spans = list[tuple[int, int]]


class Rendered(NamedTuple):
    """A conversation as text, and the (start, end) characters of what the model is to write."""

    text: str
    spans: Spans


class Marked(NamedTuple):
    """Token ids with their response spans [2k] (start, end, start, end, ...).

    Attributes:
      cut: spans that began within a token. unbegun: the template wrote no BOS, the loader will.
    """

    ids: np.ndarray
    spans: np.ndarray
    cut: int = 0
    unbegun: bool = False


def render(document: Document, template: ChatTemplate, each_turn: bool = False) -> list[Rendered]:
    """A conversation as one text, or as one for every answer.

    An answer is what stands between the rendering of the messages before it with the generation prompt (the prompt at
    inference, the answer's header included) and that of the messages up to it. Both have to be prefixes of the whole.
    Where the template marks answers itself ({% generation %}), its marks are taken and need no prefixes.

    Example, ChatML: <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nYes<|im_end|>\\n has the span of
    "Yes<|im_end|>\\n"; `token_spans` takes the line's end off.

    Args:
      each_turn: every answer is the end of a text of its own, as it is at inference; for templates that render earlier
        turns differently.

    Raises:
      BrokenRecord: the template refuses it, or is not prefix-preserving.
    """
    messages = document.messages
    answers = [i for i, message in enumerate(messages) if message["role"] == ASSISTANT and i >= document.first]
    if each_turn:
        return [_last_answer(template, messages[: index + 1]) for index in answers]
    if template.marks_answers:
        text, spans = template.render_marked(messages)
        speakers = [i for i, message in enumerate(messages) if message["role"] == ASSISTANT]
        if document.first and len(spans) == len(speakers):  # a mark an answer: no rendering of a part is needed
            spans = [span for index, span in zip(speakers, spans) if index >= document.first]
        elif document.first:
            begin = len(_prefix(template, messages, document.first, text, True))
            spans = [span for span in spans if span[0] >= begin]
        return [Rendered(text, spans)]
    text = template.render(messages)
    spans = []
    for index in answers:
        start = len(_prefix(template, messages, index, text, True))
        end = len(_prefix(template, messages, index + 1, text, False))
        spans.append((start, max(start, end)))
    return [Rendered(text, spans)]


def _last_answer(template: ChatTemplate, messages: Sequence[dict]) -> Rendered:
    text = template.render(messages)
    start = len(_prefix(template, messages, len(messages) - 1, text, True, each_turn=True))
    return Rendered(text, [(start, len(text))])


def _prefix(
    template: ChatTemplate, messages: Sequence[dict], count: int, text: str, prompt: bool, each_turn: bool = False
) -> str:
    """The first `count` messages, as they stand at the beginning of the whole."""
    found = template.render(messages[:count], add_generation_prompt=prompt) if count < len(messages) or prompt else text
    if not text.startswith(found):
        same = next((i for i, (one, other) in enumerate(zip(found, text)) if one != other), min(len(found), len(text)))
        header = " with the answer's header" if prompt else ""
        advice = "" if each_turn else "--each_turn (one example an answer), or "
        raise BrokenRecord(
            f"the chat template renders the first {count} messages alone{header} as "
            f"...{found[same : same + 30]!r}, in the whole conversation as ...{text[same : same + 30]!r}: it is not "
            f"prefix-preserving; give {advice}--chat_template FILE with {{% generation %}} around answers"
        )
    return found


def token_spans(encoded: Encoded, rendered: Rendered, special: np.ndarray, begin: int | None) -> Marked:
    """The tokens of a rendered conversation.

    A token belongs to where its first character lies that is not white space: one with the last letters of a header and
    the first of an answer is no answer, " Yes" is one although the header ends with the space. White space behind the
    last control token of an answer (the end-of-turn token) is no answer either.
    The BOS that a template writes is taken off where the loader puts it.

    Args:
      special: sorted ids of control tokens. begin: what the loader puts in front of a text; None: nothing.

    Example: tokens <s> [INST] Hi [/INST] Yes </s> with the span of "Yes</s>" and begin <s> give the ids of
    [INST] Hi [/INST] Yes </s> and the spans [3, 5].
    """
    ids, ends = encoded.ids, encoded.ends
    flat: list[int] = []
    cut = 0
    for start, end in rendered.spans:
        first, cuts_first = _boundary(encoded, rendered.text, start)
        last, _ = _boundary(encoded, rendered.text, end)
        cut += cuts_first
        control = np.flatnonzero(np.isin(ids[first:last], special))
        if control.size:
            behind = first + int(control[-1]) + 1
            if not rendered.text[int(ends[behind - 1]) : end].strip():
                last = behind
        if first < last:
            flat += [first, last]
    spans = np.array(flat, np.int64)
    if begin is None or not ids.size:
        return Marked(ids, spans, cut)
    if ids[0] != begin:
        return Marked(ids, spans, cut, unbegun=True)
    return Marked(ids[1:], np.maximum(spans - 1, 0), cut)


def _behind(encoded: Encoded, place: int) -> tuple[int, bool]:
    """The first token that begins at or behind a character, and whether the one before it reaches over it."""
    first = int(np.searchsorted(encoded.starts, place, "left"))
    return first, first > 0 and int(encoded.ends[first - 1]) > place


def _boundary(encoded: Encoded, text: str, place: int) -> tuple[int, bool]:
    """`_behind`, with the token before where it has nothing but white space in front of the character."""
    first, cut = _behind(encoded, place)
    return first - (cut and text[int(encoded.starts[first - 1]) : place].isspace()), cut


def pair_tokens(encoded: Encoded, boundary: int, parts: tuple[Sequence[int], Sequence[int]]) -> Marked:
    """A prompt and its completion without a template.

    Args:
      encoded: of both in one. boundary: characters of the prompt. parts: the ids of both, each encoded alone; taken
        where a token of the whole reaches over the boundary, so that the prompt ends as it does at inference.

    Example: "2+2=" and "4" as tokens 2 + 2 = 4 give the spans [4, 5].
    """
    first, cut = _behind(encoded, boundary)
    if cut:
        ids = np.array([*parts[0], *parts[1]], np.int32)
        return Marked(ids, np.array([len(parts[0]), len(ids)], np.int64), 1)
    return Marked(encoded.ids, np.array([first, len(encoded.ids)], np.int64))
