"""A BertWordPieceVocabulary as the cache keeps it: vocab.txt, and the tokenizer.json that gives the same ids."""

from __future__ import annotations

import json
from typing import Any

import seqio

from beam_pipelines.caching.sentencepiece_files import read_file
from t5x_style.data.vocabulary_facts import VocabularyFacts, facts_of_pieces

PIPELINE = "tokenizer.json"
ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def pieces_of(vocabulary: seqio.BertWordPieceVocabulary) -> list[str]:
    """The piece of every id: the lines of vocab.txt."""
    text = read_file(vocabulary._vocab_lookup_table).decode("utf-8")
    lines = text.split("\n")
    return [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def size_of(vocabulary: seqio.BertWordPieceVocabulary) -> int:
    """Number of pieces: seqio's own size counts a bucket for unknown words, which [UNK] stands for in the ids."""
    pieces = pieces_of(vocabulary)
    return len(pieces) if vocabulary._unknown_token in pieces else int(vocabulary.vocab_size)


def definition(vocabulary: seqio.BertWordPieceVocabulary) -> dict[str, Any]:
    """Its pieces and all of its options."""
    options = {
        name: value if isinstance(value, (str, int, bool, type(None))) else repr(value)
        for name, value in sorted(vars(vocabulary).items())
        if name not in ("_tokenizer", "_vocab", "_wp_model", "_vocab_lookup_table", "_unk_id")
    }
    return {"pieces": pieces_of(vocabulary), **options}


def facts_and_files(vocabulary: seqio.BertWordPieceVocabulary) -> tuple[VocabularyFacts, dict[str, bytes]]:
    """Special pieces by their usual names and by seqio's ids, a class for every id, and the tokenizer's files."""
    pieces = pieces_of(vocabulary)
    found = {piece: token for token, piece in enumerate(pieces)}
    roles = {role: found[name] for role, name in ROLES.items() if name in found}
    given = {"pad": vocabulary.pad_id, "unk": vocabulary.unk_id, "eos": vocabulary.eos_id, "bos": vocabulary.sos_id}
    roles |= {role: int(token) for role, token in given.items() if token is not None and 0 <= token < len(pieces)}
    if "cls" in roles:
        roles["begin"] = roles["cls"]
    special = {pieces[token]: token for token in roles.values()}
    pieces += [""] * (size_of(vocabulary) - len(pieces))
    return facts_of_pieces(pieces, special, roles), own_files(vocabulary)


def own_files(vocabulary: seqio.BertWordPieceVocabulary) -> dict[str, bytes]:
    """tokenizer.json, vocab.txt and tokenizer_config.json; {} where options of seqio's have no counterpart in them."""
    pieces = pieces_of(vocabulary)
    found = {piece: token for token, piece in enumerate(pieces)}
    special = {role: name for role, name in ROLES.items() if name in found}
    plain = not (
        vocabulary._split_unknown_characters
        or vocabulary._keep_whitespace
        or vocabulary._normalization_form
        or vocabulary._preserve_unused_token
    )
    if not plain or vocabulary._unknown_token not in found or len(found) != len(pieces):
        return {}
    named = {"unk": vocabulary._unknown_token}
    for role, token in (
        ("pad", vocabulary.pad_id),
        ("eos", vocabulary.eos_id),
        ("bos", vocabulary.sos_id),
    ):
        if token is not None and 0 <= token < len(pieces):
            named[role] = pieces[token]
    special |= named
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": bool(vocabulary._lower_case),
        "tokenize_chinese_chars": True,
        "strip_accents": None,
        **{f"{role}_token": name for role, name in sorted(special.items())},
    }
    return {
        PIPELINE: _json(_pipeline(vocabulary, found, special)),
        "vocab.txt": read_file(vocabulary._vocab_lookup_table),
        "tokenizer_config.json": _json(config),
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _pipeline(
    vocabulary: seqio.BertWordPieceVocabulary, found: dict[str, int], special: dict[str, str]
) -> dict[str, Any]:
    """The tokenizers library's file, written by hand so that equal vocabularies give equal bytes in every version."""
    tokens = sorted({found[name]: name for name in special.values()}.items())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    around = "cls" in special and "sep" in special
    before, behind = ([{"SpecialToken": {"id": role, "type_id": 0}}] if around else [] for role in ("cls", "sep"))
    last = [{"SpecialToken": {"id": "sep", "type_id": 1}}] if around else []
    single = [*before, {"Sequence": {"id": "A", "type_id": 0}}, *behind]
    # All roles stand here, those that no template uses too: another EOS is another vocabulary.
    roles = {role: {"id": role, "ids": [found[name]], "tokens": [name]} for role, name in sorted(special.items())}
    processor = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}, *last],
        "special_tokens": roles,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token, "content": name, **flags} for token, name in tokens],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": bool(vocabulary._lower_case),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": processor,
        "decoder": {"type": "WordPiece", "prefix": vocabulary._suffix_indicator, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": vocabulary._unknown_token,
            "continuing_subword_prefix": vocabulary._suffix_indicator,
            "max_input_chars_per_word": vocabulary._max_bytes_per_word,
            "vocab": found,
        },
    }
