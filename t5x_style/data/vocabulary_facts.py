"""What a cache knows of a vocabulary beyond its size, so that loading needs no tokenizer.

    DIR/vocabularies/<fingerprint>/vocabulary.json    special (text -> id), roles (role -> id)
    DIR/vocabularies/<fingerprint>/classes            one byte an id, see CLASSES
    DIR/vocabularies/<fingerprint>/tokenizer/         the tokenizer's own files, as a run copies them into MODEL_DIR

Worked example, the pieces <pad> </s> <unk> ▁a b . ▁what? of a SentencePiece model:

    classes    4  4  0  1  0 10 11
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from t5x_style import files
from t5x_style.errors import UserError

FOLDER = "vocabularies"
FACTS_FILE, CLASSES_FILE, TOKENIZER_FOLDER = "vocabulary.json", "classes", "tokenizer"
# Bits of a class byte. A word starts where a space stands in front (WordPiece: where no ## does); a sentence ends
# behind a full stop, question or exclamation mark or a line break, a clause also behind : and ; (Chinese forms too).
STARTS_WORD, ENDS_SENTENCE, SPECIAL, ENDS_CLAUSE = 1, 2, 4, 8
# "begin" is what the tokenizer itself puts in front of a text (BOS of LLaMA's); absent where it puts nothing (Qwen's).
ROLES = ("pad", "eos", "bos", "unk", "mask", "cls", "sep", "begin")
_SPACES = ("▁", "Ġ", "Ċ", " ", "\n")  # how SentencePiece and byte-level BPE write them
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "…", "\n", "Ċ")
_CLAUSE_ENDS = (":", ";", "：", "；")


@dataclasses.dataclass(frozen=True)
class VocabularyFacts:
    """See the module.

    Attributes:
      special: text -> id of every control, user-defined and added token, seqio's extra ids as `<extra_id_0>`, ...
      roles: role (see ROLES) -> id. classes: [size] uint8; None: not known.
    """

    special: Mapping[str, int] = dataclasses.field(default_factory=dict)
    roles: Mapping[str, int] = dataclasses.field(default_factory=dict)
    classes: np.ndarray | None = None


def facts_of_pieces(
    pieces: Sequence[str],
    special: Mapping[str, int],
    roles: Mapping[str, int],
    control: Collection[int] | None = None,
) -> VocabularyFacts:
    """The facts of a vocabulary whose pieces are known.

    Args:
      pieces: the piece of every id, "" where there is none; a continuation is told by "##" in front (WordPiece), a word
        by a space or its sign in front (SentencePiece, byte-level BPE).
      special, roles: as in VocabularyFacts.
      control: ids that are no text, whose class is "special"; None: all of `special`. Those of roles are, but for the
        unknown piece, which stands for text (BERT masks it too).
    """
    wordpiece = any(piece.startswith("##") for piece in pieces) and not any(piece.startswith("▁") for piece in pieces)
    classes = np.zeros(len(pieces), np.uint8)
    for token, piece in enumerate(pieces):
        starts = not piece.startswith("##") if wordpiece else piece.startswith(_SPACES)
        stripped = piece.strip(" ") or piece
        classes[token] = (
            STARTS_WORD * (starts and bool(piece))
            | ENDS_SENTENCE * stripped.endswith(_SENTENCE_ENDS)
            | ENDS_CLAUSE * stripped.endswith(_SENTENCE_ENDS + _CLAUSE_ENDS)
        )
    unknown = roles.get("unk")
    no_text = {*(special.values() if control is None else control), *roles.values()} - {unknown}
    for token in no_text:
        classes[token] = SPECIAL
    return VocabularyFacts(dict(special), dict(roles), classes)


def folder_of(cache_dir: str | os.PathLike, fingerprint: str) -> str:
    """Where a vocabulary's facts lie in a cache."""
    return files.join(cache_dir, FOLDER, fingerprint)


def tokenizer_folder(cache_dir: str | os.PathLike, fingerprint: str) -> str | None:
    """The folder of the tokenizer's own files in a cache; None where it holds none (an older cache, ids of no text)."""
    folder = files.join(folder_of(cache_dir, fingerprint), TOKENIZER_FOLDER)
    return folder if files.list_names(folder) else None


def write_facts(
    cache_dir: str | os.PathLike,
    fingerprint: str,
    facts: VocabularyFacts,
    tokenizer: Mapping[str, bytes] | None = None,
) -> None:
    """Writes a vocabulary's folder in a local cache; one that is there already is left as it is.

    Args:
      tokenizer: the tokenizer's files by name.
    """
    folder = Path(files.require_local(folder_of(cache_dir, fingerprint), "the cache"))
    if (folder / FACTS_FILE).exists():
        return
    for name, content in (tokenizer or {}).items():
        files.atomic_write_bytes(folder / TOKENIZER_FOLDER / name, content)
    if facts.classes is not None:
        files.atomic_write_bytes(folder / CLASSES_FILE, np.asarray(facts.classes, np.uint8).tobytes())
    files.atomic_write_json(folder / FACTS_FILE, {"special": dict(facts.special), "roles": dict(facts.roles)})


def read_facts(cache_dir: str | os.PathLike, fingerprint: str) -> VocabularyFacts:
    """The facts of a vocabulary; empty where the cache holds none.

    Raises:
      UserError: its files are broken.
    """
    folder = folder_of(cache_dir, fingerprint)
    path = files.join(folder, FACTS_FILE)
    if not files.is_file(path):
        return VocabularyFacts()
    value = files.read_json(path)
    classes = files.join(folder, CLASSES_FILE)
    try:
        special = {str(text): int(token) for text, token in value["special"].items()}
        roles = {str(role): int(token) for role, token in value["roles"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: malformed ({type(error).__name__}: {error}); delete {folder} and cache again"
        ) from error
    known = np.frombuffer(files.read_bytes(classes), np.uint8) if files.is_file(classes) else None
    return VocabularyFacts(special, roles, known)
