"""Options of generation: several ends, stop strings, penalties, min-p, prefixes, positions; the encoder's keys."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.decoding import BeamSearch, Sampling, cut_at, generate, prepare, score, unpadded
from t5x_style.decoding import beam as beam_module
from t5x_style.decoding import cache as kv
from t5x_style.decoding.generate import _continue, _prefill
from t5x_style.decoding.prompts import decoder_batch, next_positions
from t5x_style.decoding.sampling import penalize, restrict, without
from t5x_style.decoding.score import continued
from t5x_style.decoding.stopping import until_stop
from t5x_style.errors import UserError
from t5x_style.models import DtypePolicy
from t5x_style.models.presets.llama import llama
from t5x_style.models.specs import (
    AttentionSpec,
    DecoderConfig,
    EmbeddingSpec,
    EncoderConfig,
    EncoderDecoderConfig,
    LayerGroup,
    LayerSpec,
    MlpSpec,
    PositionSpec,
    RelativeBiasSpec,
    RopeSpec,
    TransformerConfig,
)
from tests.built import build, shared

# All of one bucket, so that one program serves them in any company.
PROMPTS = [[5, 6, 7, 8, 9], [3], list(range(10, 24)), [40, 41]]


def decoder_config(layers=2) -> DecoderConfig:
    return llama(50, 32, layers, 4, 2, vocab_multiple=64)


def encoder_decoder_config() -> EncoderDecoderConfig:
    inner = AttentionSpec(4, 2, 6, rope=None)
    both, mlp = dataclasses.replace(inner, causal=False), MlpSpec(40)
    encoder = EncoderConfig(
        50, 24, (LayerGroup((LayerSpec(both, mlp),), 2),), relative_bias=RelativeBiasSpec(8, 16, True)
    )
    decoder = TransformerConfig(
        50,
        24,
        (LayerGroup((LayerSpec(inner, mlp, cross_attention=both),), 3),),
        relative_bias=RelativeBiasSpec(8, 16),
    )
    return EncoderDecoderConfig(encoder, decoder)


@pytest.fixture(scope="module")
def model():
    return prepare(build(decoder_config(), 1))


@pytest.fixture(scope="module")
def translator():
    return build(encoder_decoder_config(), 2)


def text(tokens):
    """One letter an id, so that stop strings span ids."""
    return "".join(chr(ord("A") + token) for token in tokens)


def alone(model, prompt, *arguments, **options):
    """What a prompt gives in no company but its own: three copies and a row that fills, in the program of four."""
    first, *others = generate(model, [prompt] * 3, *arguments, **options)
    assert others == [first] * 2
    return first


def padded(rows, length):
    """(tokens, mask), each [4, length], padding on the right."""
    tokens, mask = np.zeros((2, 4, length), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)], mask[index, : len(row)] = row, 1
    return tokens, mask


@functools.partial(jax.jit, static_argnames="graphdef")
def _forward(graphdef, state, arguments):
    model = nnx.merge(graphdef, state)
    hidden = model(**arguments)
    return hidden, jax.nn.log_softmax(model.head.logits(hidden)[..., :50], axis=-1)


def forward(model, **arguments):
    """(hidden states, log-probabilities) without a cache."""
    return [np.asarray(array) for array in _forward(*nnx.split(model), arguments)]


def answered(translator, sources, targets):
    """`forward` of up to four rows of an encoder-decoder."""
    (source, seen), (target, mask) = padded(sources, 16), padded(targets, 16)
    return forward(translator, tokens=target, encoder_tokens=source, segment_ids=mask, encoder_segment_ids=seen)


def test_encoder_decoder_steps_equal_the_full_forward(translator):
    random = np.random.default_rng(0)
    source, target = random.integers(1, 50, (2, 9)), random.integers(1, 50, (2, 7))
    mask = np.ones_like(source)
    mask[1, 5:] = 0
    full = answered(translator, [source[0], source[1, :5]], target)[0][:2, :7]
    begin = jax.jit(lambda graphdef, state: kv.begin(nnx.merge(graphdef, state), 2, 8, source, mask), static_argnums=0)
    step = jax.jit(
        lambda graphdef, state, tokens, cache: nnx.merge(graphdef, state)(tokens, cache=cache), static_argnums=0
    )
    for form in (translator, prepare(translator)):
        split = nnx.split(form)
        cache = begin(*split)
        pieces = []
        for start, stop in ((0, 3), (3, 4), (4, 7)):
            hidden, cache = step(*split, target[:, start:stop], cache)
            pieces.append(np.asarray(hidden))
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), full, atol=1e-5)
        assert int(cache.index) == 7
        assert len(cache.crossed) == 3


def test_encoder_decoder_batch_equals_one_by_one(translator):
    form = prepare(translator)
    assert prepare(form) is form
    together = generate(form, PROMPTS, 8, decoder_start_id=0)
    assert together == [alone(translator, prompt, 8, decoder_start_id=0) for prompt in PROMPTS]
    assert len({tuple(row) for row in together}) > 1
    begun = generate(form, PROMPTS, 6, decoder_start_id=0, decoder_prompts=[row[:2] for row in together])
    assert begun == [row[2:] for row in together]
    mixed = generate(form, PROMPTS, 6, decoder_start_id=0, decoder_prompts=[together[0][:2], [], [], together[3][:1]])
    assert mixed == [together[0][2:], together[1][:6], together[2][:6], together[3][1:7]]


def test_scores_of_an_encoder_decoder(translator):
    targets = [[8, 9], [], list(range(20, 30)), [1]]
    result = score(translator, PROMPTS, targets, batch_size=3, decoder_start_id=0)
    log_p = answered(translator, PROMPTS, [[0, *target] for target in targets])[1]
    for target, got, values in zip(targets, result.log_probs, log_p):
        assert got == pytest.approx(sum(float(values[i, token]) for i, token in enumerate(target)), abs=1e-4)


def test_rows_are_the_same_whichever_side_is_padded():
    left = unpadded(np.asarray([[0, 0, 5, 6], [7, 8, 9, 3]]), np.asarray([[0, 0, 1, 1], [1, 1, 1, 1]]))
    right = unpadded(np.asarray([[5, 6, 0, 0], [7, 8, 9, 3]]), np.asarray([[1, 1, 0, 0], [1, 1, 1, 1]]))
    assert left == right == [[5, 6], [7, 8, 9, 3]]  # so generate is given the same


def test_several_ends_and_a_shortest_length(model):
    free = generate(model, PROMPTS, 12)
    ends = [free[0][3], free[2][5]]
    for row, got in zip(free, generate(model, PROMPTS, 12, eos_id=ends)):
        first = next((i for i, token in enumerate(row) if token in ends), len(row))
        assert got == row[:first]
    for row in generate(model, PROMPTS, 12, eos_id=ends, min_new_tokens=7):
        assert len(row) >= 7
        assert not set(row) & set(ends)
    assert generate(model, PROMPTS, 12, eos_id=[49], min_new_tokens=0) == generate(model, PROMPTS, 12, eos_id=49)


def test_stop_strings_span_ids_and_end_early(model, monkeypatch):
    chunk, new = 5, 15
    monkeypatch.setitem(generate.__globals__, "STOP_CHUNK", chunk)
    free = generate(model, PROMPTS, new)
    stop = text(free[0][3:7])  # over the end of a chunk
    stopped = generate(model, PROMPTS, new, stop=[stop, "no such text"], decode=text)
    for row, got in zip(free, stopped):
        place = text(row).find(stop)
        assert got == (row if place < 0 else row[: place + len(stop)])
        assert cut_at(text(got), [stop]) == text(row)[: place if place >= 0 else None]
    limits = []

    def counted(*arguments, **static):
        limits.append(int(arguments[3]))
        return _continue(*arguments, **static)

    monkeypatch.setitem(generate.__globals__, "_continue", counted)
    assert generate(model, PROMPTS[:1], new, stop=stop, decode=text) == stopped[:1]
    # nothing was drawn after the chunk in which the row ended
    assert limits == list(range(chunk, len(stopped[0]) + chunk, chunk))
    assert limits[-1] < new


def test_until_stop_by_hand():
    assert until_stop([0, 1, 2, 3], text, ["BC"]) == 3
    assert until_stop([0, 1, 2, 3], text, ["D", "BC"]) == 3
    assert until_stop([0, 1, 2, 3], text, ["X"]) is None
    assert until_stop([], text, ["X"]) is None
    assert cut_at("a b\n\nQ:", ["Q:", "\n\n"]) == "a b"
    assert cut_at("a", ["b"]) == "a"


def test_penalties_by_hand():
    logits = np.asarray([[2.0, -2.0, 1.0, 4.0], [2.0, -2.0, 1.0, 4.0]], np.float32)
    history = np.asarray([[-1, 0, 1, 0, -1], [2, 2, 3, 2, -1]])

    @jax.jit
    def penalized(logits, history):
        sizes = {size: penalize(logits, history, 4, Sampling(no_repeat_ngram=size)) for size in (1, 2, 3, 9)}
        banned = {size: jnp.isneginf(values) for size, values in sizes.items()}
        taken = jnp.isneginf(without(logits, jnp.asarray([-1, 2])))
        return penalize(logits, history, 4, Sampling(repetition_penalty=2.0)), banned, taken

    got, banned, taken = penalized(logits, history)
    np.testing.assert_allclose(got, [[1.0, -4.0, 1.0, 4.0], [2.0, -2.0, 0.5, 2.0]])
    assert banned[1].tolist() == [[True, True, False, False], [False, False, True, True]]
    assert banned[2].tolist() == [[False, True, False, False], [False, False, True, True]]
    assert banned[3].tolist() == [[False] * 4, [False] * 4]
    assert banned[9].tolist() == [[False] * 4] * 2
    assert taken.tolist() == [[False, False, True, False]] * 2


def test_min_p_by_hand():
    logits = np.log(np.asarray([[0.2, 0.5, 0.3]], np.float32))
    rules = [Sampling(1.0, min_p=p) for p in (0.3, 0.5, 0.7, 1.0)]
    kept = np.isfinite(jax.jit(lambda logits: [restrict(logits, rule) for rule in rules])(logits))[:, 0]
    assert kept.tolist() == [[True, True, True], [False, True, True], [False, True, False], [False, True, False]]


def test_beams_of_one_are_greedy_and_rows_do_not_meet(model):
    assert generate(model, PROMPTS, 9, beam_search=BeamSearch(1)) == generate(model, PROMPTS, 9)
    together = generate(model, PROMPTS, 9, beam_search=BeamSearch(3))
    assert together == [alone(model, prompt, 9, beam_search=BeamSearch(3)) for prompt in PROMPTS]

    def log_p(rows):
        return score(model, PROMPTS, rows).log_probs

    assert (log_p(together) >= log_p(generate(model, PROMPTS, 9)) - 1e-4).all()


def test_a_second_search_of_the_bucket_compiles_nothing(model):
    generate(model, PROMPTS, 9, beam_search=BeamSearch(3), eos_id=1)
    programs = (beam_module._prefill, beam_module._continue)
    before = [program._cache_size() for program in programs]
    for penalty, early in ((0.5, True), (2.0, "never")):
        generate(model, PROMPTS[3:] * 3, 12, beam_search=BeamSearch(3, penalty, early), eos_id=2)
    assert [program._cache_size() for program in programs] == before


def test_a_second_batch_of_the_bucket_compiles_nothing(model, translator):
    answers = prepare(translator)
    generate(model, PROMPTS, 9, stop="x", decode=text)
    generate(answers, PROMPTS, 9, decoder_start_id=0)
    before = [program._cache_size() for program in (_prefill, _continue)]
    generate(model, PROMPTS[1:2] * 4, 13, stop=["yy", "z"], decode=text, eos_id=7)
    generate(model, [[1], [2] * 16, [3]], 13)
    generate(answers, [[1], [2] * 16, [3]], 13, decoder_start_id=3)
    assert [program._cache_size() for program in (_prefill, _continue)] == before


def test_bidirectional_prompts_equal_the_uncached_forward(model):
    drawn = generate(model, PROMPTS, 6, bidirectional_prompts=True)
    assert drawn != generate(model, PROMPTS, 6)
    tokens, _ = padded([[*prompt, *row] for prompt, row in zip(PROMPTS, drawn)], 32)
    _, prefix = padded(PROMPTS, 32)
    log_p = forward(model, tokens=tokens, causal_attention=prefix)[1]
    for prompt, row, values in zip(PROMPTS, drawn, log_p):
        assert values[len(prompt) - 1 :][:6].argmax(axis=-1).tolist() == row


def two_dimensional(row):
    """GLM's order: the prompt but its last id at 0, 1, ...; the last id opens the block that is filled in."""
    first = np.minimum(np.arange(len(row)), max(len(row) - 2, 0))
    second = np.zeros(len(row), int)
    second[-1] = 1
    return {"positions": np.stack([first, second], -1), "causal_attention": (second == 0).astype(int)}


def in_one_dimension(row):
    """Usual positions and a causal prompt, in the form of `two_dimensional`."""
    places = np.arange(len(row))
    return {"positions": np.stack([places, np.zeros_like(places)], -1), "causal_attention": np.zeros_like(places)}


def test_inputs_of_one_prompt_reach_prefill_and_steps():
    rope = RopeSpec(two_dimensional=True)
    config = decoder_config()
    layer = config.layers[0]
    layer = dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, rope=rope))
    glm = prepare(build(dataclasses.replace(config, segments=(LayerGroup((layer,), 2),)), 3))
    drawn = generate(glm, PROMPTS, 6, inputs=two_dimensional)
    scores = score(glm, PROMPTS, drawn, row_inputs=two_dimensional).log_probs
    tokens, _ = padded([[*prompt, *row] for prompt, row in zip(PROMPTS, drawn)], 32)
    positions, prefix = np.zeros((4, 32, 2), np.int32), np.zeros((4, 32), np.int32)
    for index, given in enumerate(map(two_dimensional, PROMPTS)):
        positions[index] = continued(given["positions"], 32)
        prefix[index, : len(PROMPTS[index])] = given["causal_attention"]
    log_p = forward(glm, tokens=tokens, positions=positions, causal_attention=prefix)[1]
    for prompt, row, got, values in zip(PROMPTS, drawn, scores, log_p):
        predicted = values[len(prompt) - 1 :][:6]
        assert predicted.argmax(axis=-1).tolist() == row
        assert got == pytest.approx(float(predicted[np.arange(6), row].sum()), abs=1e-4)
    plain = score(glm, PROMPTS, drawn, row_inputs=in_one_dimension).log_probs  # the same programs, other inputs
    assert np.abs(plain - scores).max() > 1e-4
    assert drawn != generate(glm, PROMPTS, 6, inputs=in_one_dimension)


def test_positions_go_on_in_the_last_column():
    assert next_positions(jnp.asarray([[3, 4]])).tolist() == [[5]]
    assert next_positions(jnp.asarray([[[3, 0], [3, 1]]])).tolist() == [[[3, 2]]]
    assert continued(np.asarray([[0, 0], [1, 1]]), 4).tolist() == [[0, 0], [1, 1], [1, 2], [1, 3]]
    assert continued(np.asarray([2, 3, 4]), 2).tolist() == [2, 3]
    batch = decoder_batch([[5, 6]], 1, inputs=lambda row: {"positions": np.arange(2, 2 + len(row))})
    assert batch.positions[0, -3:].tolist() == [0, 2, 3]


def test_bfloat16_caches_generate():
    config = decoder_config(layers=1)
    half = prepare(shared(config, 1, DtypePolicy(compute="bfloat16")))
    assert kv.empty(config, half.policy, 1, 4).layers[0][0].dtype == jnp.bfloat16
    assert generate(half, PROMPTS, 5) == [alone(half, prompt, 5) for prompt in PROMPTS]


@pytest.mark.slow
def test_bfloat16_caches_are_searched():
    half = prepare(shared(decoder_config(layers=1), 1, DtypePolicy(compute="bfloat16")))
    rows = generate(half, PROMPTS, 5, beam_search=BeamSearch(2))
    assert rows == [alone(half, prompt, 5, beam_search=BeamSearch(2)) for prompt in PROMPTS]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    vocab_size: int = 50


class Sum(nnx.Module):
    """A model with a state of its own: the next id is the sum of the ids so far, modulo 50."""

    def __init__(self):
        self.config = Vocabulary()

    @property
    def head(self):
        return self

    def logits(self, hidden):
        return 9.0 * jax.nn.one_hot(hidden[..., 0] % 50, 50)

    def empty_cache(self, batch, slots):
        del slots
        return {"total": jnp.zeros((batch,), jnp.int32), "index": jnp.int32(0)}

    def __call__(self, tokens, *, segment_ids=None, positions=None, cache):
        del positions
        totals = cache["total"][:, None] + jnp.cumsum(tokens if segment_ids is None else tokens * segment_ids, axis=1)
        return totals[..., None], {"total": totals[:, -1], "index": cache["index"] + tokens.shape[1]}


def test_own_states():
    def expected(prompt, count):
        total, row = sum(prompt), []
        for _ in range(count):
            row.append(total % 50)
            total += row[-1]
        return row

    wanted = [expected(prompt, 6) for prompt in PROMPTS]
    assert generate(Sum(), PROMPTS, 6) == wanted
    assert generate(Sum(), PROMPTS, 6, beam_search=BeamSearch(3)) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": ["x"]}, "need decode"),
        ({"stop": [""], "decode": text}, "empty stop string"),
        ({"beam_search": BeamSearch(2), "sampling": Sampling(1.0)}, "neither a temperature"),
        ({"decoder_start_id": 0}, "for encoder-decoders"),
    ],
)
def test_options_that_do_not_fit(model, options, message):
    with pytest.raises(UserError, match=message):
        generate(model, PROMPTS, 3, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs decoder_start_id"),
        ({"decoder_start_id": 50}, "id 50"),
        ({"decoder_start_id": 0, "decoder_prompts": [[1]]}, "1 decoder_prompts for 4"),
        ({"decoder_start_id": 0, "bidirectional_prompts": True}, "are for decoders"),
    ],
)
def test_options_that_do_not_fit_an_encoder_decoder(translator, options, message):
    with pytest.raises(UserError, match=message):
        generate(translator, PROMPTS, 3, **options)


def test_a_table_of_positions_has_an_end():
    learned = EmbeddingSpec(positions=PositionSpec(length=20))
    config = decoder_config()
    layer = config.layers[0]
    layer = dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, rope=None))
    config = dataclasses.replace(config, embedding=learned, segments=(LayerGroup((layer,), 1),))
    gpt = shared(config, 0)
    assert len(generate(gpt, [[1] * 16], 5)[0]) == 5
    with pytest.raises(UserError, match="20 positions"):
        generate(gpt, [[1] * 16], 6)


@pytest.mark.parametrize("values", [{"min_p": 1.5}, {"repetition_penalty": 0.0}, {"no_repeat_ngram": -1}])
def test_bad_sampling(values):
    with pytest.raises(UserError, match=f"Sampling.{next(iter(values))}"):
        Sampling(**values)


@pytest.mark.parametrize("values", [{"beams": 0}, {"early_stopping": "sometimes"}])
def test_bad_beam_search(values):
    with pytest.raises(UserError, match=f"BeamSearch.{next(iter(values))}"):
        BeamSearch(**values)


NAN = float("nan")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Sampling(temperature=NAN), "temperature is nan; give 0"),
        (lambda: Sampling(temperature=float("inf")), "temperature is inf"),
        (lambda: Sampling(temperature="hot"), "temperature is 'hot'"),
        (lambda: Sampling(top_k=2.5), "top_k, 0 for all tokens, is 2.5; give a whole number of at least 0"),
        (lambda: Sampling(top_p=0.0), "top_p is 0.0; give a number above 0 and at most 1"),
        (lambda: BeamSearch(beams=2.5), "beams is 2.5; give a whole number of at least 1"),
        (lambda: BeamSearch(beams=0), "beams is 0"),
        (lambda: BeamSearch(beams=2, length_penalty=NAN), "length_penalty is nan; give a finite number"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5; give a whole number of at least 1"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1; give a whole number from 0 to 3"),
        ({"min_new_tokens": 4}, "min_new_tokens is 4; give a whole number from 0 to 3"),
        ({"eos_id": [999]}, "an end id is 999; give a whole number from 0 to"),
        ({"seed": -1}, "a seed is -1"),
        ({"row_seeds": [1.5]}, "a seed is 1.5"),
        ({"stop": 3}, "stop is 3; give a string or a list of strings"),
        ({"stop": [3]}, r"stop is \[3\]; give"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_options_of_generate_that_make_no_sense_are_refused(options, message):
    model = shared(llama(32, 16, 1, 2), 0)
    with pytest.raises(UserError, match=message):
        generate(model, [[3, 4]], **{"max_new_tokens": 3, "decode": str, **options})
