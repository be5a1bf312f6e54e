"""Text as a quality model sees it: what is recorded at training must be done again at scoring."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from beam_pipelines.text.valid_text import valid_text
from beam_pipelines.text.words import normalised_words
from t5x_style.errors import UserError

_SPACES = re.compile(r"\s+")
_PUNCTUATION = re.compile(r"([.!?,'/()])")
_DIGIT = re.compile(r"\d")
FASTTEXT_SYMBOLS = ("</s>", "__label__")
_LOCK = threading.Lock()
_PIECES: dict[str, Any] = {}  # path -> SentencePiece processor, one per process


def spaces_line(text: str) -> str:
    """The text as one line: every run of Unicode white space is one ASCII space (fastText splits on ASCII only).

    What fastText would take for the end of the line (`</s>`) or for a label (`__label__`) goes.

    Example: "A\\u00a0b\\n\\nc." -> "A b c."
    """
    text = valid_text(text)
    for symbol in FASTTEXT_SYMBOLS:
        if symbol in text:
            text = text.replace(symbol, " ")
    return _SPACES.sub(" ", text).strip()


def fasttext_line(text: str) -> str:
    """`spaces_line`, lower case, with . ! ? , ' / ( ) as words of their own, as fastText's tutorial recommends.

    Source: https://fasttext.cc/docs/en/supervised-tutorial.html, "preprocessing the data".

    Example: "It's (almost) 3.5!" -> "it ' s ( almost ) 3 . 5 !"
    """
    return _SPACES.sub(" ", _PUNCTUATION.sub(r" \1 ", spaces_line(text).lower())).strip()


CLASSIFIER_FORMS: dict[str, Callable[[str], str]] = {"fasttext": fasttext_line, "spaces": spaces_line}


def words_line(line: str) -> str:
    """The line's `normalised_words` with spaces between.

    Example: "It's 3.5 dB." -> "it s 3 5 db"
    """
    return " ".join(normalised_words(line))


def ccnet_line(line: str) -> str:
    """Lower case, no accents, every digit a 0, full-width and compatibility characters as their plain ones.

    After Wenzek et al. 2020 (https://arxiv.org/abs/1911.00359), section 3.1; their table of Unicode punctuation is
    replaced by Unicode's own compatibility mapping (NFKD). Combining marks go, in scripts that need them too.

    Example: "Café，12 °C" -> "cafe,00 °c"
    """
    decomposed = unicodedata.normalize("NFKD", line.lower())
    kept = "".join(character for character in decomposed if unicodedata.category(character) not in ("Mn", "Cc", "Cf"))
    return _DIGIT.sub("0", kept)


LM_FORMS: dict[str, Callable[[str], str]] = {"words": words_line, "ccnet": ccnet_line, "none": str}
# Words with a meaning in ARPA files; in text they are left out, as by lmplz --skip_symbols.
RESERVED = frozenset({"<unk>", "<s>", "</s>"})


@dataclass(frozen=True)
class Sentences:
    """Splits a text into sentences of tokens for a language model: a sentence is a line with at least one token.

    Attributes:
      normalisation: `words`, `ccnet` or `none`; done to each line.
      sentencepiece: path of a SentencePiece model whose pieces are the tokens; '' for words between spaces.

    Raises:
      UserError: an unknown normalisation.
    """

    normalisation: str = "words"
    sentencepiece: str = ""

    def __post_init__(self) -> None:
        if self.normalisation not in LM_FORMS:
            raise UserError(f"normalisation {self.normalisation!r} is none of {', '.join(LM_FORMS)}")

    def split(self, text: str) -> list[list[str]]:
        """Example: Sentences().split("Hello, World.\\n\\nBye!") -> [["hello", "world"], ["bye"]]."""
        form = LM_FORMS[self.normalisation]
        lines = [_SPACES.sub(" ", form(line)).strip() for line in valid_text(text).splitlines()]
        if self.sentencepiece:
            pieces = _processor(self.sentencepiece).encode([line for line in lines if line], out_type=str)
        else:
            pieces = [line.split(" ") for line in lines if line]
        return [kept for line in pieces if (kept := [piece for piece in line if piece not in RESERVED])]


def _processor(path: str) -> Any:
    with _LOCK:
        if path not in _PIECES:
            import sentencepiece

            try:
                _PIECES[path] = sentencepiece.SentencePieceProcessor(model_file=path)
            except (OSError, RuntimeError) as error:
                raise UserError(f"SentencePiece model {path!r} cannot be read ({error})") from error
        return _PIECES[path]
