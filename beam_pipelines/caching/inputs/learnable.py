"""Whether a cache of files holds anything that a model can learn: one without examples or responses is an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from beam_pipelines.caching.inputs.columns import ASSISTANT, CHAT, KNOWN_ROLES, PAIR, Columns
from t5x_style.errors import UserError


def roles_of(results: Mapping[str, Mapping[str, Any]]) -> Counter[str]:
    """Messages of all units by role."""
    roles: Counter[str] = Counter()
    for result in results.values():
        roles.update(result.get("roles", {}))  # units of an earlier version have none
    return roles


def counted(roles: Mapping[str, int]) -> str:
    """How often each is there, the commonest first.

    >>> counted({"user": 2, "assistent": 3})
    'assistent 3, user 2'
    """
    ordered = sorted(roles.items(), key=lambda item: (-item[1], item[0]))
    more = "" if len(ordered) <= 8 else f" and {len(ordered) - 8} more"
    return ", ".join(f"{role} {count}" for role, count in ordered[:8]) + more


def check_learnable(where: str, columns: Columns, examples: int, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses the result of a whole job that holds no example, or in which no record has a response.

    Args:
      where: begins the message. examples: of all splits.

    Raises:
      UserError: one line with how many records there are, what is wrong with them all, and how to mend it.
    """

    def total(key: str) -> int:
        return sum(int(result.get(key, 0)) for result in results.values())

    documents = total("documents")
    without = total("unanswered") + total("hollow")
    if not documents and total("broken"):
        first = next(result["first_broken"] for result in results.values() if result["broken"])
        blank = f" (and {total('empty')} are empty)" if total("empty") else ""
        raise UserError(
            f"{where}: all {total('broken')} records are broken{blank}, --skip_broken leaves none; the first: {first}"
        )
    if documents and columns.form in (CHAT, PAIR) and (not total("responses") or without >= documents):
        raise UserError(f"{where}: {_why_no_response(documents, total('unanswered'), columns, roles_of(results))}")
    if not examples:
        raise UserError(f"{where}: no record holds any text; check the column")


def _why_no_response(documents: int, unanswered: int, columns: Columns, roles: Mapping[str, int]) -> str:
    if columns.form == PAIR and not unanswered:
        return (
            f"the completions of all {documents} records are empty, there is nothing to learn; fill column "
            f"{columns.names[-1]!r}, or learn the texts of the other with --feature {columns.names[0]}"
        )
    if unanswered < documents and ASSISTANT in roles:
        return (
            f"none of the {documents} conversations has an answer with text, there is nothing to learn "
            f"(roles seen: {counted(roles)}); fill the content of the assistant's messages"
        )
    unknown = [role for role in roles if role not in KNOWN_ROLES]
    mend = f"write {ASSISTANT!r} for {' or '.join(map(repr, unknown[:3]))}" if unknown else "give them answers"
    return (
        f"none of the {documents} conversations has a message of the role {ASSISTANT!r} to learn "
        f"(roles seen: {counted(roles)}); {mend}"
    )
