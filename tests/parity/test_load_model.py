"""load_model on folders that transformers saves: equal logits for every family, equal greedy tokens and texts."""

import importlib.util
import json

import numpy as np
import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, trainers

import t5x_style
from t5x_style.models.specs import DecoderConfig, EncoderDecoderConfig
from tests.parity import compare, pairs
from tests.parity.cases.case import all_cases
from tests.parity.fast import slow_except

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4
CASES = {name: case for name, case in all_cases().items() if case.reference is None}
ONE_EACH = {case.family: name for name, case in reversed(CASES.items())}
CONTINUED = [name for family, name in ONE_EACH.items() if family not in ("bert", "albert", "xlnet")]


def saved(pair, folder):
    if isinstance(pair.config, EncoderDecoderConfig):  # neither side guesses it
        pair.theirs.generation_config.decoder_start_token_id = 0
    pair.theirs.save_pretrained(folder)
    return t5x_style.load_model(folder)


@pytest.mark.parametrize("name", slow_except(ONE_EACH.values(), "t5", "bert"))
def test_logits(name, tmp_path):
    pair = pairs.shared(name)
    loaded = saved(pair, tmp_path)
    assert loaded.config == pair.config
    rows = pairs.batch(pair)
    expected, counted = pairs.their_logits(pair, rows), rows.mask.astype(bool)
    if rows.decoder_tokens is not None:
        logits = loaded.logits(rows.decoder_tokens, rows.tokens, encoder_segment_ids=rows.mask)
        counted = np.ones(rows.decoder_tokens.shape, bool)
    else:
        logits = loaded.logits(rows.tokens, segment_ids=rows.mask, token_types=rows.types)
    assert logits.shape == (*counted.shape, pair.config.vocab_size)
    np.testing.assert_allclose(np.asarray(logits)[counted], expected[counted], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for family, name in ONE_EACH.items() if family not in ("bert", "albert", "xlnet")]
)
def test_greedy_tokens(name, tmp_path):
    pair = pairs.shared(name)
    loaded = saved(pair, tmp_path)
    assert isinstance(pair.config, (DecoderConfig, EncoderDecoderConfig))
    prompts = compare.prompts(pair)
    ours = loaded.generate(prompts, max_new_tokens=12, eos_ids=[])
    for prompt, new in zip(prompts, ours, strict=True):
        row = torch.tensor([prompt])
        with torch.no_grad():
            whole = pair.theirs.generate(
                row, attention_mask=torch.ones_like(row), max_new_tokens=12, do_sample=False, eos_token_id=-1
            )
        start = 1 if isinstance(pair.config, EncoderDecoderConfig) else len(prompt)
        assert new == whole[0, start:].tolist()


def byte_level(folder):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special)
    tokenizer.train_from_iterator(["def add(a, b): return a + b", "one two three"] * 4, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **names)
    fast.save_pretrained(folder)
    return fast


def decoder(folder, **generation):
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    theirs = transformers.LlamaForCausalLM(settings).float().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.generation_config.update(**generation)
    theirs.save_pretrained(folder)
    return theirs


TEXTS = ["def add(a", "one two", "日本 three\n"]


def their_texts(theirs, fast, **options):
    found = []
    for text in TEXTS:
        inputs = fast(text, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            whole = theirs.generate(**inputs, tokenizer=fast, **options)
        found.append(fast.decode(whole[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return found


def test_texts_in_and_out(tmp_path):
    theirs, fast = decoder(tmp_path), byte_level(tmp_path)
    loaded = t5x_style.load_model(tmp_path)
    assert loaded.generate(TEXTS, max_new_tokens=20) == their_texts(theirs, fast, max_new_tokens=20, do_sample=False)


@pytest.mark.slow
def test_one_text(tmp_path):
    theirs, fast = decoder(tmp_path), byte_level(tmp_path)
    loaded = t5x_style.load_model(tmp_path)
    assert loaded.generate(TEXTS[0], 5) == their_texts(theirs, fast, max_new_tokens=5, do_sample=False)[:1]


def test_generation_config_is_followed(tmp_path):
    theirs = decoder(tmp_path, num_beams=3, length_penalty=0.7, max_new_tokens=20, repetition_penalty=1.3)
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    assert settings["num_beams"] == 3
    fast = byte_level(tmp_path)
    loaded = t5x_style.load_model(tmp_path)
    assert loaded.generate(TEXTS) == their_texts(theirs, fast)
    greedy = their_texts(theirs, fast, num_beams=1, repetition_penalty=1.0)
    assert loaded.generate(TEXTS, num_beams=1, repetition_penalty=1.0) == greedy
    assert greedy != their_texts(theirs, fast)


def test_several_end_ids(tmp_path):
    theirs, fast = decoder(tmp_path), byte_level(tmp_path)
    rows = fast(TEXTS)["input_ids"]  # the shapes of test_texts_in_and_out
    found = t5x_style.load_model(tmp_path).generate(rows, max_new_tokens=20)
    longest = max(range(len(rows)), key=lambda row: len(found[row]))
    free = found[longest]
    ends = [1, free[3], free[6]]
    theirs.generation_config.eos_token_id = ends
    theirs.generation_config.save_pretrained(tmp_path)
    loaded = t5x_style.load_model(tmp_path)
    assert loaded.generation_defaults.eos_ids == tuple(ends)
    stopped = loaded.generate(rows, max_new_tokens=20)
    assert stopped[longest] == free[: min(index for index, token in enumerate(free) if token in ends)]
    for row, new in zip(rows, stopped, strict=True):
        with torch.no_grad():
            whole = theirs.generate(torch.tensor([row]), max_new_tokens=20, do_sample=False)[0, len(row) :].tolist()
        assert new == whole[: next((index for index, token in enumerate(whole) if token in ends), 20)]
    assert loaded.generate(TEXTS, 20) == [fast.decode(row, skip_special_tokens=True) for row in stopped]


def test_encoder_decoder_answers_texts(tmp_path):
    fast = byte_level(tmp_path)
    settings = transformers.T5Config(
        vocab_size=300,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=2,
        eos_token_id=1,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    theirs = transformers.T5ForConditionalGeneration(settings).float().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    loaded = t5x_style.load_model(tmp_path)
    expected = []
    for text in TEXTS:
        inputs = fast(text, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            whole = theirs.generate(**inputs, max_new_tokens=15, do_sample=False)
        expected.append(fast.decode(whole[0, 1:], skip_special_tokens=True))
    assert loaded.generate(TEXTS, max_new_tokens=15) == expected
