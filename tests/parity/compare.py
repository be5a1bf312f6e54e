"""How far apart the two sides of a pair are: tensors, gradients, greedy tokens (logits: pairs.logits)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.decoding import generate
from t5x_style.huggingface.weights import weight_map
from t5x_style.models.specs import EncoderConfig, EncoderDecoderConfig
from tests.parity.pairs import (
    Batch,
    Pair,
    batch,
    counted,
    our_inputs,
    parameters,
    saved_tensors,
    their_inputs,
    vocabulary_logits,
)

# Lengths of the prompts; the batch pads them, and the last is longer than the windows of most cases.
PROMPTS = (5, 1, 19)
# Prompts of one batch, of the shapes of those above: the same programs run them.
BATCH = [[5, 6, 7], [8], list(range(10, 27)), [44, 3, 91, 60, 17, 28]]


def logits_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference; below TOLERANCE * max(1, |logit|) everywhere the two are equal."""
    return float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1.0)))


def exported(pair: Pair) -> dict[str, np.ndarray]:
    """Our parameters as their tensors; an AssertionError where one is not what was read, to the bit."""
    values = {path: np.asarray(value[...]) for path, value in parameters(pair.model).items()}
    tensors = dict(weight_map.write(values, pair.mapping))
    assert set(tensors) <= set(pair.tensors)
    for tensor, value in tensors.items():
        np.testing.assert_array_equal(value, pair.tensors[tensor], err_msg=tensor)
    return tensors


def targets(pair: Pair, rows: Batch) -> np.ndarray:
    """Ids [3, L or T] that the loss of the gradients wants at every position."""
    shape = rows.tokens.shape if rows.decoder_tokens is None else rows.decoder_tokens.shape
    return np.random.default_rng(1).integers(0, pair.config.vocab_size, shape)


def our_gradients(pair: Pair) -> dict[str, np.ndarray]:
    """Gradients of the mean cross-entropy of positions that count, by their names of tensors."""
    rows = batch(pair)
    where, wanted = jnp.asarray(counted(rows)), jnp.asarray(targets(pair, rows))
    args, inputs = our_inputs(pair, rows)
    graphdef, state = nnx.split(pair.model)

    def loss(state):
        logits = vocabulary_logits(nnx.merge(graphdef, state), *args, **inputs)[..., : pair.config.vocab_size]
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], axis=-1)[..., 0]
        return -jnp.sum(picked * where) / jnp.sum(where)

    gradient = jax.jit(jax.grad(loss))(state)
    flat = {"/".join(map(str, path)): np.asarray(value[...]) for path, value in nnx.to_flat_state(gradient)}
    return dict(weight_map.write(flat, pair.mapping))


def their_gradients(pair: Pair) -> dict[str, np.ndarray]:
    """The same of transformers; gradients are saved in the weights' place, which names the tensors as files do."""
    import torch

    rows, model = batch(pair), pair.theirs
    where, wanted = torch.tensor(counted(rows)), torch.tensor(targets(pair, rows))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    logits = model(**their_inputs(pair, rows)).logits
    torch.nn.functional.cross_entropy(logits[where], wanted[where]).backward()
    try:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        return saved_tensors(model)
    finally:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(before[name])
                parameter.grad = None


def gradient_difference(pair: Pair) -> tuple[float, str]:
    """(largest difference of a tensor's gradient, relative to its largest entry; the tensor).

    Where a gradient is 0 by construction, such as that of a key's bias, rounding is compared with a thousandth of the
    model's largest entry.
    """
    ours, theirs = our_gradients(pair), their_gradients(pair)
    floor = 1e-3 * max(float(np.abs(theirs[name]).max()) for name in ours)
    found = {
        name: float(np.abs(value - theirs[name]).max()) / max(float(np.abs(theirs[name]).max()), floor)
        for name, value in ours.items()
    }
    worst = max(found, key=lambda name: found[name])
    return found[worst], worst


def generates(pair: Pair) -> bool:
    """Whether it is a model that continues tokens."""
    return not isinstance(pair.config, EncoderConfig) and pair.case.max_new_tokens > 0


def prompts(pair: Pair) -> list[list[int]]:
    """Prompts of unequal lengths."""
    if pair.case.prompts is not None:
        return [list(prompt) for prompt in pair.case.prompts]
    random = np.random.default_rng(2)
    return [random.integers(3, pair.config.vocab_size, length).tolist() for length in PROMPTS]


def our_tokens(pair: Pair) -> list[list[int]]:
    """Greedy continuations in one padded batch."""
    options = {}
    if isinstance(pair.config, EncoderDecoderConfig):
        options["decoder_start_id"] = 0
    elif hasattr(pair.family, "inputs"):
        options["inputs"] = functools.partial(_inputs, pair)
    return generate(pair.model, prompts(pair), pair.case.max_new_tokens, **options)


def _inputs(pair: Pair, row: np.ndarray) -> Mapping[str, np.ndarray]:
    return pair.family.inputs(row, pair.settings)


def their_tokens(pair: Pair) -> list[list[int]]:
    """Greedy continuations, one prompt at a time: transformers' generate, or the reference's argmax again and again."""
    return [_continued(pair, prompt) for prompt in prompts(pair)]


def _continued(pair: Pair, prompt: list[int]) -> list[int]:
    count, row = pair.case.max_new_tokens, list(prompt)
    if pair.case.reference is not None:
        for _ in range(count):
            row.append(int(np.argmax(pair.case.reference(pair.settings, pair.tensors, np.asarray([row]))[0, -1])))
        return row[len(prompt) :]
    import torch

    pair.theirs.generation_config.eos_token_id = None
    settings = {"max_new_tokens": count, "do_sample": False, "pad_token_id": 0}
    if isinstance(pair.config, EncoderDecoderConfig):
        settings["decoder_start_token_id"] = 0
    ids = torch.tensor([row])
    found = pair.theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0].tolist()
    return found[-count:]


def our_batch(pair: Pair, model: Any, given: list[list[int]], new: int, **options: Any) -> list[list[int]]:
    """New tokens of prompts by `model`, ours or its prepared form."""
    if isinstance(pair.config, EncoderDecoderConfig):
        options["decoder_start_id"] = 0
    return generate(model, given, new, **options)


def their_batch(pair: Pair, given: list[list[int]], new: int, eos: Any = None, **options: Any) -> list[list[int]]:
    """New tokens of prompts that are padded on the left (on the right for an encoder), before the end ids."""
    import torch

    width = max(map(len, given))
    encodes = isinstance(pair.config, EncoderDecoderConfig)
    tokens, mask = np.zeros((len(given), width), int), np.zeros((len(given), width), int)
    for row, prompt in enumerate(given):
        where = slice(0, len(prompt)) if encodes else slice(width - len(prompt), width)
        tokens[row, where], mask[row, where] = prompt, 1
    known = {"decoder_start_token_id": 0} if encodes else {}
    result = pair.theirs.generate(
        torch.tensor(tokens),
        attention_mask=torch.tensor(mask),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=0,
        **known,
        **options,
    ).numpy()[:, 1 if encodes else width :]
    ends = [] if eos is None else np.atleast_1d(eos).tolist()
    return [_cut(row.tolist(), ends) for row in result]


def _cut(row: list[int], ends: list[int]) -> list[int]:
    return row[: next((place for place, token in enumerate(row) if token in ends), len(row))]
