"""What was trained on: the crawl, the tokenizer, the token caches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from t5x_style import files
from t5x_style.report import figures, markup
from t5x_style.report.markup import Markup
from t5x_style.report.sources import Sources

# Names of tokenizer.json that tell a reader nothing about the tokenizer.
_NOT_SHOWN = ("format", "fingerprint", "input", "seed", "special_ids")
_SPLIT_ORDER = {"train": 0, "validation": 1, "test": 2}
_SPECIMEN = "def mean(x, axis=None): returns the arithmetic mean of 1024 numbers."


def tokenizer(sources: Sources) -> Markup:
    """How it splits a line of text, and its figures."""
    specimen = _specimen(sources)
    described = sources.json("tokenizer/tokenizer.json")
    if not described:
        absent = markup.missing("tokenizer/tokenizer.json is not there: the tokenizer was not trained here.")
        return markup.join([specimen, absent])
    rows = [[name.replace("_", " "), _figure(value)] for name, value in _scalars(described)]
    return markup.join([specimen, markup.table(["figure", "value"], rows)])


def _specimen(sources: Sources) -> Markup:
    from t5x_style.huggingface.tokenizers import tokenizer_files
    from t5x_style.model_dir import HUGGINGFACE, TOKENIZER

    folder = sources.model_dir / TOKENIZER
    if not tokenizer_files.has_tokenizer(folder):
        return Markup("")
    kept = sources.model_dir / HUGGINGFACE / "config.json"
    found = tokenizer_files.open_tokenizer(folder, files.read_json(kept) if kept.is_file() else None)
    tokens = found.encode(_SPECIMEN)
    pieces = [markup.element("span", _shown(found.piece(token))) for token in tokens]
    return markup.join(
        [
            markup.element("p", *pieces, class_="pieces"),
            markup.note(f"{len(_SPECIMEN)} characters, {len(tokens)} tokens."),
        ]
    )


def _shown(piece: str) -> str:
    """A piece with the space that SentencePiece or a byte-level BPE writes in it as one sign."""
    return piece.replace("▁", "␣").replace("Ġ", "␣")


def _scalars(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(name, number or word) of a JSON object and of the objects in it; lists are left to the file."""
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        if name in _NOT_SHOWN:
            continue
        if isinstance(item, Mapping):
            found += _scalars(item)
        elif isinstance(item, (int, float)) or (isinstance(item, str) and len(item) <= 40):
            found.append((name, item))
    return found


def _figure(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def manifests(sources: Sources) -> list[dict[str, Any]]:
    """The manifests of all token caches, by task and split."""
    if sources.folder is None:
        return []
    found = [files.read_json(path) for path in sources.folder.glob("cache/*/*/manifest.json")]
    return sorted(found, key=lambda manifest: (manifest["task"], _SPLIT_ORDER.get(manifest["split"], 3)))


def caches(sources: Sources) -> Markup:
    """Length histograms of the training splits, and a table of all caches."""
    found = manifests(sources)
    if not found:
        return markup.missing("cache/*/*/manifest.json is not there: no task was cached here.")
    by_task: dict[str, dict[str, dict[str, Any]]] = {}
    for manifest in found:
        by_task.setdefault(manifest["task"], {})[manifest["split"]] = manifest
    splits = list(dict.fromkeys(split for manifests_ in by_task.values() for split in manifests_))
    splits.sort(key=lambda split: _SPLIT_ORDER.get(split, len(_SPLIT_ORDER)))
    rows = []
    for task, of_split in by_task.items():
        examples = [markup.count(of_split[split]["examples"]) if split in of_split else "–" for split in splits]
        tokens = [sum(of_split[split]["tokens"].values()) if split in of_split else 0 for split in splits]
        total = sum(manifest["examples"] for manifest in of_split.values())
        mean = f"{sum(tokens) / total:.1f}" if total else "–"
        rows.append([task, *examples, *map(markup.count, tokens), mean])
    header = ["task", *(f"{split} examples" for split in splits), *(f"{split} tokens" for split in splits)]
    return markup.join([_histograms(found), markup.table([*header, "tokens an example"], rows)])


def _histograms(found: list[dict[str, Any]]) -> Markup:
    shown = [manifest for manifest in found if manifest["split"] == "train" and manifest["examples"]]
    if not shown:
        return Markup("")
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with figures.figure(rows, columns, 0.3 + 2.3 * rows, squeeze=False) as (made, axes):
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        for axis, manifest in zip(axes.flat, shown):
            _histogram(axis, manifest)
        handles = max((axis.get_legend_handles_labels() for axis in axes.flat), key=lambda pair: len(pair[0]))
        if len(handles[0]) > 1:
            made.legend(*handles, loc="outside upper right", ncols=3)
        return figures.image(made, "Histograms of example lengths in tokens, one for each cached training task")


def _histogram(axis: Any, manifest: Mapping[str, Any]) -> None:
    features = sorted(manifest["lengths"].items())
    width = 0.9 / len(features)
    for index, ((name, lengths), color) in enumerate(zip(features, (figures.BLUE, figures.ORANGE, figures.GREEN))):
        places = [place + (index + 0.5) * width - 0.45 for place in range(len(lengths["counts"]))]
        axis.bar(places, lengths["counts"], width, color=color, label=name)
    edges = max((lengths["edges"] for _, lengths in features), key=len)
    names = [f"{edge // 1024}k" if edge >= 1024 else str(edge) for edge in edges]
    axis.set_xticks(range(0, len(edges), 2), names[::2])
    axis.set(title=figures.plain_text(manifest["task"]), xlabel="length in tokens, from", ylabel="examples")
    axis.grid(axis="x", visible=False)


def training_tokens(sources: Sources) -> tuple[Path, str, str] | None:
    """(cache folder, task, split) of the pretraining documents, or None where there is no such cache."""
    if sources.folder is None or not (sources.folder / "cache" / "documents" / "train" / "manifest.json").exists():
        logging.info("no cache of documents is known, so there is no unigram entropy to compare with")
        return None
    return sources.folder / "cache", "documents", "train"
