import hashlib

import pytest
import sentencepiece

from t5x_style.data import Vocabulary
from t5x_style.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    text = folder / "text.txt"
    text.write_text("\n".join(f"the quick brown fox number {n} jumps over {n * 7}" for n in range(200)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "sentencepiece"),
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        split_digits=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=3,
        minloglevel=2,
    )
    return folder / "sentencepiece.model"


def test_reads_a_model(model):
    vocabulary = Vocabulary(model)
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id, vocabulary.bos_id) == (0, 1, 2, 3)
    assert vocabulary.size == len(vocabulary) == 340
    assert vocabulary.fingerprint == hashlib.sha256(model.read_bytes()).hexdigest()
    assert Vocabulary(model.parent).fingerprint == vocabulary.fingerprint
    for text in ("the quick brown fox 1234", "日本 é \U0001f600", ""):
        assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.encode_batch(["the fox", ""]) == [vocabulary.encode("the fox"), []]
    ids = vocabulary.encode("the fox")
    assert vocabulary.decode([3, *ids, 1, 0, 0]) == "the fox"
    assert vocabulary.decode([*ids, 5_000]) == vocabulary.decode([*ids, 2])
    assert vocabulary.piece(ids[0]) == "▁the"


def test_bad_paths(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Vocabulary(tmp_path / "none.model")
    broken = tmp_path / "broken.model"
    broken.write_bytes(b"no model at all")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        Vocabulary(broken)
