"""The generation entry point on a tiny MODEL_DIR with random weights."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import t5x_style
from t5x_style.errors import UserError
from t5x_style.generate import main, read_prompts


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A MODEL_DIR."""
    import orbax.checkpoint as ocp
    import sentencepiece

    from t5x_style import model_dir
    from t5x_style.checkpoints import checkpoints
    from t5x_style.models import serialization
    from t5x_style.models.presets.llama import llama
    from tests.huggingface.conftest import drawn

    folder = tmp_path_factory.mktemp("model")
    file = folder / model_dir.TOKENIZER / "sentencepiece.model"
    file.parent.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["def add one and two", "class of numbers 1 2 3"] * 10),
        model_prefix=str(file.with_suffix("")),
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=3,
        minloglevel=2,
    )
    size = sentencepiece.SentencePieceProcessor(model_file=str(file)).get_piece_size()
    config = llama(vocab_size=size, embed_dim=16, layers=1, heads=2, mlp_hidden=32)
    (folder / model_dir.MODEL).write_text(serialization.to_json(config))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / checkpoints.FOLDER / "3" / "params").absolute(), drawn(config))
    return folder


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_greedy_json_equals_naive_decoding(model, capsys):
    prompts = ["def add", "class of numbers 1 2 3 and two"]
    flags = [flag for prompt in prompts for flag in ("--prompt", prompt)]
    code, out, _ = run(capsys, "--model", str(model), *flags, "--max_new_tokens", "5", "--json")
    assert code == 0
    loaded = t5x_style.load_model(model)
    logits_of = jax.jit(lambda row: loaded.model.head.logits(loaded.model(row)))
    for prompt, line in zip(prompts, map(json.loads, out.splitlines()), strict=True):
        tokens = [3, *loaded.tokenizer.encode(prompt)]
        new = []
        while len(new) < 5:
            row = np.zeros((1, 64), np.int32)  # what stands behind does not matter to a causal model
            row[0, : len(tokens) + len(new)] = [*tokens, *new]
            logits = np.asarray(logits_of(row))[0, len(tokens) + len(new) - 1]
            token = int(np.argmax(logits[: loaded.tokenizer.size]))
            if token == 1:
                break
            new.append(token)
        assert line == {"prompt": prompt, "tokens": new, "text": loaded.tokenizer.decode(new)}


def test_sampling_depends_on_the_seed_only(model, capsys):
    def drawn(seed):
        flags = ("--prompt", "add", "--temperature", "1.5", "--top_k", "50", "--top_p", "0.9", "--seed", str(seed))
        return run(capsys, "--model", str(model), *flags, "--max_new_tokens", "12")[1]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_prompts_from_a_file(model, tmp_path, capsys):
    path = tmp_path / "prompts.txt"
    path.write_text("one\n\n  \nzwei é\n", encoding="utf-8")
    assert read_prompts(["first"], str(path)) == ["first", "one", "zwei é"]
    code, out, _ = run(capsys, "--model", str(model), "--input", str(path), "--max_new_tokens", "2", "--json")
    assert code == 0
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["one", "zwei é"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--prompt", "a", "--step", "9"), "holds no checkpoint of step 9; it has 3"),
        ((), "nothing to continue"),
        (("--input", "no_such_file"), "cannot be read"),
        (("--prompt", "a", "--top_k", "5"), "give a temperature"),
        (("--prompt", "a", "--temperature", "-1"), "temperature is -1.0"),
        (("--prompt", "a", "--max_new_tokens", "0"), "max_new_tokens is 0"),
    ],
)
def test_bad_input_is_one_line_and_code_2(model, capsys, flags, message):
    code, out, err = run(capsys, "--model", str(model), *flags)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_file_that_is_not_text(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_prompts([], str(tmp_path / "x"))


def test_no_tensorflow(model):
    code = (
        "import sys; from t5x_style.generate import main; "
        f"code = main(['--model', {str(model)!r}, '--prompt', 'a', '--prompt', 'b', '--max_new_tokens', '1']); "
        "heavy = {'tensorflow', 'seqio', 'apache_beam', 'torch', 'gin'} & set(sys.modules); "
        "sys.exit(code or len(heavy))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
