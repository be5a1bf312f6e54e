"""Sources: the cached Tasks behind a DataConfig, stage by stage, checked before anything is read."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

from t5x_style import files
from t5x_style.data.data_config import DataConfig, Part, Source
from t5x_style.data.ids import Ids, ids_of
from t5x_style.data.manifest import MIXTURE_FILE, Manifest, VocabularyInfo, cache_command, read_manifest, read_mixture
from t5x_style.data.objectives.objective import Objective
from t5x_style.data.vocabulary_facts import VocabularyFacts, read_facts, tokenizer_folder
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class Cached:
    """A cached Task under the name that the mixture calls it by."""

    name: str
    task: str
    split: str
    cache_dir: str
    manifest: Manifest

    @functools.cached_property
    def mean_tokens(self) -> float:
        """Items of an example, of all features together."""
        return sum(self.manifest.tokens.values()) / max(self.manifest.examples, 1)

    @property
    def folder(self) -> str:
        """Where its shards lie."""
        return files.join(self.cache_dir, self.task, self.split)


@dataclasses.dataclass(frozen=True)
class Share:
    """How much of a mixture is of a source: `weight` of all weights, or of a cached Mixture that has this weight.

    Attributes:
      weight: as declared. of: the cached Mixture that it is a Task of, by its name in the DataConfig; None: of none.
      rate: within that Mixture, in its own `unit`.
    """

    weight: float
    of: str | None = None
    rate: float = 1.0
    unit: str | None = None


@dataclasses.dataclass(frozen=True)
class Use:
    """A source with what one stage makes of it. source: its place in SourceSet.sources."""

    source: int
    cached: Cached
    objective: Objective
    ids: Ids
    share: Share


@dataclasses.dataclass(frozen=True)
class UsedPart:
    """One stage: the sources that it reads, in order of name; from which step; the unit of its weights; its rows."""

    step: int
    unit: str
    uses: tuple[Use, ...]
    lengths: dict[str, int]
    batch_size: int


@dataclasses.dataclass(frozen=True)
class SourceSet:
    """What a DataConfig stands for.

    Attributes:
      sources: all, in order of name; those that only a later stage reads follow, so that a stage that is added later
        changes no number. parts: the stages.
      vocabulary, fingerprint: of all ids that are read; None: ids without one, or no ids.
      tokenizer_folder: the tokenizer's files in the cache; None: it holds none.
    """

    sources: tuple[Cached, ...]
    parts: tuple[UsedPart, ...]
    vocabulary: VocabularyInfo | None
    fingerprint: str | None
    tokenizer_folder: str | None


def resolve_sources(config: DataConfig) -> SourceSet:
    """Finds every Task of a DataConfig in its cache and checks that its objective can read it.

    Raises:
      UserError: a cache is missing, broken, empty or lacks a feature; vocabularies differ; an objective does not fit
        the lengths or the vocabulary; the shards of a remote cache are more than the local cache may hold.
    """
    sources: dict[str, Cached] = {}
    found: list[list[tuple[str, Objective, Share]]] = []
    units: list[str] = []
    for part in config.parts:
        entries = sorted(_entries(config, part), key=lambda entry: entry[0].name)
        own = next((share.unit for _, _, share in entries if share.of is None and share.unit), "examples")
        units.append(config.unit or (own if part.sources is None else "tokens"))
        names = [cached.name for cached, _, _ in entries]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"DataConfig.sources: two sources are called {twice[0]!r}; give one another name")
        for cached, objective, _ in entries:
            _check(cached, objective)
            if (old := sources.setdefault(cached.name, cached)) != cached:
                raise UserError(
                    f"DataConfig: source {cached.name!r} is {old.folder} and from step {part.step} {cached.folder}; "
                    "give the second another name"
                )
        found.append([(cached.name, objective, share) for cached, objective, share in entries])
    for folder in {cached.cache_dir for cached in sources.values()}:
        shards = [
            shard for cached in sources.values() if cached.cache_dir == folder for shard in cached.manifest.shards
        ]
        files.check_room(folder, sum(shard.bytes for shard in shards))
    order = {name: index for index, name in enumerate(sources)}
    uses = [(sources[name], objective) for entries_ in found for name, objective, _ in entries_]
    fingerprint, vocabulary, facts, folder_ = _common_vocabulary(uses)
    parts = []
    known = ids_of(vocabulary, facts, None)
    for part, unit, entries_ in zip(config.parts, units, found):
        lengths = config.lengths_of(part.length)
        made = tuple(
            Use(order[name], sources[name], objective, _ids(sources[name], objective, known), share)
            for name, objective, share in entries_
        )
        for use in made:
            _check_objective(use, lengths)
        parts.append(UsedPart(part.step, unit, made, lengths, part.batch_size))
    return SourceSet(tuple(sources.values()), tuple(parts), vocabulary, fingerprint, folder_)


def _entries(config: DataConfig, part: Part) -> Iterator[tuple[Cached, Objective, Share]]:
    """The sources of a stage, those of a Mixture one by one."""
    alone = part.sources is None
    for label, given in ({config.name: 1.0} if part.sources is None else part.sources).items():
        source = given if isinstance(given, Source) else Source(given)
        if not source.weight:
            continue
        name, split = source.name or label, source.split or config.split
        cache_dir = source.cache_dir or config.cache_dir
        objective = source.objective or config.objective
        assert objective is not None
        mixture = read_mixture(cache_dir, name)
        if mixture is None:
            yield _cached(label, name, split, cache_dir), objective, Share(float(source.weight))
            continue
        where = f"{files.join(cache_dir, name)}/{MIXTURE_FILE}"
        for task, rate in mixture.rates.items():
            if not 0 <= rate < float("inf"):
                raise UserError(f"{where}: the rate of {task!r} is {rate}, must be a number >= 0")
        if not any(mixture.rates.values()):
            raise UserError(f"{where}: no source has a rate above 0; nothing would be read")
        for task, rate in mixture.rates.items():
            if rate:
                weight, of = (rate, None) if alone else (float(source.weight), label)
                share = Share(weight, of, 1.0 if alone else rate, mixture.unit)
                yield _cached(task if alone else f"{label}/{task}", task, split, cache_dir), objective, share


def _cached(name: str, task: str, split: str, cache_dir: str) -> Cached:
    return Cached(name, task, split, cache_dir, read_manifest(cache_dir, task, split))


def _check(cached: Cached, objective: Objective) -> None:
    """That the objective finds its features in it, and enough examples that it can use."""
    manifest, what = cached.manifest, type(objective).__name__
    where = f"cache of {manifest.task!r} split {manifest.split!r}"
    for feature in objective.features:
        if feature not in manifest.features:
            raise UserError(
                f"{where} has the features {', '.join(sorted(manifest.features))} but {what} reads {feature!r}; set "
                "the objective's feature names"
            )
        found, wanted = manifest.features[feature], objective.kinds.get(feature, "ids")
        # Whole numbers that were cached as ids of no vocabulary may stand for numbers.
        if found.kind != wanted and not (wanted == "numbers" and found.kind == "ids" and found.vocabulary is None):
            told = {"ids": "token ids", "numbers": "numbers", "array": f"arrays of {found.dtype}"}
            raise UserError(
                f"{where}: feature {feature!r} holds {told[found.kind]}, {what} reads it as {wanted}; name another "
                "feature, or declare it so in its Task"
            )
    if not manifest.examples:
        raise UserError(f"{where} holds no example; leave it out of the mixture (weight 0) or correct its Task")
    if manifest.examples < objective.least:
        raise UserError(
            f"{where} holds {manifest.examples} example{'s'[: manifest.examples != 1]}, {what} needs {objective.least} "
            "at a time; leave it out of the mixture (weight 0)"
        )
    for feature in objective.required:
        if not manifest.tokens.get(feature):
            raise UserError(f"{where}: every {feature!r} is empty; leave it out (weight 0) or correct its Task")
    for feature in _token_features(objective):
        fingerprint = manifest.features[feature].vocabulary
        if feature in manifest.append_eos and (
            fingerprint is None or manifest.vocabularies[fingerprint].eos_id is None
        ):
            raise UserError(
                f"{where}: its Task wants an EOS behind {feature!r}, but there is no vocabulary with one; set "
                f"add_eos=False in the Task and run: {cache_command(cached.task, cached.cache_dir)}"
            )


def _token_features(objective: Objective) -> list[str]:
    return [name for name in objective.features if objective.kinds.get(name, "ids") == "ids"]


def _common_vocabulary(
    uses: Sequence[tuple[Cached, Objective]],
) -> tuple[str | None, VocabularyInfo | None, VocabularyFacts, str | None]:
    """(fingerprint, vocabulary, facts, tokenizer's folder) of all token ids that are read."""
    seen: dict[str | None, tuple[str, Cached]] = {}
    for cached, objective in uses:
        for feature in _token_features(objective):
            fingerprint = cached.manifest.features[feature].vocabulary
            seen.setdefault(fingerprint, (f"{cached.name}.{feature}", cached))
    if len(seen) > 1:
        (first, (first_place, _)), (second, (second_place, _)) = list(seen.items())[:2]
        raise UserError(
            f"{first_place} and {second_place} have different vocabularies (fingerprints {_short(first)} and "
            f"{_short(second)}); cache them with the same tokenizer"
        )
    fingerprint, (_, cached) = next(iter(seen.items()), (None, ("", uses[0][0])))
    if fingerprint is None:
        return None, None, VocabularyFacts(), None
    # Of several caches the first that knows more than the manifest: an older one does not.
    folders = dict.fromkeys(cached.cache_dir for cached, _ in uses)
    folder = next((folder for folder in folders if tokenizer_folder(folder, fingerprint)), cached.cache_dir)
    facts = read_facts(folder, fingerprint)
    _check_facts(facts, cached.manifest.vocabularies[fingerprint].size, folder)
    return fingerprint, cached.manifest.vocabularies[fingerprint], facts, tokenizer_folder(folder, fingerprint)


def _check_facts(facts: VocabularyFacts, size: int, cache_dir: str) -> None:
    worst = max([*facts.special.values(), *facts.roles.values(), 0])
    if (facts.classes is not None and len(facts.classes) != size) or worst >= size:
        raise UserError(
            f"{cache_dir}: what it keeps of the vocabulary does not fit its {size} ids (files cut off or mixed up); "
            "delete the cache and cache again"
        )


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else fingerprint[:12]


def _ids(cached: Cached, objective: Objective, known: Ids) -> Ids:
    """Those of the vocabulary, with what is the source's and the objective's own."""
    start = objective.start_id
    if start is None:
        start = known.start
    elif known.size is not None and start >= known.size:
        raise UserError(f"{type(objective).__name__}.start_id {start} is outside the vocabulary of {known.size} pieces")
    return known._replace(start=start, append_eos=frozenset(cached.manifest.append_eos))


def _check_objective(use: Use, lengths: dict[str, int]) -> None:
    try:
        use.objective.check(lengths, use.ids)
    except UserError as error:
        raise UserError(f"source {use.cached.name!r}: {error}") from error
