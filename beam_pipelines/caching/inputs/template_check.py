"""Whether a chat template fails whatever it is given: then no record is to blame."""

from __future__ import annotations

from collections.abc import Sequence

from beam_pipelines.caching.inputs import reading
from beam_pipelines.caching.inputs.chat_templates import ChatTemplate, TemplateFailedError
from beam_pipelines.caching.inputs.columns import ASSISTANT, BrokenRecord, Columns, Document, document_of
from beam_pipelines.caching.inputs.reading import Piece
from beam_pipelines.caching.inputs.spans import render
from t5x_style.errors import UserError

_SIMPLE = Document(messages=({"role": "user", "content": "a"}, {"role": ASSISTANT, "content": "b"}))


def check_template(
    template: ChatTemplate, named: str | None, cut: Sequence[Sequence[Piece]], columns: Columns, each_turn: bool
) -> None:
    """Refuses a template that fails both on the simplest conversation there is and on the first record.

    What it refuses by raise_exception is no failure: the conversation is the odd one then.

    Args:
      named: as on the command line; None: the tokenizer's own.

    Raises:
      UserError: one line with how the template fails.
    """
    failure = _failure(template, _SIMPLE, each_turn)
    if failure is None:
        return
    first = _first(cut, columns)
    if first is None or _failure(template, first, each_turn) is None:
        return
    name = "the tokenizer's chat template" if named is None else f"--chat_template {named}: the chat template"
    raise UserError(
        f'{name} fails on the first record and on any other, such as a user\'s "a" and an assistant\'s "b" '
        f"({failure.cause}); mend the template, or give another with --chat_template FILE"
    )


def _failure(template: ChatTemplate, document: Document, each_turn: bool) -> TemplateFailedError | None:
    try:
        render(document, template, each_turn)
    except TemplateFailedError as error:
        return error
    except BrokenRecord:
        return None
    return None


def _first(cut: Sequence[Sequence[Piece]], columns: Columns) -> Document | None:
    """The first conversation that can be read."""
    for piece in (piece for pieces in cut for piece in pieces):
        for record in reading.read(piece, columns.names):
            if record.value and not record.fault:
                try:
                    document = document_of(record.value, columns, template=True)
                except BrokenRecord:
                    continue
                if document.messages:
                    return document
    return None
