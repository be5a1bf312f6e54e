"""A small data folder: a tokenizer, documents in two files, and examples of every cluster."""

import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sentencepiece

TEXT = "Return the sum of the array along the axis. OPTIONS: class function yes no numpy scipy Does this page list it? "


def write_rows(path, rows, schema=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def document(identifier, text, **meta):
    metadata = {"title": "", "meta": meta, "file": "part-00000.warc.gz", "offset": 0}
    return {"id": identifier, "text": text, "metadata": json.dumps(metadata)}


@pytest.fixture(scope="session")
def tokenizer_model(tmp_path_factory):
    """Bytes of a small SentencePiece model with byte fallback that keeps line breaks."""
    folder = tmp_path_factory.mktemp("tokenizer")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 20),
        model_prefix=str(folder / "m"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=3,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return (folder / "m.model").read_bytes()


@pytest.fixture
def data_dir(tmp_path, monkeypatch, tokenizer_model):
    """T5X_STYLE_DATA_DIR with a tokenizer only."""
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "sentencepiece.model").write_bytes(tokenizer_model)
    monkeypatch.setenv("T5X_STYLE_DATA_DIR", str(tmp_path))
    return tmp_path
