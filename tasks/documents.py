"""`documents`: the pretraining Task over the cleaned documents of the data folder."""

from __future__ import annotations

import functools

import seqio

from tasks.parquet import ParquetDataSource, string
from tasks.splits import SPLITS, split_of_document
from tasks.vocabulary import VOCABULARY

PATTERN = "web/documents/*.parquet"

# Held-out object pages stay out of pretraining too: the split is that of the page's object.
seqio.TaskRegistry.add(
    "documents",
    source=ParquetDataSource(
        PATTERN,
        columns={"text": string()},
        splits=SPLITS,
        split_of=split_of_document,
        split_columns=("id", "metadata"),
        remedy="make the documents with `python -m beam_pipelines.clean_web`",
    ),
    preprocessors=[
        functools.partial(seqio.preprocessors.rekey, key_map={"targets": "text"}),
        functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
        seqio.CacheDatasetPlaceholder(),
        seqio.preprocessors.append_eos,
    ],
    output_features={"targets": seqio.Feature(VOCABULARY, add_eos=True)},
    metric_fns=[],
)
