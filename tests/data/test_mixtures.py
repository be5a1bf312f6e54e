"""Mixtures of sources: weights and units, Mixtures within mixtures, objectives by source, vocabularies with gaps."""

import dataclasses

import numpy as np
import pytest

from t5x_style.data import DataConfig, Source, Stage, open_loader
from t5x_style.data.manifest import Feature, Mixture, VocabularyInfo, write_mixture
from t5x_style.data.objectives import CausalLM, Piece, PrefixLM
from t5x_style.data.rates import task_rates
from t5x_style.data.shards import write_cache
from t5x_style.data.sources import resolve_sources
from t5x_style.data.vocabulary_facts import VocabularyFacts, facts_of_pieces, write_facts
from t5x_style.errors import UserError


def config_of(folder, sources, **options):
    defaults = {"objective": CausalLM(), "batch_size": 8, "length": 32, "sources": sources, "prefetch": 0}
    return DataConfig(str(folder), "mix", **(defaults | options))


def shares(loader, batches):
    for _ in range(batches):
        next(loader)
    counts = loader.counters()["tokens_by_source"]
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def test_weights_count_tokens(make_cache, documents):
    make_cache("short", documents(300, longest=6), append_eos=["targets"])
    make_cache("long", documents(300, longest=90), append_eos=["targets"])
    config = config_of(make_cache.folder, {"short": 1.0, "long": Source(3.0), "absent": 0.0})
    loader = open_loader(config)
    assert loader.summary()["sources"] == ["long", "short"]
    assert loader.summary()["unit"] == "tokens"
    assert shares(loader, 400) == pytest.approx({"short": 0.25, "long": 0.75}, abs=0.01)
    by_examples = open_loader(dataclasses.replace(config, unit="examples"))
    assert by_examples.summary()["group_rates"] == {"long": 0.75, "short": 0.25}


def test_a_mixture_within_a_mixture(make_cache):
    """Its weight is divided by its own rates in its own unit: 2 : 1 examples of 5 and 15 tokens."""
    for name, tokens in (("few", 5), ("many", 15), ("web", 10)):
        make_cache(name, [{"targets": [7] * tokens}] * 50, shards=1)
    write_mixture(f"{make_cache.folder}/tasks", Mixture("tasks", "examples", {"few": 2.0, "many": 1.0, "web": 0.0}))
    config = config_of(make_cache.folder, {"tasks": 1.0, "web": 1.0})
    loader = open_loader(config)
    assert loader.summary()["sources"] == ["tasks/few", "tasks/many", "web"]
    # Half of the tokens are web's; 10 : 15 of the rest are few's and many's.
    found = shares(loader, 400)
    assert found == pytest.approx({"tasks/few": 0.2, "tasks/many": 0.3, "web": 0.5}, abs=0.01)
    examples = open_loader(dataclasses.replace(config, unit="examples")).summary()["group_rates"]
    assert examples == pytest.approx({"tasks/few": 1 / 3, "tasks/many": 1 / 6, "web": 1 / 2})


def test_two_sources_of_one_task_and_of_two_caches(tmp_path, make_cache, documents):
    make_cache("web", documents(40))
    vocabulary = {"0" * 64: VocabularyInfo("SentencePieceVocabulary", "x", 10_000, 0, 1, 3, 2)}
    write_cache(
        tmp_path / "other",
        "tuning",
        "dev",
        [[{"inputs": [5, 6], "targets": [8]}] * 30],
        features={name: Feature("int32", vocabulary="0" * 64) for name in ("inputs", "targets")},
        vocabularies=vocabulary,
    )
    config = config_of(
        make_cache.folder,
        {
            "again": Source(1.0, name="web", objective=CausalLM(start_id=9)),
            "web": 1.0,
            "tuning": Source(1.0, objective=PrefixLM(), split="dev", cache_dir=str(tmp_path / "other")),
        },
        length=16,
    )
    loader = open_loader(config)
    assert loader.summary()["sources"] == ["again", "tuning", "web"]
    batch = next(loader)
    starts = {
        source: set(batch["decoder_input_tokens"][batch["decoder_positions"] == 0][
            batch["source_ids"][batch["decoder_positions"] == 0] == source
        ].tolist())
        for source in range(3)
    }  # fmt: skip
    assert starts == {0: {9}, 1: {3}, 2: {3}}
    tuned = batch["source_ids"] == 1
    assert batch["decoder_loss_weights"][tuned].mean() == pytest.approx(1 / 3)
    write_cache(
        tmp_path / "third",
        "web",
        "train",
        [[{"targets": [4]}]],
        features={"targets": Feature("int32", vocabulary="1" * 64)},
        vocabularies={"1" * 64: vocabulary["0" * 64]},
    )
    sources = {"web": 1.0, "third": Source(1.0, name="web", cache_dir=str(tmp_path / "third"))}
    with pytest.raises(UserError, match=r"third.targets and web.targets have different vocabularies"):
        open_loader(config_of(make_cache.folder, sources))


def write(folder, features, examples, info, append_eos=(), fingerprint="print"):
    vocabularies = {} if info is None else {fingerprint: info}
    return write_cache(
        folder, "task", "train", [examples], features=features, vocabularies=vocabularies, append_eos=append_eos
    )


NOTHING = VocabularyInfo("Codepoints", "", 300, None, None, None, None)


def test_a_vocabulary_without_padding_or_eos(tmp_path):
    """No -1 in a batch: padding is 0, which is masked; an EOS that a Task wants is refused before anything is read."""
    features = {"targets": Feature("int32", vocabulary="print", stored="uint16")}
    write(tmp_path, features, [{"targets": [5, 299]}, {"targets": [7]}], NOTHING)
    config = DataConfig(str(tmp_path), "task", CausalLM(), batch_size=2, length=4, repeat=False, packing=False)
    batch = next(open_loader(config))
    assert sorted(batch["decoder_input_tokens"][0].tolist()) == [[0, 0, 0, 0], [0, 5, 0, 0]]
    assert batch["decoder_target_tokens"].min() == 0
    write(tmp_path, features, [{"targets": [5]}], NOTHING, append_eos=["targets"])
    with pytest.raises(UserError, match="wants an EOS behind 'targets', but there is no vocabulary with one"):
        open_loader(config)


def test_an_older_cache_says_minus_one(tmp_path):
    manifest = write(tmp_path, {"targets": Feature("int32", vocabulary="print")}, [{"targets": [5]}], NOTHING)
    path = tmp_path / "task" / "train" / "manifest.json"
    old = path.read_text().replace('"format": 2', '"format": 1').replace('"pad_id": null', '"pad_id": -1')
    path.write_text(old.replace('"eos_id": null', '"eos_id": -1'))
    config = DataConfig(str(tmp_path), "task", CausalLM(), batch_size=1, length=4, repeat=False)
    assert resolve_sources(config).sources[0].manifest == manifest
    assert next(open_loader(config))["decoder_input_tokens"].tolist() == [[[0, 0, 0, 0]]]


def test_features_that_are_no_tokens_need_no_vocabulary(tmp_path):
    """Spans beside tokens were refused for "different vocabularies"."""
    features = {
        "targets": Feature("int32", vocabulary="print", stored="uint16"),
        "response_spans": Feature("int64", kind="numbers"),
    }
    info = VocabularyInfo("SentencePieceVocabulary", "x", 300, 0, 1, None, 2)
    write(tmp_path, features, [{"targets": [5, 6, 7], "response_spans": [1, 3]}], info, ["targets"])
    objective = CausalLM(response_spans="response_spans")
    config = DataConfig(str(tmp_path), "task", objective, batch_size=1, length=6, repeat=False)
    batch = next(open_loader(config))
    assert batch["decoder_target_tokens"].tolist() == [[[5, 6, 7, 1, 0, 0]]]
    assert batch["decoder_loss_weights"].tolist() == [[[0, 1, 1, 1, 0, 0]]]


def test_ids_come_from_the_cache(tmp_path):
    """Special ids, classes and the tokenizer's files, without opening a tokenizer."""
    features = {"targets": Feature("int32", vocabulary="print")}
    write(tmp_path, features, [{"targets": [5]}], dataclasses.replace(NOTHING, size=7, eos_id=1), ["targets"])
    config = DataConfig(str(tmp_path), "task", CausalLM(), batch_size=1, length=4)
    (use,) = resolve_sources(config).parts[0].uses
    assert use.ids.named == {}
    assert use.ids.starts_word is None
    pieces = ["<pad>", "</s>", "▁a", "b", "▁what?", "<extra_id_1>", "<extra_id_0>"]
    special = {"<extra_id_0>": 6, "<extra_id_1>": 5, "<pad>": 0}
    write_facts(tmp_path, "print", facts_of_pieces(pieces, special, {"eos": 1, "mask": 5}), {"x.model": b"x"})
    found = resolve_sources(config)
    assert (tmp_path / "vocabularies" / "print" / "tokenizer").samefile(found.tokenizer_folder)
    (use,) = found.parts[0].uses
    assert use.ids.sentinels == (6, 5)
    assert (use.ids.mask, use.ids.eos, use.ids.cls) == (5, 1, None)
    assert use.ids.starts_word.tolist() == [False, False, True, False, True, False, False]
    assert use.ids.ends_sentence.tolist() == [False, False, False, False, True, False, False]
    assert use.ids.special.tolist() == [True, True, False, False, False, True, True]
    assert use.ids.ended("targets", np.array([4])).tolist() == [4, 1]
    assert use.ids.ended("inputs", np.array([4])).tolist() == [4]


def test_facts_round_trip_and_damage(tmp_path):
    from t5x_style.data.vocabulary_facts import read_facts

    assert read_facts(tmp_path, "none") == VocabularyFacts()
    facts = facts_of_pieces(["[PAD]", "play", "##ing", "。"], {"[PAD]": 0}, {"pad": 0})
    assert facts.classes.tolist() == [4, 1, 0, 1 | 2 | 8]  # WordPiece: what is no continuation starts a word
    write_facts(tmp_path, "print", facts)
    found = read_facts(tmp_path, "print")
    assert (found.special, found.roles, found.classes.tolist()) == ({"[PAD]": 0}, {"pad": 0}, facts.classes.tolist())
    (tmp_path / "vocabularies" / "print" / "vocabulary.json").write_text('{"special": 3}')
    with pytest.raises(UserError, match=r"malformed .* cache again"):
        read_facts(tmp_path, "print")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faulty(CausalLM):
    """Makes a mistake of one kind."""

    kind: str = ""

    def segments(self, examples, lengths, ids, rng):
        tokens = examples[0].features["targets"]
        if self.kind == "fails":
            yield Piece({"decoder_target_tokens": tokens[{}]})
        elif self.kind == "field":
            yield Piece({"decoder_targets": tokens})
        elif self.kind == "long":
            yield Piece({"decoder_target_tokens": np.resize(tokens, 40)})
        elif self.kind == "empty":
            yield Piece({"decoder_target_tokens": tokens[:0]})
        elif self.kind == "no piece":
            yield {"decoder_target_tokens": tokens}
        elif self.kind == "draws":
            yield Piece({"decoder_target_tokens": rng.permutation(tokens)})
        elif self.kind == "halves":
            yield Piece({"decoder_target_tokens": tokens[:2] + 0.5})
        elif self.kind == "negative":
            yield Piece({"decoder_target_tokens": tokens[:1] * 0 - 7})
        elif self.kind == "two dimensions":
            yield Piece({"decoder_target_tokens": tokens[None]})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("fails", r"Faulty fails on the records \[\d\] of .*docs/train: IndexError: .* line \d+"),
        (
            "field",
            r"Faulty, source 'docs', records \[\d\]: an objective gives 'decoder_targets', which its spec",
        ),
        ("long", r"Faulty made a piece of \[40\] tokens for rows of \[32\] \(decoder\); an objective must cut"),
        ("empty", "Faulty made a piece without a token"),
        ("draws", "it says draws = False and asks its generator for permutation; set draws = True"),
        ("no piece", "Faulty makes a dict, not a Piece"),
        ("halves", "decoder_target_tokens holds float64 numbers, its field whole ones"),
        ("negative", r"an objective wrote -7 into decoder_target_tokens; ids lie in \[0, 10000\)"),
        ("two dimensions", "decoder_target_tokens has shape"),
        ("nothing", r"Faulty made nothing of 20,001 groups of examples in a row, the last of source 'docs'"),
    ],
)
def test_an_objectives_mistakes_are_one_line(make_cache, documents, kind, message):
    make_cache("docs", documents(5))
    loader = open_loader(config_of(make_cache.folder, {"docs": 1.0}, objective=Faulty(kind=kind)))
    with pytest.raises(UserError, match=message):
        next(loader)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Barren(Faulty):
    """Makes nothing, and may cut: a mixture in tokens looks before it begins."""

    def may_cut(self, longest, lengths):
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing(CausalLM):
    """Gives a list in place of a generator."""

    def segments(self, examples, lengths, ids, rng):
        return [Piece({"decoder_target_tokens": each.features["targets"][:k]}) for each in examples for k in (3, 5)]


def test_a_list_of_pieces_does(make_cache):
    make_cache("docs", [{"targets": np.arange(10 * n, 10 * n + 6)} for n in range(1, 9)], shards=1)
    config = config_of(make_cache.folder, {"docs": 1.0}, objective=Listing(), packing=False, batch_size=16, length=8)
    batch = next(open_loader(dataclasses.replace(config, repeat=False)))
    found = sorted((row[:1].tolist()[0], int((row > 0).sum())) for row in batch["decoder_target_tokens"][0])
    assert found == [(10 * n, size) for n in range(1, 9) for size in (3, 5)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noisy(CausalLM):
    """Draws a token in front of every document."""

    group, least, copies, draws = 3, 2, 2, True

    def segments(self, examples, lengths, ids, rng):
        for piece in super().segments(examples, lengths, ids, rng):
            yield piece._replace(fields={"decoder_target_tokens": piece.fields["decoder_target_tokens"] + 0})
        yield piece._replace(fields={"decoder_target_tokens": rng.integers(5, 9000, len(examples))}, raw=0)


def test_randomness_is_the_groups_own(make_cache):
    """Keyed by seed, source, record and epoch: not by the mixture, nor by how many streams or hosts there are."""
    examples = [{"targets": [10 + index]} for index in range(12)]
    make_cache("a", examples, shards=1)
    make_cache("b", examples, shards=1)

    def drawn(sources, batches=60, **options):
        options = {"objective": Noisy(), "shuffle": False, "packing": False, "length": 4, "batch_size": 4} | options
        loader = open_loader(config_of(make_cache.folder, sources, **options))
        found = {}
        for _ in range(batches):
            batch = next(loader)
            for row, source in zip(batch["decoder_target_tokens"][0].tolist(), batch["source_ids"][0, :, 0].tolist()):
                if loader.summary()["sources"][source] == "a" and row[1]:
                    found[tuple(row)] = found.get(tuple(row), 0) + 1
        return found

    alone = drawn({"a": 1.0})
    assert len(alone) == 4 * 2  # four groups, and copies = 2
    assert set(drawn({"a": 1.0, "b": 2.0})) == set(alone)
    assert set(drawn({"a": 1.0}, batch_size=6, streams=3)) == set(alone)
    assert not set(drawn({"a": 1.0}, seed=1)) & set(alone)


def test_a_source_with_too_few_examples(make_cache):
    make_cache("one", [{"targets": [5]}], shards=1)
    with pytest.raises(UserError, match="'one' split 'train' holds 1 example, Noisy needs 2 at a time; leave it out"):
        open_loader(config_of(make_cache.folder, {"one": 1.0}, objective=Noisy()))


def test_task_rates():
    assert task_rates([900, 100]) == pytest.approx([0.9, 0.1])
    assert task_rates({"mnli": 900, "rte": 100}, 2.0) == pytest.approx([0.75, 0.25])
    assert task_rates([10**9, 1], 1e6) == pytest.approx([0.5, 0.5], abs=1e-4)
    with pytest.raises(UserError, match="must be above 0"):
        task_rates([3, 0])


# What is refused before anything is read.


def test_features_of_another_kind_are_no_tokens(tmp_path):
    """Floats were read as tokens: [1.5, 2.7] as the ids 1 and 2."""
    features = {"targets": Feature("float32", kind="numbers"), "pixels": Feature("uint8", kind="array", shape=(2,))}
    write(tmp_path, features, [{"targets": [1.5], "pixels": np.zeros(2, np.uint8)}], None)
    for name, told in (("targets", "holds numbers"), ("pixels", "holds arrays of uint8")):
        with pytest.raises(UserError, match=f"feature {name!r} {told}, CausalLM reads it as ids"):
            open_loader(DataConfig(str(tmp_path), "task", CausalLM(feature=name), batch_size=1, length=4))
    objective = CausalLM(feature="pixels", response_spans="pixels")
    with pytest.raises(UserError, match=r"reads it as ids|reads it as numbers"):
        open_loader(DataConfig(str(tmp_path), "task", objective, batch_size=1, length=4))


@pytest.mark.parametrize("wrong", [-1, 300, 5_000_000])
def test_ids_outside_the_vocabulary_of_an_older_cache(tmp_path, wrong):
    write(tmp_path, {"targets": Feature("int32", vocabulary="print")}, [{"targets": [5, wrong, 7]}], NOTHING)
    loader = open_loader(DataConfig(str(tmp_path), "task", CausalLM(), batch_size=1, length=4, prefetch=0))
    with pytest.raises(UserError, match=rf"record 0: feature 'targets' holds the id {wrong}, its vocabulary"):
        next(loader)


def test_facts_that_do_not_fit(tmp_path):
    write(tmp_path, {"targets": Feature("int32", vocabulary="print")}, [{"targets": [5]}], NOTHING)
    config = DataConfig(str(tmp_path), "task", CausalLM(), batch_size=1, length=4)
    write_facts(tmp_path, "print", facts_of_pieces([""] * 300, {}, {"mask": 5}))
    open_loader(config)
    classes = tmp_path / "vocabularies" / "print" / "classes"
    classes.write_bytes(classes.read_bytes()[:-1])
    with pytest.raises(UserError, match="does not fit its 300 ids"):
        open_loader(config)


def test_an_unread_feature_may_hold_anything(tmp_path):
    features = {"targets": Feature("int32", vocabulary="print"), "hash": Feature("int64", kind="numbers")}
    write(tmp_path, features, [{"targets": [5], "hash": [2**40]}], NOTHING)
    config = DataConfig(str(tmp_path), "task", CausalLM(), batch_size=1, length=4, repeat=False)
    assert next(open_loader(config))["decoder_target_tokens"].tolist() == [[[5, 0, 0, 0]]]


def test_pieces_that_may_not_see_each_other(make_cache):
    from t5x_style.data.objectives import PreferencePairs

    with pytest.raises(UserError, match="isolate=False would let the pieces of PreferencePairs see each other"):
        config_of(make_cache.folder, {"a": 1.0}, objective=PreferencePairs(), isolate=False)


def test_two_sources_of_one_name(make_cache):
    make_cache("a", [{"targets": [5]}], shards=1)
    write_mixture(f"{make_cache.folder}/m", Mixture("m", "examples", {"a": 1.0}))
    with pytest.raises(UserError, match="two sources are called 'm/a'"):
        open_loader(config_of(make_cache.folder, {"m": 1.0, "m/a": Source(3.0, name="a")}))


def test_nothing_to_count(make_cache):
    make_cache("a", [{"targets": [5]}], shards=1)
    make_cache("b", [{"targets": [5]}], shards=1)
    sources = {"a": 1.0, "b": Source(1.0, objective=Barren())}
    with pytest.raises(UserError, match="source 'b': Barren makes nothing of 1 examples of it"):
        open_loader(config_of(make_cache.folder, sources))


def test_expected_epochs(make_cache):
    """Rows of 100 tokens, 8 a step: 10 steps are 8,000 tokens, 5 more of half as long rows 2,000."""
    make_cache("a", [{"targets": [7] * 50}] * 40)
    make_cache("b", [{"targets": [7] * 100}] * 20)
    config = config_of(make_cache.folder, {"a": 1.0}, length=100)
    assert open_loader(config).epochs(10) == {"a": pytest.approx(4.0)}
    staged = dataclasses.replace(config, stages=[Stage(10, sources={"a": 1.0, "b": 1.0}, length=50)])
    assert open_loader(staged).epochs(15) == pytest.approx({"a": 4.5, "b": 0.5})
    assert open_loader(staged).epochs(5) == pytest.approx({"a": 2.0, "b": 0.0})
