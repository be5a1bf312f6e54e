"""MODEL_DIR, the self-contained folder of a run: what goes in.

model.json          the architecture (read by `load_model`, nothing else is needed)
config.gin          every binding as parsed; operative.gin: those that were used
tokenizer/          every file of the tokenizer: sentencepiece.model, or those of a Hugging Face folder with its chat
                    template and added tokens; none where the ids are of no text
huggingface/        config.json, generation_config.json and the other settings of a Hugging Face folder that was
                    imported, or that the run started from
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
from t5x_style.checkpoints import checkpoints
from t5x_style.errors import UserError
from t5x_style.models import serialization

MODEL = "model.json"
TOKENIZER = "tokenizer"
HUGGINGFACE = "huggingface"


def create(folder: str | Path, model: Any, operative: str, full: str, kept: Mapping[str, bytes]) -> None:
    """Writes all of MODEL_DIR that is known before the first step.

    Of the folders of files that are kept, others are removed, if there is no checkpoint: an earlier start left them.

    Args:
      model: the architecture. operative, full: the content of the gin files.
      kept: files by path in MODEL_DIR, those of the tokenizer ("tokenizer/tokenizer.json") and of the Hugging Face
        folder that the run starts from ("huggingface/config.json"): its export needs no flags then.
    """
    for inside in set() if checkpoints.steps(folder) else {name.partition("/")[0] for name in kept}:
        for name in files.file_sizes(files.join(folder, inside)):
            if f"{inside}/{name}" not in kept:
                files.remove(files.join(folder, inside, name))
    for name, content in kept.items():
        files.atomic_write_bytes(files.join(folder, name), content)
    files.atomic_write_text(files.join(folder, MODEL), serialization.to_json(model))
    files.atomic_write_text(files.join(folder, "operative.gin"), operative)
    files.atomic_write_text(files.join(folder, "config.gin"), full)


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
