"""load_model: a MODEL_DIR or a Hugging Face folder as one object with logits, generation and its tokenizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style import decoding, files, model_dir, models
from t5x_style.checkpoints import checkpoints, parameters
from t5x_style.data.vocabulary import Tokenizer, start_id
from t5x_style.decoding.rows import Rows, prompt_ids, rows_of
from t5x_style.decoding.stopping import cut_at
from t5x_style.errors import UserError
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface import generation_config, registry
from t5x_style.huggingface.generation_config import GenerationDefaults
from t5x_style.huggingface.tokenizers import tokenizer_files
from t5x_style.models.specs import DecoderConfig, DtypePolicy, EncoderDecoderConfig
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from t5x_style.models.specs.xlnet_config import XLNetConfig


def load_model(
    path: str | Path, step: int | None = None, policy: DtypePolicy | None = None, *, average: str | None = None
) -> LoadedModel:
    """Opens a MODEL_DIR or a Hugging Face folder on the first device.

    Args:
      path: the folder or its URL. step: a checkpoint's step, None for the newest; a Hugging Face folder has none.
      policy: number formats, float32 by default whatever the files hold.
      average: one of the run's extras that keeps an average of the parameters ("ema"), to be opened in their place.

    Raises:
      UserError: it is neither, has no such checkpoint, or its files are missing, broken or do not fit together.
    """
    policy = policy or DtypePolicy()
    if files.is_remote(path) and not files.exists(path):
        raise UserError(_no_model(path))
    where = model_dir.local(path)  # of a URL a copy, without the checkpoints
    if not folders.is_folder(where):
        if not (where / model_dir.MODEL).is_file():
            raise UserError(_no_model(path))
        config = model_dir.read_config(where)

        def read(abstract: Any) -> tuple[parameters.Params, int]:
            return checkpoints.load_params(path, abstract, step, average=average)

        model, found = _place(config, policy, read)
        kept = where / model_dir.HUGGINGFACE
        settings = folders.read_settings(kept) if (kept / folders.CONFIG).is_file() else {}
        return LoadedModel(path, model, config, found, settings, where / model_dir.TOKENIZER, kept)
    if step is not None or average is not None:
        raise UserError(f"{str(path)!r} is a Hugging Face folder, which has no steps; leave step and average out")
    from t5x_style.huggingface import load

    opened = folders.open_folder(where)
    model, _ = _place(opened.config, policy, lambda abstract: (load.load_params(opened, abstract), 0))
    return LoadedModel(path, model, opened.config, 0, opened.settings, where, where)


def _no_model(path: str | Path) -> str:
    where = files.path_of(path)
    if not files.exists(where):
        name = "a name on the Hub: download it first, `hf download NAME --local-dir FOLDER`"
        return f"{where!r} does not exist; give a MODEL_DIR or a Hugging Face folder ({name})"
    if not files.is_dir(where):
        return f"{where!r} is a file; give the folder of the model: a MODEL_DIR or a Hugging Face folder"
    missing = f"no {model_dir.MODEL}, nor is it a Hugging Face folder: no {folders.CONFIG}"
    return f"{where!r} is no MODEL_DIR: it has {missing}; give the folder that training or a download wrote"


def _place(
    config: Any, policy: DtypePolicy, read: Callable[[Any], tuple[parameters.Params, int]]
) -> tuple[nnx.Module, int]:
    graphdef, state, abstract = parameters.split(models.abstract(config, policy))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    params, step = read(checkpoints.with_shardings(abstract, jax.tree.map(lambda _: device, abstract)))
    return parameters.merge(graphdef, state, params), step


class LoadedModel:
    """A trained model, ready to use.

    Attributes:
      path: the folder it is from. model: the module. config: its architecture. step: the optimizer step it is from.
      settings: the config.json of transformers, {} for a model that was trained here.
    """

    def __init__(
        self,
        path: str | Path,
        model: Any,
        config: Any,
        step: int,
        settings: Mapping[str, Any],
        tokenizer_folder: Path,
        generation_folder: Path,
    ):
        """Not called by users; see `load_model`."""
        self.path = path if files.is_remote(path) else Path(path)
        self.model, self.config, self.step, self.settings = model, config, step, settings
        self._tokenizer_folder, self._generation_folder = tokenizer_folder, generation_folder
        self._graphdef, self._state = nnx.split(model)

    def __repr__(self) -> str:
        """One line: folder, architecture, parameters."""
        sizes = (leaf.size for leaf in jax.tree.leaves(nnx.state(self.model, nnx.Param)))
        kind = self.settings.get("model_type") or type(self.config).__name__
        return f"LoadedModel({str(self.path)!r}, {kind}, {sum(sizes):,} parameters, step {self.step})"

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """Texts to ids and back.

        Raises:
          UserError: the folder has none, or it gives ids that the model does not know.
        """
        folder = self._tokenizer_folder
        if not tokenizer_files.has_tokenizer(folder):
            raise UserError(f"{folder} has no tokenizer; copy the files of this model's tokenizer there, or give ids")
        tokenizer = tokenizer_files.open_tokenizer(folder, self.settings)
        tokenizer_files.check_size(tokenizer, self.config.vocab_size, folder)
        return tokenizer

    @property
    def family(self) -> ModuleType | None:
        """The family module of an imported model."""
        return registry.family(self.settings, str(self.path)) if self.settings else None

    @functools.cached_property
    def generation_defaults(self) -> GenerationDefaults:
        """What `generate` does unless told otherwise: generation_config.json, or the tokenizer's EOS."""
        if self.settings:
            return generation_config.read(self._generation_folder, self.settings)
        eos = self.tokenizer.eos_id if tokenizer_files.has_tokenizer(self._tokenizer_folder) else None
        return GenerationDefaults(eos_ids=() if eos is None else (eos,))

    def logits(
        self,
        tokens: Rows,
        encoder_tokens: Rows | None = None,
        *,
        segment_ids: Rows | None = None,
        encoder_segment_ids: Rows | None = None,
        token_types: Rows | None = None,
    ) -> jax.Array:
        """Vocabulary scores of every position.

        Compiled once for every shape. Worked example, rows of unequal length: logits([[5, 6, 7], [8]]) pads the second
        on the right, where its scores mean nothing: segment_ids are [[1, 1, 1], [1, 0, 0]].

        Args:
          tokens: [batch, length] ids, of a decoder or an encoder; the decoder's, start id included, of an
            encoder-decoder. One row [length] counts as a batch of 1.
          encoder_tokens: [batch, source length] ids, for encoder-decoders only.
          segment_ids, encoder_segment_ids: of the same shapes; tokens see only their own segment, 0 is padding, so an
            attention mask of 0 and 1 is one. None: the tokens given are all that there is.
          token_types: [batch, length], for models that have them; None: all 0.

        Returns:
          [batch, length, vocab_size] in the logits dtype of the policy, the padding of the vocabulary cut off.

        Raises:
          UserError: the model has no language-model head, an id is outside the vocabulary, a row is longer than the
            table of positions, or an argument is missing, of another shape or of no use to this model.
        """
        self._check_head()
        ids, mask = rows_of(tokens, segment_ids, "tokens")
        inputs: dict[str, np.ndarray] = {}
        if isinstance(self.config, EncoderDecoderConfig):
            if encoder_tokens is None:
                raise UserError("logits: this model is an encoder-decoder; give encoder_tokens too")
            source, source_mask = rows_of(encoder_tokens, encoder_segment_ids, "encoder_tokens")
            if len(source) != len(ids):
                raise UserError(f"logits: {len(ids)} rows of tokens and {len(source)} of encoder_tokens; give as many")
            self._check_ids(source, "encoder_tokens")
            self._check_length(source.shape[1], "encoder_tokens", self.config.decoder)
            inputs["encoder_tokens"] = source
            if mask is not None or source_mask is not None:
                inputs["encoder_segment_ids"] = np.ones_like(source) if source_mask is None else source_mask
                mask = np.ones_like(ids) if mask is None else mask
        elif encoder_tokens is not None or encoder_segment_ids is not None:
            raise UserError("logits: this model has no encoder beside a decoder; leave encoder_tokens out")
        self._check_ids(ids, "tokens")
        inputs |= self.family_inputs(ids, mask)
        last = inputs["positions"].max() if "positions" in inputs else ids.shape[1] - 1
        self._check_length(int(last) + 1, "tokens", getattr(self.config, "decoder", self.config))
        if mask is not None:
            inputs["segment_ids"] = mask
        if token_types is not None:
            inputs["token_types"] = self._token_types(token_types, ids)
        return _logits(self._graphdef, self._state, ids, inputs)

    def generate(
        self,
        prompts: str | Sequence[str] | Sequence[Sequence[int]],
        max_new_tokens: int | None = None,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        no_repeat_ngram: int | None = None,
        num_beams: int | None = None,
        length_penalty: float | None = None,
        early_stopping: bool | Literal["never"] | None = None,
        min_new_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        eos_ids: Sequence[int] | None = None,
        seed: int = 0,
        row_seeds: Sequence[int] | None = None,
        batch_size: int = 32,
    ) -> list[str] | list[list[int]]:
        """Continues texts or ids; an encoder-decoder answers them.

        What is None is as the folder's generation_config.json says, or else: greedy, at most 64 tokens, until EOS.
        Giving a temperature turns a beam search of that file off, giving num_beams its temperature. The first call
        lays the layers' weights out for decoding: `model` is then another module with equal results. For the options
        that are not listed here see decoding.generate, decoding.Sampling and decoding.BeamSearch.

        Args:
          prompts: a text, texts, or lists of ids. The tokenizer puts around a text what the model expects; ids are
            taken as they are, start id included. For an encoder-decoder the encoder's input.
          stop: strings that end a text; what they stand in is cut there (ids: end with the id that completes one).
          eos_ids: ids that end a text; they are not part of the result.
          seed: of all prompts together. row_seeds: one a prompt instead. batch_size: prompts that run together.

        Returns:
          the new text of each text (special tokens left out), or the new ids of each list of ids.

        Raises:
          UserError: the model is an encoder, texts are given to a model without a tokenizer, the folder asks for
            something that is not supported, or options do not fit each other.
        """
        given = {
            name: value for name, value in locals().items() if name in generation_config.OPTIONS and value is not None
        }
        options = self._options(given)
        if isinstance(prompts, (bytes, int)) or prompts is None:
            raise UserError(f"generate: prompts are a {type(prompts).__name__}; give a text, texts or lists of ids")
        texts: list[Any] = [prompts] if isinstance(prompts, str) else list(prompts)
        kinds = {isinstance(prompt, str) for prompt in texts}
        if len(kinds) > 1:
            raise UserError("generate: some prompts are texts, others ids; give one kind")
        textual = kinds == {True}
        ids = self.encode_prompts(texts) if textual else prompt_ids(texts)
        if options["stop"]:
            options["decode"] = self.tokenizer.decode
        self._unstack()
        new = decoding.generate(self.model, ids, seed=seed, row_seeds=row_seeds, batch_size=batch_size, **options)
        if not textual:
            return new
        return [cut_at(self.tokenizer.decode(row), options["stop"]) for row in new]

    def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts with what the model expects around them: the start id, or EOS behind an encoder's input."""
        tokenizer = self.tokenizer
        if self.settings or not isinstance(self.config, EncoderDecoderConfig):
            return tokenizer.encode_batch(texts, add_special_tokens=True)
        end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        return [row + end for row in tokenizer.encode_batch(texts)]

    def decoder_start_id(self) -> int | None:
        """The first id of an encoder-decoder's decoder; None for other models.

        Raises:
          UserError: nothing says it.
        """
        if not isinstance(self.config, EncoderDecoderConfig):
            return None
        defaults = self.generation_defaults
        if not self.settings:
            return start_id(self.tokenizer)
        start = defaults.bos_id if defaults.decoder_start_id is None else defaults.decoder_start_id
        if start is None:
            raise UserError(f"{self.path}: no decoder_start_token_id in generation_config.json; add it (T5: 0)")
        return start

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments of decoding.generate: the folder's defaults with what the caller gives in their place."""
        if not isinstance(self.config, (DecoderConfig, EncoderDecoderConfig, RecurrentConfig, XLNetConfig)):
            raise UserError(f"{self.path} is a {type(self.config).__name__}, which continues no texts; call logits")
        self._check_head()
        defaults = self.generation_defaults
        if defaults.unsupported:
            raise UserError(
                f"{self.path}: {generation_config.FILE} asks for {', '.join(defaults.unsupported)}, which is not "
                "supported; remove it from the file"
            )
        places = {"inputs": self.prompt_inputs(), "decoder_start_id": self.decoder_start_id()}
        return generation_config.overridden(defaults, given) | places

    def prompt_inputs(self) -> Callable[[np.ndarray], Mapping[str, np.ndarray]] | None:
        """What the family gives for one unpadded row of ids (see decoding.generate); None where it gives nothing."""
        make = getattr(self.family, "inputs", None)
        return None if make is None else lambda row: make(row, self.settings)

    def _unstack(self) -> None:
        """Decoding on stacked weights copies every layer at every token; only one of the two forms is kept."""
        prepared = decoding.prepare(self.model)
        if prepared is not self.model:
            self.model = prepared
            self._graphdef, self._state = nnx.split(prepared)

    def family_inputs(self, tokens: np.ndarray, segment_ids: np.ndarray | None) -> dict[str, np.ndarray]:
        """What the family adds to every segment of every row, such as two-dimensional positions; 0 on padding."""
        make = getattr(self.family, "inputs", None)
        if make is None:
            return {}
        segments = np.ones_like(tokens) if segment_ids is None else segment_ids
        found: dict[str, np.ndarray] = {}
        for row, ids in enumerate(segments):
            for segment in np.unique(ids[ids != 0]):
                inside = ids == segment
                for name, value in make(tokens[row, inside], self.settings).items():
                    whole = found.setdefault(name, np.zeros((*tokens.shape, *np.shape(value)[1:]), np.int32))
                    whole[row, inside] = value
        return found

    def _check_head(self) -> None:
        config = getattr(self.config, "decoder", self.config)
        if config.head is not None:
            return
        names = ", ".join(spec.name for spec in getattr(config, "tasks", ())) or "none"
        raise UserError(
            f"{self.path} has no language-model head; its task heads are {names}: call model.tasks[NAME].logits on the "
            "hidden states that model(tokens) gives"
        )

    def _check_ids(self, ids: np.ndarray, name: str) -> None:
        wrong = ids[(ids < 0) | (ids >= self.config.vocab_size)]
        if wrong.size:
            raise UserError(f"{name} holds id {wrong[0]}, outside the vocabulary of {self.config.vocab_size}")

    def _check_length(self, length: int, name: str, config: Any) -> None:
        where = getattr(getattr(config, "embedding", None), "positions", None)
        if where is not None and where.kind == "learned" and length + where.offset > where.length:
            raise UserError(
                f"{name} has rows of {length}, this model has positions for {where.length - where.offset} only"
            )

    def _token_types(self, token_types: Rows, ids: np.ndarray) -> np.ndarray:
        types, _ = rows_of(token_types, None, "token_types")
        count = getattr(getattr(self.config, "embedding", None), "types", 0)
        if count == 0 and not hasattr(self.config, "bidirectional_data"):
            raise UserError("logits: this model has no token types; leave token_types out")
        if types.shape != ids.shape:
            raise UserError(f"logits: token_types has shape {types.shape}, tokens {ids.shape}; give one a token")
        if count and types.size and (types.min() < 0 or types.max() >= count):
            raise UserError(f"logits: token_types holds {types.max()}, this model has {count} types, from 0")
        return types


@functools.partial(jax.jit, static_argnames=("graphdef",))
def _logits(graphdef: Any, state: Any, tokens: jax.Array, inputs: dict[str, jax.Array]) -> jax.Array:
    model: Any = nnx.merge(graphdef, state)
    hidden = model(tokens, **{name: jnp.asarray(value) for name, value in inputs.items()})
    return model.head.logits(hidden)[..., : model.config.vocab_size]
