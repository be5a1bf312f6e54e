"""Finds seqio Tasks and Mixtures by name in the modules that register them."""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

import seqio
from absl import logging

from beam_pipelines.caching.failures import told, whole_reason
from t5x_style.data.vocabulary_facts import FOLDER
from t5x_style.errors import UserError

DATA_DIR_VARIABLE = "T5X_STYLE_DATA_DIR"


def own_modules() -> list[str]:
    """The project's task modules, imported where the user names none."""
    import tasks

    return sorted(module.name for module in pkgutil.iter_modules(tasks.__path__, "tasks."))


def import_modules(modules: Sequence[str], data_dir: str | None) -> None:
    """Imports what registers the Tasks.

    Args:
      modules: dotted names, found from the working directory too.
      data_dir: value for T5X_STYLE_DATA_DIR, set before the imports; None leaves it.

    Raises:
      UserError: a module does not exist or fails.
    """
    if data_dir is not None:
        os.environ[DATA_DIR_VARIABLE] = data_dir
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # console commands do not have it
    for module in modules:
        try:
            importlib.import_module(module)
        except UserError:
            raise
        except Exception as error:
            unknown = isinstance(error, ModuleNotFoundError) and _is_or_holds(error.name, module)
            remedy = (
                "give a dotted module name, found from the working directory or on PYTHONPATH"
                if unknown or not module.replace(".", "_").isidentifier()
                else f"mend the module, python -c 'import {module}' tells where it fails"
            )
            raise UserError(f"--module {module}: cannot be imported ({whole_reason(error)}); {remedy}") from error


def _is_or_holds(name: str | None, module: str) -> bool:
    """Whether `name` is the module, or a package it is said to be in."""
    return name is not None and f"{module}.".startswith(f"{name}.")


def get_provider(name: str) -> seqio.Task | seqio.Mixture:
    """The Task or Mixture of this name.

    Raises:
      UserError: there is none; the message lists names like it.
    """
    with told(f"{name!r}: seqio does not give it", "mend the module that registers it"):
        if name in seqio.MixtureRegistry.names():
            return seqio.MixtureRegistry.get(name)
        if name in seqio.TaskRegistry.names():
            return seqio.TaskRegistry.get(name)
    known = sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or known[:5]
    found = f"known names like it: {', '.join(near)}" if near else "no Task is registered"
    raise UserError(f"no Task or Mixture is called {name!r}; {found}; --module names the module that registers it")


def tasks_of(providers: Sequence[seqio.Task | seqio.Mixture], skip: Sequence[str] = ()) -> list[seqio.Task]:
    """Every Task once: those named, and those of the Mixtures, in that order.

    Args:
      skip: names of Tasks to leave out.

    Raises:
      UserError: a Task class that replaces seqio's own way from source to examples; a name to leave out that is no
        Task here; nothing is left.
    """
    found: dict[str, seqio.Task] = {}
    for provider in providers:
        for task in [provider] if isinstance(provider, seqio.Task) else provider.tasks:
            found[task.name] = task
    for name in skip:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=5, cutoff=0.4) or sorted(found)[:5]
            raise UserError(f"--skip {name}: no Task of this command; there are {', '.join(near)}")
    found = {name: task for name, task in found.items() if name not in skip}
    if not found:
        raise UserError("--skip leaves no Task to cache")
    if skip:
        logging.info("left out: %s", ", ".join(dict.fromkeys(skip)))
    for name in (*found, *(provider.name for provider in providers)):
        if name == FOLDER:
            raise UserError(
                f"{name!r} is no name for a Task: that folder of a cache holds its vocabularies; give it another"
            )
    for task in found.values():
        for method in ("get_dataset", "preprocess_precache", "preprocess_postcache"):
            if getattr(type(task), method) is not getattr(seqio.Task, method):
                raise UserError(
                    f"Task {task.name!r}: class {type(task).__name__} overrides {method}, so its examples are not "
                    "those of its source and preprocessors; put that work into a preprocessor"
                )
    return list(found.values())
