"""ChatGLM's two designs: positions and context of a row, what is refused, generations told apart."""

import json

import numpy as np
import pytest
import safetensors.numpy

import t5x_style
from t5x_style.errors import UserError
from t5x_style.huggingface import registry
from t5x_style.huggingface.families import chatglm, glm, glm_infilling
from tests.parity import pairs
from tests.parity.cases.chatglm import CASES

FIRST = {
    "model_type": "chatglm",
    "vocab_size": 20,
    "hidden_size": 16,
    "inner_hidden_size": 24,
    "num_layers": 2,
    "num_attention_heads": 2,
    "bos_token_id": 9,
    "gmask_token_id": 8,
    "mask_token_id": 7,
}
SECOND = {
    "model_type": "chatglm",
    "padded_vocab_size": 20,
    "hidden_size": 16,
    "ffn_hidden_size": 24,
    "num_layers": 2,
    "num_attention_heads": 2,
}


@pytest.mark.parametrize(
    ("row", "positions", "blocks", "context"),
    [
        # the docstring's example: [gMASK], then the start
        ([5, 6, 8, 9, 4, 4], [0, 1, 2, 2, 2, 2], [0, 0, 0, 1, 2, 3], [1, 1, 1, 0, 0, 0]),
        # [MASK] in the middle of the context
        ([5, 7, 6, 9, 4], [0, 1, 2, 1, 1], [0, 0, 0, 1, 2], [1, 1, 1, 0, 0]),
        # both masks: [gMASK] wins although [MASK] is earlier
        ([7, 8, 9, 4], [0, 1, 1, 1], [0, 0, 1, 2], [1, 1, 0, 0]),
        # the first start id counts, a later one is a token like others
        ([8, 9, 9, 4], [0, 0, 0, 0], [0, 1, 2, 3], [1, 0, 0, 0]),
        # a start without context, a mask behind it
        ([9, 7], [1, 1], [1, 2], [0, 0]),
        # no mask: usual positions
        ([5, 9, 4], [0, 1, 2], [0, 1, 2], [1, 0, 0]),
        # no start: context from end to end
        ([5, 8, 4], [0, 1, 2], [0, 0, 0], [1, 1, 1]),
        ([], [], [], []),
    ],
)
def test_positions_and_context_of_a_row(row, positions, blocks, context):
    found = chatglm.inputs(np.asarray(row, np.int32), FIRST)
    assert found["positions"].shape == (len(row), 2)
    assert found["positions"].dtype == found["causal_attention"].dtype == np.int32
    assert found["positions"][:, 0].tolist() == positions
    assert found["positions"][:, 1].tolist() == blocks
    assert found["causal_attention"].tolist() == context


def test_the_first_release_has_its_ids_in_code():
    settings = {name: value for name, value in FIRST.items() if not name.endswith("token_id")} | {"vocab_size": 150528}
    found = chatglm.inputs(np.array([5, 150001, 150004, 6]), settings)
    assert found["positions"].tolist() == [[0, 0], [1, 0], [1, 1], [1, 2]]


def test_the_second_design_needs_no_inputs():
    assert chatglm.inputs(np.array([9, 8]), SECOND) == {}
    assert chatglm.from_config(SECOND).layers[0].attention.causal


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**FIRST, "pre_seq_len": 128}, "pre_seq_len is 128"),
        ({**SECOND, "quantization_bit": 4}, "quantization_bit is 4"),
        ({**FIRST, "position_encoding_2d": False}, "position_encoding_2d is false"),
        ({**SECOND, "multi_query_attention": True, "multi_query_group_num": 2}, "multi_query_group_num is 2"),
        ({**FIRST, "num_attention_heads": 8}, "multiple of 4"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        chatglm.from_config(settings)
    assert "\n" not in str(caught.value)


def test_the_published_vocabulary_brings_its_special_ids():
    config = chatglm.from_config({**FIRST, "vocab_size": 130528})
    assert chatglm.to_config(config)["bos_token_id"] == 130004
    assert "bos_token_id" not in chatglm.to_config(chatglm.from_config(FIRST))


def test_two_families_share_the_model_type_glm():
    old = {"model_type": "glm", "num_layers": 2, "max_sequence_length": 32, "architectures": ["GLMModel"]}
    new = {"model_type": "glm", "num_hidden_layers": 2, "architectures": ["GlmForCausalLM"]}
    assert registry.family(old) is glm_infilling
    assert registry.family(new) is glm
    assert registry.family(FIRST) is registry.family(SECOND) is chatglm


def test_a_folder_gives_the_logits_and_tokens_of_the_reference(tmp_path):
    case = CASES["chatglm-6b-both-masks"]
    tensors = pairs.drawn(chatglm.weight_map(chatglm.from_config(case.settings)))
    buffer = {"transformer.layers.0.attention.rotary_emb.inv_freq": np.ones(3, np.float32)}  # the release saves it
    safetensors.numpy.save_file({**tensors, **buffer}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(dict(case.settings)))
    loaded = t5x_style.load_model(tmp_path)
    rows = [[5, 6, 28, 10, 50, 51], [3, 43, 4, 10]]
    found = np.asarray(loaded.logits(rows))
    for row, logits in zip(rows, found):
        expected = case.reference(case.settings, tensors, np.array([row]))[0]
        np.testing.assert_allclose(logits[: len(row)], expected, atol=2e-4, rtol=2e-4)
    drawn = loaded.generate(rows, max_new_tokens=3, eos_ids=[])
    for row, tokens in zip(rows, drawn):
        for token in tokens:
            assert token == int(np.argmax(case.reference(case.settings, tensors, np.array([row]))[0, -1]))
            row.append(token)
