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

# Everything that AutoTokenizer, or a tokenizer's own code, reads.
NAMES = (
    tokenizers.PIPELINE,
    tokenizers.CONFIG,
    tokenizers.SPECIAL,
    tokenizers.ADDED,
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    *tokenizers.SENTENCEPIECE,
    "ice_text.model",
    "tiktoken.model",
    "chat_template.jinja",
    "chat_template.json",
)
NATIVE = "sentencepiece.model"


def files_in(folder: str | Path) -> list[str]:
    """The tokenizer's files of a Hugging Face folder or its URL, in a fixed order; [] where there are none."""
    found = files.file_sizes(folder)
    return [files.join(folder, name) for name in NAMES if name in found]


def copy(source: str | Path, target: str | Path) -> list[Path]:
    """Copies a tokenizer's files as they are; returns the copies."""
    Path(target).mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(path, Path(target) / Path(path).name)) for path in files_in(source)]


def has_tokenizer(folder: str | Path) -> bool:
    """Whether `open_tokenizer` finds one."""
    return (Path(folder) / NATIVE).is_file() or bool(tokenizers.vocabulary_files(folder))


def open_tokenizer(folder: str | Path, settings: Mapping[str, Any] | None = None) -> Tokenizer:
    """The tokenizer of a folder: our sentencepiece.model where it has one, else a Hugging Face tokenizer.

    Args:
      folder: MODEL_DIR/tokenizer or a Hugging Face folder. settings: the model's config.json, where there is one.

    Raises:
      UserError: there is none, or its files are broken.
    """
    native = Path(folder) / NATIVE
    return Vocabulary(native) if native.is_file() else tokenizers.HuggingFaceTokenizer(folder, settings)


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
    roles = {"pad_token": vocabulary.pad_id, "eos_token": vocabulary.eos_id, "unk_token": vocabulary.unk_id}
    if vocabulary.bos_id is not None:
        roles["bos_token"] = vocabulary.bos_id
    names = {role: vocabulary.piece(token) for role, token in roles.items()}
    ordered = sorted(special | set(names.values()), key=pipeline.token_to_id)
    pipeline.add_special_tokens([library.AddedToken(name, special=True, normalized=False) for name in ordered])
    first = names.get("bos_token", names["pad_token"]) if begin else None
    parts = [part for part in (first, "$A", names["eos_token"] if end else None) if part]
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
