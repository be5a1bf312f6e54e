"""Chat templates: a tokenizer's own Jinja, run in a sandbox with what transformers gives templates."""

from __future__ import annotations

import datetime
import functools
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.caching.inputs.columns import BrokenRecord
from beam_pipelines.files import storage
from t5x_style.data.vocabulary import Tokenizer
from t5x_style.errors import UserError

NONE = "none"
_JINJA, _JSON, _CONFIG = "chat_template.jinja", "chat_template.json", "tokenizer_config.json"
# Noncharacters: no text has a use for them. They stand where a {% generation %} block begins and ends.
_BEGIN, _END = "\ufdd0", "\ufdd1"


def find_template(own_files: Mapping[str, bytes], given: str | None) -> str | None:
    """The source of the template; None where there is none.

    Args:
      own_files: the tokenizer's, by name.
      given: as on the command line: None: the tokenizer's own, "none", a file, or the name of one of its templates.

    Raises:
      UserError: no such file, or the tokenizer has several and none is called "default".
    """
    if given == NONE:
        return None
    own = _own_templates(own_files)
    if given is not None and given not in own:
        if not storage.exists(given):
            names = f"; the tokenizer's own are {', '.join(own)}" if own else ""
            raise UserError(f"--chat_template {given}: no such file{names}; give a Jinja file, or none")
        with storage.open_read(given) as file:
            content = file.read()
        return _own_templates({posixpath.basename(given): content}).get("default") or _decoded(given, content)
    if not own or given is not None:
        return own.get(given or "")
    if "default" not in own:
        raise UserError(
            f"the tokenizer has the chat templates {', '.join(own)} and no default; give --chat_template NAME"
        )
    return own["default"]


def _own_templates(own_files: Mapping[str, bytes]) -> dict[str, str]:
    """Templates by name, one without a name as "default": the first of the three files that has any."""
    if _JINJA in own_files:
        return {"default": _decoded(_JINJA, own_files[_JINJA])}
    for name in (_JSON, _CONFIG):
        if name in own_files:
            try:
                found = json.loads(own_files[name]).get("chat_template")
                if found:
                    return {"default": found} if isinstance(found, str) else {x["name"]: x["template"] for x in found}
            except (ValueError, AttributeError, TypeError, KeyError) as error:
                raise UserError(f"{name}: its chat_template cannot be read ({_one_line(error)}); mend it") from error
    return {}


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: a chat template is UTF-8 text, this is none ({error}); mend it") from error


def template_variables(tokenizer: Tokenizer) -> dict[str, str]:
    """What templates call bos_token, eos_token, ...: the texts of the special ids that there are.

    Example: {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    """
    roles = tokenizer.facts().roles
    roles = {role: token for role, token in roles.items() if role != "begin"}
    found = {f"{role}_token": tokenizer.piece(token) for role, token in roles.items()}
    config = tokenizer.own_files().get(_CONFIG)
    extra = json.loads(config).get("extra_special_tokens") if config else None
    if isinstance(extra, dict):  # named ones, such as {"image_token": "<image>"}
        found |= {name: token["content"] if isinstance(token, dict) else token for name, token in extra.items()}
    return found


class TemplateFailedError(BrokenRecord):
    """The template's program fails, other than by its own raise_exception.

    Attributes:
      cause: "UndefinedError: 'dict object' has no attribute 'nokey'".
    """

    def __init__(self, error: Exception):
        """Says so of a record."""
        self.cause = f"{type(error).__name__}: {_one_line(error)}"
        super().__init__(f"the chat template fails on it ({self.cause})")


class ChatTemplate:
    """A compiled template.

    Attributes:
      marks_answers: it has {% generation %} blocks, which say what the model writes.
    """

    def __init__(self, source: str, variables: Mapping[str, str], date: str):
        """Compiles.

        Args:
          source: Jinja.
          variables: see `template_variables`.
          date: "2026-11-27", what strftime_now takes for today.

        Raises:
          UserError: it is no Jinja.
        """
        import jinja2

        self._variables, self._source = dict(variables), source
        try:
            self._template = _environment(date).from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"the chat template is no Jinja: line {error.lineno}: {error.message}; mend it") from error
        self.marks_answers = "endgeneration" in source

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False) -> str:
        """The text of a conversation; with add_generation_prompt the header of the next answer stands behind it.

        Raises:
          BrokenRecord: the template refuses the conversation or fails on it.
        """
        return self._render(messages, add_generation_prompt).replace(_BEGIN, "").replace(_END, "")

    def render_marked(self, messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[tuple[int, int]]]:
        """`render`, and the (start, end) characters of every generation block.

        Example: "Q{% generation %}ab{% endgeneration %}" gives ("Qab", [(1, 3)]).
        """
        text, spans, start = "", [], 0
        for part in self._render(messages, False).split(_BEGIN):
            inside, end, outside = part.partition(_END)
            if end:
                spans.append((start, start + len(inside)))
            text += inside + outside
            start = len(text)
        return text, spans

    def _render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> str:
        import jinja2

        variables = {
            **self._variables,
            "messages": [dict(message) for message in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        if self.marks_answers and any(mark in json.dumps(variables, ensure_ascii=False) for mark in (_BEGIN, _END)):
            raise BrokenRecord("a message holds the noncharacter U+FDD0 or U+FDD1; take it out")
        try:
            text = self._template.render(variables)
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BrokenRecord("a message holds half of a surrogate pair") from error
        except Exception as error:  # a template is a program: it can raise anything
            if type(error) is jinja2.TemplateError:  # of raise_exception; Jinja's own are subclasses
                raise BrokenRecord(f"the chat template refuses it: {_one_line(error)}") from error
            raise TemplateFailedError(error) from error
        return text


def _environment(date: str) -> Any:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    day = datetime.datetime.combine(datetime.date.fromisoformat(date), datetime.time())
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_extension()]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = day.strftime
    return environment


@functools.cache
def _generation_extension() -> Any:
    """{% generation %}...{% endgeneration %}: what is in between, with a mark on both sides."""
    import jinja2
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

        def _marked(self, caller: Any) -> str:
            return f"{_BEGIN}{caller()}{_END}"

    return Generation


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own escapes what HTML would take for tags."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
