"""EvaluationRun: everything an evaluation is, in one frozen dataclass that flags or gin fill."""

from __future__ import annotations

import dataclasses
from typing import Literal

from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class EvaluationRun:
    """Which models are evaluated on what, and how.

    Attributes:
      models: MODEL_DIRs, each `PATH` or `NAME=PATH`; the name (the folder's own by default) stands in the results.
      output: JSON file of results; finished tasks in it are not run again.
      tasks: seqio Tasks by name or pattern (`documentation_*`). Empty, and no perplexity asked for: all Tasks that
        the modules list in EVALUATIONS.
      modules: Python modules that register the Tasks.
      split: of the Tasks.
      step: checkpoint of every model; None takes the newest.
      data_dir: folder of the Tasks' data (T5X_STYLE_DATA_DIR); its examples/examples.json gives majority baselines.
      max_examples: at most so many examples a Task, spread evenly over the split; None takes all.
      batch_size: rows the model works on at a time.
      length: tokens of inputs and answer together, as in training; inputs get what max_new_tokens leaves, longer ones
        are cut (and counted).
      trim_inputs: the side a long input loses, as PrefixLM.trim_inputs.
      max_new_tokens: of a generated answer.
      samples: examples per Task kept in the results, with input, target and output.
      perplexity: token caches (names below cache_dir) whose perplexity is measured.
      perplexity_split: of the token caches. perplexity_length: tokens of a row, as in pretraining; None is `length`.
      perplexity_documents: at most so many documents, spread evenly; None takes all.
      cache_dir: folder of the token caches; None is data_dir/cache.
    """

    models: tuple[str, ...] = ()
    output: str = ""
    tasks: tuple[str, ...] = ()
    modules: tuple[str, ...] = ("tasks.documentation",)
    split: str = "test"
    step: int | None = None
    data_dir: str | None = None
    max_examples: int | None = None
    batch_size: int = 32
    length: int = 512
    trim_inputs: Literal["left", "right"] = "left"
    max_new_tokens: int = 64
    samples: int = 10
    perplexity: tuple[str, ...] = ()
    perplexity_split: str = "test"
    perplexity_length: int | None = None
    perplexity_documents: int | None = None
    cache_dir: str | None = None

    def task_settings(self) -> dict:
        """What a Task's numbers depend on, besides the model and the data."""
        names = ("split", "max_examples", "length", "trim_inputs", "max_new_tokens", "samples")
        return {name: getattr(self, name) for name in names}

    def perplexity_settings(self) -> dict:
        """What a perplexity depends on, besides the model and the data."""
        return {
            "perplexity_split": self.perplexity_split,
            "perplexity_length": self.perplexity_length or self.length,
            "perplexity_documents": self.perplexity_documents,
        }

    def check(self) -> None:
        """Finds what is wrong before anything heavy is imported.

        Raises:
          UserError: no model, no output, or a number out of range.
        """
        if not self.models:
            raise UserError("no model to evaluate; give --model MODEL_DIR (several times for several models)")
        if not self.output:
            raise UserError("no place for the results; give --output FILE.json")
        for name in ("batch_size", "max_new_tokens", "max_examples", "perplexity_length", "perplexity_documents"):
            if getattr(self, name) is not None:
                _at_least(self, name, 1)
        _at_least(self, "samples", 0)
        _at_least(self, "length", self.max_new_tokens + 1)


def _at_least(run: EvaluationRun, name: str, least: int) -> None:
    if getattr(run, name) < least:
        raise UserError(f"{name} is {getattr(run, name)}, must be at least {least}")
