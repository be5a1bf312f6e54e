"""What an exported folder holds beside the weights: config.json, generation_config.json, the tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from t5x_style import files
from t5x_style.data.vocabulary import start_id
from t5x_style.errors import UserError
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface.tokenizers import tokenizer_files, tokenizers
from t5x_style.models.specs import EncoderConfig, EncoderDecoderConfig

SETTINGS = "huggingface"  # the folder of a MODEL_DIR that keeps the configuration files of an import


def original(model_dir: Path) -> dict[str, Any] | None:
    """The config.json that a model was imported with; None for one that was trained here."""
    folder = model_dir / SETTINGS
    return folders.read_settings(folder) if (folder / folders.CONFIG).is_file() else None


def setting_files(names: Iterable[str]) -> list[str]:
    """Those of a folder's files that say what its model is, beside the weights and the tokenizer.

    config.json, generation_config.json and others of their kind, and the Python files that a config.json may refer to
    (`auto_map`): they travel with it and are never run here.
    """

    def kept(name: str) -> bool:
        return name.endswith(".py") or (name.endswith(".json") and "config" in name)

    return sorted(name for name in names if kept(name) and name not in tokenizers.NAMES)


def dtype(settings: Mapping[str, Any]) -> str | None:
    """The dtype of the weights that a config.json names; None: none."""
    return settings.get("dtype", settings.get("torch_dtype"))


def copy(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copies those of the files that exist."""
    for path in folders.existing(source, names):
        target.mkdir(exist_ok=True)
        shutil.copyfile(path, target / path.name)


def write(model_dir: Path, target: Path, settings: Mapping[str, Any], config: Any, dtype: str) -> list[str]:
    """Writes everything but the weights.

    Args:
      settings: the config.json as the family gives it. config: ours. dtype: of most weights.

    Returns:
      Notes about what is not as it was.
    """
    before = original(model_dir)
    settings = dict(settings)
    kept = setting_files(files.file_sizes(model_dir / SETTINGS))
    copy(model_dir / SETTINGS, target, [name for name in kept if name != folders.CONFIG])
    if before is None:
        ids = _special_ids(model_dir / "tokenizer", config, settings)
        settings |= ids
        if ids and not isinstance(config, EncoderConfig):
            _write_json(target / folders.GENERATION, {"_from_model_config": True, **ids})
    key = "torch_dtype" if before and "torch_dtype" in before and "dtype" not in before else "dtype"
    settings[key] = dtype
    if settings == before:
        copy(model_dir / SETTINGS, target, [folders.CONFIG])
    else:
        _write_json(target / folders.CONFIG, settings)
    return _write_tokenizer(model_dir / "tokenizer", target, config)


def _special_ids(tokenizer: Path, config: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The ids that generation needs, of the model's own tokenizer; {} without one."""
    if not (tokenizer / tokenizer_files.NATIVE).is_file() and not tokenizer_files.files_in(tokenizer):
        return {}
    found = tokenizer_files.open_tokenizer(tokenizer, dict(settings))
    ids: dict[str, Any] = {"bos_token_id": found.bos_id, "eos_token_id": found.eos_id, "pad_token_id": found.pad_id}
    if isinstance(config, EncoderDecoderConfig):
        ids["decoder_start_token_id"] = start_id(found)  # as training began every row
    return ids


def _write_tokenizer(source: Path, target: Path, config: Any) -> list[str]:
    """Files of an import as they came; our SentencePiece model as a tokenizer that AutoTokenizer opens."""
    if tokenizer_files.files_in(source):
        tokenizer_files.copy(source, target)
        return []
    native = source / tokenizer_files.NATIVE
    if not native.is_file():
        return ["the model has no tokenizer; the folder has none"]
    encoder_decoder = isinstance(config, EncoderDecoderConfig)
    try:
        tokenizer_files.write(native, target, begin=not encoder_decoder, end=encoder_decoder)
    except UserError as error:
        shutil.copyfile(native, target / "tokenizer.model")
        return [f"the tokenizer is written as tokenizer.model only: {error}"]
    return []


def _write_json(path: Path, value: Any) -> None:
    """As transformers writes it."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
