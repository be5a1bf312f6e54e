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
from t5x_style.models import abstract
from t5x_style.models import specs as parts
from t5x_style.models.permutation import permutation_inputs
from tests.models import execution_checks as checks
from tests.models import stream_checks as streams
from tests.models.conftest import filled, jitted

ROOT = pathlib.Path(__file__).resolve().parents[2]
LENGTH = 12


ordered = jax.jit(permutation_inputs, static_argnames="visible_context")


@pytest.fixture(scope="module")
def model():
    return filled(streams.xlnet(), 1)


def drawn(rows=2, length=LENGTH, seed=0):
    return np.random.default_rng(seed).integers(0, checks.VOCAB, (rows, length))


def orders():
    return np.stack([np.random.default_rng(row).permutation(LENGTH) for row in range(2)])


def blind_with_the_mean(model):
    """The same weights where a position that sees nothing gets the mean."""
    return nnx.merge(nnx.split(abstract(dataclasses.replace(model.config, blind="mean")))[0], nnx.state(model))


def test_the_worked_example_of_permutation_inputs():
    order, targets = np.array([[2, 1, 3, 0]]), np.array([[3, 0]])
    mask, mapping = ordered(order, targets)
    assert mask.tolist() == [[[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1], [1, 0, 0, 1]]]
    assert mapping.tolist() == [[[0, 0, 0, 1], [1, 0, 0, 0]]]
    mask, _ = ordered(order, targets, visible_context=True)
    assert mask.tolist() == [[[1, 0, 0, 0], [1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]]]
    assert ordered(np.array([[0, 1]]), np.array([[-1, 1]]))[1].tolist() == [[[0, 0], [0, 1]]]


def test_permutation_inputs_refuses_other_shapes():
    with pytest.raises(UserError, match=r"order has shape \(3,\) and targets \(1, 2\)"):
        permutation_inputs(np.arange(3), [[1, 2]])


@jitted
def both_streams(model, tokens, mask, mapping, ids, types):
    """(content, predicted)."""
    inputs = {"segment_ids": ids, "token_types": types, "permutation_mask": mask}
    return model(tokens, **inputs), model(tokens, target_mapping=mapping, **inputs)


@pytest.mark.parametrize("visible", [False, True])
def test_a_prediction_depends_on_what_comes_before_it_in_the_order_and_on_nothing_else(model, visible):
    tokens, order = drawn(), orders()
    targets = order.copy()
    targets[:, : 5 if visible else 0] = -1  # which predicts nothing
    mask, mapping = ordered(order, targets, visible_context=visible)
    ones = np.ones_like(tokens)

    def predicted(tokens):
        return both_streams(model, tokens, mask, mapping, ones, 0 * ones)[1]

    before, rank = predicted(tokens), np.argsort(order, axis=1)
    for position in range(LENGTH):
        changed = tokens.copy()
        changed[:, position] = (tokens[:, position] + 7) % checks.VOCAB
        differs = (predicted(changed) != before).any(-1)
        for row, number in np.argwhere(targets >= 0):
            target = targets[row, number]
            assert differs[row, number] == (rank[row, position] < rank[row, target]), (row, position, target)


def test_a_prediction_needs_neither_documents_nor_types(model):
    """Where all tokens are of one document and types are not looked at, only the permutation decides."""
    tokens, order = drawn(), orders()
    mask, mapping = ordered(order, order)
    read = jitted(lambda model, *x: model(x[0], permutation_mask=x[1], target_mapping=x[2]))
    before, first = read(model, tokens, mask, mapping), order[:, :1]
    changed = tokens.copy()
    np.put_along_axis(changed, first, (np.take_along_axis(tokens, first, axis=1) + 7) % checks.VOCAB, axis=1)
    differs = (read(model, changed, mask, mapping) != before).any(-1)
    assert differs.tolist() == [[False] + [True] * (LENGTH - 1)] * 2


def test_packed_documents_and_padding_never_see_each_other(model):
    ids = np.array([[1] * 5 + [2] * 4 + [0] * 3] * 2)
    order, tokens, types = orders(), drawn(), drawn(seed=3) % 2
    mask, mapping = ordered(order, order)
    of_target = np.take_along_axis(ids, order, axis=1)
    for way in (model, blind_with_the_mean(model)):
        before = both_streams(way, tokens, mask, mapping, ids, types)
        for document in (0, 1, 2):
            other = np.where(ids == document, (tokens + 11) % checks.VOCAB, tokens)
            after = both_streams(way, other, mask, mapping, ids, types)
            kept = ids != document
            np.testing.assert_array_equal(after[0][kept], before[0][kept])
            assert (after[0][~kept] != before[0][~kept]).any()
            np.testing.assert_array_equal(after[1][of_target != document], before[1][of_target != document])


def test_a_packed_document_equals_the_document_alone(model):
    read = jitted(lambda model, tokens, ids: (model(tokens, segment_ids=ids)[:, 5:], model(tokens[:, 5:])))
    packed, alone = read(model, drawn(rows=1), np.array([[1] * 5 + [2] * 7]))
    np.testing.assert_allclose(packed, alone, atol=2e-5)


def test_blind_positions_see_nothing_or_the_mean(model):
    tokens = drawn()
    ones, hidden = np.ones_like(tokens), np.ones((2, LENGTH, LENGTH), np.int32)
    mapping = np.broadcast_to(np.eye(LENGTH, dtype=np.float32), hidden.shape)

    def predicted(model, tokens):
        return both_streams(model, tokens, hidden, mapping, ones, 0 * ones)[1]

    zero = predicted(model, tokens)
    assert np.array_equal(zero, predicted(model, np.flip(tokens, axis=1)))
    assert float(np.abs(predicted(blind_with_the_mean(model), tokens) - zero).max()) > 1e-3


def test_empty_slots_of_a_memory_change_nothing():
    model = filled(streams.xlnet(memory_length=17, reuse_length=9), 1)
    read = jitted(lambda model, tokens, memories: model(tokens, memories=memories))
    results = []
    for slots in (None, 0):
        memories, found = model.empty_memories(2, slots), []
        for seed in range(4):
            hidden, memories = read(model, drawn(seed=seed), memories)
            found.append(hidden)
        assert memories.hidden.shape == (3, 2, 17, checks.WIDTH)
        results.append(found)
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert model.empty_memories(2).hidden.shape == (3, 2, 17, checks.WIDTH)


def test_a_document_goes_on_in_the_memory_and_another_does_not_see_it(model):
    first, second = drawn(seed=1), drawn(seed=2)
    ids = np.array([[1] * 6 + [2] * 6] * 2)

    @jitted
    def read(model, first, last_ids):
        _, memories = model(first, segment_ids=ids, memories=model.empty_memories(2))
        return model(second, segment_ids=last_ids, memories=memories)[0], model(second)

    def after(first, last_id):
        return read(model, first, 0 * ids + last_id)[0]

    changed = np.where(ids == 1, (first + 5) % checks.VOCAB, first)
    np.testing.assert_array_equal(after(changed, 2), after(first, 2))
    np.testing.assert_array_equal(after(first, 3), after(changed, 3))
    assert (after(first, 1) != after(changed, 1)).any()
    np.testing.assert_allclose(*read(model, first, 0 * ids + 3), atol=2e-5)


def test_no_gradient_flows_into_memories(model):
    @jitted
    def gradients(model, tokens, memories):
        graphdef, state = nnx.split(model)

        def value(given, state):
            after = nnx.merge(graphdef, state)(tokens, memories=dataclasses.replace(memories, hidden=given))[1]
            return jnp.sum(after.hidden**2)

        return jax.grad(value)(memories.hidden, state)

    assert float(np.abs(gradients(model, drawn(), model.empty_memories(2, 5))).max()) == 0


def test_half_a_batch_runs_backwards():
    config = streams.xlnet(bidirectional_data=True)
    both, forward = filled(config, 1), filled(dataclasses.replace(config, bidirectional_data=False), 1)
    tokens = drawn(rows=4)
    read = jitted(lambda model, tokens: model(tokens))
    found = read(both, tokens)
    np.testing.assert_allclose(found[:2], read(forward, tokens[:2]), atol=2e-5)
    turned = read(forward, tokens[2:, ::-1])[:, ::-1]
    np.testing.assert_allclose(found[2:], turned, atol=2e-5)
    with pytest.raises(UserError, match="3 rows cannot be halved"):
        both(tokens[:3])
    with pytest.raises(UserError, match="bidirectional_data is for pretraining"):
        generate(both, [[1, 2]], 3)


def result(execution):
    """As stream_checks.result, of two layers."""
    config = dataclasses.replace(streams.xlnet(), segments=(parts.LayerGroup(streams.xlnet().layers[:1], 2),))
    graphdef, state = nnx.split(filled(config, 1, execution=execution))
    (_, logits), gradient = jax.jit(streams.value_and_gradient(graphdef))(state, *checks.arrays())
    return np.asarray(logits), [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]


@pytest.mark.parametrize(
    ("scan", "remat"),
    [pytest.param(True, "full", id="scan-full"), pytest.param(False, "dots", id="dots", marks=pytest.mark.slow)],
)
def test_scan_and_remat_change_nothing(scan, remat):
    expected = result(checks.PLAIN)
    assert np.abs(expected[0]).max() > 0.5
    logits, gradients = checks.differences(result(parts.Execution(scan, remat)), expected)
    assert logits < 1e-4
    assert gradients < 2e-4


def test_several_segments_and_shared_layers_read_their_own_memories():
    layer = streams.xlnet().layers[0]
    segments = (parts.LayerGroup((layer, layer), 2), parts.LayerGroup((layer,), 2, shared=True))
    model, scanned = (
        filled(dataclasses.replace(streams.xlnet(), segments=segments), 1, execution=parts.Execution(scan))
        for scan in (False, True)
    )
    read = jitted(lambda model, tokens: model(tokens, memories=model.empty_memories(2, 3))[1].hidden)
    results = [read(way, drawn()) for way in (model, scanned)]
    assert results[0].shape == (6, 2, 3 + LENGTH, checks.WIDTH)
    np.testing.assert_allclose(*results, atol=2e-5)


def prompts():
    return [drawn(1, size, size)[0].tolist() for size in (3, 15, 9)]


def test_generation_does_not_depend_on_the_batch(model):
    together = generate(model, prompts(), 8)
    assert together[0] == generate(model, prompts()[:1], 8)[0]
    searched = generate(model, prompts(), 6, beam_search=BeamSearch(3))
    assert searched != [row[:6] for row in together]
    with pytest.raises(UserError, match="bidirectional_prompts"):
        generate(model, prompts(), 2, bidirectional_prompts=True)


@pytest.mark.slow
def test_generation_of_every_prompt_alone(model):
    assert generate(model, prompts(), 8) == [generate(model, [prompt], 8)[0] for prompt in prompts()]
    searched = generate(model, prompts(), 6, beam_search=BeamSearch(3))
    for some in (prompts()[:1], prompts()[1:]):
        assert generate(model, some, 6, beam_search=BeamSearch(3)) == [searched[prompts().index(row)] for row in some]


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
