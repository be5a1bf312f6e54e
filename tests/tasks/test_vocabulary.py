import pickle

import pytest

from t5x_style.errors import UserError
from tests.lazy import Lazy

vocabularies = Lazy("tasks.vocabulary")


def test_special_ids_and_round_trip(data_dir):
    assert (
        vocabularies.VOCABULARY.pad_id,
        vocabularies.VOCABULARY.eos_id,
        vocabularies.VOCABULARY.unk_id,
        vocabularies.VOCABULARY.bos_id,
    ) == (0, 1, 2, 3)
    assert vocabularies.VOCABULARY.vocab_size == 330
    text = "Return the sum.\n\n  x: é \U0001f600"
    ids = vocabularies.VOCABULARY.encode(text)
    assert vocabularies.VOCABULARY.decode(ids) == text
    assert vocabularies.VOCABULARY.encode_tf(text).numpy().tolist() == list(ids)
    assert vocabularies.VOCABULARY.decode([*ids, 1, 50, 60]) == text


def test_the_file_is_looked_up_when_used(tmp_path, monkeypatch, tokenizer_model):
    monkeypatch.delenv("T5X_STYLE_DATA_DIR", raising=False)
    vocabulary = vocabularies.DataDirVocabulary()
    with pytest.raises(UserError, match="T5X_STYLE_DATA_DIR is not set"):
        vocabulary.encode("x")
    monkeypatch.setenv("T5X_STYLE_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"sentencepiece\.model: no tokenizer here; train one with"):
        vocabulary.encode("x")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "sentencepiece.model").write_bytes(tokenizer_model)
    assert vocabulary.encode("sum")


def test_equality_and_pickle(data_dir):
    vocabularies.VOCABULARY.encode("x")
    assert vocabularies.DataDirVocabulary() == vocabularies.VOCABULARY
    assert vocabularies.DataDirVocabulary("other.model") != vocabularies.VOCABULARY
    assert pickle.loads(pickle.dumps(vocabularies.VOCABULARY)).encode("sum") == vocabularies.VOCABULARY.encode("sum")
