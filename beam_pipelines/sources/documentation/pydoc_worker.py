"""Child process that imports modules and renders pydoc's HTML for them; runs as a script, on its own.

It knows nothing of this project (its folder is not on its path), since importing a module may do anything:
the parent kills it when a module hangs and starts it again behind that module.
Usage: python -P pydoc_worker.py PIPE_FD FOLDER, where FOLDER/items.json lists the modules as [[index, name], ...].
Each page goes to FOLDER/<index>.html; each outcome is one line in the pipe: `<index> ok` or `<index> <reason>`.
"""

import importlib
import importlib.abc
import inspect
import json
import os
import pydoc
import re
import sys
import threading
import time
import warnings

# Larger pages mostly repeat inherited members: the tenth above 60,000 held two thirds of all module text.
MAX_CHARACTERS = 60_000
# Each member of a class, inherited ones too, takes about 150 characters: known to be too large before seconds go into
# it (of 461 modules none above this made a page that would have been kept).
MAX_MEMBERS = 400
# Optional imports that would take longer than everything else together.
BLOCKED = {"tensorflow", "torch", "seqio", "apache_beam", "tensorflow_datasets", "tensorflow_text", "keras", "tkinter"}


class _Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):  # noqa: ARG002 (the interface's names)
        if fullname.partition(".")[0] in BLOCKED:
            raise ImportError(f"{fullname} is not imported for its documentation")
        return None


PLAIN = (str, bytes, int, float, complex, bool, type(None))


class _Document(pydoc.HTMLDoc):
    """pydoc's HTML, except that only plain constants are shown with their value.

    The representation of anything else may hold an address or a set's order, which change from run to run, or
    this machine's environment (os.environ).
    """

    def docother(self, object, name=None, mod=None, *ignored):
        if type(object) in PLAIN:
            return super().docother(object, name, mod, *ignored)
        label = f"<strong>{name}</strong>: " if name else ""
        return f"{label}{self.escape(type(object).__module__)}.{self.escape(type(object).__qualname__)}"


def scrub(page: str, home: str) -> str:
    """Takes out what changes from run to run or names this machine: addresses, folders."""
    page = re.sub(r"\b0x[0-9a-f]{6,}\b", "0x0", page)
    page = re.sub(r'<a href="file:[^"]*">[^<]*</a>', "", page)
    for folder in sorted({home, sys.prefix, sys.base_prefix, sys.exec_prefix}, key=len, reverse=True):
        page = page.replace(folder, "/usr")
    return page


def class_members(module) -> int:
    """Members of the classes that pydoc lists in full: those in `__all__`, else those the module defines."""
    public = getattr(module, "__all__", None)
    own = [
        value
        for name, value in inspect.getmembers(module, inspect.isclass)
        if (name in public if public is not None else (inspect.getmodule(value) or module) is module)
    ]
    return sum(max(0, len(dir(each)) - len(dir(object))) for each in own)


class TooLarge(Exception):
    """The module's page is not wanted."""


def render(name: str, home: str) -> str:
    """The pydoc page of a module."""
    module = importlib.import_module(name)
    if class_members(module) > MAX_MEMBERS:
        raise TooLarge(f"classes with over {MAX_MEMBERS} members")
    document = _Document()
    return scrub(document.page(pydoc.describe(module), document.document(module, name)), home)


def outcome_of(index: int, name: str, folder: str) -> str:
    """Renders one module; `ok` or the reason why there is no page."""
    try:
        page = render(name, folder)
    except TooLarge as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001 (whatever a module raises, SystemExit too, is a counted reason)
        return type(error).__name__
    if len(page) > MAX_CHARACTERS:
        return f"page over {MAX_CHARACTERS} characters"
    with open(os.path.join(folder, f"{index}.html"), "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(page)
    return "ok"


def end_with_parent(parent: int) -> None:
    """Ends this process when the one that watches it is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Renders the modules of the folder named on the command line, one after the other, for the driver."""
    end_with_parent(os.getppid())
    pipe, folder = int(sys.argv[1]), sys.argv[2]
    with open(os.path.join(folder, "items.json"), encoding="utf-8") as file:
        items = json.load(file)
    sys.argv = ["pydoc"]  # modules may look at the command line when imported
    sys.meta_path.insert(0, _Blocker())
    warnings.simplefilter("ignore")
    for index, name in items:
        os.write(pipe, f"{index} {outcome_of(index, name, folder)}\n".encode())
    os._exit(0)  # threads of imported modules must not keep the process alive


if __name__ == "__main__":
    main()
