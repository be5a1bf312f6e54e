"""load_model on folders made here: every kind of model, padding, bad input, and what it says about it."""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece
from flax import nnx
from orbax import checkpoint as ocp

import t5x_style
from t5x_style.errors import UserError
from t5x_style.generate import main
from t5x_style.huggingface.export_model import export_model
from t5x_style.huggingface.import_model import import_model
from t5x_style.huggingface.tokenizers import tokenizer_files
from t5x_style.models import serialization
from t5x_style.models.presets.llama import llama
from t5x_style.models.presets.t5 import t5
from t5x_style.models.specs import (
    AttentionSpec,
    DecoderConfig,
    DtypePolicy,
    EncoderConfig,
    EncoderDecoderConfig,
    LayerGroup,
    LayerSpec,
    MlpSpec,
    RelativeBiasSpec,
    TransformerConfig,
)
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from tests.huggingface.conftest import BERT, FAMILIES, GPT2, LLAMA, drawn, tensors_of, write_folder

SIZE = 300


def seq2seq():
    def trunk(causal):
        attention = AttentionSpec(2, 2, 8, causal=causal, rope=None)
        cross = AttentionSpec(2, 2, 8, causal=False, rope=None) if causal else None
        layer = LayerSpec(attention, MlpSpec(32), cross_attention=cross)
        bias = RelativeBiasSpec(8, 20, bidirectional=not causal)
        return {"vocab_size": SIZE, "embed_dim": 16, "segments": (LayerGroup((layer,), 2),), "relative_bias": bias}

    return EncoderDecoderConfig(EncoderConfig(**trunk(False)), TransformerConfig(**trunk(True)))


CONFIGS = {
    "decoder": llama(vocab_size=SIZE, embed_dim=16, layers=2, heads=2, kv_heads=1, mlp_hidden=32),
    "encoder_decoder": seq2seq(),
    "recurrent": RecurrentConfig(SIZE, 16, (24, 16)),
}


def write_model_dir(folder, config, tokenizer=None, step=4):
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(serialization.to_json(config))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute() / "checkpoints" / str(step) / "params", drawn(config))
    if tokenizer is not None:
        (folder / "tokenizer").mkdir()
        shutil.copyfile(tokenizer, folder / "tokenizer" / "sentencepiece.model")
    return folder


@pytest.fixture(scope="session")
def sentencepiece_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "m"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["def add one and two", "class of numbers 1 2 3"] * 10),
        model_prefix=str(path),
        vocab_size=SIZE,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=3,
    )
    return path.with_suffix(".model")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, sentencepiece_file):
    root = tmp_path_factory.mktemp("models")
    return {name: write_model_dir(root / name, config, sentencepiece_file) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def decoder(folders):
    """Opened once, for tests that do not generate with it: that would lay its weights out anew."""
    return t5x_style.load_model(folders["decoder"])


def rows(*lengths, size=SIZE):
    random = np.random.default_rng(0)
    return [random.integers(4, size, length).tolist() for length in lengths]


def test_the_package_itself_is_instant():
    code = (
        "import sys, t5x_style; assert 'load_model' in dir(t5x_style); assert 'jax' not in sys.modules; "
        "t5x_style.load_model; sys.exit(len({'torch', 'transformers', 'tensorflow', 'gin'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'load_mode'"):
        t5x_style.load_mode  # noqa: B018


# Rows of nine in most tests: every shape is a program of its own.
def test_logits_of_a_decoder(decoder):
    assert (decoder.step, decoder.config, decoder.settings) == (4, CONFIGS["decoder"], {})
    tokens = np.array(rows(9, 9))
    logits = decoder.logits(tokens)
    assert isinstance(logits, jax.Array)
    assert logits.shape == (2, 9, SIZE)  # the table has 384 rows
    expected = np.asarray(nnx.jit(lambda model, tokens: model.head.logits(model(tokens)))(decoder.model, tokens))
    np.testing.assert_allclose(logits, expected[..., :SIZE], atol=1e-5)
    for same in (jnp.asarray(tokens), tokens.tolist(), tokens.astype(np.int64)):
        np.testing.assert_array_equal(decoder.logits(same), logits)
    np.testing.assert_allclose(decoder.logits(tokens[0]), logits[:1], atol=1e-5)  # a row is a batch of one


def test_rows_of_unequal_length_and_segments(decoder):
    long, short = rows(9, 4)

    def logits(*arguments, **options):
        return np.asarray(decoder.logits(*arguments, **options))

    both = logits([long, short])
    assert both.shape == (2, 9, SIZE)
    alone = logits(short)[0]
    np.testing.assert_allclose(both[0], logits(long)[0], atol=1e-5)
    np.testing.assert_allclose(both[1, :4], alone, atol=1e-5)
    packed = logits([long[:5] + short], segment_ids=[[1] * 5 + [2] * 4])
    together = logits([long[:5] + short])
    assert np.abs(packed[0, 5:] - together[0, 5:]).max() > 1e-3
    np.testing.assert_allclose(packed[0, 5:], alone, atol=1e-4)  # rotary: distances only
    masked = logits([[0] * 5 + short], segment_ids=[[0] * 5 + [1] * 4])
    np.testing.assert_allclose(masked[0, 5:], alone, atol=1e-4)


def test_encoder_decoder(folders):
    loaded = t5x_style.load_model(folders["encoder_decoder"])
    source, target = rows(6, 3), rows(5, 5)
    logits = loaded.logits(target, source)
    assert logits.shape == (2, 5, SIZE)
    np.testing.assert_allclose(logits[1], loaded.logits(target[1:], source[1:])[0], atol=1e-5)
    with pytest.raises(UserError, match="give encoder_tokens too"):
        loaded.logits(target)
    with pytest.raises(UserError, match="2 rows of tokens and 1 of encoder_tokens"):
        loaded.logits(target, source[:1])
    answers = loaded.generate(["add one", "two"], max_new_tokens=6)
    ids = loaded.generate([[*loaded.tokenizer.encode(text), 1] for text in ("add one", "two")], max_new_tokens=6)
    assert answers == [loaded.tokenizer.decode(row) for row in ids]
    assert loaded.decoder_start_id() == 3


@pytest.mark.parametrize("name", ["decoder", "recurrent"])
def test_greedy_tokens_are_the_likeliest(folders, name):
    loaded = t5x_style.load_model(folders[name])
    prompts = [[3, *row] for row in rows(4, 2)]
    new = loaded.generate(prompts, max_new_tokens=5, eos_ids=[], batch_size=1)
    for prompt, answer in zip(prompts, new, strict=True):
        read = [*prompt, *answer[:-1]]
        row = [*read, *[0] * (9 - len(read))]  # what stands behind does not matter to a causal model
        logits = np.asarray(loaded.logits(row))[0, len(prompt) - 1 : len(read)]
        assert answer == logits.argmax(axis=-1).tolist()


def test_texts_seeds_and_stop(folders):
    loaded = t5x_style.load_model(folders["decoder"])
    before = np.asarray(loaded.logits(rows(9)))

    def texts(seed, prompts=("def add", "class"), **options):
        # prompts one at a time, so that one and two run the same programs
        return loaded.generate(prompts, 12, temperature=1.0, seed=seed, batch_size=1, **options)

    first = texts(1)
    np.testing.assert_allclose(loaded.logits(rows(9)), before, atol=1e-5)  # other weights' layout, equal results
    assert first == texts(1)
    assert first != texts(2)
    assert first[:1] == texts(1, "def add", row_seeds=None)
    middle = first[0][len(first[0]) // 2]
    assert texts(1, stop=middle)[0] == first[0][: first[0].index(middle)]
    with pytest.raises(UserError, match="some prompts are texts"):
        loaded.generate(["def", [3, 4]])


def test_prompts_begin_with_the_start_id(folders):
    loaded = t5x_style.load_model(folders["decoder"])
    ids = loaded.generate([[3, *loaded.tokenizer.encode("def add")]], max_new_tokens=7)
    assert loaded.generate("def add", max_new_tokens=7) == [loaded.tokenizer.decode(ids[0])]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("llama", "mixtral") else ()) for name in FAMILIES]
)
def test_folders_of_every_kind_and_their_imports(tmp_path, name):
    settings = {**FAMILIES[name], "decoder_start_token_id": 0}
    folder = write_folder(tmp_path / "hf", settings, tensors_of(settings))
    import_model(folder, tmp_path / "model_dir")
    direct, imported = t5x_style.load_model(folder), t5x_style.load_model(tmp_path / "model_dir")
    assert direct.config == imported.config
    tokens = rows(7, 5, size=settings["vocab_size"])
    source = tokens if name == "t5" else None
    logits = direct.logits(tokens, source)
    assert logits.shape == (2, 7, settings["vocab_size"])
    np.testing.assert_array_equal(logits, imported.logits(tokens, source))
    assert np.isfinite(np.asarray(logits)[0]).all()
    with pytest.raises(UserError, match="has no tokenizer"):
        direct.tokenizer  # noqa: B018
    with pytest.raises(UserError, match=r"has no tokenizer|continues no texts"):
        direct.generate("a text")
    if name == "gpt2":
        assert direct.generate(tokens, 3) == imported.generate(tokens, 3)


@pytest.mark.parametrize("name", ["decoder", "t5"])
def test_an_exported_model_opens_with_its_tokenizer(folders, sentencepiece_file, tmp_path, name):
    trained = folders.get(name) or write_model_dir(tmp_path / name, t5("tiny", vocab_size=SIZE), sentencepiece_file)
    export_model(trained, tmp_path / "hf")
    ours, theirs = t5x_style.load_model(trained), t5x_style.load_model(tmp_path / "hf")
    source = rows(4) if name == "t5" else None
    np.testing.assert_array_equal(ours.logits(rows(9), source), theirs.logits(rows(9), source))
    assert ours.decoder_start_id() == theirs.decoder_start_id() == (3 if name == "t5" else None)
    assert ours.tokenizer.encode("def 日本") == theirs.tokenizer.encode("def 日本")
    prompts = ours.encode_prompts(["def add", "class of"])
    assert prompts == theirs.encode_prompts(["def add", "class of"])
    assert ours.generate(prompts, 9, batch_size=1) == theirs.generate(prompts, 9, batch_size=1)


def test_the_command_continues_and_says_what_is_wrong(folders, tmp_path, capsys):
    export_model(folders["decoder"], tmp_path / "hf")
    flags = ["--prompt", "def add", "--max_new_tokens", "6", "--json"]
    assert main(["--model", str(tmp_path / "hf"), *flags]) == 0
    direct = capsys.readouterr().out
    assert main(["--model", str(folders["decoder"]), *flags]) == 0
    assert json.loads(direct)["tokens"] == json.loads(capsys.readouterr().out)["tokens"]
    more = ["--temperature", "1", "--min_p", "0.01", "--repetition_penalty", "1.5", "--stop", "e", "--stop", "a"]
    assert main(["--model", str(tmp_path / "hf"), *flags, *more]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert not set(answer["text"]) & {"a", "e"}
    assert main(["--model", str(tmp_path / "hf"), *flags, "--num_beams", "2", "--length_penalty", "0.5"]) == 0
    capsys.readouterr()
    for wrong, message in ((["--length_penalty", "2"], "give num_beams"), (["--step", "1"], "has no steps")):
        assert main(["--model", str(tmp_path / "hf"), *flags, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_an_encoder_does_not_continue(tmp_path, capsys):
    folder = write_folder(tmp_path / "bert", BERT, tensors_of(BERT))
    assert main(["--model", str(folder), "--prompt", "x"]) == 2
    assert "has no tokenizer" in capsys.readouterr().err


def test_dtype_policy(folders):
    policy = DtypePolicy(params="bfloat16", compute="bfloat16")
    loaded = t5x_style.load_model(folders["decoder"], policy=policy)
    assert loaded.model.embedding.table[...].dtype == jnp.bfloat16
    assert loaded.logits(rows(4)).dtype == jnp.float32


def test_token_types_and_heads(tmp_path):
    folder = write_folder(tmp_path / "bert", BERT, tensors_of(BERT))
    loaded = t5x_style.load_model(folder)
    tokens = rows(6, size=40)
    plain = np.asarray(loaded.logits(tokens))
    np.testing.assert_array_equal(plain, loaded.logits(tokens, token_types=[[0] * 6]))
    assert np.abs(plain - loaded.logits(tokens, token_types=[[0, 0, 0, 1, 1, 1]])).max() > 1e-3
    for types, message in (([[0, 1]], "give one a token"), ([[2] * 6], "this model has 2 types")):
        with pytest.raises(UserError, match=message):
            loaded.logits(tokens, token_types=types)
    with pytest.raises(UserError, match="has rows of 21, this model has positions for 20 only"):
        loaded.logits(rows(21, size=40))


def test_without_a_language_model_head(tmp_path):
    config = CONFIGS["decoder"]
    headless = DecoderConfig(SIZE, 16, config.segments, head=None)
    loaded = t5x_style.load_model(write_model_dir(tmp_path / "m", headless))
    for call in (loaded.logits, loaded.generate):
        with pytest.raises(UserError, match=r"has no language-model head; its task heads are none: call model\.tasks"):
            call(rows(4))


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([[4, SIZE]], {}, f"id {SIZE}, outside the vocabulary of {SIZE}"),
        ([[-1]], {}, "id -1, outside"),
        ([], {}, "not empty"),
        ([[]], {}, "not empty"),
        ([[0.5]], {}, "give integers"),
        ([[[1]]], {}, "give integers"),
        ([["a"]], {}, "give integers"),
        ("def", {}, "tokens is a str"),
        (5, {}, "tokens is a int"),
        (np.array([[2**32 + 1]]), {}, "beyond 32 bits"),
        ([[4, 5]], {"segment_ids": [[0.5, 1]]}, "segment ids of tokens are float64"),
        ([[4, 5]], {"segment_ids": [[1]]}, "give one a token"),
        ([[4, 5], [6]], {"segment_ids": [[1, 1], [1, 0]]}, "pad them"),
        ([[4]], {"encoder_tokens": [[4]]}, "leave encoder_tokens out"),
        ([[4]], {"token_types": [[0]]}, "no token types"),
    ],
)
def test_bad_tokens(decoder, tokens, options, message):
    with pytest.raises(UserError, match=message):
        decoder.logits(tokens, **options)


@pytest.mark.parametrize("prompts", [None, 5, b"def", [3, 4], [[1.7]], [[float("nan")]], [["a"]]])
def test_bad_prompts(decoder, prompts):
    with pytest.raises(UserError, match="generate: prompts"):
        decoder.generate(prompts)


def test_positions_of_a_family_end_with_the_table(tmp_path):
    settings = BERT | {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 12}
    loaded = t5x_style.load_model(write_folder(tmp_path / "hf", settings, tensors_of(settings)))
    assert np.isfinite(np.asarray(loaded.logits([5] * 10))).all()  # RoBERTa's first position is 2
    with pytest.raises(UserError, match="has rows of 11, this model has positions for 10 only"):
        loaded.logits([5] * 11)


def test_a_model_is_shown_in_one_line(folders, decoder):
    shown = repr(decoder)
    assert shown.startswith(f"LoadedModel({str(folders['decoder'])!r}, DecoderConfig, ")
    assert shown.endswith(" parameters, step 4)")


def test_bad_folders(folders, tmp_path):
    with pytest.raises(UserError, match="nowhere' does not exist"):
        t5x_style.load_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no checkpoint of step 9; it has 4"):
        t5x_style.load_model(folders["decoder"], step=9)
    folder = write_folder(tmp_path / "hf", GPT2, tensors_of(GPT2))
    with pytest.raises(UserError, match="has no steps"):
        t5x_style.load_model(folder, step=1)
    with pytest.raises(UserError, match="is a file"):
        t5x_style.load_model(folder / "config.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is no MODEL_DIR"):
        t5x_style.load_model(tmp_path / "empty")


def test_a_tokenizer_too_large(tmp_path, sentencepiece_file):
    folder = write_folder(tmp_path / "hf", LLAMA, tensors_of(LLAMA))
    tokenizer_files.write(sentencepiece_file, folder)
    loaded = t5x_style.load_model(folder)
    assert loaded.logits(rows(3, size=99)).shape == (1, 3, 99)
    with pytest.raises(UserError, match=r"the tokenizer has \d+ ids, the model only 99"):
        loaded.tokenizer  # noqa: B018


def test_generation_config_that_asks_for_more(tmp_path):
    folder = write_folder(tmp_path / "hf", LLAMA, tensors_of(LLAMA))
    (folder / "generation_config.json").write_text(json.dumps({"forced_bos_token_id": 4}))
    loaded = t5x_style.load_model(folder)
    with pytest.raises(UserError, match="asks for forced_bos_token_id=4, which is not supported; remove it"):
        loaded.generate(rows(3, size=99))
