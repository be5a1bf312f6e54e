"""XLNet: two streams through one trunk, hidden states of earlier segments as memory (Yang et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models import randomness
from t5x_style.models.decoder import Transformer
from t5x_style.models.layers.linear import truncated_normal
from t5x_style.models.layers.two_stream import Streams, TwoStreamBlock, TwoStreamFacts, distance_encodings
from t5x_style.models.specs import DEFAULT_EXECUTION, DtypePolicy, Execution, LayerSpec
from t5x_style.models.specs.checks import check
from t5x_style.models.specs.xlnet_config import XLNetConfig
from t5x_style.models.stack import TrunkLayerGroup, block_options, rematerialised, unstack

UNUSED = -1  # segment id of a memory slot that holds nothing; padding is 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memories:
    """What the layers read in earlier segments; gradients do not flow into it (Dai et al. 2019, section 3.2).

    Attributes:
      hidden: [layers, B, M, D], the inputs of each layer, oldest first.
      segment_ids: [B, M] int32 documents they belong to, -1: an empty slot. A document that goes on in the next
        segment keeps its id there, and another one must not have it.
    """

    hidden: jax.Array
    segment_ids: jax.Array


class TwoStreamLayerGroup(TrunkLayerGroup):
    """A TrunkLayerGroup whose layers carry two streams and read memories; parameters lie as in any other trunk."""

    def run_streams(
        self,
        streams: Streams,
        facts: TwoStreamFacts,
        memories: jax.Array | None,
        keep: slice,
        execution: Execution,
        first: int,
    ) -> tuple[Streams, jax.Array | None]:
        """The streams after all layers, and the inputs of each, cut to `keep`, where there are memories.

        Args:
          memories: [layers of this group, B, M, D] or None. first: the number of its first layer in the trunk.

        Returns:
          (streams, [layers of this group, B, kept positions, D] or None).
        """
        pattern, repeats = len(self.layers), self.group.repeats
        split = [nnx.split(block) for block in self.layers]
        scanned = execution.scan and repeats > 1

        def layer(graphdef: Any) -> Any:
            def apply(state: Any, streams: Streams, memory: jax.Array | None, number: int | jax.Array) -> Streams:
                with randomness.layer(number):
                    return nnx.merge(graphdef, state)(streams, memory, facts)

            return rematerialised(apply, execution.remat, scanned)

        applied = [layer(graphdef) for graphdef, _ in split]
        states = tuple(state for _, state in split)
        shared = self.group.shared
        stacks = None if memories is None else memories.reshape(repeats, pattern, *memories.shape[1:])

        def body(
            streams: Streams, row: tuple[Any, jax.Array | None, int | jax.Array]
        ) -> tuple[Streams, jax.Array | None]:
            own, memory, number = row
            inputs = []
            for position, apply in enumerate(applied):
                inputs.append(streams[0][:, keep])
                state = (states if shared else own)[position]
                streams = apply(state, streams, None if memory is None else memory[position], number + position)
            return streams, None if memory is None else jnp.stack(inputs)

        own = None if shared else states
        numbers = range(first, first + self.size, pattern)
        if scanned:
            streams, kept = jax.lax.scan(body, streams, (own, stacks, jnp.asarray(numbers)))
            return streams, None if kept is None else kept.reshape(-1, *kept.shape[2:])
        collected = []
        for row, number in zip(unstack((own, stacks), repeats), numbers):
            streams, kept = body(streams, (*row, number))
            collected.append(kept)
        return streams, None if memories is None else jnp.concatenate(collected)


class TwoStreamTrunk(nnx.Module):
    """All segments, in order."""

    def __init__(self, config: XLNetConfig, *, policy: DtypePolicy, rngs: nnx.Rngs, execution: Execution):
        def make_block(spec: LayerSpec, layer_rngs: nnx.Rngs) -> Any:
            options = block_options(config) | {"blind": config.blind}
            return TwoStreamBlock(spec, config.embed_dim, policy=policy, rngs=layer_rngs, **options)

        self.execution = execution
        self.segments = nnx.List([TwoStreamLayerGroup(group, make_block, rngs=rngs) for group in config.segments])

    def __call__(
        self, streams: Streams, facts: TwoStreamFacts, memories: jax.Array | None, keep: slice
    ) -> tuple[Streams, jax.Array | None]:
        """The streams after all layers; with memories [layers, B, M, D] also the inputs of each, cut to `keep`."""
        start, collected = 0, []
        for group in self.segments:
            end = start + group.size
            own = None if memories is None else memories[start:end]
            streams, kept = group.run_streams(streams, facts, own, keep, self.execution, start)
            collected.append(kept)
            start = end
        return streams, None if memories is None else jnp.concatenate(collected)


class XLNet(Transformer):
    """Tokens to hidden states; `model.head.logits(hidden)` turns them into vocabulary scores.

    Attributes:
      mask_embedding: [D], where the query stream starts.
    """

    config: XLNetConfig  # type: ignore[assignment]

    def __init__(
        self, config: XLNetConfig, *, policy: DtypePolicy, rngs: nnx.Rngs, execution: Execution = DEFAULT_EXECUTION
    ):
        check(
            execution.attention != "blockwise",
            "Execution.attention is 'blockwise', which XLNet's two streams have not; choose auto or xla",
        )
        super().__init__(config, policy=policy, rngs=rngs, execution=execution, trunk=TwoStreamTrunk)
        stddev = config.embed_dim**-0.5 if config.init.stddev is None else config.init.stddev
        vector = truncated_normal(rngs.params(), (config.embed_dim,), stddev, policy.dtype("params"))
        self.mask_embedding = nnx.Param(vector, out_sharding=("embed",))

    def __call__(
        self,
        tokens: jax.Array,
        *,
        segment_ids: jax.Array | None = None,
        token_types: jax.Array | None = None,
        permutation_mask: jax.Array | None = None,
        target_mapping: jax.Array | None = None,
        memories: Memories | None = None,
        return_losses: bool = False,
    ) -> Any:
        """Hidden states of the predicted positions, or of all content where there are none.

        Args:
          tokens: [B, L] int ids.
          segment_ids: [B, L] int; tokens see only their own segment, 0 is padding. None: one segment.
          token_types: [B, L] int; attention knows only whether two are equal, those of memories count as 0. None: it
            does not look at them (which is not the same as equal types everywhere).
          permutation_mask: [B, L, L], nonzero where position i must not see position j; content always sees itself.
          target_mapping: [B, P, L], 1 where prediction p is about position l (see permutation.permutation_inputs).
            None: no query stream.
          memories: of earlier segments, see `empty_memories`.
          return_losses: gives (hidden, {}), as models without experts do.

        Returns:
          hidden [B, P or L, embed] in the compute dtype; with memories (hidden, the next segment's memories).

        Raises:
          UserError: a batch that does not halve, where bidirectional_data needs it.
        """
        hidden, after = self.read(
            tokens,
            segment_ids=segment_ids,
            token_types=token_types,
            permutation_mask=permutation_mask,
            target_mapping=target_mapping,
            memories=memories,
            keep=self.config.reuse_length,
        )
        if memories is not None:
            return hidden, after
        return (hidden, {}) if return_losses else hidden

    def read(
        self,
        tokens: jax.Array,
        *,
        segment_ids: jax.Array | None = None,
        token_types: jax.Array | None = None,
        permutation_mask: jax.Array | None = None,
        target_mapping: jax.Array | None = None,
        memories: Memories | None = None,
        keep: int | None = None,
        limit: int | None = None,
    ) -> tuple[jax.Array, Memories | None]:
        """What `__call__` does, with a choice of what is remembered.

        Args:
          keep: so many first positions go into the memory; None: all.
          limit: slots of the next segment's memory; None: memory_length.

        Returns:
          (hidden, the next segment's memories or None).
        """
        config, length = self.config, tokens.shape[1]
        if config.bidirectional_data and tokens.shape[0] % 2:
            raise UserError(
                f"XLNet: {tokens.shape[0]} rows cannot be halved into forward and backward ones; give an even batch, "
                "or a configuration without bidirectional_data"
            )
        if memories is not None and segment_ids is None:
            segment_ids = jnp.ones_like(tokens)
        facts = self._facts(tokens, segment_ids, token_types, permutation_mask, target_mapping, memories)
        content_BLD = self.embedding.embed(tokens, jnp.arange(length, dtype=jnp.int32)[None])
        query_BPD = None
        if target_mapping is not None:
            start_D = self.mask_embedding[...].astype(content_BLD.dtype)
            query_BPD = jnp.broadcast_to(start_D, (*target_mapping.shape[:2], config.embed_dim))
            with randomness.part("query stream"):
                query_BPD = randomness.dropout(query_BPD, config.dropout.embedding, "embedding")
        past = None if memories is None else memories.hidden
        (content_BLD, query_BPD), kept = self.trunk((content_BLD, query_BPD), facts, past, slice(0, keep))
        hidden = content_BLD if query_BPD is None else query_BPD
        hidden = self.finish(hidden)
        if memories is None:
            return hidden, None
        assert segment_ids is not None
        assert kept is not None
        limit = config.memory_length if limit is None else limit
        return hidden, _remember(memories, kept, segment_ids[:, :keep], limit)

    def empty_memories(self, batch: int, slots: int | None = None) -> Memories:
        """Memories of no segment yet.

        Args:
          slots: empty ones to begin with; None means memory_length, so that shapes stay the same from one segment to
            the next, or 0 where the memory is unlimited.
        """
        slots = (self.config.memory_length or 0) if slots is None else slots
        shape = (len(self.config.layers), batch, slots, self.config.embed_dim)
        hidden = jnp.zeros(shape, self.policy.dtype("compute"))
        return Memories(hidden, jnp.full((batch, slots), UNUSED, jnp.int32))

    def _facts(
        self,
        tokens: jax.Array,
        segment_ids: jax.Array | None,
        token_types: jax.Array | None,
        permutation_mask: jax.Array | None,
        target_mapping: jax.Array | None,
        memories: Memories | None,
    ) -> TwoStreamFacts:
        config, (batch, length) = self.config, tokens.shape
        past = 0 if memories is None else memories.hidden.shape[2]
        keys = past + length
        distance_LS = past + jnp.arange(length)[:, None] - jnp.arange(keys)[None]
        mask_BLS = jnp.ones((1, length, keys), bool)
        if config.causal:
            mask_BLS = (distance_LS >= 0)[None]
            if config.same_length:
                mask_BLS = mask_BLS & _not_too_old(length, keys)[None]
        if permutation_mask is not None:
            hidden_BLS = jnp.pad(permutation_mask != 0, ((0, 0), (0, 0), (past, 0)))
            mask_BLS = mask_BLS & ~hidden_BLS
        document_BLS = None
        if segment_ids is not None:
            before = [] if memories is None else [memories.segment_ids]
            document_BLS = segment_ids[:, :, None] == _joined([*before, segment_ids])[:, None]
            mask_BLS = mask_BLS & document_BLS
        other_BLS = None
        if token_types is not None:
            all_types = _joined([jnp.zeros((batch, past), token_types.dtype), token_types])
            other_BLS = token_types[:, :, None] != all_types[:, None]
        limit = config.clamp_length
        encodings_RD = distance_encodings(length, keys, config.embed_dim, causal=config.causal, clamp=limit)
        ways = [encodings_RD]
        if config.bidirectional_data:  # distances of the other sign: sines change theirs, cosines do not
            half = config.embed_dim // 2
            ways.append(encodings_RD * jnp.where(jnp.arange(2 * half) < half, -1.0, 1.0))
        return TwoStreamFacts(
            content_mask=mask_BLS | (distance_LS == 0)[None],
            query_mask=mask_BLS,
            document_mask=document_BLS,
            encodings=jnp.stack(ways),
            other_type=other_BLS,
            target_mapping=target_mapping,
        )


def _remember(memories: Memories, kept: jax.Array, segment_ids: jax.Array, limit: int | None) -> Memories:
    hidden = jnp.concatenate([memories.hidden, kept.astype(memories.hidden.dtype)], axis=2)
    ids = _joined([memories.segment_ids, segment_ids.astype(jnp.int32)])
    first = 0 if limit is None else max(0, ids.shape[1] - limit)
    return Memories(jax.lax.stop_gradient(hidden[:, :, first:]), ids[:, first:])


def _not_too_old(length: int, keys: int) -> jax.Array:
    """[L, S]: query i does not see the first i slots, as far as there are as many after them as the segment has."""
    slots = jnp.arange(keys)[None]
    return (slots >= jnp.arange(length)[:, None]) | (slots >= length)


def _joined(pieces: Sequence[jax.Array]) -> jax.Array:
    return jnp.concatenate(list(pieces), axis=1)
