"""From candidates to examples: one answer for one content, split by object, labels balanced, capped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from beam_pipelines.examples.candidates import Candidate
from tasks.splits import SPLITS, split_of, stable_hash


def well_posed(candidates: Sequence[Candidate]) -> tuple[list[Candidate], Counter[str]]:
    """Keeps one candidate for each content and id; contents with two answers are dropped whole.

    Content is compared without case and white space. Of equal candidates the one with the first id stays.
    """
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[" ".join(candidate.content.lower().split())].append(candidate)
    kept: dict[str, Candidate] = {}
    dropped: Counter[str] = Counter()
    for group in groups.values():
        if len({candidate.answer for candidate in group}) > 1:
            dropped["same content, different answers"] += len(group)
            continue
        dropped["same content"] += len(group) - 1
        first = min(group, key=lambda candidate: candidate.id)
        if first.id in kept:
            dropped["same object"] += 1
        else:
            kept[first.id] = first
    return sorted(kept.values(), key=lambda candidate: candidate.id), +dropped


def choose_labels(candidates: Sequence[Candidate], minimum: int, most: int, cap: int) -> tuple[str, ...]:
    """The labels worth asking for: the k most frequent ones for the k that gives the most balanced training examples.

    Args:
      candidates: of all splits; only those of the training split are counted.
      minimum: training examples that a label needs.
      most: labels at most.
      cap: training examples at most, all labels together.

    Returns:
      At least two labels in alphabetical order, or () where fewer than two have `minimum` examples.
    """
    counts = Counter(candidate.label for candidate in candidates if split_of(candidate.key) == "train")
    ranked = [
        label for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count >= minimum
    ]
    sizes = {k: k * min(counts[ranked[k - 1]], cap // k) for k in range(2, min(len(ranked), most) + 1)}
    if not sizes:
        return ()
    best = max(sizes, key=lambda k: (sizes[k], k))
    return tuple(sorted(ranked[:best]))


def balanced_splits(
    candidates: Sequence[Candidate], caps: Mapping[str, int], labels: Sequence[str]
) -> tuple[dict[str, list[Candidate]], Counter[str]]:
    """Splits by object; in each split every label gets as many examples as the rarest, in all at most the cap.

    Args:
      candidates: of all splits.
      caps: split -> most examples.
      labels: the labels to keep; () for tasks without labels.

    Returns:
      split -> examples, both drawn and ordered by a hash of their ids; and the dropped counts.
    """
    dropped: Counter[str] = Counter()
    groups: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if labels and candidate.label not in labels:
            dropped["label not asked for"] += 1
        else:
            groups[split_of(candidate.key), candidate.label].append(candidate)
    wanted = tuple(labels) or ("",)
    splits: dict[str, list[Candidate]] = {}
    for split in SPLITS:
        rarest = min(len(groups[split, label]) for label in wanted)
        quota = min(rarest, caps[split] // len(wanted))
        chosen: list[Candidate] = []
        for label in wanted:
            ordered = sorted(groups[split, label], key=_order)
            chosen.extend(ordered[:quota])
            dropped["to balance the labels"] += len(ordered) - rarest
            dropped["over the cap"] += rarest - quota
        splits[split] = sorted(chosen, key=_order)
    return splits, +dropped


def _order(candidate: Candidate) -> tuple[int, str]:
    return stable_hash(f"order/{candidate.id}"), candidate.id
