"""A tokenizer's files: which they are, carried unchanged from folder to folder, and written for a SentencePiece model.

What `write` makes, AutoTokenizer opens: tokenizer.json (the pipeline), tokenizer_config.json (special tokens) and
tokenizer.model (the SentencePiece model itself, for tools that read it).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t5x_style import files
from t5x_style.data.vocabulary import Tokenizer, Vocabulary
from t5x_style.errors import UserError
from t5x_style.huggingface.tokenizers import sentencepiece_models, tokenizers

NATIVE = "sentencepiece.model"
TOKENIZER = "tokenizer"  # its folder in a MODEL_DIR


def files_in(folder: str | Path) -> list[str]:
    """The tokenizer's files of a Hugging Face folder or its URL, in a fixed order; [] where there are none."""
    found = files.file_sizes(folder)
    return [files.join(folder, name) for name in tokenizers.NAMES if name in found]


def copy(source: str | Path, target: str | Path) -> list[Path]:
    """Copies a tokenizer's files as they are; returns the copies."""
    Path(target).mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(path, Path(target) / Path(path).name)) for path in files_in(source)]


def has_tokenizer(folder: str | Path) -> bool:
    """Whether `open_tokenizer` finds one directly in a folder or its URL."""
    names = set(files.file_sizes(folder))
    return NATIVE in names or bool(tokenizers.vocabulary_names(names))


def open_tokenizer(path: str | Path, settings: Mapping[str, Any] | None = None) -> Tokenizer:
    """The tokenizer of a folder or a file, as every command names one.

    Args:
      path: a folder with our sentencepiece.model (MODEL_DIR/tokenizer), else with a Hugging Face tokenizer; a MODEL_DIR
        itself; a SentencePiece model file; a tokenizer.json, with what stands beside it. Local or a URL.
      settings: the model's config.json, where there is one and it does not stand in the folder.

    Raises:
      UserError: there is none, or its files are broken.
    """
    where = files.path_of(path)
    if files.is_file(where):
        if files.name(where) != tokenizers.PIPELINE:
            return Vocabulary(where)
        where = files.parent(where)
    elif not files.is_dir(where):
        raise UserError(
            f"tokenizer {where!r} does not exist; give a SentencePiece model, or a folder with tokenizer.json or "
            "another Hugging Face tokenizer"
        )
    if files.is_file(files.join(where, NATIVE)):
        return Vocabulary(files.join(where, NATIVE))
    folder = _local(where)
    if not tokenizers.vocabulary_files(folder) and files.is_dir(files.join(where, TOKENIZER)):
        return open_tokenizer(files.join(where, TOKENIZER), settings)
    if settings is None and (folder / "config.json").is_file():
        settings = files.read_json(folder / "config.json")
    return tokenizers.HuggingFaceTokenizer(folder, settings)


def _local(folder: str) -> Path:
    """The folder where it is local, else one with copies of what belongs to the tokenizer, not of the weights."""
    if not files.is_remote(folder):
        return Path(folder)
    target = files.staging_folder("tokenizer")
    for path in [*files_in(folder), files.join(folder, "config.json")]:
        if files.is_file(path):
            (target / files.name(path)).write_bytes(files.read_bytes(path))
    return target


def check_size(tokenizer: Tokenizer, vocab_size: int, source: str | Path) -> None:
    """A tokenizer may have fewer ids than the model's table has rows, never more.

    Raises:
      UserError: it has more.
    """
    if tokenizer.size > vocab_size:
        raise UserError(
            f"{source}: the tokenizer has {tokenizer.size} ids, the model only {vocab_size}; one of them is another "
            "model's"
        )


def write(model: str | Path, target: str | Path, *, begin: bool = True, end: bool = False) -> list[Path]:
    """Writes a SentencePiece model as a Hugging Face tokenizer with the same ids for the same texts.

    Args:
      model: sentencepiece.model. target: folder.
      begin: the start id (BOS, or padding where there is none) stands before a text: decoders.
      end: EOS stands behind it: inputs of encoder-decoders.

    Returns:
      The files.

    Raises:
      UserError: the model has no counterpart there (see sentencepiece_models.build).
    """
    import tokenizers as library

    vocabulary = Vocabulary(model)
    pipeline = sentencepiece_models.build(vocabulary.path)
    proto = sentencepiece_models.read(vocabulary.path)
    special = {piece.piece for piece in proto.pieces if piece.type == sentencepiece_models.CONTROL}
    roles = {
        "pad_token": vocabulary.pad_id,
        "eos_token": vocabulary.eos_id,
        "unk_token": vocabulary.unk_id,
        "bos_token": vocabulary.bos_id,
    }
    names = {role: vocabulary.piece(token) for role, token in roles.items() if token is not None}
    ordered = sorted(special | set(names.values()), key=pipeline.token_to_id)
    ordered += [f"<extra_id_{k}>" for k in reversed(range(vocabulary.extra_ids))]  # they get the ids behind the pieces
    pipeline.add_special_tokens([library.AddedToken(name, special=True, normalized=False) for name in ordered])
    first = names.get("bos_token", names.get("pad_token")) if begin else None
    parts = [part for part in (first, "$A", names.get("eos_token") if end else None) if part]
    around = [(name, pipeline.token_to_id(name)) for name in dict.fromkeys(parts) if name != "$A"]
    if around:
        pipeline.post_processor = library.processors.TemplateProcessing(single=parts, special_tokens=around)
    config = {
        **names,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # text that spells "</s>" is text, as SentencePiece has it
        "padding_side": "right" if end else "left",
    }
    folder = Path(target)
    files.atomic_write_text(folder / tokenizers.PIPELINE, pipeline.to_str(pretty=False))
    files.atomic_write_text(folder / tokenizers.CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    files.atomic_write_bytes(folder / "tokenizer.model", vocabulary.path.read_bytes())
    return [folder / name for name in (tokenizers.PIPELINE, tokenizers.CONFIG, "tokenizer.model")]
