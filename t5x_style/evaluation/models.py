"""The models of an evaluation: names, MODEL_DIRs, and the two things metrics ask of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from t5x_style import files, model_dir
from t5x_style.data.vocabulary import Vocabulary, start_id
from t5x_style.errors import UserError
from t5x_style.training import checkpoints

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
        """Fingerprint of the weights: the architecture, the tokenizer, the checkpoint's metadata (time of saving)."""
        folder = Path(self.path)
        saved = folder / checkpoints.FOLDER / str(self.step) / "metadata" / "metadata"
        return files.fingerprint(
            [
                (folder / model_dir.MODEL).read_text(encoding="utf-8"),
                files.file_sha256(folder / model_dir.TOKENIZER),
                saved.read_text(encoding="utf-8") if saved.exists() else "",
                self.step,
            ]
        )


def named(models: Sequence[str], step: int | None) -> list[Named]:
    """Reads `PATH` and `NAME=PATH`; the name of a plain path is its folder's.

    Raises:
      UserError: a folder is no MODEL_DIR or has no such checkpoint, or two models have one name.
    """
    found: list[Named] = []
    for text in models:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = Path(text).resolve().name, text
        model_dir.read_config(path)
        known = checkpoints.steps(path)
        if not known or (step is not None and step not in known):
            wanted = "no finished checkpoint" if step is None else f"no checkpoint of step {step}"
            raise UserError(f"{path} has {wanted}; it has {', '.join(map(str, known)) or 'none'}")
        if name in [other.name for other in found]:
            raise UserError(f"two models are called {name!r}; name them: --model NAME=MODEL_DIR")
        found.append(Named(name, path, known[-1] if step is None else step))
    return found


def open_model(model: Named, batch_size: int) -> tuple[Functions, Vocabulary]:
    """Reads a checkpoint; its functions put the start id before the inputs.

    Raises:
      UserError: the checkpoint does not fit the architecture.
    """
    from t5x_style import decoding
    from t5x_style.evaluation import ranking

    loaded = model_dir.load_model(model.path, model.step)
    vocabulary, start = loaded.vocabulary, start_id(loaded.vocabulary)
    module = decoding.prepare(loaded.model)  # once, instead of in every call

    def begun(inputs: Tokens) -> list[list[int]]:
        return [[start, *row] for row in inputs]

    def predict(inputs: Tokens, max_new_tokens: int) -> list[list[int]]:
        return decoding.generate(module, begun(inputs), max_new_tokens, eos_id=vocabulary.eos_id, batch_size=batch_size)

    def score(inputs: Tokens, targets: Tokens) -> list[float]:
        return ranking.score(module, begun(inputs), targets, batch_size)

    return Functions(predict, score), vocabulary
