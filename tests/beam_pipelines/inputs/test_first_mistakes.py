"""What new users of cache_tasks --input get wrong: nothing to learn, another cache's files, a template that fails."""

import argparse
import json
import shlex

import pytest

from beam_pipelines import cache_tasks
from t5x_style import config
from t5x_style.data.manifest import read_manifest
from t5x_style.errors import UserError
from t5x_style.training.run import TrainRun
from tests import chats
from tests.beam_pipelines.inputs.test_cache_inputs import conversation, write_jsonl


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return chats.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "chatml", chats.CHATML)


def cached(path, tokenizer, *options, output=None):
    output = output or path.parent / "out"
    arguments = ["--input", path, "--tokenizer", tokenizer, "--output", output, *options]
    cache_tasks.run([str(argument) for argument in arguments])
    return output


def refused(path, *arguments, **keywords):
    with pytest.raises(UserError) as error:
        cached(path, *arguments, **keywords)
    assert "\n" not in str(error.value)
    assert not list(path.parent.glob("out/data/*/manifest.json"))
    return str(error.value)


def misspelt(number):
    return {"messages": [{"role": "user", "content": f"hello {number}"}, {"role": "assistent", "content": "yes"}]}


def test_a_misspelt_role(tmp_path, tokenizer, caplog):
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [misspelt(number) for number in range(3)])
    for options in ([], [], ["--each_turn"]):  # a rerun, which has nothing to do, too
        message = refused(path, tokenizer, *options)
        assert "none of the 3 conversations has a message of the role 'assistant'" in message
        assert "(roles seen: assistent 3, user 3); write 'assistant' for 'assistent'" in message
    write_jsonl(path, [misspelt(0), misspelt(1), {"messages": conversation("hello", "yes")}])
    assert read_manifest(cached(path, tokenizer, "--validation", 0), "data", "train").examples == 3
    assert "messages of unknown roles (misspelt?): assistent 2; only what the assistant says" in caplog.text
    assert "2 conversations have no answer of an assistant: kept" in caplog.text


@pytest.mark.parametrize("options", [[], ["--chat_template", "none"]], ids=["template", "plain"])
def test_completions_without_text(tmp_path, tokenizer, caplog, options):
    path = tmp_path / "a.jsonl"
    empty = [{"prompt": f"hello {number}", "completion": ""} for number in range(3)]
    write_jsonl(path, empty)
    message = refused(path, tokenizer, *options)
    assert "the completions of all 3 records are empty, there is nothing to learn; fill column 'completion'" in message
    write_jsonl(path, [*empty, {"prompt": "hello", "completion": "yes"}])
    assert read_manifest(cached(path, tokenizer, *options, "--validation", 0), "data", "train").examples == 4
    assert "3 records have empty answers only" in caplog.text


def test_answers_without_text(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"messages": conversation("hello", " ")}, {"messages": conversation("hello", "")[:1]}])
    assert "none of the 2 conversations has an answer with text" in refused(path, tokenizer)


def test_other_files_do_not_replace_a_cache(tmp_path, tokenizer):
    for name in ("one", "other"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {number}"} for number in range(len(name))])
    output = cached(tmp_path / "one.jsonl", tokenizer)
    before = read_manifest(output, "data", "train")
    with pytest.raises(UserError) as error:
        cached(tmp_path / "other.jsonl", tokenizer)
    message = str(error.value)
    assert f"{output}/data holds the cache of {tmp_path}/one.jsonl, and none of its files is among" in message
    assert f"{tmp_path}/other.jsonl: give --name OTHER or another --output" in message
    assert f"delete {output}/data and {output}/.cache_inputs/data)" in message
    assert read_manifest(output, "data", "train") == before
    cached(tmp_path / "other.jsonl", tokenizer, "--name", "other")
    assert len(read_manifest(cached(tmp_path / "o*.jsonl", tokenizer), "data", "train").shards) > 0  # one more file
    (tmp_path / "one.jsonl").unlink()
    cached(tmp_path / "o*.jsonl", tokenizer)  # the same glob
    (tmp_path / "moved").mkdir()
    (tmp_path / "other.jsonl").rename(tmp_path / "moved/other.jsonl")
    cached(tmp_path / "moved/*.jsonl", tokenizer, output=output)  # the same file elsewhere


def test_a_template_that_fails_on_everything(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"messages": conversation("hello", str(number))} for number in range(3)])
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0]['nokey']['x'] }}")
    message = refused(path, tokenizer, "--chat_template", template, "--validation", 0)
    assert message.startswith(f"--chat_template {template}: the chat template fails on the first record and on any")
    assert "UndefinedError: 'dict object' has no attribute 'nokey'); mend the template" in message
    assert "--skip_broken" not in message
    # One that needs what the records have, and one that refuses on purpose, are no faulty templates.
    named = [{"role": "user", "content": "hello", "nokey": {"x": "a"}}, *conversation("hello", "yes")[1:]]
    write_jsonl(path, [{"messages": named}, {"messages": conversation("hello", "yes")}])
    assert "line 2: the chat template fails on it (UndefinedError" in refused(
        path, tokenizer, "--chat_template", template, "--validation", 0
    )
    template.write_text("{{ raise_exception('a system message comes first') }}")
    assert "line 1: the chat template refuses it: a system message comes first; mend it, or leave" in refused(
        path, tokenizer, "--chat_template", template, "--validation", 0
    )


def test_all_records_broken(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"text": 1}, {"text": None}])
    assert refused(path, tokenizer, "--skip_broken").startswith(
        f"{path}, line 1: column 'text' is a number where a text or a list of messages is needed (and so are all other"
    )
    bad = {"messages": [{"role": "user"}]}
    path.write_text(f"{json.dumps(bad)}\n\n{json.dumps(bad)}\n")
    message = refused(path, tokenizer, "--skip_broken")
    assert "all 2 records are broken (and 1 are empty), --skip_broken leaves none; the first: " in message
    assert "line 1: message 0 of 'messages' has no content; it has role" in message
    write_jsonl(path, [{"text": None}, {"text": "hello"}])
    assert read_manifest(cached(path, tokenizer, "--skip_broken"), "data", "train").examples == 1


def test_the_next_command_of_a_cache_without_validation(tmp_path, tokenizer, caplog):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "hello"}])
    with caplog.at_level("INFO"):
        cached(tmp_path / "a.jsonl", tokenizer)
        cached(tmp_path / "a.jsonl", tokenizer, "--split", "all", "--name", "whole")
    for command, split in zip([line for line in caplog.messages if line.startswith("next: ")], ("train", "all")):
        parser = argparse.ArgumentParser()
        config.add_arguments(parser)
        arguments, bindings = config.parse_arguments(parser, shlex.split(command)[3:])
        run = config.load(TrainRun, arguments.gin_file, bindings).root
        assert (run.evaluation, run.data.split) == (None, split)
