"""cache_tasks --input from the command line: what is written, what is skipped, resumed and refused."""

import datetime
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python import array_record_module

from beam_pipelines import cache_tasks
from beam_pipelines.caching.inputs import cache_inputs
from beam_pipelines.caching.inputs.options import InputOptions
from beam_pipelines.caching.inputs.report import next_command
from beam_pipelines.jobs.runners import Runner
from t5x_style.data.examples import decode_example, restore
from t5x_style.data.manifest import read_manifest
from t5x_style.data.vocabulary_facts import read_facts, tokenizer_folder
from t5x_style.errors import UserError
from t5x_style.huggingface.tokenizers.tokenizer_files import open_tokenizer
from tests import chats

TEXTS = [f"hello {'wörld ' * (number % 4)}{number}" for number in range(60)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return str(chats.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "chatml", chats.CHATML, merges=20))


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return str(path)


def run(*arguments):
    cache_tasks.run([str(argument) for argument in arguments])


def examples(output, split="train", name="data"):
    manifest = read_manifest(output, name, split)
    found = []
    for shard in manifest.shards:
        reader = array_record_module.ArrayRecordReader(str(output / name / split / shard.file))
        for record in reader.read_all():
            decoded = decode_example(record)
            found.append({key: restore(key, decoded[key], manifest.features[key]).tolist() for key in decoded})
        reader.close()
    return found


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache_inputs" not in path.parts
    }


def test_texts_in_two_splits(tmp_path, tokenizer, caplog):
    write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in [*TEXTS[:40], ""]])
    write_jsonl(tmp_path / "b.jsonl", [{"text": text} for text in [*TEXTS[40:], *TEXTS[:40]]])
    with caplog.at_level("INFO"):
        run(
            "--input", tmp_path / "*.jsonl", "--tokenizer", tokenizer, "--output", tmp_path / "out", "--validation", 0.2
        )
    opened = open_tokenizer(tokenizer)
    train, validation = examples(tmp_path / "out"), examples(tmp_path / "out", "validation")
    assert len(train) + len(validation) == 100
    assert 8 <= len(validation) <= 32
    sides = [{tuple(example["targets"]) for example in side} for side in (train, validation)]
    assert not sides[0] & sides[1]  # copies fall on one side
    assert sides[0] | sides[1] == {tuple(opened.encode(text)) for text in TEXTS}
    kept = {tuple(opened.encode(text)) for text in TEXTS[:40]} & sides[0]
    assert [tuple(example["targets"]) for example in train[: len(kept)]] == [
        ids for text in TEXTS[:40] if (ids := tuple(opened.encode(text))) in kept
    ]
    assert all(example["response_spans"] == [0, len(example["targets"])] for example in train)
    manifest = read_manifest(tmp_path / "out", "data", "train")
    assert manifest.append_eos == ("targets",)
    assert manifest.features["targets"].stored == "uint16"
    assert manifest.features["response_spans"].kind == "numbers"
    (information,) = manifest.vocabularies.values()
    assert (information.size, information.eos_id, information.pad_id) == (opened.size, 1, None)
    assert read_facts(tmp_path / "out", opened.fingerprint).roles["eos"] == 1
    kept_files = tokenizer_folder(tmp_path / "out", opened.fingerprint)
    assert open_tokenizer(kept_files).encode(TEXTS[3]) == opened.encode(TEXTS[3])
    text = caplog.text
    assert "column text (plain text), no chat template, EOS behind every example" in text
    assert f"{len(train)} examples for train, {len(validation)} examples for validation" in text
    assert "1 empty, 0 broken; 2 of 2 units" in text
    assert "--gin.INIT_FROM=\"'FOLDER'\"" in text  # a tokenizer alone is no model


def conversation(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_every_form_of_a_conversation_gives_the_same_tokens(tmp_path, tokenizer):
    turns = [conversation(f"hello {number}", f"yes {number}") for number in range(5)]
    forms = {
        "pairs": [{"prompt": user["content"], "completion": assistant["content"]} for user, assistant in turns],
        "lists": [{"prompt": [user], "completion": [assistant]} for user, assistant in turns],
        "messages": [{"messages": messages} for messages in turns],
        "sharegpt": [
            {"conversations": [{"from": "human", "value": u["content"]}, {"from": "gpt", "value": a["content"]}]}
            for u, a in turns
        ],
    }
    found = {}
    for name, records in forms.items():
        path = write_jsonl(tmp_path / f"{name}.jsonl", records)
        pq.write_table(pa.Table.from_pylist(records), tmp_path / f"{name}.parquet")
        for given in (path, tmp_path / f"{name}.parquet"):
            out = tmp_path / f"out-{name}{os.path.splitext(given)[1]}"
            run("--input", given, "--tokenizer", tokenizer, "--output", out, "--split", "all", "--name", name)
            found[str(given)] = examples(out, "all", name)
            assert read_manifest(out, name, "all").append_eos == ()
    first = next(iter(found.values()))
    assert len(first) == 5
    assert all(each == first for each in found.values())
    opened = open_tokenizer(tokenizer)
    header = opened.encode("<|im_start|>user\nhello 3<|im_end|>\n<|im_start|>assistant\n")
    answer = opened.encode("yes 3<|im_end|>")
    assert first[3] == {
        "targets": header + answer + opened.encode("\n"),
        "response_spans": [len(header), len(header) + len(answer)],
    }
    out = tmp_path / "plain"
    run("--input", tmp_path / "pairs.jsonl", "--tokenizer", tokenizer, "--output", out, "--chat_template", "none")
    plain = {
        tuple(each["targets"]): each["response_spans"]
        for split in ("train", "validation")
        for each in examples(out, split)
    }
    whole = {number: opened.encode(f"hello {number}yes {number}") for number in range(5)}
    first = {number: len(opened.encode(f"hello {number}")) for number in range(5)}
    assert plain == {tuple(ids): [first[number], len(ids)] for number, ids in whole.items()}
    assert read_manifest(out, "data", "train").append_eos == ("targets",)


def test_cuts_workers_and_reruns_give_the_same_bytes(tmp_path, tokenizer):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])
    options = InputOptions((path,), tokenizer, str(tmp_path / "one"), range_bytes=500)
    plan = cache_inputs.make_plan(options)
    assert len(plan.units) > 3
    with Runner("local", 1) as runner:
        cache_inputs.cache(plan, runner)
    whole = contents(tmp_path / "one")
    two = cache_inputs.dataclasses.replace(options, output=str(tmp_path / "two"))
    cache_inputs.run(two, "local", 2, [])
    assert contents(tmp_path / "two") == whole
    opened = open_tokenizer(tokenizer)
    both = examples(tmp_path / "one") + examples(tmp_path / "one", "validation")
    assert sorted(example["targets"] for example in both) == sorted(map(opened.encode, TEXTS))

    # A killed run left one shard and no manifests: the rest is not done again.
    names = sorted(path.name for path in (tmp_path / "two/data/train").glob("*.array_record"))
    shard = tmp_path / "two/data/train" / names[2]
    times = {name: (tmp_path / "two/data/train" / name).stat().st_mtime_ns for name in names}
    shard.unlink()
    (tmp_path / "two/data/train/manifest.json").unlink()
    cache_inputs.run(two, "local", 1, [])
    assert contents(tmp_path / "two") == whole
    after = {name: (tmp_path / "two/data/train" / name).stat().st_mtime_ns for name in names}
    assert [name for name in names if after[name] != times[name]] == [names[2]]


def test_a_changed_file_redoes_only_its_unit(tmp_path, tokenizer):
    for name, texts in (("a", TEXTS[:30]), ("b", TEXTS[30:])):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")
    arguments = ("--input", tmp_path / "*.txt", "--tokenizer", tokenizer, "--output", tmp_path / "out")
    run(*arguments)
    shards = [tmp_path / f"out/data/train/0000{index}-of-00002.array_record" for index in (0, 1)]
    times = [shard.stat().st_mtime_ns for shard in shards]
    (tmp_path / "b.txt").write_text("\n".join([*TEXTS[30:], "one more"]), encoding="utf-8")
    run(*arguments)
    assert [shard.stat().st_mtime_ns == time for shard, time in zip(shards, times)] == [True, False]
    assert len(examples(tmp_path / "out")) + len(examples(tmp_path / "out", "validation")) == 61
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=r"out/data holds another cache \(validation 0.05, now 0.5\)"):
        run(*arguments, "--validation", 0.5)
    assert contents(tmp_path / "out") == before


def test_broken_records(tmp_path, tokenizer, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "hello"}\n{"text": "cut\n\n{"body": "x"}\n{"text": "world"}\n')
    arguments = ("--input", path, "--tokenizer", tokenizer, "--output", tmp_path / "out")
    with pytest.raises(UserError, match=r"a.jsonl, line 2: not valid JSON .*--skip_broken"):
        run(*arguments)
    run(*arguments, "--skip_broken")
    assert "2 broken records were left out; the first:" in caplog.text
    assert len(examples(tmp_path / "out")) == len(examples(tmp_path / "out", "validation")) == 1
    with pytest.raises(UserError, match="line 2"):
        run(*arguments)
    # Behind what planning reads, a worker finds it; the cache is no cache then.
    write_jsonl(path, [*({"text": text} for text in TEXTS * 4), {"text": 7}])
    with pytest.raises(UserError, match="line 241: column 'text' is a number where a text is needed; mend it"):
        run(*arguments)
    with pytest.raises(UserError, match="no cache of 'data'"):
        read_manifest(tmp_path / "out", "data", "train")


def test_a_vocabulary_without_eos_appends_none(tmp_path, caplog):
    folder = chats.write_tokenizer(tmp_path / "tokenizer")
    (folder / "tokenizer_config.json").write_text("{}")
    (tmp_path / "a.txt").write_text("hello\nworld\n")
    with caplog.at_level("INFO"):
        run("--input", tmp_path / "a.txt", "--tokenizer", folder, "--output", tmp_path / "out", "--validation", 0)
    manifest = read_manifest(tmp_path / "out", "data", "train")
    assert (manifest.append_eos, manifest.examples, manifest.features["targets"].add_eos) == ((), 2, False)
    assert "the vocabulary has no EOS, nothing is appended" in caplog.text
    assert not (tmp_path / "out/data/validation").exists()


def test_conversations_without_an_answer_and_turns(tmp_path, tokenizer, caplog):
    turns = [*conversation("hello", "yes"), *conversation("no", "world")]
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": turns}, {"messages": turns[:1]}, {"messages": []}])
    arguments = ("--input", path, "--tokenizer", tokenizer, "--validation", 0)
    with caplog.at_level("INFO"):
        run(*arguments, "--output", tmp_path / "whole")
        run(*arguments, "--output", tmp_path / "turns", "--each_turn")
    assert [len(example["response_spans"]) for example in examples(tmp_path / "whole")] == [4, 0]
    whole, each = examples(tmp_path / "whole")[0], examples(tmp_path / "turns")
    assert [example["response_spans"] for example in each] == [whole["response_spans"][:2], whole["response_spans"][2:]]
    assert each[1]["targets"] == whole["targets"]
    assert "1 conversations have no answer of an assistant: kept" in caplog.text
    assert "1 conversations have no answer of an assistant: left out" in caplog.text
    assert "without the BOS" not in caplog.text
    begins = chats.write_tokenizer(tmp_path / "begins", chats.CHATML, begin=True)
    run("--input", path, "--tokenizer", begins, "--output", tmp_path / "begun", "--validation", 0)
    assert "2 conversations are rendered without the BOS" in caplog.text
    assert "2 examples for train, " in caplog.text
    assert "1 empty" in caplog.text


def test_a_template_that_asks_for_the_date_keeps_that_of_the_first_run(tmp_path, monkeypatch):
    folder = chats.write_tokenizer(tmp_path / "tokenizer", "{{ strftime_now('%Y') }}" + chats.CHATML)
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": conversation("hello", str(number))} for number in range(4)])
    arguments = ("--input", path, "--tokenizer", folder, "--output", tmp_path / "out")

    class Day(datetime.date):
        year_now = 2031

        @classmethod
        def today(cls):
            return cls(cls.year_now, 5, 6)

    monkeypatch.setattr(cache_inputs.datetime, "date", Day)
    run(*arguments)
    before = contents(tmp_path / "out")
    opened = open_tokenizer(str(folder))
    assert opened.decode(examples(tmp_path / "out")[0]["targets"]).startswith("2031")
    Day.year_now = 2032
    run(*arguments)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --task"),
        (["--task", "a", "--input", "b"], "give either --task"),
        (["--task", "a", "--tokenizer", "b"], "--tokenizer is an option of --input"),
        (["--input", "b", "--splits", "train"], "--splits is an option of --task"),
        (["--input", "b"], "--input needs --tokenizer"),
        (["--input", "b", "--tokenizer", "t", "--name", "vocabularies"], "keeps its vocabularies there"),
        (["--input", "b", "--tokenizer", "t", "--name", "a/b"], "letters, digits"),
        (["--input", "b", "--tokenizer", "t", "--validation", "1"], "in \\[0, 1\\)"),
        (["--input", "b", "--tokenizer", "t", "--split", "x", "--validation", "0"], "leave out --validation"),
        (["--input", "b", "--tokenizer", "t"], "no file matches --input 'b'"),
    ],
    ids=["none", "both", "task", "input", "tokenizer", "vocabularies", "slash", "share", "split", "files"],
)
def test_command_lines_that_cannot_be(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run(*arguments, "--output", tmp_path / "out")


def test_files_without_records(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match="there is no record in these files"):
        run("--input", tmp_path / "a.jsonl", "--tokenizer", tokenizer, "--output", tmp_path / "out")
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(UserError, match="no record"):
        run("--input", tmp_path / "a.txt", "--tokenizer", tokenizer, "--output", tmp_path / "out")


def test_options_that_do_not_fit_the_columns(tmp_path, tokenizer):
    text = write_jsonl(tmp_path / "text.jsonl", [{"text": "hello"}])
    pair = write_jsonl(tmp_path / "pair.jsonl", [{"prompt": "hello", "completion": "world"}])
    chat = write_jsonl(tmp_path / "chat.jsonl", [{"messages": conversation("hello", "yes")}])
    for path, options, message in (
        (text, ["--each_turn"], "--each_turn: column text holds plain texts"),
        (text, ["--chat_template", "default"], "--chat_template default: column text holds plain texts"),
        (pair, ["--chat_template", "none", "--each_turn"], "there are no turns"),
        (chat, ["--chat_template", "none", "--skip_broken"], "messages, which need a chat template .*; give --chat_t"),
    ):
        with pytest.raises(UserError, match=message):
            run("--input", path, "--tokenizer", tokenizer, "--output", tmp_path / "out", *options)


def test_the_next_command_names_what_is_known():
    options = InputOptions(("a",), "t/tokenizer.json", "/c", name="mine")
    assert next_command(options).endswith(
        "finetune.gin --gin.INIT_FROM=\"'FOLDER'\" --gin.CACHE_DIR=\"'/c'\" --gin.MODEL_DIR=\"'MODEL_DIR'\" "
        "--gin.NAME=\"'mine'\""
    )
    assert next_command(options, ["train"]).endswith("'mine'\" --gin.TrainRun.evaluation=None")
    assert next_command(options, ["all"]).endswith(
        "--gin.train/DataConfig.split=\"'all'\" --gin.TrainRun.evaluation=None"
    )


def test_neither_seqio_nor_tensorflow_is_imported(tmp_path, tokenizer):
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": conversation("hello", "yes")}] * 2)
    program = (
        "import sys\nfrom beam_pipelines import cache_tasks\n"
        "code = cache_tasks.main(sys.argv[1:])\n"
        "assert not {'tensorflow', 'seqio', 'jax', 'torch'} & set(sys.modules), sorted(sys.modules)\nsys.exit(code)"
    )
    arguments = ["--input", path, "--tokenizer", tokenizer, "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "t5x_style train --gin_file=gin/runs/finetune.gin" in done.stderr
    assert len(examples(tmp_path / "out")) == 2
