"""docs/follow_a_token.md: every line it quotes stands in the function it names, every number is made anew."""

from __future__ import annotations

import ast
import functools
import math
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "follow_a_token.md").read_text(encoding="utf-8")
OTHER = "Return the sum of two numbers."
FILE = re.compile(r"[a-z0-9_]+(?:/[a-z0-9_]+)+\.py")


class Block(NamedTuple):
    """A fenced block, with the paragraph it stands under."""

    language: str
    lines: list[str]
    paragraph: str


def _blocks() -> list[Block]:
    found: list[Block] = []
    paragraph: list[str] = []
    inside: Block | None = None
    for line in PAGE.splitlines():
        if inside is not None:
            if line == "```":
                inside, paragraph = None, []
            else:
                inside.lines.append(line)
        elif line.startswith("```"):
            inside = Block(line.removeprefix("```"), [], " ".join(paragraph))
            found.append(inside)
        elif line.strip():
            paragraph.append(line)
        else:
            paragraph = []
    assert inside is None, "a block is not closed"
    return found


BLOCKS = _blocks()
QUOTES = [block for block in BLOCKS if block.language == "python"]
TEXTS = [block.lines for block in BLOCKS if block.language == "text"]
# Of every call its indentation, its name and its file.
CALLS = [
    [(len(line) - len(line.lstrip()), line.split()[0], f"t5x_style/{line.split()[1]}") for line in lines]
    for lines in TEXTS
    if lines[0].startswith("_main")
]


@functools.cache
def _source(file: str) -> tuple[list[str], dict[str, range]]:
    """The lines of a file, stripped, and the line numbers (from 0) of everything that has a name in it."""
    text = (ROOT / file).read_text(encoding="utf-8")
    places: dict[str, range] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                places[prefix + child.name] = range(child.lineno - 1, child.end_lineno or child.lineno)
                visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name):
                places[prefix + child.targets[0].id] = range(child.lineno - 1, child.end_lineno or child.lineno)

    visit(ast.parse(text), "")
    return [line.strip() for line in text.splitlines()], places


@pytest.mark.parametrize("number", range(len(QUOTES)))
def test_quoted_lines_stand_in_the_functions_named(number):
    block = QUOTES[number]
    files = FILE.findall(block.paragraph)
    assert files, f"no file is named above {block.lines}"
    named = re.search(rf"`{re.escape(files[-1])}`((?:, `[\w.]+`)*)", block.paragraph)
    assert named, f"{files[-1]} is no code span"
    lines, places = _source(files[-1])
    functions = re.findall(r"`([\w.]+)`", named.group(1))
    allowed = sorted({line for name in functions for line in places[name]}) if functions else range(len(lines))
    start = -1
    for quoted in block.lines:
        found = [line for line in allowed if line > start and lines[line] == quoted.strip()]
        assert found, f"{files[-1]} {functions} has no line (in this order) {quoted!r}"
        start = found[0]


def test_every_stop_quotes_a_line_and_every_file_is_there():
    stops = re.findall(r"^\*\*(\d+)\. ", PAGE, re.MULTILINE)
    assert list(map(int, stops)) == list(range(1, len(stops) + 1))
    assert len(stops) == len(QUOTES) >= 25
    files = {file for block in BLOCKS for file in FILE.findall(block.paragraph)}
    files |= {file for calls in CALLS for _, _, file in calls}
    assert len(files) >= 40
    assert [file for file in files if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_calls_are_made_by_what_they_stand_under(number):
    callers: list[tuple[int, str, str]] = []
    for depth, name, file in CALLS[number]:
        assert name in _source(file)[1], f"{file} has no {name}"
        callers = [caller for caller in callers if caller[0] < depth]
        simple = name.rsplit(".", 1)[-1]
        if callers and not simple.startswith("__"):
            assert _reaches(callers[-1][2], callers[-1][1], simple), f"{callers[-1][1]} does not call {name}"
        callers.append((depth, name, file))
    assert len(CALLS[number]) >= 15


def _reaches(file: str, caller: str, name: str) -> bool:
    """Whether `caller`, or what it mentions in its own file, mentions `name`."""
    lines, places = _source(file)
    waiting, seen = [caller], set()
    while waiting:
        current = waiting.pop()
        seen.add(current)
        words = set(re.findall(r"\w+", "\n".join(lines[line] for line in places[current][1:])))
        if name in words:
            return True
        waiting += [other for other in places if other.rsplit(".", 1)[-1] in words and other not in seen]
    return False


def _arrays() -> dict[str, list[float]]:
    """Everything that is printed as `name [numbers]`."""
    found: dict[str, list[float]] = {}
    for name, numbers in re.findall(r"(\w+) +\[([^\]]*)\]", "\n".join(line for lines in TEXTS for line in lines)):
        assert name not in found, f"{name} is printed twice"
        found[name] = [float(number) for number in numbers.replace(",", " ").split()]
    return found


def _value(name: str) -> str:
    (line,) = (line for lines in TEXTS for line in lines if re.match(rf"{name}  ", line))
    return line.removeprefix(name).strip()


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """The two documents, made of the record on the page and of one like it."""
    from beam_pipelines.web.archives.read_warc import ReadWarc
    from beam_pipelines.web.extraction.extract import extract_page, to_document

    (printed,) = ("\r\n".join(lines) for lines in TEXTS if lines[0] == "WARC/1.0")
    other = printed.replace("close", "sum").replace("Close the file and return.", OTHER)
    lengths = [len(record.split("\r\n\r\n", 1)[1].encode()) for record in (printed, other)]
    assert f"Content-Length: {lengths[0]}\r\n" in printed
    other = other.replace(f"Content-Length: {lengths[0]}", f"Content-Length: {lengths[1]}")
    path = tmp_path_factory.mktemp("crawl") / "part-0.warc"
    path.write_bytes(f"{other}\r\n\r\n{printed}\r\n\r\n".encode())
    records: Counter[str] = Counter()
    pages = list(ReadWarc().pages(str(path), path.name, records))
    assert records == {"response": 2}
    made = [to_document(page, extract_page(page.content, page.charset, "resiliparse")) for page in pages]
    assert not any(verdict.reason for _, verdict in made)
    return [document for document, _ in made]


def test_the_document(documents):
    from beam_pipelines.web.filters.gopher_quality import GopherQuality
    from tasks.splits import split_of_document

    assert documents[0].text == OTHER
    assert documents[1].text == _value("text")
    assert documents[1].id == _value("id")
    assert GopherQuality(min_words=20).judge(documents[1]) == ("words_low", 5, 20)
    assert not GopherQuality(min_words=5).judge(documents[1]).reason
    assert split_of_document({"id": documents[1].id, "metadata": documents[1].metadata}) == "train"


@pytest.mark.usefixtures("quick_to_compile")
def test_the_numbers(documents, tmp_path):
    made = _batch(documents, tmp_path)
    made |= _model_numbers(made) | _generated(made["vocabulary"])
    printed = _arrays()
    for name, numbers in printed.items():
        assert len(numbers) == np.size(made[name]), name
        rounding = 0.0051 if name == "loss_of_microbatches" else 0.00051  # of as many digits as are printed
        np.testing.assert_allclose(numbers, np.ravel(made[name]), rtol=0, atol=rounding, err_msg=name)
    assert _value("pieces").split() == made["pieces"]
    assert _value("answer") == made["answer"]
    assert made["shard_targets"][2] == made["drawn"][0] == 291
    assert len(printed) >= 25


def _batch(documents, folder: Path) -> dict:
    from beam_pipelines.tokenizers.sentencepiece_bpe import train_bpe
    from t5x_style.data import DataConfig, open_loader
    from t5x_style.data.manifest import Feature, VocabularyInfo
    from t5x_style.data.objectives import CausalLM
    from t5x_style.data.shards import write_cache
    from t5x_style.data.vocabulary import Vocabulary

    model = folder / "sentencepiece.model"
    model.write_bytes(train_bpe([document.text for document in documents] * 50, 400))
    vocabulary = Vocabulary(model)
    rows = vocabulary.encode_batch([document.text for document in documents])
    special = (vocabulary.pad_id, vocabulary.eos_id, vocabulary.bos_id, vocabulary.unk_id)
    write_cache(
        folder,
        "documents",
        "train",
        [[{"targets": row} for row in rows]],
        features={"targets": Feature("int32", add_eos=True, vocabulary=vocabulary.fingerprint)},
        vocabularies={
            vocabulary.fingerprint: VocabularyInfo("SentencePieceVocabulary", str(model), vocabulary.size, *special)
        },
        append_eos=["targets"],
    )
    settings = {"length": 16, "batch_size": 2, "accumulation": 2, "shuffle": False, "repeat": False, "prefetch": 0}
    for name, value in settings.items():
        assert name == "prefetch" or f"{name}={value}" in PAGE
    with open_loader(DataConfig(str(folder), "documents", CausalLM(), **settings)) as loader:
        batch = next(loader)
    assert not batch["decoder_loss_weights"][1].any()
    assert list(batch) == [name for name in _arrays() if name.startswith("decoder_") or name == "source_ids"]
    return {
        **{name: array[0, 0] for name, array in batch.items()},
        "whole": batch,
        "vocabulary": vocabulary,
        "slot": np.arange(16),
        "batch": batch["decoder_input_tokens"].shape,
        "tokens_BL": batch["decoder_input_tokens"][0].shape,
        "shard_targets": rows[1],
        "pieces": [vocabulary.piece(token) for token in rows[1]],
    }


def _seen(query: int, slots: int, segments: np.ndarray, query_segment: int) -> np.ndarray:
    """The slots that a query sees."""
    from t5x_style.models.layers import masks

    sight = masks.Sight(np.array([query]), np.arange(slots), np.array([[query_segment]]), segments[None])
    return np.flatnonzero(masks.visible(sight, causal=True, window=None))


def _model_numbers(made: dict) -> dict:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from t5x_style import models
    from t5x_style.decoding import cache
    from t5x_style.losses.cross_entropy import cross_entropy
    from t5x_style.models.layers.embedding import Head
    from t5x_style.models.layers.positions import rope
    from t5x_style.models.presets.llama import llama
    from t5x_style.models.specs import FLOAT32, HeadSpec

    size = made["vocabulary"].size
    sizes = {"embed_dim": 128, "layers": 4, "heads": 4, "kv_heads": 2, "mlp_hidden": 384}  # gin/models/quickstart.gin
    config = llama(size, **sizes, tied_embeddings=True)
    graphdef, state = nnx.split(models.abstract(config, execution=models.Execution(scan=False, remat="none")))

    def shapes(state, tokens):
        model = nnx.merge(graphdef, state)
        attention = next(model.trunk.blocks()).attention
        x_BLD = model.embedding.embed(tokens, tokens)
        q_BLHK = attention._queries(x_BLD)
        hidden_BLD = model(tokens, segment_ids=tokens, positions=tokens)
        scores_CV = model.head.logits(hidden_BLD.reshape(-1, hidden_BLD.shape[-1]))
        return {
            "x_BLD": x_BLD,
            "q_BLHK": q_BLHK,
            "k_BLGK": attention.keys_values(x_BLD)[0],
            "q_BGRLK": attention._grouped(q_BLHK),
            "hidden_BLD": hidden_BLD,
            "scores_CV": scores_CV,
            "keys_of_a_layer": cache.begin(model, 1, 32).layers[0][0],
        }

    found = jax.eval_shape(shapes, state, jax.ShapeDtypeStruct(made["tokens_BL"], jnp.int32))
    spec = config.layers[0].attention

    @jax.jit
    def numbers(batch):
        head = Head(HeadSpec(), table=nnx.Param(jnp.zeros((size, 4))), bias=None, vocab_size=size, policy=FLOAT32)
        targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
        sums = [cross_entropy(head, jnp.zeros((1, 16, 4)), targets[step], weights[step])[:2] for step in range(2)]
        return rope.tables(batch["decoder_positions"][0], spec.rope, spec.head_dim)[0], sums

    cosines, sums = numbers(made["whole"])
    segments = made["decoder_segment_ids"]
    assert float(sums[0][0]) == pytest.approx(15 * math.log(400))
    return {name: array.shape for name, array in found.items()} | {
        "first_cosines_of_slot_11": cosines[0, 11, 0, :3],
        "seen_by_slot_11": _seen(11, 16, segments, segments[11]),
        "seen_by_slot_15": _seen(15, 16, segments, segments[15]),
        "loss_of_microbatches": [loss for loss, _ in sums],
        "weights_of_microbatches": [weight for _, weight in sums],
    }


def _generated(vocabulary) -> dict:
    from t5x_style.decoding.buckets import MIN_LENGTH, bucket
    from t5x_style.decoding.prompts import decoder_batch, next_positions
    from t5x_style.decoding.stopping import until_end

    prompts = decoder_batch(vocabulary.encode_batch(["Close the"], add_special_tokens=True), 1)
    slots = prompts.tokens.shape[1] + bucket(8, MIN_LENGTH)
    written = np.zeros(slots, np.int32)
    written[:16], written[16] = prompts.segment_ids[0], 1
    drawn = [*vocabulary.encode(_value("text"))[2:], vocabulary.eos_id]
    return {
        "prompt_tokens": prompts.tokens,
        "prompt_segment_ids": prompts.segment_ids,
        "prompt_positions": prompts.positions,
        "next_position": next_positions(prompts.positions[:, -1:]),
        "seen_by_slot_16": _seen(16, slots, written, 1),
        "drawn": drawn,
        "answer": vocabulary.decode(until_end(drawn, [vocabulary.eos_id])),
    }
