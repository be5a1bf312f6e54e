"""Bindings as gin text: what config.gin and operative.gin of a MODEL_DIR hold.

operative.gin is a run file by itself; config.gin, for reading, also has bindings that nothing uses.
"""

from __future__ import annotations

import pprint
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from t5x_style.config.levels import Plan
from t5x_style.config.resolve import Resolver, parameters
from t5x_style.config.values import Binding, Key, Macro, Reference, leaves, replace

_WIDTH = 100
_PLAIN = (int, float, str, bool, bytes, type(None))


def program(plan: Plan) -> str:
    """The bindings in use with full names, one a line, for gin itself."""
    return "".join(f"{_key(binding.key, str)} = {binding.value!r}\n" for binding in plan.used)


def operative(plan: Plan, resolver: Resolver) -> str:
    """Everything the run got, defaults of the code included: as a run file by itself it gives the same run."""
    values: dict[Key, Any] = {}
    for call, bound in plan.calls.items():
        for name, default in parameters(resolver.found[call.target]).defaults.items():
            if _is_literal(default):
                values[Key("/".join(call.scope), call.target, name)] = default
        for name, binding in bound.items():
            values[Key("/".join(call.scope), call.target, name)] = binding.value
    return _sections({name: binding.value for name, binding in plan.macros.items()}, values, resolver)


def full(plan: Plan, resolver: Resolver) -> str:
    """The bindings that hold, as written, those that nothing uses too; without defaults of the code."""
    bindings: Iterable[Binding] = [*plan.used, *plan.rest]
    macros = {binding.key.parameter: binding.value for binding in bindings if not binding.key.target}
    return _sections(macros, {binding.key: binding.value for binding in bindings if binding.key.target}, resolver)


def _sections(macros: Mapping[str, Any], values: Mapping[Key, Any], resolver: Resolver) -> str:
    """Macros, then one block a class or function and scope, by name."""
    shorts = {full: short for short, full in resolver.names.items()}

    def short(full: str) -> str:
        return shorts.get(full, full)

    lines = []
    if macros:
        lines += ["# Macros", *(_line(name, macros[name], short) for name in sorted(macros)), ""]
    blocks: dict[str, list[str]] = {}
    for key in sorted(values, key=lambda key: (short(key.target).lower(), key.scope, key.parameter)):
        head = _key(key, short).rpartition(".")[0]
        blocks.setdefault(head, []).append(_line(_key(key, short), values[key], short))
    for head, block in blocks.items():
        lines += [f"# {head}", *block, ""]
    return "\n".join(lines)


def _key(key: Key, name: Callable[[str], str]) -> str:
    if not key.target:
        return key.parameter
    return f"{key.scope}{'/' if key.scope else ''}{name(key.target)}.{key.parameter}"


def _line(name: str, value: Any, short: Callable[[str], str]) -> str:
    """`name = value`, a long value on indented lines of its own."""

    def shortened(leaf: Any) -> Any:
        return Reference(leaf.scopes, short(leaf.name), leaf.call) if isinstance(leaf, Reference) else leaf

    shown = pprint.pformat(replace(value, shortened), width=_WIDTH, sort_dicts=False)
    if "\n" in shown:
        indented = "\n".join(f"    {line}" for line in shown.splitlines())
        return f"{name} = \\\n{indented}"
    return f"{name} = {shown}"


def _is_literal(value: Any) -> bool:
    """Whether gin can read the value's text back."""
    if not all(type(leaf) in _PLAIN or isinstance(leaf, (Reference, Macro)) for leaf in leaves(value)):
        return False
    return "inf" not in repr(value) and "nan" not in repr(value) if isinstance(value, float) else True
