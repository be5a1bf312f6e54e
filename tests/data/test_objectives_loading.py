"""Every objective through DataConfig and open_loader: rows, counts, restarts, hosts, mixtures."""

import json

import numpy as np
import pytest

from t5x_style.data import DataConfig, open_loader
from t5x_style.data.data_config import Source
from t5x_style.data.manifest import Feature, VocabularyInfo
from t5x_style.data.objectives import (
    UL2,
    BlankInfilling,
    CausalLM,
    MaskedLM,
    NextSentence,
    PermutationLM,
    PreferencePairs,
    PrefixLM,
    Seq2Seq,
    SpanCorruption,
)
from t5x_style.data.shards import write_cache
from t5x_style.data.vocabulary_facts import ENDS_SENTENCE, SPECIAL, STARTS_WORD, VocabularyFacts, write_facts
from t5x_style.errors import UserError
from t5x_style.losses.dpo import pairs_of
from tests.data.objectives import make

PRINT = "a" * 64
COUNT = 70
OBJECTIVES = {
    "causal": (CausalLM(), 24),
    "responses": (CausalLM(response_spans="spans", begin="tokenizer"), 24),
    "prefix": (PrefixLM(inputs="prompt", targets="chosen", bidirectional_prefix=True), 24),
    "t5": (SpanCorruption(), 32),
    "ul2": (UL2(piece_lengths={"encoder": 32, "decoder": 32}), {"encoder": 64, "decoder": 40}),
    "bert": (MaskedLM(), 32),
    "words": (MaskedLM(whole_word=True, max_predictions=3), 32),
    "nsp": (NextSentence(), 32),
    "glm": (BlankInfilling(generation_probability=0.3), 32),
    "xlnet": (PermutationLM(), 36),
    "pairs": (PreferencePairs(prompt="prompt", pairs=2), 48),
    "seq2seq": (Seq2Seq(inputs="prompt", targets="chosen"), {"encoder": 24, "decoder": 16}),
}


def write_vocabulary(folder):
    classes = STARTS_WORD * make.WORD | ENDS_SENTENCE * make.SENTENCE | SPECIAL * make.SPECIAL
    special = {**make.NAMED, **{f"<extra_id_{index}>": token for index, token in enumerate(make.SENTINELS)}}
    roles = {"pad": 0, "eos": make.EOS, "cls": make.CLS, "sep": make.SEP, "mask": make.MASK}
    write_facts(folder, PRINT, VocabularyFacts(special, roles, classes.astype(np.uint8)))


def examples_of_cache(count=COUNT, seed=0, longest=90):
    """Documents, with response spans in them, and prompts with two answers."""
    rng = np.random.default_rng(seed)

    def text(most, least=1):
        return rng.choice(make.some_ids(), int(rng.integers(least, most + 1))).astype(np.int32)

    examples = []
    for _ in range(count):
        document = text(longest)
        start, end = sorted(rng.integers(0, len(document) + 1, 2).tolist())
        examples.append(
            {
                "targets": document,
                "spans": np.array([start, end], np.int32),
                "prompt": text(12),
                "chosen": text(9),
                "rejected": text(9),
            }
        )
    return examples


def write(folder, task, count=COUNT, seed=0, longest=90):
    """A cache of `examples_of_cache`."""
    examples = examples_of_cache(count, seed, longest)
    features = {name: Feature("int32", vocabulary=PRINT) for name in ("targets", "prompt", "chosen", "rejected")}
    write_cache(
        folder,
        task,
        "train",
        [examples[: count // 2], examples[count // 2 :]],
        features={**features, "spans": Feature("int32", kind="numbers")},
        vocabularies={PRINT: VocabularyInfo("X", "x.model", 1000, 0, make.EOS, None, 2)},
        append_eos=("targets", "chosen", "rejected"),
    )
    write_vocabulary(folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("cache"))
    write(folder, "docs")
    return folder


def config_of(cache, name, **options):
    objective, length = OBJECTIVES[name]
    given = {
        "batch_size": 4,
        "length": length,
        "objective": objective,
        "streams": 2,
        "prefetch": 0,
        "name": "docs",
        "seed": 3,
    }
    return DataConfig(cache_dir=cache, **{**given, **options})


def take(loader, count):
    return [next(loader) for _ in range(count)]


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def check_rows(batch, spec, lengths):
    """What every batch promises: shapes, types, segments in order, padding where no segment is."""
    segments = {side: batch[name] for side, name in spec.of_role("segment_ids").items()}
    for field in spec.fields:
        array = batch[field.name]
        assert array.shape == (1, 4, lengths[field.side], *field.trailing), field.name
        assert array.dtype == field.dtype, field.name
        outside = array[segments[field.side] == 0]
        padding = 0 if field.padding == "pad" else field.padding
        assert np.all(outside == padding), field.name
    for side, ids in segments.items():
        filled = ids > 0
        assert np.all(np.diff(filled.astype(int), axis=-1) <= 0)  # segments first, padding behind
        ahead = np.diff(ids, axis=-1)[filled[..., 1:]]
        assert np.all(ahead >= 0), side


@pytest.mark.parametrize("name", OBJECTIVES)
def test_batches_restarts_and_hosts(cache, name):
    config = config_of(cache, name)
    spec, lengths = config.spec, config.lengths
    loader = open_loader(config)
    states, batches = [], []
    for _ in range(8):
        states.append(json.loads(json.dumps(loader.get_state())))
        batches.append(next(loader))
    for batch in batches:
        check_rows(batch, spec, lengths)
    # a restart anywhere goes on as if nothing had been
    at = int(np.random.default_rng(sum(map(ord, name))).integers(1, 7))
    again = open_loader(config)
    again.set_state(states[at])
    assert_equal(take(again, 8 - at), batches[at:])
    # two hosts hold the rows of one
    halves = [take(open_loader(config, rows), 4) for rows in ([0, 1], [2, 3])]
    joined = [
        {field: np.concatenate([left[field], right[field]], axis=1) for field in left} for left, right in zip(*halves)
    ]
    assert_equal(joined, batches[:4])
    # another seed is another run, where anything is drawn or shuffled
    other = take(open_loader(config_of(cache, name, seed=4)), 1)
    assert any(not np.array_equal(other[0][field], batches[0][field]) for field in other[0])


def one_pass(cache, name, **options):
    loader = open_loader(config_of(cache, name, repeat=False, shuffle=False, streams=None, **options))
    return list(loader), loader.counters()


def tokens_of(batches, field, segments):
    return np.concatenate([batch[field][batch[segments] > 0] for batch in batches])


@pytest.mark.parametrize("name", ["t5", "ul2", "bert", "xlnet", "glm"])
def test_a_pass_holds_every_token_once(cache, name):
    """What is hidden on one side stands on the other; sorted, both are the documents."""
    batches, counters = one_pass(cache, name)
    documents = np.concatenate([example["targets"] for example in examples_of_cache()])
    fields = {
        "t5": [("encoder_input_tokens", "encoder"), ("decoder_target_tokens", "decoder")],
        "ul2": [("encoder_input_tokens", "encoder"), ("decoder_target_tokens", "decoder")],
        "bert": [("encoder_target_tokens", "encoder")],
        "xlnet": [("encoder_input_tokens", "encoder")],
        "glm": [("decoder_input_tokens", "decoder")],
    }[name]
    held = np.concatenate([tokens_of(batches, field, f"{side}_segment_ids") for field, side in fields])
    held = held[~make.SPECIAL[held]]
    np.testing.assert_array_equal(np.sort(held), np.sort(documents))
    assert counters["read_tokens_trimmed"] == 0
    assert counters["tokens_by_source"] == {"docs": len(documents)}


@pytest.mark.parametrize(("copies", "most"), [(1, 1), (2, 2), (None, 99)])
def test_masks_repeat_after_so_many_epochs(tmp_path, copies, most):
    write(str(tmp_path), "docs", count=6, longest=20)
    objective = MaskedLM(copies=copies)
    config = config_of(str(tmp_path), "bert", objective=objective, streams=1)
    masks = {}
    for batch in take(open_loader(config), 12):  # 48 rows of 6 documents: eight epochs or more
        for targets, weights, segments in zip(
            *(batch[f"encoder_{name}"][0] for name in ("target_tokens", "loss_weights", "segment_ids"))
        ):
            for number in range(1, segments.max() + 1):
                held = segments == number
                masks.setdefault(tuple(targets[held].tolist()), set()).add(tuple(weights[held].tolist()))
    assert len(masks) == 6
    assert max(map(len, masks.values())) <= most
    assert max(map(len, masks.values())) == most or copies is None
    if copies is None:
        assert max(map(len, masks.values())) > 4


def test_permutations_point_to_their_tokens(cache):
    for batch in take(open_loader(config_of(cache, "xlnet")), 3):
        places, weights = batch["targets_places"], batch["targets_loss_weights"]
        there = np.take_along_axis(batch["encoder_input_tokens"], np.maximum(places, 0), axis=-1)
        segments = np.take_along_axis(batch["encoder_segment_ids"], np.maximum(places, 0), axis=-1)
        held = weights > 0
        np.testing.assert_array_equal(there[held], batch["targets_target_tokens"][held])
        np.testing.assert_array_equal(segments[held], batch["targets_segment_ids"][held])
        assert np.all(places[~held] == -1)
        assert held.any()


def test_pairs_share_a_row(cache):
    found = 0
    for batch in take(open_loader(config_of(cache, "pairs")), 3):
        ids, pieces = batch["decoder_segment_ids"], batch["decoder_piece_ids"]
        assert np.all(ids.max(axis=-1) % 2 == 0)
        assert ids.max() <= 4
        np.testing.assert_array_equal(pieces, (ids + 1) // 2)
        found += int(ids.max(axis=-1).sum())
        pairs = pairs_of({name: array[0] for name, array in batch.items()}, 2)  # as the loss reads them
        assert float(pairs.present.sum()) == ids.max(axis=-1).sum() / 2
        assert float(pairs.unpaired) == 0
    assert found > 12


def test_t5_makes_rows_of_512_and_114_from_568_tokens(tmp_path):
    rng = np.random.default_rng(0)
    examples = [{"targets": rng.choice(make.some_ids(), 568 * 4).astype(np.int32)} for _ in range(8)]
    write_cache(
        tmp_path,
        "docs",
        "train",
        [examples],
        features={"targets": Feature("int32", vocabulary=PRINT)},
        vocabularies={PRINT: VocabularyInfo("X", "x.model", 1000, 0, make.EOS, None, 2)},
    )
    write_vocabulary(str(tmp_path))
    config = DataConfig(
        str(tmp_path), "docs", SpanCorruption(), batch_size=4, length=512, streams=2, prefetch=0, repeat=True
    )
    assert config.lengths == {"encoder": 512, "decoder": 114}
    for batch in take(open_loader(config), 4):
        assert batch["encoder_input_tokens"].shape == (1, 4, 512)
        assert batch["decoder_target_tokens"].shape == (1, 4, 114)
        assert np.all(batch["encoder_segment_ids"] == 1)  # every row is one full piece
        assert np.all(batch["decoder_segment_ids"] == 1)


def test_ul2_fills_rows_of_two_pieces(tmp_path):
    write(str(tmp_path), "docs", count=300, longest=6000)
    objective = UL2(piece_lengths={"encoder": 512, "decoder": 512}, spans="cap")
    length = {"encoder": 1024, "decoder": 640}
    config = DataConfig(str(tmp_path), "docs", objective, batch_size=32, length=length, streams=1, prefetch=0)
    batches = take(open_loader(config), 6)
    places = sum(batch["encoder_segment_ids"].size + batch["decoder_segment_ids"].size for batch in batches)
    filled = sum(
        np.count_nonzero(batch["encoder_segment_ids"]) + np.count_nonzero(batch["decoder_segment_ids"])
        for batch in batches
    )
    assert filled / places > 0.9


def test_a_source_of_one_document_has_no_second_text(tmp_path):
    write(str(tmp_path), "docs", count=1)
    with pytest.raises(UserError) as caught:
        open_loader(config_of(str(tmp_path), "nsp"))
    assert "\n" not in str(caught.value)
    assert "NextSentence" in str(caught.value)


def test_t5_and_seq2seq_by_source(tmp_path):
    write(str(tmp_path), "docs", seed=0)
    write(str(tmp_path), "tasks", seed=1)
    tasks = Seq2Seq(inputs="prompt", targets="chosen")
    config = DataConfig(
        str(tmp_path),
        "both",
        SpanCorruption(),
        batch_size=4,
        length={"encoder": 48, "decoder": 24},
        sources={"docs": 0.7, "tasks": Source(0.3, objective=tasks)},
        streams=2,
        prefetch=0,
    )
    loader = open_loader(config)
    names = [source if isinstance(source, str) else source["name"] for source in loader.summary()["sources"]]
    seen = {"docs": [], "tasks": []}
    states = []
    batches = []
    for _ in range(10):
        states.append(json.loads(json.dumps(loader.get_state())))
        batches.append(next(loader))
    for batch in batches:
        for index, name in enumerate(names):
            held = batch["source_ids"] == index
            seen[name] += batch["decoder_target_tokens"][held].tolist()
    assert any(token in make.SENTINELS for token in seen["docs"])
    assert seen["tasks"]
    assert not any(token in make.SENTINELS for token in seen["tasks"])
    again = open_loader(config)
    again.set_state(states[6])
    assert_equal(take(again, 4), batches[6:])


@pytest.mark.parametrize("name", ["t5", "ul2", "bert", "nsp", "glm", "xlnet"])
def test_a_cache_that_does_not_know_its_vocabulary_is_refused(tmp_path, name):
    """In one line, before anything is read."""
    rng = np.random.default_rng(0)
    write_cache(
        tmp_path,
        "docs",
        "train",
        [[{"targets": rng.integers(100, 900, 20).astype(np.int32)} for _ in range(8)]],
        features={"targets": Feature("int32", vocabulary=PRINT)},
        vocabularies={PRINT: VocabularyInfo("X", "x.model", 1000, 0, make.EOS, None, 2)},
    )
    with pytest.raises(UserError, match="cache again") as caught:
        open_loader(config_of(str(tmp_path), name))
    assert "\n" not in str(caught.value)
