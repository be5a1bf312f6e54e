"""Which bindings hold, by levels, and what follows when one file replaces a part that another file chose.

Worked example: runs/frame.gin says `TrainRun.optimizer = @AdamW()`, `AdamW.schedule = @Cosine()`; a user's file says
`TrainRun.optimizer = @Lion()` and `Lion.schedule = @InverseSqrt()`. In any order the user's file holds. AdamW's and
Cosine's bindings are reachable from the replaced value alone: they are dropped, and the macros that only they use need
no use. Had the user's file itself bound `AdamW.beta1`, that would be an error: nothing uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from t5x_style.config.values import REQUIRED, Binding, Key, Macro, Reference, leaves


class Call(NamedTuple):
    """A class or function that will be called, in a scope (gin's, innermost last)."""

    scope: tuple[str, ...]
    target: str


class Plan(NamedTuple):
    """What holds.

    Attributes:
      calls: what the root needs, root first: call -> parameter -> the binding it gets. made: those of them that are
        called while the root is made (`@Name()`), rather than handed on (`@Name`).
      macros: those in use, by name. unset: names of macros in use that nothing sets.
      rest: bindings that hold but that nothing uses. dropped: those that a replacement made pointless.
    """

    calls: dict[Call, dict[str, Binding]]
    made: frozenset[Call]
    macros: dict[str, Binding]
    unset: tuple[str, ...]
    rest: tuple[Binding, ...]
    dropped: tuple[Binding, ...]

    @property
    def used(self) -> list[Binding]:
        """Every binding that has an effect, once."""
        found = {binding.key: binding for call in self.calls.values() for binding in call.values()}
        return [*self.macros.values(), *found.values()]


class _Reach:
    """Follows references and macros from a value."""

    def __init__(self, holding: Mapping[Key, Binding]):
        self.by_call: dict[tuple[str, str], dict[str, Binding]] = {}
        for key, binding in holding.items():
            self.by_call.setdefault((key.scope, key.target), {})[key.parameter] = binding
        self.calls: dict[Call, dict[str, Binding]] = {}
        self.made: set[Call] = set()
        self.macros: dict[str, Binding] = {}
        self.unset: list[str] = []

    def follow(self, value: Any, scope: tuple[str, ...]) -> None:
        """Notes all that a value needs when it is made in a scope."""
        for leaf in leaves(value):
            if isinstance(leaf, Reference):
                self.call(Call(leaf.scopes or scope, leaf.name), leaf.call)
            elif isinstance(leaf, Macro) and leaf != REQUIRED:
                self.macro(leaf.name)

    def macro(self, name: str) -> None:
        binding = self.by_call.get(("", ""), {}).get(name)
        if binding is None or binding.value == REQUIRED:
            if name not in self.unset:
                self.unset.append(name)
        elif name not in self.macros:
            self.macros[name] = binding
            self.follow(binding.value, (name,))  # gin makes a macro's value in a scope of the macro's name

    def call(self, call: Call, made: bool) -> None:
        if made:
            self.made.add(call)
        if call in self.calls:
            return
        bound: dict[str, Binding] = {}
        for depth in range(len(call.scope) + 1):
            bound |= self.by_call.get(("/".join(call.scope[:depth]), call.target), {})
        self.calls[call] = bound
        for binding in bound.values():
            self.follow(binding.value, call.scope)

    def met(self) -> set[Key]:
        """The keys of all bindings that were met."""
        bound = {binding.key for call in self.calls.values() for binding in call.values()}
        return bound | {binding.key for binding in self.macros.values()}


def plan(bindings: Iterable[Binding], root: str) -> Plan:
    """Decides which bindings hold and what the class `root` needs of them."""
    written: dict[Key, list[Binding]] = {}
    for binding in bindings:
        written.setdefault(binding.key, []).append(binding)
    for rivals in written.values():
        rivals.sort(key=lambda binding: binding.level)  # stable: of one level the later line holds
    holding = {key: rivals[-1] for key, rivals in written.items()}
    new = _Reach(holding)
    new.call(Call((), root), made=True)
    used = new.met()
    excused = _excused(written, holding, new)
    unused = [binding for key, binding in holding.items() if key not in used]
    return Plan(
        calls=new.calls,
        made=frozenset(new.made),
        macros=new.macros,
        unset=tuple(new.unset),
        rest=tuple(binding for binding in unused if binding.key not in excused),
        dropped=tuple(binding for binding in unused if binding.key in excused),
    )


def circle(plan: Plan) -> list[Binding]:
    """The bindings of a part or macro that needs itself to be made, in order; none if there is no such circle."""
    path: list[tuple[Call | str, Binding]] = []
    done: set[Call | str] = set()

    def visit(node: Call | str) -> list[Binding]:
        nodes = [open_node for open_node, _ in path]
        if node in nodes:
            return [binding for _, binding in path[nodes.index(node) :]]
        if node in done:
            return []
        bound = [plan.macros[node]] if isinstance(node, str) else list(plan.calls[node].values())
        scope = (node,) if isinstance(node, str) else node.scope
        for binding in bound:
            path.append((node, binding))
            for leaf in leaves(binding.value):
                found: list[Binding] = []
                if isinstance(leaf, Macro) and leaf.name in plan.macros:
                    found = visit(leaf.name)
                elif isinstance(leaf, Reference) and leaf.call:
                    found = visit(Call(leaf.scopes or scope, leaf.name))
                if found:
                    return found
            path.pop()
        done.add(node)
        return []

    return visit(next(iter(plan.calls)))


def _excused(written: Mapping[Key, list[Binding]], holding: Mapping[Key, Binding], new: _Reach) -> set[Key]:
    """Keys that replaced values reach: macros, and what other files than the replacing one bound.

    A replaced value is followed in every scope that its owner is called in, be that call itself replaced or not.
    """
    excused: set[Key] = set()
    scopes: dict[str, set[tuple[str, ...]]] = {}

    def note(calls: Iterable[Call]) -> bool:
        before = sum(map(len, scopes.values()))
        for call in calls:
            scopes.setdefault(call.target, set()).add(call.scope)
        return sum(map(len, scopes.values())) > before

    note(new.calls)
    grown = True
    while grown:
        grown = False
        for key, rivals in written.items():
            for old in rivals[:-1]:
                if old.value == rivals[-1].value:
                    continue
                own = (key.parameter,) if not key.target else tuple(filter(None, key.scope.split("/")))
                for scope in {own, *scopes.get(key.target, ())}:
                    reach = _Reach(holding)
                    reach.follow(old.value, scope)
                    for met in reach.met():
                        if not met.target or holding[met].source != rivals[-1].source:
                            excused.add(met)
                    grown |= note(reach.calls)
    return excused
