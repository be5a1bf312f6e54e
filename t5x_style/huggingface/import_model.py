"""From a Hugging Face folder to a MODEL_DIR that training, evaluation, generation and export open."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

from t5x_style import files
from t5x_style.checkpoints import checkpoints
from t5x_style.errors import UserError
from t5x_style.huggingface import export_settings, load
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface.output_folder import output_folder
from t5x_style.huggingface.tokenizers import tokenizer_files
from t5x_style.huggingface.tokenizers.tokenizers import HuggingFaceTokenizer, vocabulary_files
from t5x_style.huggingface.weights import checkpoint_arrays
from t5x_style.models import serialization
from t5x_style.progress import Progress

STEP = 0


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


def import_model(source: str | Path, target: str | Path, skip_tokenizer_check: bool = False) -> Written:
    """Writes a MODEL_DIR with the folder's weights, in their dtype, as checkpoint 0.

    Memory of the host: a few tensors.

    Args:
      source: a Hugging Face folder. target: the MODEL_DIR; must not exist, or be empty.
      skip_tokenizer_check: copy the tokenizer unread, also one that gives ids that the model has no row for.

    Raises:
      UserError: anything of the folder is missing, broken or does not fit; nothing is left in `target` then.
    """
    start = time.monotonic()
    folder = folders.open_folder(source)
    notes = [] if skip_tokenizer_check else _check_tokenizer(folder)
    if folder.ignored:
        notes.append(f"not imported, as no part of this model needs them: {', '.join(folder.ignored)}")
    shapes = {path: leaf.shape for path, leaf in load.abstract_parameters(folder.config).items()}
    dtypes = load.dtypes(folder)
    with output_folder(target, needed=folder.nbytes) as working:
        (working / "model.json").write_text(serialization.to_json(folder.config), encoding="utf-8")
        if tokenizer_files.files_in(folder.path):
            tokenizer_files.copy(folder.path, working / "tokenizer")
        names = export_settings.setting_files(files.file_sizes(folder.path))
        export_settings.copy(folder.path, working / export_settings.SETTINGS, names)
        rules = sum(1 for _ in folder.mapping.rules())
        with Progress(f"import {folder.path.name}", total=rules, unit="tensors") as progress:
            place = working / checkpoints.FOLDER / str(STEP) / "params"
            writer = checkpoint_arrays.Writer(place, {path: (shapes[path], dtypes[path]) for path in shapes})
            for piece in load.read_pieces(folder, progress.advance):
                writer.write(*piece)
            writer.finish()
    return Written(
        path=Path(target),
        model_type=str(folder.settings.get("model_type")),
        parameters=sum(math.prod(tensor.shape) for tensor in folder.tensors.values()),
        nbytes=folder.nbytes,
        seconds=time.monotonic() - start,
        notes=tuple(notes),
    )


def _check_tokenizer(folder: folders.Folder) -> list[str]:
    if not vocabulary_files(folder.path):
        return ["the folder has no tokenizer; the model opens without one"]
    tokenizer = HuggingFaceTokenizer(folder.path, folder.settings)
    rows, file = folder.config.vocab_size, vocabulary_files(folder.path)[0]
    if tokenizer.size > rows:
        raise UserError(
            f"{file}: the tokenizer gives ids up to {tokenizer.size - 1}, the embedding table has {rows} rows; give "
            "the tokenizer of this model, or --skip_tokenizer_check where these ids never come"
        )
    if tokenizer.size != rows:
        return [f"the tokenizer has {tokenizer.size} ids, the embedding table {rows} rows"]
    return []
