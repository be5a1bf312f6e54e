"""Two commands fine-tune a Hugging Face folder, a third exports it."""

import json
import shutil

import numpy as np
import pytest

import t5x_style
from beam_pipelines import cache_tasks
from t5x_style import evaluate, generate, model_dir
from t5x_style.huggingface import __main__ as huggingface
from t5x_style.huggingface.tokenizers.tokenizer_files import open_tokenizer
from t5x_style.report import data as report
from t5x_style.report import unigram
from t5x_style.report.sources import Sources
from tests.huggingface.conftest import GPT2, LLAMA, tensors_of, write_folder
from tests.training.text_caches import finetune, texts, write_plain_cache, write_text_cache, write_tokenizer

SETTINGS = {**LLAMA, "vocab_size": 128, "max_position_embeddings": 77, "rms_norm_eps": 3e-6, "torch_dtype": "float32"}
SETTINGS |= {
    "bos_token_id": 3,
    "eos_token_id": 1,
    "rope_scaling": {"type": "linear", "factor": 2.0},
    "pretraining_tp": 1,
}
GENERATION = {"eos_token_id": [1, 94], "do_sample": False}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """(folder of Hugging Face, token cache, MODEL_DIR of the run)."""
    tmp = tmp_path_factory.mktemp("finetune")
    weights = {
        name: (0.05 * value + ("norm" in name)).astype("float32") for name, value in tensors_of(SETTINGS).items()
    }
    folder = write_folder(tmp / "hf", SETTINGS, weights)
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    (folder / "preprocessor_config.json").write_text("{}")
    (folder / "README.md").write_text("no setting")
    write_tokenizer(folder)
    (tmp / "mine.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(80)))
    cache = tmp / "cache"
    files = ["--input", str(tmp / "*.jsonl"), "--tokenizer", str(folder), "--output", str(cache)]
    assert cache_tasks.main([*files, "--validation", "0.2"]) == 0
    places = [f"MODEL_DIR='{tmp / 'tuned'}'", f"INIT_FROM='{folder}'", f"CACHE_DIR='{cache}'"]
    assert finetune(*places, "PEAK_LEARNING_RATE=1e-2") == 0
    return folder, cache, tmp / "tuned"


def test_the_run_keeps_tokenizer_and_settings_whole(tuned):
    folder, _, run = tuned
    tokenizer = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    assert sorted(path.name for path in (run / "tokenizer").iterdir()) == sorted(tokenizer)
    for name in tokenizer:
        assert (run / "tokenizer" / name).read_bytes() == (folder / name).read_bytes()
    kept = ("config.json", "generation_config.json", "preprocessor_config.json")
    assert sorted(path.name for path in (run / "huggingface").iterdir()) == sorted(kept)
    losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in losses if row["kind"] == "eval"] == [4]


def test_the_folder_itself_is_no_model_dir(tuned, capsys):
    folder, cache, _ = tuned
    before = sorted(path.name for path in folder.iterdir())
    assert finetune(f"MODEL_DIR='{folder}'", f"INIT_FROM='{folder}'", f"CACHE_DIR='{cache}'") == 2
    assert "is a Hugging Face folder, which it would change" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_the_export_is_the_folder_with_other_weights(tuned, tmp_path, capsys):
    folder, _, run = tuned
    assert huggingface.main(["export", str(run), str(tmp_path / "exported")]) == 0
    assert "note" not in capsys.readouterr().err
    exported = tmp_path / "exported"
    for path in folder.iterdir():
        if path.name not in ("model.safetensors", "README.md"):
            assert (exported / path.name).read_bytes() == path.read_bytes(), path.name
    rows = [[3, 8, 9, 10], [3, 60, 4, 4]]
    ours, before, after = (np.asarray(t5x_style.load_model(f).logits(rows)) for f in (run, folder, exported))
    np.testing.assert_array_equal(after, ours)
    assert np.abs(after - before).max() > 0.01


def test_it_goes_on_without_the_folder_that_it_started_from(tuned, tmp_path):
    folder, cache, run = tuned
    places = [f"MODEL_DIR='{run}'", f"INIT_FROM='{folder}'", f"CACHE_DIR='{cache}'"]
    kept = {path: path.read_bytes() for path in (run / "huggingface").iterdir()}
    hidden = folder.rename(folder.with_name("hidden"))
    try:
        assert finetune(*places, "STEPS=5", "PEAK_LEARNING_RATE=1e-2") == 0
    finally:
        hidden.rename(folder)
    assert {path: path.read_bytes() for path in (run / "huggingface").iterdir()} == kept
    assert (run / "tokenizer" / "chat_template.jinja").is_file()


def test_evaluate_generate_and_report_open_its_tokenizer(tuned, tmp_path, capsys):
    _, cache, run = tuned
    results = tmp_path / "results.json"
    asked = ["--model", str(run), "--perplexity", "data", "--cache_dir", str(cache), "--perplexity_split", "validation"]
    assert evaluate.main([*asked, "--length", "32", "--max_new_tokens", "4", "--output", str(results)]) == 0
    (found,) = json.loads(results.read_text())["models"].values()
    assert 1 < found["perplexity"]["data"]["metrics"]["perplexity"] < 120  # of 128 ids
    assert generate.main(["--model", str(run), "--prompt", "w1 w2 w3", "--max_new_tokens", "3"]) == 0
    capsys.readouterr()
    page = report.tokenizer(Sources(run, None, None, {}, "run"))
    assert "tokens." in str(page)
    counted = sum(unigram.token_counts(cache, "data", split).sum() for split in ("train", "validation"))
    assert counted == sum(len(text.split()) + 1 for text in texts(80))
    assert "UNK" in str(page) or "unk" in str(page)  # none of these words is in so small a vocabulary


def test_a_cache_of_another_tokenizer_is_refused_before_anything_is_read(tuned, tmp_path, capfd):
    folder, _, _ = tuned
    other = open_tokenizer(write_tokenizer(tmp_path / "other", ["other"]))
    cache = write_text_cache(tmp_path / "cache", other)
    places = [f"MODEL_DIR='{tmp_path / 'model'}'", f"INIT_FROM='{folder}'", f"CACHE_DIR='{cache}'"]
    assert finetune(*places) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert "was tokenised with another tokenizer" in line
    assert "than the model's own" in line


def test_a_model_in_gin_that_differs_is_told_the_value(tuned, tmp_path, capfd):
    folder, cache, _ = tuned
    plain = shutil.copytree(folder, tmp_path / "plain")
    (plain / "config.json").write_text(json.dumps({**SETTINGS, "rope_scaling": None}))
    places = [f"MODEL_DIR='{tmp_path / 'model'}'", f"INIT_FROM='{plain}'", f"CACHE_DIR='{cache}'"]
    given = ["TrainRun.model=@llama()", "llama.vocab_size=128", "llama.embed_dim=24", "llama.layers=3", "llama.heads=4"]
    given += ["llama.kv_heads=2", "llama.mlp_hidden=40", "llama.norm_epsilon=1e-6"]
    assert finetune(*places, *given) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert "epsilon is 1e-06, not 3e-06; leave the model out to take the folder's" in line


def test_a_start_that_does_not_fit_is_one_line(tuned, tmp_path, capfd):
    _, cache, _ = tuned
    gpt2 = write_folder(tmp_path / "gpt2", GPT2, tensors_of(GPT2))
    for start, length, message in (
        (gpt2, 21, "rows of 21 tokens are longer than the 20 positions of the model; give DataConfig.length"),
        (gpt2, 20, "the tokenizer has 95 ids, the model only 61"),
        ("meta-llama/Llama-3.2-1B", 16, "does not exist; give a MODEL_DIR or a Hugging Face folder (a name on the Hub"),
    ):
        places = [f"MODEL_DIR='{tmp_path / 'model'}'", f"INIT_FROM='{start}'", f"CACHE_DIR='{cache}'"]
        assert finetune(*places, f"LENGTH={length}") == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
        assert message in line


def test_ids_of_no_text(tuned, tmp_path, capfd):
    """MODEL_DIR has no tokenizer; whatever needs one says so in a line."""
    run = tmp_path / "model"
    cache = write_plain_cache(tmp_path / "cache")
    bare = write_folder(tmp_path / "bare", SETTINGS, tensors_of(SETTINGS))
    assert finetune(f"MODEL_DIR='{run}'", f"INIT_FROM='{bare}'", f"CACHE_DIR='{cache}'") == 0
    assert not (run / model_dir.TOKENIZER).exists()
    assert t5x_style.load_model(run).logits([[4, 5]]).shape == (1, 2, 128)
    assert len(t5x_style.load_model(run).generate([[4, 5]], max_new_tokens=2)[0]) == 2
    capfd.readouterr()
    asked = ["--perplexity", "data", "--cache_dir", str(cache), "--output", str(tmp_path / "results.json")]
    asked += ["--perplexity_split", "validation"]
    for command, arguments in ((evaluate, asked), (generate, ["--prompt", "text"])):
        assert command.main(["--model", str(run), *arguments]) == 2
        lines = capfd.readouterr().err.splitlines()
        assert "has no tokenizer" in lines[-1]
        assert not [line for line in lines if "Traceback" in line]
    assert "not there" in str(report.tokenizer(Sources(run, None, None, {}, "run")))
    assert huggingface.main(["export", str(run), str(tmp_path / "exported")]) == 0
    assert (tmp_path / "exported" / "config.json").read_bytes() == (bare / "config.json").read_bytes()
