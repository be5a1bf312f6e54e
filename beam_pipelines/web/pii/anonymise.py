"""Replaces personal data by typed placeholders."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from beam_pipelines.web.document import Document, Outcome
from beam_pipelines.web.pii.cards import find_cards
from beam_pipelines.web.pii.context import dense_stretches
from beam_pipelines.web.pii.emails import find_emails
from beam_pipelines.web.pii.id_numbers import ID_NUMBERS, find_id_numbers
from beam_pipelines.web.pii.ip_addresses import find_ip_addresses
from beam_pipelines.web.pii.phones import countries, find_phones
from t5x_style.errors import UserError

PLACEHOLDERS = {
    "email": "<EMAIL>",
    "ip_address": "<IP_ADDRESS>",
    "id_number": "<ID_NUMBER>",
    "card": "<CARD>",
    "phone": "<PHONE>",
}
ID_KINDS = (*ID_NUMBERS, "iban")


@dataclass(frozen=True)
class AnonymisePii:
    """Replaces email and IP addresses, card, identity and telephone numbers. A second application changes nothing.

    Numbers must be valid: check digits, issuers' prefixes, numbering plans. Versions, dates, prices, ISBNs and the
    numbers in web addresses stay.

    Attributes:
      kinds: of `PLACEHOLDERS`, what is replaced; where two would overlap the earlier one in `PLACEHOLDERS` wins.
      placeholders: others than those of `PLACEHOLDERS`, by kind; without digits and @.
      regions: where telephone numbers without + are looked for, ISO 3166 codes, the first that fits; each costs time.
      public_addresses_only: leave private, loopback, documentation and multicast IP addresses, as FineWeb does.
      id_numbers: br (CPF), cn (resident ID), de (Steuer-ID), es (DNI, NIE), fr (NIR), iban, in (Aadhaar), it (codice
        fiscale), us (social security number).

    `edits` counts `emails`, `ip_addresses`, `id_numbers`, `cards`, `phones`.
    """

    kinds: Sequence[str] = tuple(PLACEHOLDERS)
    placeholders: Mapping[str, str] = dataclasses.field(default_factory=dict)
    regions: Sequence[str] = ("US",)
    public_addresses_only: bool = True
    id_numbers: Sequence[str] = ID_KINDS
    name: str = "anonymise_pii"

    def __post_init__(self) -> None:
        for field, known in (("kinds", PLACEHOLDERS), ("placeholders", PLACEHOLDERS), ("id_numbers", ID_KINDS)):
            given = getattr(self, field)
            if isinstance(given, str) or (unknown := set(given) - set(known)):
                wrong = given if isinstance(given, str) else ", ".join(sorted(unknown))
                raise UserError(f"AnonymisePii.{field} has {wrong!r}; it is a list out of {', '.join(known)}")
        if isinstance(self.regions, str):
            raise UserError(f"AnonymisePii.regions is a list: write [{self.regions!r}]")
        if unlike := sorted(set(self.regions) - countries()):
            raise UserError(f"AnonymisePii.regions: {unlike[0]!r} is no country; use codes such as US, DE")
        if like_data := [text for text in self.placeholders.values() if "@" in text or any(map(str.isdigit, text))]:
            raise UserError(
                f"AnonymisePii.placeholders: {like_data[0]!r} looks like personal data itself; leave out digits, @"
            )

    def apply(self, document: Document) -> Outcome:
        """See `DocumentStage`; rejects nothing."""
        text, edits = self.anonymise(document.text)
        return Outcome(document.replace(text=text) if edits else document, edits=edits)

    def anonymise(self, text: str) -> tuple[str, dict[str, int]]:
        """(the text, how many of each kind were replaced).

        Example: "Call (415) 555-2671 or write to a@b.org" -> ("Call <PHONE> or write to <EMAIL>", {"emails": 1,
        "phones": 1}).
        """
        counts: Counter[str] = Counter()
        placeholders = {**PLACEHOLDERS, **self.placeholders}
        # A placeholder is another neighbour than what it replaced, so what stands beside it is looked at again. Every
        # round takes digits or an @ away, which ends it.
        while found := self._find(text):
            pieces, place = [], 0
            for start, end, kind in found:
                pieces += [text[place:start], placeholders[kind]]
                place = end
                counts[kind] += 1
            text = "".join([*pieces, text[place:]])
        order = [kind for kind in PLACEHOLDERS if counts[kind]]
        return text, {("ip_addresses" if kind == "ip_address" else f"{kind}s"): counts[kind] for kind in order}

    def _find(self, text: str) -> list[tuple[int, int, str]]:
        """(start, end, kind), ascending, without overlaps."""
        taken: list[tuple[int, int, str]] = []
        if "email" in self.kinds:
            taken += ((*span, "email") for span in find_emails(text))
        if "ip_address" in self.kinds:
            taken += ((*span, "ip_address") for span in find_ip_addresses(text, self.public_addresses_only))
        for start, end in dense_stretches(text):
            taken += self._find_numbers(text, start, end)
        if len(taken) < 2:
            return taken
        rank = {kind: place for place, kind in enumerate(PLACEHOLDERS)}
        kept, covered = [], bytearray(len(text))
        for start, end, kind in sorted(taken, key=lambda span: (rank[span[2]], span[0], -span[1])):
            if covered.find(1, start, end) < 0:
                covered[start:end] = b"\1" * (end - start)
                kept.append((start, end, kind))
        return sorted(kept)

    def _find_numbers(self, text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        if "id_number" in self.kinds:
            for span in find_id_numbers(text, start, end, self.id_numbers):
                yield *span, "id_number"
        if "card" in self.kinds:
            for span in find_cards(text, start, end):
                yield *span, "card"
        if "phone" in self.kinds:
            for span in find_phones(text, start, end, self.regions):
                yield *span, "phone"
