"""XLNet without transformers: who sees whom, memories, ways to run, bad input."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.decoding import BeamSearch, generate
from t5x_style.errors import UserError
from t5x_style.models import build
from t5x_style.models import specs as parts
from t5x_style.models.permutation import permutation_inputs
from tests.models import execution_checks as checks
from tests.models import stream_checks as streams

ROOT = pathlib.Path(__file__).resolve().parents[2]
LENGTH = 12


@pytest.fixture(scope="module")
def model():
    return build(streams.xlnet(), 1)


def drawn(rows=2, length=LENGTH, seed=0):
    return np.random.default_rng(seed).integers(0, checks.VOCAB, (rows, length))


def test_the_worked_example_of_permutation_inputs():
    mask, mapping = permutation_inputs([[2, 1, 3, 0]], [[3, 0]])
    assert mask.tolist() == [[[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1], [1, 0, 0, 1]]]
    assert mapping.tolist() == [[[0, 0, 0, 1], [1, 0, 0, 0]]]
    mask, _ = permutation_inputs([[2, 1, 3, 0]], [[3, 0]], visible_context=True)
    assert mask.tolist() == [[[1, 0, 0, 0], [1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]]]
    assert permutation_inputs([[0, 1]], [[-1, 1]])[1].tolist() == [[[0, 0], [0, 1]]]


def test_permutation_inputs_refuses_other_shapes():
    with pytest.raises(UserError, match=r"order has shape \(3,\) and targets \(1, 2\)"):
        permutation_inputs(np.arange(3), [[1, 2]])


@pytest.mark.parametrize("visible", [False, True])
def test_a_prediction_depends_on_what_comes_before_it_in_the_order_and_on_nothing_else(model, visible):
    tokens, order = drawn(rows=1), np.random.default_rng(1).permutation(LENGTH)[None]
    targets = order[:, 5:] if visible else order
    mask, mapping = permutation_inputs(order, targets, visible_context=visible)

    def predicted(tokens):
        return np.asarray(model(jnp.asarray(tokens), permutation_mask=mask, target_mapping=mapping))[0]

    before, rank = predicted(tokens), np.argsort(order[0])
    for position in range(LENGTH):
        changed = tokens.copy()
        changed[0, position] = (tokens[0, position] + 7) % checks.VOCAB
        differs = (predicted(changed) != before).any(-1)
        for number, target in enumerate(targets[0]):
            assert differs[number] == (rank[position] < rank[target]), (position, target)


def test_packed_documents_and_padding_never_see_each_other(model):
    ids = np.array([[1] * 5 + [2] * 4 + [0] * 3] * 2)
    order = np.stack([np.random.default_rng(row).permutation(LENGTH) for row in range(2)])
    mask, mapping = permutation_inputs(order, order)
    tokens, types = drawn(), drawn(seed=3) % 2
    inputs = {"segment_ids": jnp.asarray(ids), "token_types": jnp.asarray(types), "permutation_mask": mask}

    def states(tokens, blind):
        config = dataclasses.replace(model.config, blind=blind)
        graphdef, _ = nnx.split(build(config, 1))
        same = nnx.merge(graphdef, nnx.state(model))
        content = np.asarray(same(jnp.asarray(tokens), **inputs))
        return content, np.asarray(same(jnp.asarray(tokens), target_mapping=mapping, **inputs))

    for blind in ("zero", "mean"):
        before = states(tokens, blind)
        for document in (0, 1, 2):
            other = np.where(ids == document, (tokens + 11) % checks.VOCAB, tokens)
            after = states(other, blind)
            kept = ids != document
            np.testing.assert_array_equal(after[0][kept], before[0][kept])
            assert (after[0][~kept] != before[0][~kept]).any()
            of_target = np.take_along_axis(ids, order, axis=1)
            np.testing.assert_array_equal(after[1][of_target != document], before[1][of_target != document])


def test_a_packed_document_equals_the_document_alone(model):
    tokens = drawn(rows=1)
    ids = jnp.asarray([[1] * 5 + [2] * 7])
    packed = model(jnp.asarray(tokens), segment_ids=ids)
    np.testing.assert_allclose(packed[:, 5:], model(jnp.asarray(tokens[:, 5:])), atol=2e-5)


def test_blind_positions_see_nothing_or_the_mean(model):
    tokens = jnp.asarray(drawn(rows=1))
    hidden = jnp.ones((1, LENGTH, LENGTH))
    mapping = jnp.eye(LENGTH)[None, :1]
    mean = nnx.merge(nnx.split(build(dataclasses.replace(model.config, blind="mean"), 1))[0], nnx.state(model))
    zero = model(tokens, permutation_mask=hidden, target_mapping=mapping)
    other = jnp.flip(tokens, axis=1)
    assert jnp.array_equal(zero, model(other, permutation_mask=hidden, target_mapping=mapping))
    seen = mean(tokens, permutation_mask=hidden, target_mapping=mapping)
    assert float(jnp.abs(seen - zero).max()) > 1e-3


def test_empty_slots_of_a_memory_change_nothing():
    config = streams.xlnet(memory_length=17, reuse_length=9)
    model = build(config, 1)
    results = []
    for slots in (None, 0):
        memories, found = model.empty_memories(2, slots), []
        for seed in range(4):
            hidden, memories = model(jnp.asarray(drawn(seed=seed)), memories=memories)
            found.append(hidden)
        assert memories.hidden.shape == (3, 2, 17, checks.WIDTH)
        results.append(found)
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert model.empty_memories(2).hidden.shape == (3, 2, 17, checks.WIDTH)


def test_a_document_goes_on_in_the_memory_and_another_does_not_see_it(model):
    first, second = drawn(seed=1), drawn(seed=2)
    ids = np.array([[1] * 6 + [2] * 6] * 2)

    def after(first, last_ids):
        _, memories = model(jnp.asarray(first), segment_ids=jnp.asarray(ids), memories=model.empty_memories(2))
        return model(jnp.asarray(second), segment_ids=jnp.asarray(last_ids), memories=memories)[0]

    changed = np.where(ids == 1, (first + 5) % checks.VOCAB, first)
    np.testing.assert_array_equal(after(changed, 0 * ids + 2), after(first, 0 * ids + 2))
    np.testing.assert_array_equal(after(first, 0 * ids + 3), after(changed, 0 * ids + 3))
    assert (np.asarray(after(first, 0 * ids + 1)) != np.asarray(after(changed, 0 * ids + 1))).any()
    np.testing.assert_allclose(after(first, 0 * ids + 3), model(jnp.asarray(second)), atol=2e-5)


def test_no_gradient_flows_into_memories(model):
    graphdef, state = nnx.split(model)
    tokens = jnp.asarray(drawn())

    def value(memories):
        hidden, after = nnx.merge(graphdef, state)(tokens, memories=memories)
        return jnp.sum(after.hidden**2), hidden

    memories = model.empty_memories(2, 5)
    gradient = jax.grad(lambda given: value(dataclasses.replace(memories, hidden=given))[0])(memories.hidden)
    assert float(jnp.abs(gradient).max()) == 0


def test_half_a_batch_runs_backwards():
    config = streams.xlnet(bidirectional_data=True)
    both, forward = build(config, 1), build(dataclasses.replace(config, bidirectional_data=False), 1)
    tokens = drawn(rows=4)
    found = np.asarray(both(jnp.asarray(tokens)))
    np.testing.assert_allclose(found[:2], forward(jnp.asarray(tokens[:2])), atol=2e-5)
    turned = np.asarray(forward(jnp.asarray(tokens[2:, ::-1])))[:, ::-1]
    np.testing.assert_allclose(found[2:], turned, atol=2e-5)
    with pytest.raises(UserError, match="3 rows cannot be halved"):
        both(jnp.asarray(tokens[:3]))
    with pytest.raises(UserError, match="bidirectional_data is for pretraining"):
        generate(both, [[1, 2]], 3)


def test_scan_and_remat_change_nothing():
    config = streams.xlnet()
    expected = streams.result(checks.run_as(config, False, "none"))
    assert np.abs(expected[0]).max() > 0.5
    for scan, remat in ((True, "full"), (False, "dots")):
        logits, gradients = checks.differences(streams.result(checks.run_as(config, scan, remat)), expected)
        assert logits < 1e-4
        assert gradients < 2e-4


def test_several_segments_and_shared_layers_read_their_own_memories():
    layer = streams.xlnet().layers[0]
    config = streams.xlnet()
    segments = (parts.LayerGroup((layer, layer), 2), parts.LayerGroup((layer,), 2, shared=True))
    model = build(dataclasses.replace(config, segments=segments, scan=False), 1)
    scanned = nnx.merge(nnx.split(build(dataclasses.replace(model.config, scan=True), 1))[0], nnx.state(model))
    tokens = jnp.asarray(drawn())
    results = []
    for way in (model, scanned):
        _, memories = way(tokens, memories=way.empty_memories(2, 3))
        assert memories.hidden.shape == (6, 2, 3 + LENGTH, checks.WIDTH)
        results.append(memories.hidden)
    np.testing.assert_allclose(*results, atol=2e-5)


def test_generation_does_not_depend_on_the_batch(model):
    prompts = [drawn(1, size, size)[0].tolist() for size in (3, 15, 9)]
    together = generate(model, prompts, 8)
    assert together == [generate(model, [prompt], 8)[0] for prompt in prompts]
    searched = generate(model, prompts, 6, beam_search=BeamSearch(3))
    assert searched[1:] == generate(model, prompts[1:], 6, beam_search=BeamSearch(3))
    assert searched != [row[:6] for row in together]
    with pytest.raises(UserError, match="bidirectional_prompts"):
        generate(model, prompts, 2, bidirectional_prompts=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_length": 0}, "XLNetConfig.memory_length is 0; give at least 1, or None"),
        ({"clamp_length": -1}, "XLNetConfig.clamp_length is -1"),
        ({"blind": "one"}, "XLNetConfig.blind is 'one'; choose one of zero, mean"),
        ({"embed_dim": 15}, "XLNetConfig.embed_dim is 15; sines and cosines need an even one"),
        ({"same_length": True}, "XLNetConfig.same_length needs AttentionSpec.causal"),
        ({"embedding": parts.EmbeddingSpec(types=2)}, "positions and token types belong to its attention"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(UserError, match=message):
        streams.xlnet(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"placement": "pre"}, 'layers need placement "post"'),
        ({"attention": parts.AttentionSpec(4, 2, 8, causal=False, rope=None)}, "2 kv_heads for 4 heads"),
        ({"attention": parts.AttentionSpec(4, 4, 8, causal=False)}, "AttentionSpec must have rope=None"),
    ],
)
def test_layers_that_it_cannot_have(changes, message):
    layer = dataclasses.replace(streams.xlnet().layers[0], **changes)
    with pytest.raises(UserError, match=message):
        dataclasses.replace(streams.xlnet(), segments=(parts.LayerGroup((layer,), 2),))


@pytest.mark.slow
def test_8_devices_equal_1():
    script = pathlib.Path(__file__).with_name("stream_checks.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    findings = json.loads(done.stdout.splitlines()[-1])
    assert set(findings) == set(streams.CONFIGS)
    for name, (logits, gradients) in findings.items():
        assert logits < 1e-4, name
        assert gradients < 2e-4, name
