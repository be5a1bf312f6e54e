"""Which meshes are refused for which models and data, and in which words: on paper, nothing is compiled."""

import functools

import pytest

from t5x_style import mesh, models
from t5x_style.checkpoints import parameters
from t5x_style.data.batches import CAUSAL_LM, BatchSpec, Field
from t5x_style.data.data_config import DataConfig
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.errors import UserError
from t5x_style.models.presets import bert, llama, lstm, t5
from t5x_style.training import mesh_use

LLAMA = llama.llama(500, 32, 1, 4, 2)  # mlp 128, vocabulary 512
MIXTURE = llama.llama(500, 32, 1, 4, 2, experts=6)
LSTM = lstm.lstm("tiny")


@functools.cache
def held(config):
    _, state, shapes = parameters.split(models.abstract(config))
    flat = parameters.flat(shapes)
    return mesh_use.Held(config, {path: leaf.shape for path, leaf in flat.items()}, parameters.flat_axes(state))


def check(sizes, tables=None, **configs):
    found = {name: held(config) for name, config in configs.items()}
    every = dict.fromkeys(mesh.AXES, 1) | sizes
    return mesh_use.check_models(found, every, mesh.Tables() if tables is None else tables)


@pytest.mark.parametrize(
    ("sizes", "config", "message"),
    [
        ({"stage": 8}, LLAMA, r"MeshConfig.stage=8: nothing of policy is split over it, .* same work; make it 1$"),
        ({"fsdp": 4, "stage": 2}, MIXTURE, "MeshConfig.stage=2: nothing of policy is split"),
        ({"expert": 8}, LLAMA, "MeshConfig.expert=8: policy has no experts to split over it; make it 1 and use data"),
        ({"expert": 4}, MIXTURE, "MeshConfig.expert=4: the 6 experts of policy do not divide .* a divisor of 6"),
        ({"tensor": 8}, LLAMA, "MeshConfig.tensor=8: the 4 attention heads of policy do not divide .* a divisor of 4"),
        ({"fsdp": 2, "tensor": 4}, t5.t5("tiny", 500), None),
        ({"tensor": 3}, t5.t5("tiny", 500), "MeshConfig.tensor=3: the . attention heads of policy do not divide"),
        ({"tensor": 3}, llama.llama(500, 36, 1, 3), "tensor=3: the 128 hidden units of policy's feed-forward layers"),
        (
            {"tensor": 3},
            llama.llama(500, 36, 1, 3, mlp_hidden=96),
            "tensor=3: the 512 rows of policy's vocabulary do not divide .* vocab_multiple",
        ),
        ({"tensor": 3}, llama.llama(500, 36, 1, 3, mlp_hidden=96, vocab_multiple=96), None),
        ({"tensor": 2}, LSTM, "MeshConfig.tensor=2: policy is a recurrent model, .*; use data or fsdp instead"),
        ({"fsdp": 4, "context": 2}, LSTM, "MeshConfig.context=2: policy is a recurrent model"),
        ({"data": 2, "fsdp": 4}, LSTM, None),
        ({"data": 2, "fsdp": 2, "tensor": 2}, LLAMA, None),
        ({"context": 4, "expert": 2}, MIXTURE, None),
        ({"data": 4, "tensor": 2}, bert.bert("tiny", 500), None),
    ],
)
def test_models(sizes, config, message):
    if message is None:
        assert check(sizes, policy=config) == ()
    else:
        with pytest.raises(UserError, match=message) as raised:
            check(sizes, policy=config)
        assert "\n" not in str(raised.value)


def test_key_and_value_heads_may_stay_whole_and_are_listed():
    assert check({"tensor": 4}, policy=LLAMA) == ("the 2 key and value heads of policy (MeshConfig.tensor=4)",)


def test_frozen_models_count():
    with pytest.raises(UserError, match="tensor=4: the 2 attention heads of reference do not divide"):
        check({"tensor": 4}, policy=LLAMA, reference=llama.llama(500, 32, 1, 2))
    with pytest.raises(UserError, match="stage=2: nothing of policy or teacher is split"):
        check({"stage": 2}, policy=LLAMA, teacher=LLAMA)
    assert check({"expert": 2}, policy=LLAMA, teacher=MIXTURE) == ()


def test_own_tables():
    """An axis is used if the tables in force split something over it, whatever its name."""
    by_stage = mesh.Tables(activations=(*mesh.ACTIVATION_RULES, ("act_embed", "stage")))
    assert check({"stage": 2}, by_stage, policy=LLAMA) == ()
    with pytest.raises(UserError, match="stage=5: nothing of policy"):  # 32 columns do not divide
        check({"stage": 5}, by_stage, policy=LLAMA)
    alone = mesh.Tables(activations=(("act_batch", "fsdp"),))
    with pytest.raises(UserError, match="data=2: nothing of policy"):
        check({"data": 2, "fsdp": 4}, alone, policy=LLAMA)


class TwoSides(CausalLM):
    """An encoder's rows are half as long again."""

    def lengths(self, length):
        return {"decoder": length, "encoder": length * 3 // 2}

    @property
    def spec(self):
        return BatchSpec((*CAUSAL_LM.fields, Field("encoder_input_tokens", "encoder")))


def test_lengths():
    sizes = dict.fromkeys(mesh.AXES, 1) | {"context": 4}
    tables = mesh.Tables()

    def check(length, objective, *read):
        data = DataConfig("cache", "name", objective, batch_size=8, length=length)
        mesh_use.check_lengths(data, sizes, tables, read, "the evaluation's DataConfig.length")

    check(64, CausalLM(), "decoder_input_tokens")
    check(64, TwoSides(), "decoder_input_tokens", "encoder_input_tokens")
    wrong = (
        r"MeshConfig.context=4: {} rows of {} tokens do not divide over 4 devices; change the evaluation's Data.*of 4"
    )
    with pytest.raises(UserError, match=wrong.format("decoder", 66)):
        check(66, CausalLM(), "decoder_input_tokens")
    with pytest.raises(UserError, match=wrong.format("encoder", 66)):
        check(44, TwoSides(), "decoder_input_tokens", "encoder_input_tokens")
    check(44, TwoSides(), "decoder_input_tokens")  # what nothing reads stays on the host
    sizes["context"] = 1
    check(67, CausalLM(), "decoder_input_tokens")
