"""XLNet's permutations, token types, memories and directions against transformers, in values and gradients."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch

from t5x_style.decoding import generate
from t5x_style.huggingface.weights import weight_map
from t5x_style.models import parameter_count
from t5x_style.models.permutation import permutation_inputs
from tests.parity import pairs
from tests.parity.cases.case import Case
from tests.parity.cases.xlnet import XLNET
from tests.parity.fast import slow_except

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4
LENGTH, PREDICTIONS = 23, 7

SETTINGS = {
    "bi": {},
    "uni": {"attn_type": "uni", "n_head": 3, "d_inner": 77},
    "both-ways-clamped": {"bi_data": True, "clamp_len": 6},
    "two-wide-heads": {"n_head": 2, "d_model": 26, "ff_activation": "gelu_new", "n_layer": 1},
}


@functools.cache
def made(settings, head="LMHeadModel"):
    return pairs.make(Case("xlnet", "XLNetConfig", {**XLNET, **dict(settings)}, model=f"XLNet{head}"))


def of(settings, **how):
    return made(tuple(settings.items()), **how)


@pytest.fixture(scope="module", params=slow_except(list(SETTINGS), "bi"))
def pair(request):
    return of(SETTINGS[request.param])


def drawn_inputs(pair, rows=4):
    """Tokens, types and a factorisation order whose last positions are predicted; one prediction is of nothing."""
    random = np.random.default_rng(1)
    tokens = random.integers(3, 99, (rows, LENGTH))
    types = (np.arange(LENGTH) >= random.integers(5, 20, (rows, 1))).astype(int)
    order = np.stack([random.permutation(LENGTH) for _ in range(rows)])
    targets = order[:, -PREDICTIONS:].copy()
    targets[0, 0] = -1
    mask, mapping = permutation_inputs(order, targets)
    return tokens, types, np.asarray(mask), np.asarray(mapping)


def both(pair, **given):
    """(our logits, theirs)."""
    to_ours = {"permutation_mask": "mask", "target_mapping": "mapping", "token_types": "types", "segment_ids": "there"}
    ours = {name: jnp.asarray(given[key]) for name, key in to_ours.items() if key in given}
    floats = {"perm_mask": "mask", "target_mapping": "mapping", "attention_mask": "there"}
    theirs = {name: torch.tensor(given[key], dtype=torch.float32) for name, key in floats.items() if key in given}
    if "types" in given:
        theirs["token_type_ids"] = torch.tensor(given["types"])
    with torch.no_grad():
        expected = pair.theirs(torch.tensor(given["tokens"]), **theirs).logits.numpy()
    return pairs.our_logits(pair, given["tokens"], **ours), expected


def check(ours, expected):
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert np.abs(expected).max() > 1


def test_token_types(pair):
    tokens, types, _, _ = drawn_inputs(pair)
    typed, expected = both(pair, tokens=tokens, types=types)
    check(typed, expected)
    with torch.no_grad():
        plain = pair.theirs(torch.tensor(tokens)).logits.numpy()
    assert np.abs(plain - typed).max() > 1e-2


def test_permutation_of_content(pair):
    tokens, types, mask, _ = drawn_inputs(pair, rows=1 if pair.config.causal else 4)  # their "uni" takes one row here
    check(*both(pair, tokens=tokens, types=types, mask=mask))


def test_query_stream(pair):
    tokens, types, mask, mapping = drawn_inputs(pair, rows=1 if pair.config.causal else 4)
    check(*both(pair, tokens=tokens, types=types, mask=mask, mapping=mapping))


@pytest.mark.slow
def test_query_stream_without_types_and_permutation(pair):
    tokens, _, mask, mapping = drawn_inputs(pair, rows=1 if pair.config.causal else 4)
    check(*both(pair, tokens=tokens, mask=mask, mapping=mapping))
    check(*both(pair, tokens=tokens, mapping=mapping))


@pytest.mark.slow
def test_every_position_predicted_the_first_from_nothing(pair):
    random = np.random.default_rng(2)
    order = random.permutation(LENGTH)[None]
    if pair.config.bidirectional_data:
        order = np.repeat(order, 2, axis=0)
    mask, mapping = map(np.asarray, permutation_inputs(order, order))
    check(*both(pair, tokens=random.integers(3, 99, order.shape), mask=mask, mapping=mapping))


@pytest.mark.slow
def test_padding_with_permutation(pair):
    if pair.config.bidirectional_data:
        pytest.skip("rows are run one by one here")
    tokens, types, mask, mapping = drawn_inputs(pair)
    for row, there in enumerate([slice(4, None), slice(None, -5)]):
        one = slice(row, row + 1)
        given = np.zeros((1, LENGTH), int)
        given[:, there] = 1
        ours, expected = both(pair, tokens=tokens[one], types=types[one], mask=mask[one], there=given)
        check(ours[given == 1], expected[given == 1])
        real = (mapping[one] * given[:, None]).sum(-1) > 0
        sees = ((1 - mask[one]) * given[:, None]).sum(-1)  # theirs lets a target that sees nothing look at padding
        real &= np.einsum("bpl,bl->bp", mapping[one], sees) > 0
        ours, expected = both(pair, tokens=tokens[one], mask=mask[one], mapping=mapping[one], there=given)
        check(ours[real], expected[real])


SAME_LENGTH = "uni-same-length"
MEMORIES = {
    "all": {"mem_len": None},
    "last-9": {"mem_len": 9},
    "reused": {"mem_len": 30, "reuse_len": 11},
    SAME_LENGTH: {"attn_type": "uni", "same_length": True, "mem_len": 25},
}


# Empty slots count as slots before the segment where all segments have the same length.
REMEMBERED = {
    f"{name}-{slots}": (name, slots) for name in MEMORIES for slots in (0, None) if (name, slots) != (SAME_LENGTH, None)
}


@pytest.mark.parametrize(("name", "slots"), slow_except(REMEMBERED, "reused-None"))
def test_memories_over_three_segments(name, slots):
    pair = of(MEMORIES[name])
    random = np.random.default_rng(3)
    tokens = random.integers(3, 99, (3, 2, LENGTH))
    memories, theirs = pair.model.empty_memories(2, slots), None
    for segment in tokens:
        types = (np.arange(LENGTH) > 9).astype(int)[None].repeat(2, 0)
        given = {"token_types": jnp.asarray(types), "memories": memories}
        logits, memories = pairs.run(remembering, pair.model, jnp.asarray(segment), **given)
        with torch.no_grad():
            found = pair.theirs(torch.tensor(segment), token_type_ids=torch.tensor(types), mems=theirs, use_mems=True)
        theirs = found.mems
        check(np.asarray(logits)[..., :99], found.logits.numpy())
        kept = theirs[0].shape[0]
        for layer, expected in enumerate(theirs):
            ours = np.asarray(memories.hidden)[layer, :, -kept:]
            np.testing.assert_allclose(ours, expected.numpy().transpose(1, 0, 2), atol=TOLERANCE, rtol=TOLERANCE)
    plain = pairs.our_logits(pair, tokens[2], token_types=types)
    assert np.abs(plain - found.logits.numpy()).max() > 1e-2


def remembering(model, tokens, **inputs):
    hidden, memories = model(tokens, **inputs)
    return model.head.logits(hidden), memories


@pytest.mark.slow
def test_gradients(pair):
    tokens, types, mask, mapping = drawn_inputs(pair, rows=2)
    if pair.config.causal:
        tokens, types, mask, mapping = tokens[:1], types[:1], mask[:1], mapping[:1]
    weights = np.random.default_rng(4).normal(size=(len(tokens), PREDICTIONS, 99)).astype(np.float32)
    # Where all is hidden theirs adds -1e30 to every score: the value is constant, yet gradients pass to the scores.
    sees = (1 - mask) * (np.tri(LENGTH) if pair.config.causal else 1)
    weights *= np.einsum("bpl,bl->bp", mapping, sees.sum(-1))[..., None] > 0
    found = pair.theirs(
        torch.tensor(tokens),
        token_type_ids=torch.tensor(types),
        perm_mask=torch.tensor(mask, dtype=torch.float32),
        target_mapping=torch.tensor(mapping),
    )
    pair.theirs.zero_grad()
    (found.logits * torch.tensor(weights)).sum().backward()
    expected = {name: value.grad.numpy() for name, value in pair.theirs.named_parameters()}

    graphdef, params = nnx.split(pair.model)

    def loss(params):
        model = nnx.merge(graphdef, params)
        hidden = model(
            jnp.asarray(tokens),
            token_types=jnp.asarray(types),
            permutation_mask=jnp.asarray(mask),
            target_mapping=jnp.asarray(mapping),
        )
        return jnp.sum(model.head.logits(hidden)[..., :99] * weights)

    gradients = jax.jit(jax.grad(loss))(params)
    flat = {"/".join(map(str, path)): np.asarray(value[...]) for path, value in nnx.to_flat_state(gradients)}
    for name, value in weight_map.write(flat, pair.mapping):
        scale = np.abs(expected[name]).max()
        assert scale > 0, name
        np.testing.assert_allclose(value, expected[name], atol=2e-4 * max(1, scale), rtol=2e-4, err_msg=name)


HEADS = {
    "ForSequenceClassification": ("classification", ("logits",), {"num_labels": 5}),
    "ForTokenClassification": ("tags", ("logits",), {"num_labels": 5}),
    "ForQuestionAnsweringSimple": ("span", ("start_logits", "end_logits"), {}),
    "ForMultipleChoice": ("choice", ("logits",), {}),
}


@pytest.mark.parametrize("suffix", slow_except(list(HEADS), "ForSequenceClassification"))
def test_task_heads(suffix):
    task, fields, settings = HEADS[suffix]
    pair = of(settings, head=suffix)
    assert [spec.name for spec in pair.config.tasks] == [task]
    random = np.random.default_rng(5)
    tokens = random.integers(3, 99, (3, 4, LENGTH) if task == "choice" else (3, LENGTH))
    there = np.ones(tokens.shape, int)
    there[1, ..., :6] = 0  # their summary is the last position whatever it is, so they pad on the left
    found = np.asarray(pairs.run(of_task, pair.model, jnp.asarray(tokens), there=jnp.asarray(there)))
    with torch.no_grad():
        output = pair.theirs(torch.tensor(tokens), attention_mask=torch.tensor(there, dtype=torch.float32))
    expected = np.stack([output[field].numpy() for field in fields], axis=-1)
    expected = expected[..., 0] if len(fields) == 1 else expected
    counted = there.astype(bool) if task in ("tags", "span") else np.ones(len(tokens), bool)
    np.testing.assert_allclose(found[counted], expected[counted], atol=TOLERANCE, rtol=TOLERANCE)
    assert np.std(expected) > 0.05
    ours = {path: np.asarray(value[...]) for path, value in pairs.parameters(pair.model).items()}
    exported = dict(weight_map.write(ours, pair.mapping))
    assert set(exported) == set(pair.tensors)
    for tensor, value in exported.items():
        np.testing.assert_array_equal(value, pair.tensors[tensor], err_msg=tensor)


def of_task(model, tokens, there):
    """Scores of the one task for [..., L] tokens."""
    rows = (-1, tokens.shape[-1])
    hidden = model(tokens.reshape(rows), segment_ids=there.reshape(rows)).reshape(*tokens.shape, -1)
    (task,) = model.tasks.values()
    return task.logits(hidden, segment_ids=there)


def of_base(model, tokens):
    return model(tokens)


@pytest.mark.slow
def test_base_model_has_no_prefix():
    pair = of({}, head="Model")
    tokens = np.random.default_rng(6).integers(3, 99, (2, LENGTH))
    with torch.no_grad():
        expected = pair.theirs(torch.tensor(tokens))[0].numpy()
    np.testing.assert_allclose(
        pairs.run(of_base, pair.model, jnp.asarray(tokens)), expected, atol=TOLERANCE, rtol=TOLERANCE
    )


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("base", {"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072}, 116_750_336),
        ("large", {"d_model": 1024, "n_layer": 24, "n_head": 16, "d_inner": 4096}, None),
    ],
)
def test_parameter_counts(name, settings, count):
    import transformers

    from t5x_style.models.presets.xlnet import xlnet

    with torch.device("meta"):
        theirs = transformers.XLNetLMHeadModel(transformers.XLNetConfig(vocab_size=32000, **settings))
    expected = sum(parameter.numel() for parameter in theirs.parameters())
    assert parameter_count(xlnet(name)) == expected
    assert count in (None, expected)


CONTINUED = {
    "default": {},
    "short-memory": {"mem_len": 12},
    "all-memory": {"mem_len": None},
    "uni": {"attn_type": "uni", "mem_len": None},
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", CONTINUED.values(), ids=CONTINUED)
def test_greedy_generation(settings):
    varied = {"initializer_range": 0.5, "tie_word_embeddings": False}
    settings = {"eos_token_id": None, "pad_token_id": None, **varied, **settings}
    pair = of(settings)
    random = np.random.default_rng(7)
    prompts = [random.integers(3, 99, size).tolist() for size in (9, 5, 1 if "attn_type" in settings else 17)]
    found = generate(pair.model, prompts, max_new_tokens=15)
    for prompt, ours in zip(prompts, found, strict=True):
        given = torch.tensor([prompt])
        with torch.no_grad():
            expected = pair.theirs.generate(given, max_new_tokens=15, do_sample=False)[0, len(prompt) :].tolist()
        assert ours == expected
    assert len({token for row in found for token in row}) > 5  # or a constant would pass
