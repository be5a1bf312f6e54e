"""Every head of transformers' encoder and decoder classes: equal logits, tensors to the bit, labels both ways."""

import importlib.util
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch

from t5x_style.huggingface.weights import weight_map
from t5x_style.models.heads import choice_logits
from t5x_style.models.pooling import last_not_equal
from tests.parity import pairs
from tests.parity.cases.albert import ALBERT
from tests.parity.cases.bert import BERT
from tests.parity.cases.case import Case
from tests.parity.cases.llama import LLAMA
from tests.parity.fast import slow_except

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4
TAGS = {"id2label": dict(enumerate(("O", "B-LOC", "I-LOC", "E-LOC", "S-LOC")))}
FIVE = {"id2label": dict(enumerate(f"class {number}" for number in range(5)))}
MANY = {**FIVE, "problem_type": "multi_label_classification"}
ROBERTA = {**BERT, "pad_token_id": 1, "type_vocab_size": 1}
ENCODERS = {"Bert": ("bert", BERT), "Roberta": ("bert", ROBERTA), "Albert": ("albert", ALBERT)}
DECODERS = {"Llama": {"attention_bias": True}, "Mistral": {"sliding_window": 9}, "Qwen2": {}, "Qwen3": {"head_dim": 20}}


class Head(NamedTuple):
    """A class's case; `task` is our task's name, `theirs` the fields of their output, () for none."""

    case: Case
    task: str
    theirs: tuple[str, ...] = ("logits",)


def encoder(name, suffix, task, theirs=("logits",), **settings):
    family, base = ENCODERS[name]
    case = Case(family, f"{name}Config", {**base, **settings}, model=f"{name}{suffix}", left_padding=False)
    return Head(case, task, theirs)


def decoder(name, suffix, task, **settings):
    settings = {**LLAMA, **DECODERS[name], "pad_token_id": 0, **settings}
    return Head(Case("llama", f"{name}Config", settings, model=f"{name}{suffix}"), task)


CASES = {
    f"{name}{suffix}-{task}": encoder(name, suffix, task, theirs, **settings)
    for name in ENCODERS
    for suffix, task, theirs, settings in (
        ("ForSequenceClassification", "classification", ("logits",), FIVE),
        ("ForSequenceClassification", "regression", ("logits",), {"num_labels": 1}),
        ("ForSequenceClassification", "mnli", ("logits",), {"num_labels": 3, "finetuning_task": "mnli"}),
        ("ForSequenceClassification", "multi_label", ("logits",), MANY),
        ("ForTokenClassification", "tags", ("logits",), TAGS),
        ("ForQuestionAnswering", "span", ("start_logits", "end_logits"), {}),
        ("ForMultipleChoice", "choice", ("logits",), {}),
    )
}
CASES |= {
    "BertForNextSentencePrediction": encoder("Bert", "ForNextSentencePrediction", "next_sentence"),
    "BertForPreTraining": encoder("Bert", "ForPreTraining", "next_sentence", ("seq_relationship_logits",)),
    "AlbertForPreTraining": encoder("Albert", "ForPreTraining", "sentence_order", ("sop_logits",)),
}
CASES |= {
    f"{name}{suffix}-{task}": decoder(name, suffix, task, **settings)
    for name in DECODERS
    for suffix, task, settings in (
        ("ForSequenceClassification", "reward", {"num_labels": 1}),
        ("ForSequenceClassification", "classification", FIVE),
        ("ForTokenClassification", "tags", TAGS),
    )
}


def check_tensors(pair):
    ours = {path: np.asarray(value[...]) for path, value in pairs.parameters(pair.model).items()}
    exported = dict(weight_map.write(ours, pair.mapping))
    assert set(exported) == set(pair.tensors)
    for name, value in exported.items():
        np.testing.assert_array_equal(value, pair.tensors[name], err_msg=name)


def choices(pair):
    """Rows of three choices of 20 tokens, cut from the batch; one choice padded."""
    rows = pairs.batch(pair)
    tokens, mask = rows.tokens[:, :60].reshape(3, 3, 20), np.ones((3, 3, 20), int)
    mask[1, 2, 12:] = 0
    tokens = np.where(mask == 1, np.maximum(tokens, 3), pair.settings["pad_token_id"])
    types = None if rows.types is None else rows.types[:, :60].reshape(3, 3, 20)
    flat = pairs.extra_inputs(pair, tokens.reshape(9, 20), mask.reshape(9, 20))
    inputs = {name: value.reshape(3, 3, 20) for name, value in flat.items()}
    if types is not None:
        inputs["token_types"] = jnp.asarray(types)
    found = pairs.run(of_choices, pair.model, jnp.asarray(tokens), segment_ids=jnp.asarray(mask), **inputs)
    return found, pairs.Batch(tokens, mask, types, None)


def of_choices(model, tokens, **inputs):
    return choice_logits(model, "choice", tokens, **inputs)


def of_heads(model, tokens, **inputs):
    """(scores of the one task, those of the vocabulary head, None without it)."""
    hidden = model(tokens, **inputs)
    (task,) = model.tasks.values()
    logits = None if model.config.head is None else model.head.logits(hidden)
    return task.logits(hidden, segment_ids=inputs["segment_ids"]), logits


def answers(head, pair):
    """(our scores, theirs) of every row, choice or token that counts; then those of the vocabulary head, if any."""
    rows, logits = pairs.batch(pair), None
    if head.task == "choice":
        found, rows = choices(pair)
    else:
        args, inputs = pairs.our_inputs(pair, rows)
        found, logits = pairs.run(of_heads, pair.model, *args, **inputs)
    with torch.no_grad():
        output = pair.theirs(**pairs.their_inputs(pair, rows))
    expected = np.stack([output[field].numpy() for field in head.theirs], axis=-1)
    expected = expected[..., 0] if len(head.theirs) == 1 else expected
    found = np.asarray(found)
    if pair.config.tasks[0].scalar and head.task != "choice":
        found = found[..., None]  # theirs keep the dimension of the one label
    counted = rows.mask.astype(bool) if head.task in ("tags", "span") else np.ones(found.shape[0], bool)
    assert found.shape == expected.shape
    both = [(found[counted], expected[counted])]
    assert (logits is None) == (pair.config.head is None)
    if logits is not None:
        logits, real = np.asarray(logits)[..., : pair.config.vocab_size], rows.mask.astype(bool)
        both.append((logits[real], output.prediction_logits.numpy()[real]))
    return both


# Each kind of task once, each family at least once.
FAST = (
    "BertForSequenceClassification-classification",
    "RobertaForTokenClassification-tags",
    "AlbertForQuestionAnswering-span",
    "BertForMultipleChoice-choice",
    "LlamaForSequenceClassification-reward",
)


@pytest.mark.parametrize("name", slow_except(list(CASES), *FAST))
def test_logits_and_tensors(name):
    head = CASES[name]
    pair = pairs.make(head.case)
    assert [task.name for task in pair.config.tasks] == [head.task]
    check_tensors(pair)
    for found, expected in answers(head, pair):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
        assert np.std(expected) > 0.05  # or heads of zeros would pass


def test_a_padding_id_at_the_end_of_a_text_is_passed_over_as_theirs_is():
    pair = pairs.make(CASES["LlamaForSequenceClassification-classification"].case)
    tokens = np.random.default_rng(1).integers(1, 99, (3, 9))
    tokens[0, 7:], tokens[1, :2] = 0, 0  # here 0 is a token, and the texts are whole
    found, whole = map(np.asarray, pairs.run(at_both_ends, pair.model, jnp.asarray(tokens)))
    with torch.no_grad():
        expected = pair.theirs(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert np.abs(whole[0] - expected[0]).max() > 0.01


def at_both_ends(model, tokens):
    """Scores at the last id that is no padding id, and at the last of all."""
    hidden, task = model(tokens), model.tasks["classification"]
    return task.logits(hidden, at=last_not_equal(tokens, 0)), task.logits(hidden)


BASES = {
    f"{family}-{name}-settings{number}": (family, name, settings)
    for number, (family, name, settings) in enumerate(
        [("bert", "Bert", BERT), ("bert", "Roberta", ROBERTA), ("albert", "Albert", ALBERT), ("llama", "Llama", LLAMA)]
    )
}


@pytest.mark.parametrize(("family", "name", "settings"), slow_except(BASES, "bert-Bert-settings0"))
def test_base_models_have_no_prefix_and_no_head(family, name, settings):
    pair = pairs.make(Case(family, f"{name}Config", settings, model=f"{name}Model", left_padding=False))
    assert pair.config.head is None
    check_tensors(pair)
    rows = pairs.batch(pair)
    args, inputs = pairs.our_inputs(pair, rows)
    hidden, pooled = pairs.run(of_base, pair.model, *args, **inputs)
    with torch.no_grad():
        output = pair.theirs(**pairs.their_inputs(pair, rows))
    counted = rows.mask.astype(bool)
    np.testing.assert_allclose(np.asarray(hidden)[counted], output[0].numpy()[counted], atol=TOLERANCE, rtol=TOLERANCE)
    assert (pooled is None) == (family == "llama")
    if pooled is not None:
        np.testing.assert_allclose(pooled, output.pooler_output.numpy(), atol=TOLERANCE, rtol=TOLERANCE)


def of_base(model, tokens, **inputs):
    """(hidden states, what the pooler makes of them; None without a pooler)."""
    hidden = model(tokens, **inputs)
    return hidden, model.pooled(hidden) if hasattr(model, "pooled") else None


def test_padding_ids_inside_a_row_take_robertas_padding_position():
    pair = pairs.shared("roberta")
    row = np.array([5, 1, 8, 9, 1, 1, 7, 1])
    inputs = {name: jnp.asarray(value)[None] for name, value in pair.family.inputs(row, pair.settings).items()}
    assert inputs["positions"].tolist() == [[0, -1, 1, 2, -1, -1, 3, -1]]
    found = pairs.our_logits(pair, row[None], **inputs)
    with torch.no_grad():
        expected = pair.theirs(torch.tensor(row)[None]).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
