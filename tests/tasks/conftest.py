"""A data folder with a small tokenizer."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import sentencepiece

TEXT = "Return the sum of the array along the axis. OPTIONS: class function yes no numpy scipy Does this page list it? "


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
