"""A model of transformers and ours with the same weights, and how far apart their results are."""

from __future__ import annotations

import functools
import importlib
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.huggingface.weights import weight_map
from t5x_style.models import abstract
from t5x_style.models.specs import EncoderDecoderConfig
from tests.parity.cases.case import Case, all_cases

LENGTH, SHORT, DECODER_LENGTH = 70, 50, 40


class Pair(NamedTuple):
    """Both sides.

    Attributes:
      theirs: the torch model, None for a reference. settings: their whole config.json.
      tensors: weights by their names. config, model: ours. mapping: the weight map.
    """

    case: Case
    theirs: Any
    settings: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]
    config: Any
    model: Any
    mapping: weight_map.WeightMap

    @property
    def family(self) -> Any:
        """The family's module."""
        return importlib.import_module(f"t5x_style.huggingface.families.{self.case.family}")


class Batch(NamedTuple):
    """Rows of which the first is whole, the second padded on the left, the third on the right.

    Attributes:
      tokens: [3, L], the padding id where mask is 0. types: [3, L] token types, None without them.
      decoder_tokens: [3, T] for encoder-decoders, else None.
    """

    tokens: np.ndarray
    mask: np.ndarray
    types: np.ndarray | None
    decoder_tokens: np.ndarray | None


def parameters(model: Any) -> dict[str, Any]:
    """Our parameters (nnx variables) by path."""
    return {"/".join(map(str, path)): value for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param))}


@functools.cache
def shared(name: str) -> Pair:
    """The pair of a case of tests/parity/cases, made once a process: for tests that change nothing in it."""
    return make(all_cases()[name])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(function: Callable[..., Any], graphdef: Any, state: Any, args: tuple, inputs: dict[str, Any]) -> Any:
    return function(nnx.merge(graphdef, state), *args, **inputs)


def run(function: Callable[..., Any], model: Any, *args: Any, **inputs: Any) -> Any:
    """`function(model, *args, **inputs)` as one program; a function of a module is compiled once a shape."""
    return _run(function, *nnx.split(model), args, inputs)


def make(case: Case) -> Pair:
    """Draws weights, gives them to both sides, checks that configurations go there and back."""
    family = importlib.import_module(f"t5x_style.huggingface.families.{case.family}")
    if case.reference is None:
        theirs, settings, tensors = _theirs(case, family)
    else:
        theirs, settings, tensors = None, dict(case.settings), {}
    config = family.from_config(settings)
    assert family.from_config(family.to_config(config, settings["model_type"])) == config
    model, mapping = abstract(config), family.weight_map(config)  # shapes; every value is set below
    if case.reference is not None:
        tensors = drawn(mapping)
    ours = parameters(model)
    shapes = {path: value.shape for path, value in ours.items()}
    read = set()
    for path, value in weight_map.read(tensors, mapping, shapes):
        assert value.shape == shapes[path], path
        ours[path].set_value(jnp.asarray(value))
        read.add(path)
    assert read == set(ours)
    return Pair(case, theirs, settings, tensors, config, model, mapping)


def _theirs(case: Case, family: Any) -> tuple[Any, dict[str, Any], dict[str, np.ndarray]]:
    import torch
    import transformers

    assert case.config is not None
    settings = getattr(transformers, case.config)(**case.settings, attn_implementation="eager")
    torch.manual_seed(0)
    name = case.model or family.MODEL_TYPES[settings.model_type]
    theirs = getattr(transformers, name)(settings).float().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # default weights are too small to show a mistake
            parameter.add_(0.1 * torch.randn_like(parameter))
    tensors = saved_tensors(theirs)  # saving sets `architectures`, which says what heads there are
    return theirs, theirs.config.to_dict(), tensors


def saved_tensors(theirs: Any) -> dict[str, np.ndarray]:
    """What they write: names on file are not always those of the modules."""
    import safetensors.numpy

    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        files = sorted(pathlib.Path(folder).glob("*.safetensors"))
        return {name: value for file in files for name, value in safetensors.numpy.load_file(file).items()}


def drawn(mapping: weight_map.WeightMap) -> dict[str, np.ndarray]:
    """Random weights for the names and shapes of a weight map: scales of norms around 1, all else around 0."""
    random = np.random.default_rng(0)
    tensors = {}
    for rule, _ in mapping.rules():
        around = 1.0 if all(path.endswith("/scale") for path in rule.ours) else 0.0
        tensors[rule.theirs] = (around + 0.12 * random.normal(size=rule.layout.theirs)).astype(np.float32)
    return tensors


def batch(pair: Pair) -> Batch:
    """The rows that the logits are compared on."""
    random, config = np.random.default_rng(0), pair.config
    tokens, mask = random.integers(3, config.vocab_size, (3, LENGTH)), np.ones((3, LENGTH), int)
    mask[2, SHORT:] = 0
    if pair.case.left_padding:
        mask[1, :11] = 0
    if pair.settings.get("pad_token_id") is not None:
        tokens[mask == 0] = pair.settings["pad_token_id"]
    types = decoder_tokens = None
    if isinstance(config, EncoderDecoderConfig):
        decoder_tokens = random.integers(3, config.vocab_size, (3, DECODER_LENGTH))
    elif config.embedding.types > 1:
        types = random.integers(0, config.embedding.types, tokens.shape)
    return Batch(tokens, mask, types, decoder_tokens)


def extra_inputs(pair: Pair, tokens: np.ndarray, mask: np.ndarray) -> dict[str, jnp.ndarray]:
    """What the family's `inputs` gives for the tokens of each row that count, 0 on padding; {} without `inputs`."""
    make_inputs = getattr(pair.family, "inputs", None)
    if make_inputs is None:
        return {}
    found: dict[str, np.ndarray] = {}
    for row, counted in enumerate(mask.astype(bool)):
        for name, value in make_inputs(tokens[row, counted], pair.settings).items():
            whole = found.setdefault(name, np.zeros((*tokens.shape, *np.shape(value)[1:]), np.int32))
            whole[row, counted] = value
    return {name: jnp.asarray(value) for name, value in found.items()}


def our_inputs(pair: Pair, rows: Batch) -> tuple[tuple[jax.Array, ...], dict[str, jax.Array]]:
    """The arguments of our model."""
    mask = jnp.asarray(rows.mask)
    if rows.decoder_tokens is not None:
        decoder = jnp.asarray(rows.decoder_tokens)
        segments = {"segment_ids": jnp.asarray(np.ones(decoder.shape, np.int32)), "encoder_segment_ids": mask}
        return (decoder, jnp.asarray(rows.tokens)), segments
    inputs = extra_inputs(pair, rows.tokens, rows.mask)
    if rows.types is not None:
        inputs["token_types"] = jnp.asarray(rows.types)
    return (jnp.asarray(rows.tokens),), {"segment_ids": mask, **inputs}


def vocabulary_logits(model: Any, *args: jax.Array, **inputs: jax.Array) -> jax.Array:
    """Scores of every position by the model's language-model head."""
    return model.head.logits(model(*args, **inputs))


def their_inputs(pair: Pair, rows: Batch) -> dict[str, Any]:
    """The arguments of their model."""
    import torch

    inputs = {"input_ids": torch.tensor(rows.tokens), "attention_mask": torch.tensor(rows.mask)}
    if rows.types is not None:
        inputs["token_type_ids"] = torch.tensor(rows.types)
    if rows.decoder_tokens is not None:
        inputs["decoder_input_ids"] = torch.tensor(rows.decoder_tokens)
    return inputs


def their_logits(pair: Pair, rows: Batch) -> np.ndarray:
    """[3, L or T, vocab_size] of transformers, or of the reference (0 on padding)."""
    if pair.case.reference is None:
        import torch

        with torch.no_grad():
            return pair.theirs(**their_inputs(pair, rows)).logits.numpy()
    logits = np.zeros((*rows.tokens.shape, pair.config.vocab_size), np.float32)
    for row, counted in enumerate(rows.mask.astype(bool)):
        whole = rows.tokens[row : row + 1, counted]
        logits[row, counted] = pair.case.reference(pair.settings, pair.tensors, whole)[0]
    return logits


def counted(rows: Batch) -> np.ndarray:
    """[3, L or T] bool: positions whose logits are compared."""
    return rows.mask.astype(bool) if rows.decoder_tokens is None else np.ones(rows.decoder_tokens.shape, bool)


def our_logits(pair: Pair, *args: Any, **inputs: Any) -> np.ndarray:
    """[..., vocab_size] of ours, as one program."""
    arrays = {name: jnp.asarray(value) for name, value in inputs.items()}
    found = run(vocabulary_logits, pair.model, *map(jnp.asarray, args), **arrays)
    return np.asarray(found)[..., : pair.config.vocab_size]


def logits(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """(ours, theirs), each [positions that count, vocab_size]."""
    rows = batch(pair)
    args, inputs = our_inputs(pair, rows)
    where = counted(rows)
    return our_logits(pair, *args, **inputs)[where], their_logits(pair, rows)[where]
