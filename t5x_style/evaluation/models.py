"""The models of an evaluation: names, folders, and the two things metrics ask of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t5x_style import files, model_dir
from t5x_style.checkpoints import checkpoints
from t5x_style.data.vocabulary import Tokenizer, start_id
from t5x_style.errors import UserError
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface.tokenizers import tokenizer_files
from t5x_style.models.specs import DecoderConfig, EncoderDecoderConfig
from t5x_style.models.specs.recurrent_config import RecurrentConfig

if TYPE_CHECKING:
    from t5x_style.loaded_model import LoadedModel

Tokens = Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Functions:
    """A model as metrics see it.

    Attributes:
      predict: (inputs, max_new_tokens) -> greedy answers, up to and without EOS.
      score: (inputs, targets) -> summed log-probability of each row's targets.
    """

    predict: Callable[[Tokens, int], list[list[int]]]
    score: Callable[[Tokens, Tokens], list[float]]


@dataclasses.dataclass(frozen=True)
class Named:
    """A model to evaluate: its name in the results, its folder, the checkpoint's step."""

    name: str
    path: str
    step: int

    def identity(self) -> str:
        """Fingerprint of the weights: the architecture, the tokenizer, when the weights were written."""
        if folders.is_folder(self.path):
            read = [files.join(self.path, folders.CONFIG), *tokenizer_files.files_in(self.path)]
            versions = files.file_versions(self.path)
            weights = [(name, *version) for name, version in versions.items() if name.endswith(".safetensors")]
            return files.fingerprint([*map(files.file_sha256, read), sorted(weights)])
        saved = files.join(self.path, checkpoints.FOLDER, str(self.step), "metadata", "metadata")
        folder = files.join(self.path, model_dir.TOKENIZER)
        native = files.join(folder, tokenizer_files.NATIVE)
        read = [native] if files.exists(native) else tokenizer_files.files_in(folder)
        return files.fingerprint(
            [
                files.read_text(files.join(self.path, model_dir.MODEL)),
                *map(files.file_sha256, read),
                files.read_text(saved) if files.exists(saved) else "",
                self.step,
            ]
        )


def named(models: Sequence[str], step: int | None) -> list[Named]:
    """Reads `PATH` and `NAME=PATH`; the name of a plain path is its folder's.

    Raises:
      UserError: a folder is neither a MODEL_DIR nor one of Hugging Face, has no such checkpoint, or two models have one
        name.
    """
    found: list[Named] = []
    for text in models:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = files.name(text if files.is_remote(text) else Path(text).resolve()), text
        known = _steps(path)
        if not known or (step is not None and step not in known):
            wanted = "no finished checkpoint" if step is None else f"no checkpoint of step {step}"
            raise UserError(f"{path} has {wanted}; it has {', '.join(map(str, known)) or 'none'}")
        if name in [other.name for other in found]:
            raise UserError(f"two models are called {name!r}; name them: --model NAME=MODEL_DIR")
        found.append(Named(name, path, known[-1] if step is None else step))
    return found


def _steps(path: str) -> list[int]:
    """The checkpoints of a MODEL_DIR; a Hugging Face folder counts as step 0."""
    if folders.is_folder(path):
        return [0]
    model_dir.read_config(path)
    return checkpoints.steps(path)


def open_model(model: Named, batch_size: int) -> tuple[Functions, Tokenizer]:
    """Reads a checkpoint or a Hugging Face folder.

    A decoder's rows begin with the start id; an encoder-decoder reads the inputs, EOS behind them, and answers.

    Raises:
      UserError: the weights do not fit the architecture, the model has no tokenizer or generates no texts.
    """
    import t5x_style
    from t5x_style import decoding
    from t5x_style.evaluation import ranking

    loaded = t5x_style.load_model(model.path, None if folders.is_folder(model.path) else model.step)
    tokenizer, answers = loaded.tokenizer, isinstance(loaded.config, EncoderDecoderConfig)
    if not answers and not isinstance(loaded.config, (DecoderConfig, RecurrentConfig)):
        raise UserError(f"{model.path} is a {type(loaded.config).__name__}; evaluate needs a model that generates")
    module = decoding.prepare(loaded.model)  # once, instead of in every call
    start, ends = None if answers else start_id(tokenizer), _ends(loaded)
    own, first = loaded.prompt_inputs(), loaded.decoder_start_id()

    def begun(inputs: Tokens) -> list[list[int]]:
        if start is None:
            return [[*row, *([] if tokenizer.eos_id is None else [tokenizer.eos_id])] for row in inputs]
        return [[start, *row] for row in inputs]

    def predict(inputs: Tokens, max_new_tokens: int) -> list[list[int]]:
        options: dict[str, Any] = {"eos_id": ends, "batch_size": batch_size, "inputs": own, "decoder_start_id": first}
        return decoding.generate(module, begun(inputs), max_new_tokens, **options)

    def score(inputs: Tokens, targets: Tokens) -> list[float]:
        if own is None and first is None:
            return ranking.score(module, begun(inputs), targets, batch_size)
        options: dict[str, Any] = {"batch_size": batch_size, "row_inputs": own, "decoder_start_id": first}
        return decoding.score(module, begun(inputs), targets, **options).log_probs.tolist()

    return Functions(predict, score), tokenizer


def _ends(loaded: LoadedModel) -> tuple[int, ...]:
    """Every id that ends an answer: the generation configuration's and the tokenizer's EOS."""
    eos = loaded.tokenizer.eos_id
    return tuple(dict.fromkeys([*loaded.generation_defaults.eos_ids, *([] if eos is None else [eos])]))
