"""train_tokenizer: what it reads, what the model can do, reruns."""

import json

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
sentencepiece = pytest.importorskip("sentencepiece")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from beam_pipelines import train_tokenizer  # noqa: E402
from beam_pipelines.tokenizers.sampling import sample_documents  # noqa: E402
from beam_pipelines.tokenizers.sentencepiece_bpe import lines  # noqa: E402
from t5x_style.data.vocabulary import Vocabulary  # noqa: E402
from t5x_style.files import file_sha256  # noqa: E402
from tasks.splits import split_of_document  # noqa: E402

WORDS = ["array", "shape", "returns", "None", "value", "index", "2024", "ключ", "    def", "(x,", "y):", "naïve"]


def documents(count=300, seed=0):
    generator = np.random.default_rng(seed)
    words = [*WORDS, *("".join(generator.choice(list("aeinorst"), 6)) for _ in range(200))]
    return [
        {
            "id": f"{number:032x}",
            "text": "\n".join(" ".join(generator.choice(words, 12)) for _ in range(generator.integers(0, 5))),
            "metadata": json.dumps({"meta": {"object": f"m.f{number}", "module": "m"}} if number % 2 else {}),
        }
        for number in range(count)
    ]


def write(folder, rows):
    folder.mkdir(exist_ok=True)
    half = len(rows) // 3
    pq.write_table(pa.Table.from_pylist(rows[:half]), folder / "a.parquet")
    pq.write_table(pa.Table.from_pylist(rows[half:]), folder / "b.parquet")
    return str(folder / "*.parquet")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    pattern = write(folder / "documents", documents())
    arguments = ["--documents", pattern, "--output", str(folder / "out"), "--vocab_size", "450"]
    assert train_tokenizer.main(arguments) == 0
    return folder, arguments


def test_special_ids_digits_bytes_and_white_space(trained):
    vocabulary = Vocabulary(trained[0] / "out" / "sentencepiece.model")
    assert (vocabulary.size, vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id, vocabulary.bos_id) == (
        450,
        0,
        1,
        2,
        3,
    )
    digits = [vocabulary.piece(token) for token in vocabulary.encode("20241")]
    assert [piece for piece in digits if piece != "▁"] == list("20241")
    for text in ["  two  spaces\n\n\tand a tab ", "汉字 🙂 \u00a0", "def f(x):\n    return x\n"]:
        ids = vocabulary.encode(text)
        assert vocabulary.unk_id not in ids
        assert vocabulary.decode(ids) == text
    rows = (trained[0] / "out" / "sentencepiece.vocab").read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert len(rows) == 450
    assert [row.split("\t")[0] for row in rows[:4]] == ["<pad>", "</s>", "<unk>", "<s>"]


def test_report_and_reruns(trained, capsys):
    folder, arguments = trained
    report = json.loads((folder / "out" / "tokenizer.json").read_text())
    assert report["fingerprint"] == file_sha256(folder / "out" / "sentencepiece.model")
    train = [row for row in documents() if split_of_document(row) == "train" and row["text"]]
    assert report["train_documents"] == len(train)
    assert report["train_characters"] == sum(len(row["text"]) for row in train)
    assert 1 < report["held_out_characters_per_token"] < 20
    before = (folder / "out" / "sentencepiece.model").stat().st_mtime_ns
    assert train_tokenizer.main(arguments) == 0
    assert (folder / "out" / "sentencepiece.model").stat().st_mtime_ns == before
    assert train_tokenizer.main([*arguments[:-1], "420"]) == 2
    assert "another vocab_size" in capsys.readouterr().err
    again = folder / "again"
    assert train_tokenizer.main([*arguments[:2], "--output", str(again), "--vocab_size", "450"]) == 0
    assert file_sha256(again / "sentencepiece.model") == report["fingerprint"]


def test_bad_input_is_one_line(tmp_path, capsys):
    def error(*arguments):
        assert train_tokenizer.main([*arguments, "--output", str(tmp_path / "out")]) == 2
        return capsys.readouterr().err

    assert "--documents" in error("--documents", str(tmp_path / "none*.parquet"))
    pattern = write(tmp_path / "documents", documents(60))
    assert "--vocab_size 399" in error("--documents", pattern, "--vocab_size", "399")
    assert "--vocab_size 9000 does not fit" in error("--documents", pattern, "--vocab_size", "9000")
    assert "--max_characters" in error("--documents", pattern, "--max_characters", "0")
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), tmp_path / "other.parquet")
    assert "no column metadata" in error("--documents", str(tmp_path / "other.parquet"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    assert "broken.parquet" in error("--documents", str(tmp_path / "broken.parquet"))
    held_out = [row for row in documents() if split_of_document(row) != "train"]
    pattern = write(tmp_path / "held_out", held_out)
    assert "no document of the training split" in error("--documents", pattern)


def test_sample_is_stable_and_never_held_out():
    rows = documents()
    sample = sample_documents(iter(rows), max_characters=2000, held_out_characters=500, seed=1)
    backwards = sample_documents(reversed(rows), max_characters=2000, held_out_characters=500, seed=1)
    assert sample == backwards
    train_texts = {row["text"] for row in rows if split_of_document(row) == "train"}
    assert set(sample.train) <= train_texts
    assert not set(sample.held_out) & train_texts
    total = sum(map(len, sample.train))
    assert 2000 <= total < 2000 + max(map(len, train_texts))
    assert sample_documents(rows, 2000, 500, seed=2).train != sample.train


@given(st.lists(st.text(alphabet="ab\n\0é", max_size=30)), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_lines_keep_every_character(texts, longest):
    found = list(lines(texts, longest))
    assert all(0 < len(line) <= longest and "\n" not in line for line in found)
    assert "".join(found) == "".join(texts).replace("\n", "").replace("\0", "")
