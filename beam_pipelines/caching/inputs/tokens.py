"""Documents as token ids with response spans, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beam_pipelines.caching.inputs.columns import Document
from beam_pipelines.caching.inputs.encoding import encode_aligned
from beam_pipelines.caching.inputs.spans import Marked, Rendered, pair_tokens, token_spans
from t5x_style.data.vocabulary import Tokenizer


class DocumentEncoder:
    """A tokenizer with what is needed of its facts."""

    def __init__(self, tokenizer: Tokenizer):
        """Reads the facts, once."""
        facts = tokenizer.facts()
        self._tokenizer = tokenizer
        self._special = np.array(sorted(set(facts.special.values())), np.int64)
        self._begin = facts.roles.get("begin")
        self.size = tokenizer.size

    def encode(self, works: Sequence[Document | Rendered]) -> list[Marked]:
        """Ids and response spans of each, without EOS; they are all of one form.

        Example: a text of 3 tokens has the spans [0, 3]: the model is to write all of it.
        """
        rendered = [work for work in works if isinstance(work, Rendered)]
        if rendered:
            encoded = encode_aligned(self._tokenizer, [work.text for work in rendered], special=True)
            return [token_spans(each, work, self._special, self._begin) for each, work in zip(encoded, rendered)]
        documents = [work for work in works if isinstance(work, Document)]
        if pairs := [document.pair for document in documents if document.pair is not None]:
            encoded = encode_aligned(
                self._tokenizer, [prompt + completion for prompt, completion in pairs], special=False
            )
            alone = [self._tokenizer.encode_batch([pair[side] for pair in pairs]) for side in (0, 1)]
            return [pair_tokens(each, len(pair[0]), ids) for each, pair, ids in zip(encoded, pairs, zip(*alone))]
        found = self._tokenizer.encode_batch([document.text or "" for document in documents])
        return [Marked(np.array(ids, np.int32), np.array([0, len(ids)], np.int64)) for ids in found]
