"""Where a report's numbers come from: the files of a quickstart folder, each optional, read once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from t5x_style import files
from t5x_style import model_dir as run_files
from t5x_style.errors import UserError
from t5x_style.training import metrics


@dataclasses.dataclass(frozen=True)
class Sources:
    """The folders and files a report is made from.

    Attributes:
      model_dir: the run that the report is about. folder: the quickstart's folder, or None.
      evaluation: results of t5x_style.evaluate, or None.
      runs: title -> MODEL_DIR of every training run to show, in order.
      shown: how the user named the MODEL_DIR; of a URL `model_dir` is a local copy.
    """

    model_dir: Path
    folder: Path | None
    evaluation: str | None
    runs: dict[str, Path]
    shown: str

    def json(self, name: str) -> Any:
        """The content of a file below the quickstart's folder; None where there is none."""
        if self.folder is None or not (self.folder / name).is_file():
            return None
        return files.read_json(self.folder / name)

    def results(self) -> dict[str, Any] | None:
        """The evaluation's results, or None."""
        if self.evaluation is None:
            return None
        from t5x_style.evaluation import results

        return results.read(self.evaluation)

    def rows(self, run: Path, kind: str) -> list[dict[str, Any]]:
        """Rows of a run's metrics.jsonl of one kind, "train" or "eval"."""
        return [row for row in metrics.read(run) if row.get("kind") == kind]


def find(model_dir: str | Path | None, quickstart: str | Path | None, evaluation: str | Path | None) -> Sources:
    """Finds what there is.

    Args:
      model_dir: a MODEL_DIR; None takes the quickstart's `tune`, or its `pretrain`.
      quickstart: the quickstart's folder; None: only what MODEL_DIR itself tells.
      evaluation: a results file; None looks for evaluation.json in both folders.

    Raises:
      UserError: a folder or file that was named does not exist, or none was named.
    """
    folder = None if quickstart is None else files.require_local(quickstart, "--quickstart")
    if folder is not None and not folder.is_dir():
        raise UserError(f"--quickstart {str(folder)!r} is no folder; give the one the quickstart wrote")
    if model_dir is None and folder is None:
        raise UserError("nothing to report on; give --model MODEL_DIR or --quickstart DIR")
    known = {title: folder / name for title, name in RUNS.items()} if folder is not None else {}
    runs = {title: path for title, path in known.items() if (path / metrics.FILE).exists()}
    if model_dir is None:
        chosen = next(iter(reversed(runs.values())), folder / "tune" if folder is not None else Path())
    else:
        if not files.is_dir(model_dir):
            raise UserError(f"--model {files.path_of(model_dir)!r} is no folder; give the one that training wrote")
        if not any(files.is_file(files.join(model_dir, name)) for name in (run_files.MODEL, metrics.FILE)):
            raise UserError(
                f"--model {files.path_of(model_dir)!r} is no MODEL_DIR: it has neither {run_files.MODEL} nor "
                f"{metrics.FILE}; give the folder that training wrote"
            )
        chosen = run_files.local(model_dir)
        if chosen.resolve() not in [path.resolve() for path in runs.values()]:
            runs["Training"] = chosen
    candidates = [files.join(place, "evaluation.json") for place in (chosen, folder) if place is not None]
    if evaluation is not None:
        candidates = [files.path_of(evaluation)]
        if not files.is_file(evaluation):
            raise UserError(f"--evaluation {str(evaluation)!r} does not exist; write it with t5x_style.evaluate")
    found = next((path for path in candidates if files.is_file(path)), None)
    return Sources(chosen, folder, found, runs, str(chosen) if model_dir is None else files.path_of(model_dir))


RUNS = {"Pretraining": "pretrain", "Instruction tuning": "tune"}
