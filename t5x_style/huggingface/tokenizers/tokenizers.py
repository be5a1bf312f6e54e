"""Tokenizers of Hugging Face folders without transformers: the same ids as its AutoTokenizer gives.

tokenizer.json is a whole pipeline and is taken as it is. Folders from before it hold vocab.txt (WordPiece), vocab.json
and merges.txt (byte-level BPE) or a SentencePiece model; pipelines.py builds the pipeline that their class has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from t5x_style import files
from t5x_style.data.vocabulary_facts import VocabularyFacts, facts_of_pieces
from t5x_style.errors import UserError
from t5x_style.huggingface.tokenizers import pipelines, sentencepiece_models

PIPELINE, CONFIG, SPECIAL, ADDED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
# Everything that AutoTokenizer, or a tokenizer's own code, reads.
NAMES = (
    PIPELINE,
    CONFIG,
    SPECIAL,
    ADDED,
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    *SENTENCEPIECE,
    "ice_text.model",
    "tiktoken.model",
    "chat_template.jinja",
    "chat_template.json",
)
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class HuggingFaceTokenizer:
    """A tokenizer read from a folder; see data.vocabulary.Tokenizer, which it fulfils.

    Attributes:
      path: the folder. pipeline: the `tokenizers.Tokenizer`.
      size: the highest id plus one, added tokens included.
      special: ids by role: "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token".
      fingerprint: SHA-256 of the SentencePiece model where there is one, else of the files that hold the vocabulary.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any] | None = None):
        """Reads the folder.

        Args:
          folder: with the files of a tokenizer.
          settings: the model's config.json, which tells the class where tokenizer_config.json does not.

        Raises:
          UserError: there is no tokenizer, or its files are broken.
        """
        self.path = Path(folder)
        if not vocabulary_files(folder):
            raise UserError(f"{self.path} holds no tokenizer: none of {', '.join((PIPELINE, *pipelines.OLDER_FILES))}")
        config = _read_config(self.path)
        name = pipelines.class_name(config, settings or {})
        # Told by config.json alone, which does not travel with the tokenizer's files.
        self._told_class = name if not (self.path / PIPELINE).is_file() and not pipelines.class_name(config, {}) else ""
        roles = pipelines.default_roles(name) if not (self.path / PIPELINE).is_file() else {}
        roles |= {role: _content(config[role]) for role in ROLES if config.get(role) is not None}
        try:
            if (self.path / PIPELINE).is_file():
                self.pipeline = _from_pipeline(self.path / PIPELINE)
                finish = None
            else:
                self.pipeline, finish = pipelines.build(self.path, name, config, roles)
            _add_tokens(self.pipeline, config, roles)
        except UserError:
            raise
        except Exception as error:  # the library raises bare Exception for whatever is wrong with a file
            raise UserError(f"{self.path}: the tokenizer cannot be read ({' '.join(str(error).split())})") from error
        if finish is not None:
            finish(self.pipeline)
        self.pipeline.no_truncation()
        self.pipeline.no_padding()
        self.pipeline.encode_special_tokens = bool(config.get("split_special_tokens", False))
        found = {role: self.pipeline.token_to_id(content) for role, content in roles.items()}
        self.special: dict[str, int] = {role: token for role, token in found.items() if token is not None}
        self.size: int = max(self.pipeline.get_vocab(with_added_tokens=True).values()) + 1
        self.fingerprint: str = _fingerprint(vocabulary_files(folder), self.pipeline)

    @property
    def pad_id(self) -> int | None:
        """Of padding; None: none."""
        return self.special.get("pad_token")

    @property
    def eos_id(self) -> int | None:
        """Of the end of a text; None: none."""
        return self.special.get("eos_token")

    @property
    def bos_id(self) -> int | None:
        """Of the beginning of a text; None: none."""
        return self.special.get("bos_token")

    @property
    def unk_id(self) -> int | None:
        """Of what is unknown; None: none."""
        return self.special.get("unk_token")

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of `text`; add_special_tokens puts around it what the model expects (BOS; CLS, SEP; EOS)."""
        return self.pipeline.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_batch(self, texts: Iterable[str], add_special_tokens: bool = False) -> list[list[int]]:
        """`encode` of every text, in parallel."""
        found = self.pipeline.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in found]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special tokens give nothing, ids outside the vocabulary the unknown token or nothing."""
        known = [int(token) for token in ids]
        unknown = [] if self.unk_id is None else [self.unk_id]
        inside = [part for token in known for part in ([token] if 0 <= token < self.size else unknown)]
        return self.pipeline.decode(inside, skip_special_tokens=True)

    def piece(self, token: int) -> str:
        """The piece behind one id, for displays; "" where the id has none."""
        return self.pipeline.id_to_token(int(token)) or ""

    def facts(self) -> VocabularyFacts:
        """Its added tokens, and a class for every id; see data/vocabulary_facts.py."""
        added = self.pipeline.get_added_tokens_decoder()
        pieces = [""] * self.size
        for piece, token in self.pipeline.get_vocab(with_added_tokens=True).items():
            pieces[token] = piece
        roles = {role.removesuffix("_token"): token for role, token in self.special.items()}
        plain, whole = self.encode("a"), self.encode("a", add_special_tokens=True)
        if plain and whole[1 : 1 + len(plain)] == plain:
            roles["begin"] = whole[0]
        special = {token.content: number for number, token in added.items()}
        control = [number for number, token in added.items() if token.special]
        return facts_of_pieces(pieces, special | {pieces[token]: token for token in roles.values()}, roles, control)

    def own_files(self) -> dict[str, bytes]:
        """Every file of the folder that belongs to the tokenizer, its chat template included (NAMES).

        Without tokenizer.json its class is part of what it is: where only the model's config.json tells it, the
        tokenizer_config.json given here says it.
        """
        own = {name: (self.path / name).read_bytes() for name in NAMES if (self.path / name).is_file()}
        if self._told_class:
            config = {**_json(self.path / CONFIG), "tokenizer_class": self._told_class}
            own[CONFIG] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
        return own


def vocabulary_files(folder: str | Path) -> list[Path]:
    """The files of a folder that hold a vocabulary, the one that is read first; [] where there is none."""
    return [Path(folder) / name for name in vocabulary_names(set(files.file_sizes(folder)))]


def vocabulary_names(held: Container[str]) -> list[str]:
    """Those of a folder's file names that hold a vocabulary, in the order of `vocabulary_files`."""
    found = [name for name in (PIPELINE, *pipelines.OLDER_FILES) if name in held]
    return [] if found in (["vocab.json"], ["merges.txt"]) else found  # halves of a byte-level BPE


def _read_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, with what the older special_tokens_map.json and added_tokens.json say."""
    config: dict[str, Any] = _json(folder / CONFIG)
    if "added_tokens_decoder" not in config:
        config |= _json(folder / SPECIAL)
        added = _json(folder / ADDED)
        if added:
            special = {_content(config[role]) for role in ROLES if config.get(role)}
            config["added_tokens_decoder"] = {
                str(number): {"content": token, "special": token in special, "normalized": token not in special}
                for token, number in added.items()
            }
    return config


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = files.read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no JSON object")
    return found


def _content(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else str(token)


def _from_pipeline(path: Path) -> Any:
    import tokenizers

    text = path.read_text(encoding="utf-8")
    if "model" not in json.loads(text):
        raise UserError(f"{path}: holds no tokenizer but another JSON object; give the tokenizers library's file")
    return tokenizers.Tokenizer.from_str(text)


def _add_tokens(pipeline: Any, config: Mapping[str, Any], roles: Mapping[str, str]) -> None:
    """Adds what the vocabulary lacks, in the order of their ids: added tokens, then named ones, then extra ones."""
    import tokenizers

    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    numbered = sorted((config.get("added_tokens_decoder") or {}).items(), key=lambda item: int(item[0]))
    named = [config.get(role) or content for role, content in roles.items()]
    named += list(extra.values()) if isinstance(extra, dict) else list(extra)
    special = {_content(token) for token in named}
    known = {token.content for token in pipeline.get_added_tokens_decoder().values()}
    for token in [token for _, token in numbered] + named:
        content = _content(token)
        if content in known:
            continue
        known.add(content)
        flags = (
            {key: token[key] for key in ("lstrip", "rstrip", "single_word", "normalized") if key in token}
            if (isinstance(token, dict))
            else {}
        )
        is_special = content in special or (isinstance(token, dict) and token.get("special", False))
        added = tokenizers.AddedToken(content, special=is_special, **{"normalized": not is_special, **flags})
        (pipeline.add_special_tokens if is_special else pipeline.add_tokens)([added])


def _fingerprint(paths: list[Path], pipeline: Any) -> str:
    """Of the files that hold the vocabulary.

    Of the SentencePiece model alone where there is one that has every token: caches made with the same model then fit.
    T5's extra ids behind it are told as seqio tells them ("+100"), other added tokens by their hash.
    """
    models = [path for path in paths if path.name in SENTENCEPIECE]
    if not models:
        if len(paths) == 1 or paths[0].name == PIPELINE:
            return files.file_sha256(paths[0])
        return hashlib.sha256("".join(files.file_sha256(path) for path in paths).encode()).hexdigest()
    of_model = files.file_sha256(models[0])
    pieces = {piece.piece for piece in sentencepiece_models.read(models[0]).pieces}
    decoder = pipeline.get_added_tokens_decoder()
    added = {number: token.content for number, token in decoder.items() if token.content not in pieces}
    if not added:
        return of_model
    last = max(added)
    if added == {last - k: f"<extra_id_{k}>" for k in range(len(added))}:
        return f"{of_model}+{len(added)}"
    return f"{of_model}+{files.fingerprint(sorted(added.items()))[:12]}"
