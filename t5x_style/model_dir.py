"""MODEL_DIR, the self-contained folder of a run: what goes in.

model.json          the architecture (read by `load_model`, nothing else is needed)
config.gin          every binding as parsed; operative.gin: those that were used
tokenizer/          sentencepiece.model; the Hugging Face tokenizer files of an imported model
huggingface/        config.json and generation_config.json of a model that was imported, or that the run started from
checkpoints/<step>  see checkpoints/checkpoints.py; frozen/: what of the model did not train, written once
sources.json        the folders that the run started from, with a fingerprint
metrics.jsonl, tensorboard/, report.html

The folder is local or a URL (see t5x_style/files).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t5x_style import files
from t5x_style.errors import UserError
from t5x_style.models import serialization

MODEL = "model.json"
TOKENIZER = Path("tokenizer") / "sentencepiece.model"
HUGGINGFACE = "huggingface"


def create(
    folder: str | Path,
    model: Any,
    tokenizer: str | Path,
    operative: str,
    full: str,
    settings: Mapping[str, bytes] | None = None,
) -> None:
    """Writes all of MODEL_DIR that is known before the first step.

    Args:
      model: the architecture. tokenizer: the file that is copied. operative, full: the content of the gin files.
      settings: files of huggingface/ by name, where the run starts from such a folder: its export needs no flags then.
    """
    for name, content in (settings or {}).items():
        files.atomic_write_bytes(files.join(folder, HUGGINGFACE, name), content)
    files.atomic_write_text(files.join(folder, MODEL), serialization.to_json(model))
    files.atomic_write_text(files.join(folder, "operative.gin"), operative)
    files.atomic_write_text(files.join(folder, "config.gin"), full)
    files.atomic_write_bytes(files.join(folder, TOKENIZER), files.read_bytes(tokenizer))


def read_config(path: str | Path) -> Any:
    """The architecture of a MODEL_DIR.

    Raises:
      UserError: there is no model.json, or it is broken.
    """
    file = files.join(path, MODEL)
    if not files.exists(file):
        raise UserError(f"{str(path)!r} is no MODEL_DIR: it has no {MODEL}; give the folder that training wrote")
    return serialization.from_json(files.read_text(file))


def local(path: str | Path) -> Path:
    """A local folder with all of a MODEL_DIR or Hugging Face folder but checkpoints and events: itself, or a copy.

    Raises:
      UserError: a remote one cannot be read.
    """
    return files.local_folder(path, skip=("checkpoints", "frozen", "tensorboard", "profile"))
