"""Tokenizers of folders without tokenizer.json: the pipeline each class of transformers builds from its older files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from t5x_style import files
from t5x_style.errors import UserError
from t5x_style.huggingface.tokenizers import sentencepiece_models

OLDER_FILES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
)

# The class of a model_type, where tokenizer_config.json names none.
CLASSES = {
    "bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "t5": "T5Tokenizer",
    "mt5": "T5Tokenizer",
    "switch_transformers": "T5Tokenizer",
    "albert": "AlbertTokenizer",
    "xlnet": "XLNetTokenizer",
    "llama": "LlamaTokenizer",
}
_WORDPIECE = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ROBERTA = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_END = "<|endoftext|>"
_ROLES: dict[str, dict[str, str]] = {
    "BertTokenizer": _WORDPIECE,
    "RobertaTokenizer": _ROBERTA,
    "XLMRobertaTokenizer": _ROBERTA,
    "GPT2Tokenizer": {"bos_token": _END, "eos_token": _END, "unk_token": _END},
    "Qwen2Tokenizer": {"eos_token": _END, "unk_token": _END, "pad_token": _END},
    "T5Tokenizer": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "AlbertTokenizer": {
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "unk_token": "<unk>",
        "sep_token": "[SEP]",
        "pad_token": "<pad>",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    "XLNetTokenizer": {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "<sep>",
        "pad_token": "<pad>",
        "cls_token": "<cls>",
        "mask_token": "<mask>",
    },
    "LlamaTokenizer": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
}
# Qwen's split into pretokens, as its tokenizer.json holds it.
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
Finish = Callable[[Any], None]


def class_name(config: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The tokenizer's class, of tokenizer_config.json, config.json or its model_type; "" where nothing tells it."""
    name = config.get("tokenizer_class") or settings.get("tokenizer_class")
    return (name or CLASSES.get(settings.get("model_type", ""), "")).removesuffix("Fast")


def default_roles(name: str) -> dict[str, str]:
    """The special tokens that a class has unless told otherwise."""
    return dict(_ROLES.get(name, {}))


def build(folder: Path, name: str, config: Mapping[str, Any], roles: Mapping[str, str]) -> tuple[Any, Finish | None]:
    """A pipeline from older files, and what is left to do once the special tokens are in it.

    Args:
      name: the class. config: tokenizer_config.json. roles: special tokens by role.

    Raises:
      UserError: the files do not suffice or are broken.
    """
    if (folder / "vocab.txt").is_file() and name in ("", "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"):
        return _wordpiece(folder / "vocab.txt", config, {**_WORDPIECE, **roles})
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _byte_level(folder, name, config, roles)
    models = [folder / file for file in OLDER_FILES if file.endswith(".model") and (folder / file).is_file()]
    if models:
        return _sentencepiece(models[0], name, config, roles)
    raise UserError(f"{folder}: no tokenizer.json, and no rule for a {name or 'nameless'} tokenizer from its files")


def _wordpiece(path: Path, config: Mapping[str, Any], roles: Mapping[str, str]) -> tuple[Any, Finish]:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    lines = path.read_text(encoding="utf-8").split("\n")
    vocabulary = {line: number for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=roles["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer, _template(f"{roles['cls_token']} $A {roles['sep_token']}")


def _byte_level(
    folder: Path, name: str, config: Mapping[str, Any], roles: Mapping[str, str]
) -> tuple[Any, Finish | None]:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    pairs: list[Any] = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    vocabulary = files.read_json(folder / "vocab.json")
    space = bool(config.get("add_prefix_space", False))
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, pairs, continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.decoder = decoders.ByteLevel()
    if name == "Qwen2Tokenizer":
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(tokenizers.Regex(_QWEN_SPLIT), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    if name != "RobertaTokenizer":
        return tokenizer, _bos_and_eos(config, roles)

    def finish(made: Any) -> None:
        sep, cls = roles["sep_token"], roles["cls_token"]
        ends = (sep, made.token_to_id(sep)), (cls, made.token_to_id(cls))
        made.post_processor = processors.RobertaProcessing(*ends, config.get("trim_offsets", True), space)

    return tokenizer, finish


def _sentencepiece(
    path: Path, name: str, config: Mapping[str, Any], roles: Mapping[str, str]
) -> tuple[Any, Finish | None]:
    proto = sentencepiece_models.read(path)
    if name == "LlamaTokenizer":
        return _with_symbols(_llama(proto, config), proto), _bos_and_eos(config, roles)
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    if name == "T5Tokenizer":
        count = config.get("extra_ids", 100)
        pieces += [(f"<extra_id_{number}>", 0.0) for number in range(count - 1, -1, -1)]
        return _with_symbols(_unigram(pieces, 2, _charsmap(proto)), proto), _extra_ids(count, roles)
    if name == "XLMRobertaTokenizer":  # fairseq's order of special tokens stands before the pieces
        first = [roles[role] for role in ("bos_token", "pad_token", "eos_token", "unk_token")]
        pieces = [*((token, 0.0) for token in first), *pieces[3:], (roles["mask_token"], 0.0)]
        return _unigram(pieces, 3, _charsmap(proto)), _template(f"{first[0]} $A {first[2]}")
    if name in ("AlbertTokenizer", "XLNetTokenizer"):
        albert = name == "AlbertTokenizer"
        accents = config.get("keep_accents", False) and albert
        tokenizer = _unigram(
            pieces, 1 if albert else proto.trainer_spec.unk_id, _cleaning(proto, accents, config, albert)
        )
        around = "{cls_token} $A {sep_token}" if albert else "$A:0 {sep_token}:0 {cls_token}:2"
        return _with_symbols(tokenizer, proto), _template(around.format(**roles))
    return sentencepiece_models.build(path), _bos_and_eos(config, roles)


def _with_symbols(tokenizer: Any, proto: Any) -> Any:
    """Control pieces become special tokens, user-defined ones added tokens: both are found in texts."""
    import tokenizers

    for kind in (sentencepiece_models.CONTROL, sentencepiece_models.USER_DEFINED):
        special = kind == sentencepiece_models.CONTROL
        names = [piece.piece for piece in proto.pieces if piece.type == kind]
        tokenizer.add_tokens([tokenizers.AddedToken(name, special=special, normalized=False) for name in names])
    return tokenizer


def _llama(proto: Any, config: Mapping[str, Any]) -> Any:
    """BPE over text whose spaces are pieces' signs; a space is put in front of the first word only."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    space = sentencepiece_models.SPACE
    vocabulary = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    ordinary = [piece.piece for piece in proto.pieces if piece.type == sentencepiece_models.NORMAL]
    pairs = sentencepiece_models.merges({piece: vocabulary[piece] for piece in ordinary}, ordinary)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, pairs, fuse_unk=True, byte_fallback=True))
    prefix = config.get("add_prefix_space")
    front = prefix is None or prefix
    scheme = ("always" if config.get("legacy", False) else "first") if front else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(space, prepend_scheme=scheme, split=False)
    steps: list[Any] = [decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if front else []))
    return tokenizer


def _unigram(pieces: list[tuple[str, float]], unknown: int, normalizer: Any) -> Any:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=False))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    space = pre_tokenizers.Metaspace(sentencepiece_models.SPACE, prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space])
    tokenizer.decoder = decoders.Metaspace(sentencepiece_models.SPACE, prepend_scheme="always")
    return tokenizer


def _charsmap(proto: Any) -> Any:
    from tokenizers import normalizers

    charsmap = proto.normalizer_spec.precompiled_charsmap
    return normalizers.Precompiled(charsmap) if charsmap else None


def _cleaning(proto: Any, keep_accents: bool, config: Mapping[str, Any], lower: bool) -> Any:
    """ALBERT's and XLNet's normaliser: straight quotes, accents off, lower case."""
    from tokenizers import normalizers

    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not keep_accents:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if config.get("do_lower_case", lower):
        steps.append(normalizers.Lowercase())
    charsmap = _charsmap(proto)
    return normalizers.Sequence(steps + ([charsmap] if charsmap is not None else []))


def _extra_ids(count: int, roles: Mapping[str, str]) -> Finish:
    import tokenizers

    def finish(made: Any) -> None:
        made.add_special_tokens(
            [tokenizers.AddedToken(f"<extra_id_{number}>", special=True) for number in range(count)]
        )
        _template(f"$A {roles['eos_token']}")(made)

    return finish


def _template(single: str) -> Finish:
    """Special tokens around a text, such as "[CLS] $A [SEP]"; a number behind a colon is the token type."""

    def finish(made: Any) -> None:
        from tokenizers import processors

        names = [part.rpartition(":")[0] or part for part in single.split() if not part.startswith("$")]
        tokens = [(name, made.token_to_id(name)) for name in dict.fromkeys(names)]
        made.post_processor = processors.TemplateProcessing(single=single.split(), special_tokens=tokens)

    return finish


def _bos_and_eos(config: Mapping[str, Any], roles: Mapping[str, str]) -> Finish | None:
    """BOS and EOS where tokenizer_config.json asks for them."""
    before = roles.get("bos_token") if config.get("add_bos_token", False) else None
    after = roles.get("eos_token") if config.get("add_eos_token", False) else None
    if before is None and after is None:
        return None
    return _template(" ".join(part for part in (before, "$A", after) if part))
