"""Heads of Hugging Face folders: what the files hold beyond config.json, labels, classes that do not fit."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from t5x_style.errors import UserError
from t5x_style.huggingface import task_heads
from t5x_style.huggingface.export_model import export_model
from t5x_style.huggingface.families import albert, bert, llama
from t5x_style.huggingface.folder import open_folder
from t5x_style.huggingface.import_model import import_model
from t5x_style.models import specs as parts
from t5x_style.models.presets import mt_dnn, spanbert
from t5x_style.models.presets.bert import bert as bert_preset
from tests.huggingface.conftest import BERT, LLAMA, tensors_of, write_folder

PRETRAINING = {**BERT, "architectures": ["BertForPreTraining"]}


def test_the_pooler_and_the_sentence_head_of_a_masked_lm_file_are_kept(tmp_path):
    tensors = tensors_of(PRETRAINING)
    folder = write_folder(tmp_path / "in", {**BERT, "architectures": ["BertForMaskedLM"]}, tensors)
    opened = open_folder(folder)
    assert opened.ignored == ()
    assert opened.config.pooler
    assert [task.kind for task in opened.config.tasks] == ["next_sentence"]
    import_model(folder, tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
    written = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    assert set(written) == set(tensors)
    jax.tree.map(np.testing.assert_array_equal, written, tensors)


def test_a_pooler_beside_the_vocabulary_head_alone(tmp_path):
    settings = {**BERT, "add_pooling_layer": True}
    folder = write_folder(tmp_path / "in", BERT, tensors_of(settings))
    opened = open_folder(folder)
    assert opened.config.pooler
    assert opened.config.tasks == ()
    assert bert.from_config(bert.to_config(opened.config)) == opened.config


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("architectures", [None, ["BertModel"]])
def test_files_without_any_head_are_the_base_model(tmp_path, prefix, architectures):
    tensors = tensors_of({**BERT, "architectures": ["BertModel"]})
    named = {prefix + name: value for name, value in tensors.items()}
    settings = {**BERT, **({} if architectures is None else {"architectures": architectures})}
    opened = open_folder(write_folder(tmp_path / "in", settings, named))
    assert opened.config.head is None
    assert opened.config.pooler
    assert set(opened.tensors) == set(tensors)


def test_a_base_models_config_over_a_file_with_heads(tmp_path):
    folder = write_folder(tmp_path / "in", {**BERT, "architectures": ["BertModel"]}, tensors_of(PRETRAINING))
    assert open_folder(folder).config.head is not None


def test_a_missing_head_is_named(tmp_path):
    tensors = tensors_of(PRETRAINING)
    lost = {name: value for name, value in tensors.items() if not name.startswith("cls.seq_relationship")}
    with pytest.raises(UserError, match=r"cls\.seq_relationship\.bias is missing"):
        open_folder(write_folder(tmp_path / "in", PRETRAINING, lost))


@pytest.mark.parametrize(
    ("family", "kind", "settings", "class_name", "changes"),
    [
        (bert, "bert", BERT, "BertForSequenceClassification", {"id2label": {"0": "no", "1": "yes", "2": "perhaps"}}),
        (bert, "roberta", BERT, "RobertaForSequenceClassification", {"num_labels": 1}),
        (bert, "roberta", BERT, "RobertaForMultipleChoice", {}),
        (bert, "xlm-roberta", BERT, "XLMRobertaForTokenClassification", {"num_labels": 7}),
        (bert, "bert", BERT, "BertForNextSentencePrediction", {}),
        (llama, "llama", LLAMA, "LlamaForSequenceClassification", {"id2label": {"0": "helpful"}}),
        (llama, "qwen2", LLAMA, "Qwen2ForSequenceClassification", {"problem_type": "regression", "num_labels": 2}),
        (llama, "mistral", LLAMA, "MistralForTokenClassification", {"finetuning_task": "ner"}),
    ],
)
def test_config_json_both_ways(family, kind, settings, class_name, changes):
    settings = {**settings, "model_type": kind, "architectures": [class_name], **changes}
    config = family.from_config(settings)
    written = family.to_config(config, kind)
    assert family.from_config(json.loads(json.dumps(written))) == config
    assert written["architectures"] == [class_name]
    for name in ("id2label", "finetuning_task"):
        assert name not in changes or written[name] == changes[name]


def test_heads_are_read_as_they_are_trained():
    settings = {**BERT, "architectures": ["BertForSequenceClassification"], "num_labels": 1}
    assert bert.from_config(settings).tasks[0].kind == "regression"
    reward = {**LLAMA, "architectures": ["LlamaForSequenceClassification"], "num_labels": 1}
    assert llama.from_config(reward).tasks == (parts.TaskHeadSpec("reward", "reward", pool="last", bias=False),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bert.from_config({**BERT, "architectures": ["BertLMHeadModel"]}), "'BertLMHeadModel' is not known"),
        (lambda: bert.from_config({**BERT, "architectures": ["RobertaForMaskedLM"]}), "is not known; known are Bert"),
        (
            lambda: bert.from_config(
                {**BERT, "architectures": ["BertForTokenClassification"], "id2label": {"0": "O", "2": "B-X"}}
            ),
            r"id2label has ids \[0, 2\]; they must be 0 to 1",
        ),
        (
            lambda: bert.from_config(
                {**BERT, "architectures": ["BertForSequenceClassification"], "problem_type": "ranking"}
            ),
            "problem_type 'ranking' is not known",
        ),
        (lambda: bert.to_config(mt_dnn.mt_dnn("tiny")), "no class with task heads cola, sst2"),
        (lambda: bert.to_config(spanbert.spanbert("tiny")), "none for span boundaries"),
        (
            lambda: bert.to_config(bert_preset("tiny", tasks=[parts.TaskHeadSpec("x", "reward", pool="last")])),
            "no class of Bert with task heads x and a vocabulary head",
        ),
        (lambda: albert.groups(3, 4), "num_hidden_groups is 4; give 1 to num_hidden_layers, 3"),
    ],
)
def test_what_does_not_fit_is_one_line(make, message):
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_groups_of_shared_layers_follow_the_division():
    assert albert.groups(12, 1) == [12]
    assert albert.groups(7, 3) == [3, 2, 2]
    assert albert.groups(5, 5) == [1] * 5


def test_robertas_positions_leave_out_the_padding_id():
    row = np.array([5, 6, 1, 7, 1])
    assert bert.inputs(row, {"model_type": "roberta", "pad_token_id": 1})["positions"].tolist() == [0, 1, -1, 2, -1]
    assert bert.inputs(row, {"model_type": "bert"}) == {}
    assert bert.inputs(np.zeros(0, int), {"model_type": "roberta"})["positions"].shape == (0,)


def test_every_class_says_what_no_other_says():
    for classes in (task_heads.BERT, task_heads.ALBERT, task_heads.ROBERTA, task_heads.DECODER):
        heads = [
            (parts_.head, None if parts_.task is None else dataclasses.replace(parts_.task, name="x"))
            for parts_ in classes.values()
        ]
        assert len(set(heads)) == len(heads)
