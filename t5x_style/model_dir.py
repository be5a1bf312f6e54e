"""MODEL_DIR, the self-contained folder of a run: what goes in.

model.json          the architecture (read by `load_model`, nothing else is needed)
config.gin          every binding as parsed; operative.gin: those that were used
tokenizer/          sentencepiece.model; the Hugging Face tokenizer files of an imported model
huggingface/        config.json and generation_config.json of an imported model
checkpoints/<step>  see checkpoints/checkpoints.py
metrics.jsonl, tensorboard/, report.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t5x_style import files
from t5x_style.errors import UserError
from t5x_style.models import serialization

MODEL = "model.json"
TOKENIZER = Path("tokenizer") / "sentencepiece.model"
HUGGINGFACE = "huggingface"


def create(folder: str | Path, model: Any, tokenizer: str | Path, operative: str, full: str) -> None:
    """Writes all of MODEL_DIR that is known before the first step.

    Args:
      model: the architecture. tokenizer: the file that is copied. operative, full: the content of the gin files.
    """
    folder = Path(folder)
    files.atomic_write_text(folder / MODEL, serialization.to_json(model))
    files.atomic_write_text(folder / "operative.gin", operative)
    files.atomic_write_text(folder / "config.gin", full)
    files.atomic_write_bytes(folder / TOKENIZER, Path(tokenizer).read_bytes())


def read_config(path: str | Path) -> Any:
    """The architecture of a MODEL_DIR.

    Raises:
      UserError: there is no model.json, or it is broken.
    """
    file = Path(path) / MODEL
    if not file.exists():
        raise UserError(f"{str(path)!r} is no MODEL_DIR: it has no {MODEL}; give the folder that training wrote")
    return serialization.from_json(file.read_text(encoding="utf-8"))
