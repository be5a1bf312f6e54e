"""From a Hugging Face folder to a MODEL_DIR that training, evaluation, generation and export open."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from pathlib import Path

from t5x_style.errors import UserError
from t5x_style.huggingface import checkpoint_arrays, load
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface.output_folder import output_folder
from t5x_style.huggingface.tokenizers import HuggingFaceTokenizer, vocabulary_files
from t5x_style.models import serialization
from t5x_style.progress import Progress

SETTINGS = "huggingface"  # the folder in MODEL_DIR that keeps their configuration files
STEP = 0
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


@dataclasses.dataclass(frozen=True)
class Written:
    """What an import or export wrote.

    Attributes:
      path: the folder. model_type: their name of the architecture.
      parameters: how many numbers. nbytes: of the weights, before compression. files: of weights.
      seconds: it took. notes: lines for people about what they may not expect.
    """

    path: Path
    model_type: str
    parameters: int
    nbytes: int
    seconds: float
    notes: tuple[str, ...] = ()


def import_model(source: str | Path, target: str | Path, ignore_tokenizer_size: bool = False) -> Written:
    """Writes a MODEL_DIR with the folder's weights, in their dtype, as checkpoint 0.

    Memory of the host: one parameter (all layers of it) and one tensor at a time.

    Args:
      source: a Hugging Face folder. target: the MODEL_DIR; must not exist, or be empty.
      ignore_tokenizer_size: import although the tokenizer gives ids that the model has no row for.

    Raises:
      UserError: anything of the folder is missing, broken or does not fit; nothing is left in `target` then.
    """
    start = time.monotonic()
    folder = folders.open_folder(source)
    notes = _check_tokenizer(folder, ignore_tokenizer_size)
    if folder.ignored:
        notes.append(f"not imported, as no part of this model needs them: {', '.join(folder.ignored)}")
    shapes = {path: leaf.shape for path, leaf in load.abstract_parameters(folder.config).items()}
    with output_folder(target, needed=folder.nbytes) as working:
        (working / "model.json").write_text(serialization.to_json(folder.config), encoding="utf-8")
        copy_files(folder.path, working / "tokenizer", TOKENIZER_FILES)
        copy_files(folder.path, working / SETTINGS, [folders.CONFIG, folders.GENERATION, *code_files(folder.path)])
        rules = sum(1 for _ in folder.mapping.rules())
        with Progress(f"import {folder.path.name}", total=rules, unit="tensors") as progress:
            values = load.read_parameters(folder, shapes, progress.advance)
            checkpoint_arrays.write(working / "checkpoints" / str(STEP) / "params", values)
    return Written(
        path=Path(target),
        model_type=str(folder.settings.get("model_type")),
        parameters=sum(math.prod(tensor.shape) for tensor in folder.tensors.values()),
        nbytes=folder.nbytes,
        seconds=time.monotonic() - start,
        notes=tuple(notes),
    )


def copy_files(source: Path, target: Path, names: list[str] | tuple[str, ...]) -> None:
    """Copies those of the files that exist."""
    for path in folders.existing(source, names):
        target.mkdir(exist_ok=True)
        shutil.copyfile(path, target / path.name)


def code_files(folder: Path) -> list[str]:
    """Python files that a config.json may refer to (`auto_map`); they travel with it and are never run here."""
    return sorted(path.name for path in folder.glob("*.py"))


def _check_tokenizer(folder: folders.Folder, ignore_size: bool) -> list[str]:
    if not vocabulary_files(folder.path):
        return ["the folder has no tokenizer; the model opens without one"]
    tokenizer = HuggingFaceTokenizer(folder.path, folder.settings)
    rows, file = folder.config.vocab_size, vocabulary_files(folder.path)[0]
    if tokenizer.size > rows and not ignore_size:
        raise UserError(
            f"{file}: the tokenizer gives ids up to {tokenizer.size - 1}, the embedding table has {rows} rows; give "
            "the tokenizer of this model, or --ignore_tokenizer_size where these ids never come"
        )
    if tokenizer.size != rows:
        return [f"the tokenizer has {tokenizer.size} ids, the embedding table {rows} rows"]
    return []
