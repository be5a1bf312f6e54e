"""Finds the public, documented classes, functions and methods of a source file with `ast`; nothing is imported."""

from __future__ import annotations

import ast
import inspect
import warnings
from collections import Counter
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Method:
    """A public method as its class's page lists it."""

    name: str
    signature: str
    summary: str


@dataclass(frozen=True)
class DocumentedObject:
    """One class, function or method with a docstring."""

    kind: str  # "class" or "function"; a method is a function
    package: str
    module: str
    name: str  # within the module: "Decoder", "Decoder.decode"
    signature: str
    docstring: str
    arguments: tuple[str, ...] = ()  # of a function; without self and cls
    public_methods: tuple[Method, ...] = ()  # of a class
    method_names: tuple[str, ...] = ()  # of a class: every method its body defines, private ones too

    @property
    def qualified_name(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def summary(self) -> str:
        return summary_of(self.docstring)


def summary_of(docstring: str) -> str:
    """First non-empty line.

    >>> summary_of("  Adds.\\n\\nMore.")
    'Adds.'
    """
    return next((line.strip() for line in docstring.splitlines() if line.strip()), "")


def argument_names(function: Function, method: bool = False) -> tuple[str, ...]:
    """Names in the order of the signature; the receiver of a method is left out unless it is static.

    >>> argument_names(ast.parse("def f(a, /, b, *c, d=1, **e): pass").body[0])
    ('a', 'b', 'c', 'd', 'e')
    """
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
    if method and names and not static:
        names = names[1:]
    names += [given.vararg.arg] if given.vararg else []
    names += [argument.arg for argument in given.kwonlyargs]
    names += [given.kwarg.arg] if given.kwarg else []
    return tuple(names)


def function_signature(function: Function) -> str:
    """`def name(arguments) -> result`, defaults and annotations as written."""
    prefix = "async def" if isinstance(function, ast.AsyncFunctionDef) else "def"
    result = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"{prefix} {function.name}({ast.unparse(function.args)}){result}"


def _class_signature(node: ast.ClassDef) -> str:
    bases = [ast.unparse(base) for base in node.bases] + [ast.unparse(keyword) for keyword in node.keywords]
    return f"class {node.name}({', '.join(bases)})" if bases else f"class {node.name}"


def _last_definitions(body: list[ast.stmt]) -> dict[str, ast.ClassDef | Function]:
    """Definitions by name; the last of a name wins, as in Python (overloads come before the implementation)."""
    found: dict[str, ast.ClassDef | Function] = {}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.pop(node.name, None)
            found[node.name] = node
    return found


def _docstring(node: ast.ClassDef | Function) -> str:
    return inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()


def documented_objects(
    text: str, package: str, module: str, minimum: int = 60, method_minimum: int = 200
) -> tuple[list[DocumentedObject], Counter[str]]:
    """Objects of one source file, in its order, and how many public ones were skipped, by reason.

    Args:
      text: the file's content.
      package: top-level import name.
      module: dotted module name.
      minimum: docstrings shorter than this many characters give no page.
      method_minimum: the same for a method's own page (its class's page lists it anyway).
    """
    skipped: Counter[str] = Counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        skipped[f"source file: {type(error).__name__}"] += 1
        return [], skipped

    def wanted(node: ast.ClassDef | Function, what: str, least: int) -> bool:
        length = len(_docstring(node))
        if length < least:
            skipped[f"{what}: {'no docstring' if length == 0 else 'short docstring'}"] += 1
        return length >= least

    found = []
    for node in _last_definitions(tree.body).values():
        if node.name.startswith("_"):
            continue
        if not isinstance(node, ast.ClassDef):
            if wanted(node, "function", minimum):
                found.append(_function_page(node, package, module))
            continue
        methods = {n: m for n, m in _last_definitions(node.body).items() if not isinstance(m, ast.ClassDef)}
        if wanted(node, "class", minimum):
            found.append(_class_page(node, methods, package, module))
        for name, method in methods.items():
            if not name.startswith("_") and wanted(method, "method", method_minimum):
                found.append(_function_page(method, package, module, node.name))
    return found, skipped


def _function_page(node: Function, package: str, module: str, owner: str = "") -> DocumentedObject:
    return DocumentedObject(
        kind="function",
        package=package,
        module=module,
        name=f"{owner}.{node.name}" if owner else node.name,
        signature=function_signature(node),
        docstring=_docstring(node),
        arguments=argument_names(node, method=bool(owner)),
    )


def _class_page(node: ast.ClassDef, methods: dict, package: str, module: str) -> DocumentedObject:
    public = tuple(
        Method(name, function_signature(method), summary_of(_docstring(method)))
        for name, method in methods.items()
        if not name.startswith("_")
    )
    return DocumentedObject(
        kind="class",
        package=package,
        module=module,
        name=node.name,
        signature=_class_signature(node),
        docstring=_docstring(node),
        public_methods=public,
        method_names=tuple(methods),
    )
