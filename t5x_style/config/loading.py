"""Files and overrides in, one frozen dataclass out, every mistake found before expensive work.

A run is described by one root dataclass; all that gin configures is built under it, at once. So an unknown name, an
unset macro, a wrong type, and a binding or a scope that nothing uses are all errors at this point.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from t5x_style.config import build, levels, text
from t5x_style.config.names import NAMES
from t5x_style.config.resolve import Resolver, full_name, parameters
from t5x_style.config.statements import read_binding, read_file
from t5x_style.config.type_checks import ANYTHING, ToBeMade, check_types, fits, name_of
from t5x_style.config.values import REQUIRED, Binding, Macro, Reference, replace
from t5x_style.errors import UserError


class Loaded(NamedTuple):
    """What `load` returns: the root, what it was made of (a run file by itself), and all bindings that hold."""

    root: Any
    operative: str
    full: str


def load(
    root: type, gin_files: Sequence[str], bindings: Sequence[str] = (), names: Mapping[str, str] = NAMES
) -> Loaded:
    """Reads gin files and bindings and builds `root` from them.

    The order of files and lines does not matter where they differ in level: a library file that a library file includes
    < library file < user's file < command line. Of one level the later line holds. See `levels`.

    Args:
      root: the dataclass that the files configure; it and all under it are built here, at once.
      gin_files: names for `find_gin_file`.
      bindings: `NAME = VALUE` overrides.
      names: short name -> full name of what the files may name without an import.

    Returns:
      (the instance of `root`, the operative configuration, the full configuration), the last two as gin text.

    Raises:
      UserError: anything wrong with the configuration, in one line with file and line, or the option.
    """
    resolver = Resolver(names)
    resolver.add(root)
    read = [binding for name in gin_files for binding in read_file(name, resolver)]
    read += [binding for given in bindings for binding in read_binding(given, resolver)]
    plan = levels.plan(read, full_name(root))
    if not plan.calls[levels.Call((), full_name(root))]:
        raise UserError(f"the gin files configure no {root.__name__}; start from one of the files in gin/")
    _check(plan, resolver)
    _check_effect(read, plan)
    targets = {call.target: resolver.found[call.target] for call in plan.calls}
    instance = build.build(root, targets, text.program(plan))
    if problems := list(check_types(instance, root.__name__)):
        raise UserError("; ".join(problems))
    return Loaded(instance, text.operative(plan, resolver), text.full(plan, resolver))


def _check(plan: levels.Plan, resolver: Resolver) -> None:
    """Raises UserError for the first kind of mistake that the plan shows."""
    for mistakes in (
        _unset(plan),
        _circle(plan),
        _unused(plan),
        _wrong_types(plan, resolver),
        _missing(plan, resolver),
    ):
        if found := list(mistakes):
            raise UserError("; ".join(found))


def _check_effect(read: Sequence[Binding], plan: levels.Plan) -> None:
    """Raises UserError for a library file that was named but changes nothing, because a user's file says otherwise.

    Only the command line can be meant to override it: a file that was named and does nothing would go unnoticed.
    """
    used = {id(binding) for binding in plan.used}
    holding = {binding.key: binding for binding in [*plan.used, *plan.rest, *plan.dropped]}

    def changes(binding: Binding) -> bool:
        others = [other for other in read if other.key == binding.key and other.source != binding.source]
        without = max(reversed(others), key=lambda other: other.level, default=None)
        return id(binding) in used and (without is None or without.value != binding.value)

    for source in dict.fromkeys(binding.source for binding in read if binding.level == levels.NAMED):
        own = [binding for binding in read if binding.source == source and binding.level == levels.NAMED]
        own = [binding for binding in own if binding.key.target] or own  # macros alone are no effect of a model file
        lost = [binding for binding in own if holding[binding.key].value != binding.value]
        lost = [binding for binding in lost if holding[binding.key].level.kind == levels.NAMED.kind + 1]
        if lost and not any(map(changes, own)):
            raise UserError(
                f"nothing of {lost[0].place.rpartition(':')[0]} holds: {holding[lost[0].key].place} says otherwise of "
                f"{lost[0].key.short}; leave the file out, or override on the command line (--gin.NAME=VALUE)"
            )


def _unset(plan: levels.Plan) -> Iterator[str]:
    """Macros that are used but never set, or set to %gin.REQUIRED."""
    if not plan.unset:
        return
    names = sorted(plan.unset)
    written = (binding.key.parameter for binding in plan.rest if not binding.key.target)
    known = [name for name in (*plan.macros, *written) if name not in names]  # a name that is %gin.REQUIRED is no help
    near = [match for name in names for match in difflib.get_close_matches(name, known, n=1, cutoff=0.6)]
    hint = f" (set are similar names: {', '.join(near)})" if near else ""
    yield f"macro {', '.join(names)} is not set; pass --gin.{names[0]}=VALUE or set it in a gin file{hint}"


def _circle(plan: levels.Plan) -> Iterator[str]:
    """What needs itself to be made."""
    if found := levels.circle(plan):
        names = " -> ".join(binding.key.short for binding in [*found, found[0]])
        yield f"{names} is a circle ({found[-1].place}); give one of them another value"


def _unused(plan: levels.Plan) -> Iterator[str]:
    """What was written for this run and nothing uses; a binding that others hide in every scope says so."""

    def shown_with_place(binding: Binding) -> str:
        hiding = {
            bound[binding.key.parameter].key.short
            for call, bound in plan.calls.items()
            if call.target == binding.key.target and binding.key.parameter in bound
        }
        instead = f"; {' and '.join(sorted(hiding))} hold instead" if binding.key.target and hiding else ""
        return f"{binding.key.short} ({binding.place}{instead})"

    unused = [binding for binding in plan.rest if binding.must_be_used]
    if unused:
        shown = ", ".join(map(shown_with_place, unused))
        plural = "s" if len(unused) > 1 else ""
        yield f"nothing uses the binding{plural} {shown}; look for a misspelt name or scope, or remove it"


def _wrong_types(plan: levels.Plan, resolver: Resolver) -> Iterator[str]:
    """Values that do not fit the parameter they are bound to, macros seen through.

    Checked before anything is built: a constructor that compares a text with a number would say less.
    """

    def seen(leaf: Any) -> Any:
        if isinstance(leaf, Macro) and leaf != REQUIRED:
            return replace(plan.macros[leaf.name].value, seen)
        return leaf

    def stand_in(leaf: Any) -> Any:
        if isinstance(leaf, Reference):
            target = resolver.found[leaf.name]
            return target if not leaf.call else ToBeMade(target) if isinstance(target, type) else ANYTHING
        return ANYTHING if isinstance(leaf, Macro) else leaf

    def shown(leaf: Any) -> Any:
        return dataclasses.replace(leaf, name=leaf.name.rpartition(".")[2]) if isinstance(leaf, Reference) else leaf

    checked: set[int] = set()
    for call, bound in plan.calls.items():
        hints = parameters(resolver.found[call.target]).hints
        for name, binding in bound.items():
            value = replace(binding.value, seen)
            if id(binding) in checked or fits(replace(value, stand_in), hints.get(name, Any)):
                continue
            checked.add(id(binding))
            target = resolver.found[call.target].__name__
            text = repr(replace(value, shown))
            hint = f"; did you mean {text}()?" if isinstance(value, Reference) and not value.call else ""
            yield f"{target}.{name} is {text}, must be {name_of(hints[name])} ({_place(binding, plan)}){hint}"


def _place(binding: Binding, plan: levels.Plan) -> str:
    """Where a value was written: the macro's place if the binding is one."""
    if isinstance(binding.value, Macro) and binding.value.name in plan.macros:
        return _place(plan.macros[binding.value.name], plan)
    return binding.place


def _missing(plan: levels.Plan, resolver: Resolver) -> Iterator[str]:
    """Parameters without default that nothing binds, and those that a file leaves open with %gin.REQUIRED."""
    for call in plan.calls:
        if call not in plan.made:
            continue
        bound = plan.calls[call]
        open_ends = {name for name, binding in bound.items() if binding.value == REQUIRED}
        missing = sorted(open_ends | set(parameters(resolver.found[call.target]).required).difference(bound))
        if missing:
            target = resolver.found[call.target].__name__
            scope = "".join(f"{part}/" for part in call.scope)
            yield f"{target}: no value for {', '.join(missing)}; bind {scope}{target}.{missing[0]} in a gin file"
