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


def tokenizer(sources: Sources) -> Markup:
    """Figures of the tokenizer, and of the crawl it was trained on."""
    described = sources.json("tokenizer/tokenizer.json")
    if not described:
        return markup.missing("tokenizer/tokenizer.json is not there: the tokenizer was not trained here.")
    rows = [[name.replace("_", " "), _figure(value)] for name, value in _scalars(described)]
    return markup.table(["figure", "value"], rows)


def _scalars(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(name, number or short text) of a JSON object, one level down; long texts and lists are left to the file."""
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        if isinstance(item, Mapping) and not prefix:
            found += _scalars(item, f"{name}: ")
        elif isinstance(item, (int, float)) or (isinstance(item, str) and len(item) <= 80):
            found.append((prefix + name, item))
    return found


def _figure(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def manifests(sources: Sources) -> list[dict[str, Any]]:
    """The manifests of all token caches, by task and split."""
    if sources.folder is None:
        return []
    order = {"train": 0, "validation": 1, "test": 2}
    found = [files.read_json(path) for path in sources.folder.glob("cache/*/*/manifest.json")]
    return sorted(found, key=lambda manifest: (manifest["task"], order.get(manifest["split"], 3)))


def caches(sources: Sources) -> Markup:
    """Length histograms of the training splits, and a table of all caches."""
    found = manifests(sources)
    if not found:
        return markup.missing("cache/*/*/manifest.json is not there: no task was cached here.")
    rows = []
    for manifest in found:
        tokens = sum(manifest["tokens"].values())
        mean = tokens / manifest["examples"] if manifest["examples"] else 0.0
        counts = [markup.count(manifest["examples"]), markup.count(tokens), f"{mean:.1f}"]
        rows.append([manifest["task"], manifest["split"], *counts, len(manifest["shards"])])
    header = ["task", "split", "examples", "tokens", "tokens an example", "shards"]
    return markup.join([_histograms(found), markup.table(header, rows, text_columns=2)])


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
        return figures.image(made, "Histograms of example lengths in tokens, one for each cached training task")


def _histogram(axis: Any, manifest: Mapping[str, Any]) -> None:
    features = sorted(manifest["lengths"].items())
    width = 0.9 / len(features)
    for index, ((name, lengths), color) in enumerate(zip(features, (figures.BLUE, figures.ORANGE, figures.GREEN))):
        places = [place + (index + 0.5) * width - 0.45 for place in range(len(lengths["counts"]))]
        axis.bar(places, lengths["counts"], width, color=color, label=name)
    edges = max((lengths["edges"] for _, lengths in features), key=len)
    axis.set_xticks(range(0, len(edges), 2), [f"{edge:,}" for edge in edges[::2]])
    axis.set(title=figures.plain_text(manifest["task"]), xlabel="length in tokens, from", ylabel="examples")
    axis.grid(axis="x", visible=False)
    if len(features) > 1:
        axis.legend()


def training_tokens(sources: Sources) -> tuple[Path, str, str] | None:
    """(cache folder, task, split) of the pretraining documents, or None where there is no such cache."""
    if sources.folder is None or not (sources.folder / "cache" / "documents" / "train" / "manifest.json").exists():
        logging.info("%s: no cache of documents, so no unigram entropy", sources.folder)
        return None
    return sources.folder / "cache", "documents", "train"
