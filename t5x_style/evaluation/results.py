"""The results file: one JSON for several models, written after every finished task, read again by a rerun.

{"format": 1,
 "groups": {"seen tasks": ["task", ...], ...},
 "models": {"base": {
     "path": "out/pretrain", "step": 300,
     "tasks": {"task": {"key": ..., "settings": {...}, "step": 300, "seconds": 4.2, "metrics": {...},
                        "examples": 200, "rows": 400, "cut_inputs": 3, "unfinished_outputs": 1,
                        "baseline": {"majority": 0.5, "answer": "yes", "chance": 0.5}, "samples": [...]}},
     "perplexity": {"documents": {"key": ..., "settings": {...}, "step": 300, "seconds": 9.1, "metrics": {...}}}}}}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import logging

from t5x_style import files
from t5x_style.errors import UserError

FORMAT = 1
KINDS = ("tasks", "perplexity")


class Results:
    """The results file of one evaluation.

    Args:
      path: where it is or will be.

    Raises:
      UserError: there is a file that is no results file.
    """

    def __init__(self, path: str | Path):
        self._path = files.path_of(path)
        self.content: dict[str, Any] = {"format": FORMAT, "groups": [], "order": [], "models": {}}
        if files.exists(self._path):
            self.content = read(self._path)

    def start_model(self, name: str, path: str, step: int) -> None:
        """Enters a model; results of other steps of it stay until they are recomputed."""
        entry = self.content["models"].setdefault(name, {kind: {} for kind in KINDS})
        entry.update(path=path, step=step)
        if name not in self.content["order"]:
            self.content["order"].append(name)

    def set_group(self, name: str, tasks: list[str]) -> None:
        """Says which Tasks belong together; a group of that name is replaced."""
        for group in self.content["groups"]:
            if group["name"] == name:
                group["tasks"] = tasks
                return
        self.content["groups"].append({"name": name, "tasks": tasks})

    def finished(self, model: str, kind: str, name: str, key: str, settings: dict[str, Any]) -> bool:
        """Whether the file holds this result already; one with another key is announced and will be replaced.

        Args:
          model, kind, name: which result; the kind is "tasks" or "perplexity". key: fingerprint of all it depends on.
          settings: those of this run, to say what differs.
        """
        found = self.content["models"].get(model, {}).get(kind, {}).get(name)
        if found is None:
            return False
        if found["key"] == key:
            logging.info("%s, %s: already in %s", model, name, self._path)
            return True
        changed = [
            f"{option} {found['settings'].get(option)!r} -> {value!r}"
            for option, value in settings.items()
            if found["settings"].get(option) != value
        ]
        reason = ", ".join(changed) or "the model or the data changed"
        logging.info("%s, %s: computed again (%s)", model, name, reason)
        return False

    def add(self, model: str, kind: str, name: str, result: dict[str, Any]) -> None:
        """Enters a finished result and writes the file."""
        self.content["models"][model][kind][name] = result
        self.save()

    def save(self) -> None:
        """Writes the file in one step."""
        files.atomic_write_json(self._path, self.content)


def read(path: str | Path) -> dict[str, Any]:
    """The content of a results file.

    Raises:
      UserError: it is missing, broken, or something else.
    """
    if not files.exists(path):
        raise UserError(f"{path} does not exist; write it with python -m t5x_style.evaluate --output {path}")
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("models"), dict):
        raise UserError(f"{path} is no results file of format {FORMAT}; choose another --output")
    return content
