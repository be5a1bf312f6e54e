import json
import re
import shlex
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.build_examples import MANIFEST, QUESTIONS, Limits, build, main
from beam_pipelines.examples import candidates, methods
from beam_pipelines.examples.baselines import baselines, first_sentence
from beam_pipelines.examples.candidates import Candidate
from beam_pipelines.examples.pages import ObjectPage
from beam_pipelines.examples.selection import balanced_splits, choose_labels, well_posed
from tasks.splits import SPLITS, split_of

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "tasks.md"
VERBS = ("Compute", "Return", "Draw", "Open", "Parse", "Merge", "Rotate", "Store")
NOUNS = ("matrix", "figure", "socket", "glyph", "archive", "series", "lexer", "array")
PACKAGES = ("alpha", "beta", "gamma", "delta")


def page(number):
    """Text and meta of a made-up object page; every third one is a class."""
    verb, noun = VERBS[number % 8], NOUNS[number // 8 % 8]
    package, name = PACKAGES[number % 4], f"Thing{number}"
    module = f"{package}.part{number % 5}"
    summary = f"{verb} the {noun} number {number} of the collection."
    body = (
        f"The collection holds each {noun} once; to {verb.lower()} number {number} of them costs as much as the others "
        "do, since the position is known in advance and nothing has to be searched for."
    )
    meta = {"object": f"{module}.{name}", "package": package, "module": module, "summary": summary}
    if number % 3 == 0:
        listed = [f"step_{number % 7}_{letter}" for letter in "abc"]
        listing = "\n".join(f"def {method}(self, value)\nDoes {method[-1]}." for method in listed)
        text = f"class {name}\n\n{summary}\n\n{body}\n\nMethods\n\n{listing}"
        meta |= {"kind": "class", "methods": ",".join(["__init__", *listed])}
    else:
        arguments = [f"left_{number % 11}", f"right_{number % 13}"]
        section = "\n".join(f"{argument} : int\nThe operand." for argument in arguments)
        text = f"def {name}({', '.join(arguments)})\n\n{summary}\n\n{body}\n\nParameters\n\n{section}\n\nReturns\n\nint"
        meta |= {"kind": "function", "arguments": ",".join(arguments)}
    text = f"{package} › {module}\n{meta['object']}\n{text}"
    metadata = json.dumps({"title": meta["object"], "meta": meta, "file": "f", "offset": number})
    return {"id": f"{number:032x}", "text": text, "metadata": metadata}


def write_documents(folder, rows, files=2):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(files):
        pq.write_table(pa.Table.from_pylist(rows[index::files]), folder / f"part-{index}.parquet")
    return str(folder / "*.parquet")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(folder with web/documents and examples, what build returned)."""
    folder = tmp_path_factory.mktemp("data")
    rows = [page(number) for number in range(900)]
    rows.append(
        {"id": "f" * 32, "text": "A page of another kind.", "metadata": json.dumps({"meta": {"kind": "module"}})}
    )
    documents = write_documents(folder / "web" / "documents", rows)
    return folder, build(documents, str(folder / "examples"), Limits(train=200, evaluation=20, package_examples=30))


def rows_of(folder, task, split):
    files = sorted((folder / "examples" / task).glob(f"{split}-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.task)
def test_counts_splits_and_balance(built, question):
    folder, report = built
    entry = report["tasks"][question.task]
    kept = 0
    for split in SPLITS:
        rows = rows_of(folder, question.task, split)
        part = entry["splits"][split]
        assert len(rows) == part["examples"] > 0
        assert len(rows) <= (200 if split == "train" else 20)
        assert {split_of(row["object"]) for row in rows} == {split}
        if entry["options"]:
            labels = Counter(row["answer"] for row in rows)
            assert part["labels"] == labels
            assert set(labels) == set(entry["options"])
            assert len(set(labels.values())) == 1, "labels are not balanced"
            assert part["baselines"] == {"majority_accuracy": pytest.approx(1 / len(labels))}
            assert all(row["options"] == entry["options"] for row in rows)
        kept += len(rows)
    selection = ("same", "to balance", "over the cap", "label not")
    dropped_candidates = sum(n for reason, n in entry["dropped"].items() if reason.startswith(selection))
    assert entry["candidates"] == kept + dropped_candidates


def test_pages_add_up(built):
    _, report = built
    documents = report["documents"]
    assert documents == {"read": 901, "object pages": 900, "dropped": {"not an object page": 1}}
    for name in ("documentation_package", "documentation_kind", "documentation_summary", "documentation_arguments"):
        entry = report["tasks"][name]
        from_pages = {
            reason: n
            for reason, n in entry["dropped"].items()
            if not re.match("same|to bal|over the cap|label", reason)
        }
        assert entry["candidates"] + sum(from_pages.values()) == 900


def test_ids_are_unique_and_objects_stay_in_their_split(built):
    folder, report = built
    for task in report["tasks"]:
        seen = defaultdict(set)
        for split in SPLITS:
            for row in rows_of(folder, task, split):
                assert row["id"] not in seen["ids"]
                seen["ids"].add(row["id"])
                seen[split].add(row["object"])
        assert not seen["train"] & (seen["validation"] | seen["test"])


def test_answers_are_hidden_where_they_must_be(built):
    folder, _ = built
    for split in SPLITS:
        for row in rows_of(folder, "documentation_package", split):
            assert row["answer"] not in row["docstring"].lower()
        for row in rows_of(folder, "documentation_kind", split):
            assert not re.search(r"\b(class|function|def)\b", row["docstring"])
        for row in rows_of(folder, "documentation_summary", split):
            assert row["answer"] not in row["body"]
        for row in rows_of(folder, "documentation_arguments", split):
            assert "def " not in row["docstring"]
            assert all(name in row["docstring"] for name in row["answer"].split(", "))
        for row in rows_of(folder, "documentation_method", split):
            assert (f"def {row['method']}(" in row["page"]) == (row["answer"] == "yes")
            assert (row["method"] in row["page"]) == (row["answer"] == "yes")


def test_method_names_tell_nothing(built):
    """Every page has as many yes as no, and the foreign methods are drawn from the listed ones."""
    folder, _ = built
    rows = rows_of(folder, "documentation_method", "train")
    asked = {answer: Counter(row["method"] for row in rows if row["answer"] == answer) for answer in ("yes", "no")}
    assert len(set(asked["yes"]) & set(asked["no"])) > 0.8 * len(asked["no"])


def test_same_documents_same_bytes(built, tmp_path):
    folder, report = built
    again = build(str(folder / "web" / "documents" / "*.parquet"), str(tmp_path / "e"), Limits(200, 20, 8, 30))
    assert again == report
    for file in (folder / "examples").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "e" / file.relative_to(folder / "examples")).read_bytes()
    assert not list((tmp_path / "e").rglob("*.tmp"))


def test_rerun_skips_and_another_configuration_is_refused(built, capsys):
    folder, report = built
    documents, output = str(folder / "web" / "documents" / "*.parquet"), str(folder / "examples")
    before = {file: file.stat().st_mtime_ns for file in (folder / "examples").rglob("*.*")}
    assert build(documents, output, Limits(200, 20, 8, 30)) == report
    assert {file: file.stat().st_mtime_ns for file in (folder / "examples").rglob("*.*")} == before
    assert main(["--documents", documents, "--output", output, "--train", "7"]) == 2
    assert "was made with other documents or limits" in capsys.readouterr().err


def test_an_interrupted_run_continues(built, tmp_path):
    folder, report = built
    (tmp_path / "e" / "documentation_kind").mkdir(parents=True)
    (tmp_path / "e" / "documentation_kind" / "train-00000-of-00001.parquet").write_bytes(b"half")
    documents = str(folder / "web" / "documents" / "*.parquet")
    assert build(documents, str(tmp_path / "e"), Limits(200, 20, 8, 30)) == report
    assert json.loads((tmp_path / "e" / MANIFEST).read_text())["tasks"] == report["tasks"]
    left = pq.read_table(tmp_path / "e" / "documentation_kind" / "train-00000-of-00001.parquet").num_rows
    assert left == report["tasks"]["documentation_kind"]["splits"]["train"]["examples"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--documents", "/nonexistent/*.parquet", "--output", "e"], "no file matches"),
        (["--documents", "bad.parquet", "--output", "e"], "not a documents file"),
        (["--documents", "bad.parquet", "--output", "e", "--train", "0"], "limits must be positive"),
        (["--documents", "few.parquet", "--output", "e"], "fewer than two packages"),
        (["--documents", "few.parquet", "--output", "bad.parquet/x"], "cannot be written"),
    ],
)
def test_user_errors(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"no")
    pq.write_table(pa.Table.from_pylist([page(1), page(2)]), tmp_path / "few.parquet")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_documented_command_runs(built, tmp_path):
    folder, _ = built
    (line,) = re.findall(
        r"^    python -m beam_pipelines\.build_examples (.*)$", DOCUMENTATION.read_text(), re.MULTILINE
    )
    (tmp_path / "web").symlink_to(folder / "web")
    arguments = shlex.split(line.replace("DIR", str(tmp_path)))
    assert main([*arguments, "--package_examples", "30"]) == 0
    assert (tmp_path / "examples" / MANIFEST).exists()


def test_the_command_does_not_load_tensorflow():
    program = (
        "import sys, beam_pipelines.build_examples as b; assert not {'tensorflow', 'seqio', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def object_page(**changes):
    values = {
        "name": "m.f",
        "key": "m.f",
        "kind": "function",
        "package": "numpy",
        "arguments": ("x", "y"),
        "methods": (),
        "summary": "Sum of the elements.",
        "docstring": "Sum of the elements.",
        "listing": "",
        **changes,
    }
    return ObjectPage(body=values["docstring"].removeprefix(values["summary"]), **values)


LONG = "Sum of the elements. " + "The sum runs over all elements of the given axis and keeps its type. " * 3


@pytest.mark.parametrize(
    ("docstring", "outcome"),
    [
        ("Short.", "docstring too short"),
        (LONG + " See numpy.add.", "docstring names its package"),
        (LONG + " See NumPy.", "docstring names its package"),
        (LONG + " >>> np.sum(x)", "docstring names its package"),
        (LONG + " numpy_like", "docstring names its package"),
        (LONG + " npy files, numpyro", None),
        ("x" * 690 + " then " + "numpy " * 9, None),  # the name stands behind the cut
    ],
)
def test_package_leaks(docstring, outcome):
    found = candidates.package(object_page(docstring=docstring))
    if outcome:
        assert found == outcome
    else:
        assert found.answer == "numpy"
        assert len(found.fields["docstring"]) <= 700


def test_kind_leaks():
    assert candidates.kind(object_page(docstring=LONG + "This function is slow.")).startswith("docstring says")
    assert candidates.kind(object_page(docstring=LONG + "See :class:`x`.")).startswith("docstring says")
    assert candidates.kind(object_page(docstring=LONG + "Classical functional method.")).answer == "function"


@pytest.mark.parametrize(
    ("docstring", "summary", "outcome"),
    [
        (LONG, "Sum of the elements.", None),
        ("Sum over all elements\n\n" + LONG, "Sum over all elements", None),
        ("Sum of the elements and more. " + LONG, "Sum of the elements", "first line is not a whole sentence"),
        ("sum(x, axis) of it.\n\n" + LONG, "sum(x, axis) of it.", "first line is not prose"),
        ("Sum it.\n\n" + LONG, "Sum it.", "summary is not 4 to 25 words"),
        ("Sum of the elements.\n\nShort.", "Sum of the elements.", "body too short"),
        (LONG + "The sum of the elements is it.", "Sum of the elements.", "body repeats the summary"),
        ("Draw a figure with lines.\n\n" + LONG, "Draw a figure with lines.", "body does not support the summary"),
    ],
)
def test_summary_is_well_posed(docstring, summary, outcome):
    found = candidates.summary(object_page(docstring=docstring, summary=summary))
    if outcome:
        assert found == outcome
    else:
        assert found.answer == summary
        assert not found.fields["body"].startswith(summary)


@pytest.mark.parametrize(
    ("section", "outcome"),
    [
        ("Args\n\nx: left.\ny: right.", None),
        ("Nothing here.", "no argument section"),
        ("Args\n\nx: left.\nz: not in the signature.", "describes a name that the signature lacks"),
        ("Args\n\nx: left. y: right.", "entries run together"),
        ("Args\n\nx: left. y (int, optional): right.", "entries run together"),
        ("Args\n\n%(x)s\ny: right.", "argument section has unfilled placeholders"),
        ("Args\n\nx: left " + "and more words " * 60 + "\ny: right.", "argument section is cut"),
    ],
)
def test_arguments_are_well_posed(section, outcome):
    found = candidates.arguments(object_page(docstring=f"Sum of the elements.\n\n{section}\n\nReturns\n\nz: it."))
    assert found == outcome if outcome else found.answer == "x, y"


def test_a_page_that_mentions_every_foreign_method_gives_no_question():
    first = object_page(
        name="m.A", key="m.A", kind="class", methods=("go", "run"), listing="def go(self)\ndef run(self)"
    )
    second = object_page(
        name="m.B", key="m.A", kind="class", methods=("go", "run"), listing="def go(self)\ndef run(self)"
    )
    found, dropped = methods.candidates([first, second, object_page()])
    assert found == []
    assert dropped == {"not a class": 1, "no foreign method fits": 4}


def candidate(identifier, content, answer, label=None):
    return Candidate(identifier, identifier, identifier, content, {"x": content}, answer, label or answer)


def test_duplicates():
    """Two equal ones: one stays. Same content with two answers: none. White space and case do not count."""
    kept, dropped = well_posed(
        [
            candidate("b", "same text", "x"),
            candidate("a", "Same  text\n", "x"),
            candidate("c", "other", "x"),
            candidate("d", "other", "y"),
            candidate("e", "alone", "y"),
            candidate("e", "alone too", "y"),
        ]
    )
    assert [each.id for each in kept] == ["a", "e"]
    assert dropped == {"same content": 1, "same content, different answers": 2, "same object": 1}


def test_labels_are_chosen_for_the_most_balanced_examples():
    """Training counts 100, 90, 80, 10: three labels give 240, four give 40, two 180."""
    names = iter(name for name in (f"m.o{number}" for number in range(2000)) if split_of(name) == "train")
    pool = [
        candidate(next(names), "c", label)
        for label, n in (("d", 10), ("a", 100), ("c", 80), ("b", 90))
        for _ in range(n)
    ]
    assert choose_labels(pool, minimum=5, most=8, cap=1000) == ("a", "b", "c")
    assert choose_labels(pool, minimum=5, most=2, cap=1000) == ("a", "b")
    assert choose_labels(pool, minimum=5, most=8, cap=40) == ("a", "b", "c", "d")
    assert choose_labels(pool, minimum=95, most=8, cap=1000) == ()


def test_balancing_does_not_depend_on_the_order_of_candidates():
    pool = [candidate(f"m.o{number}", str(number), "yes" if number % 3 else "no") for number in range(600)]
    caps = {"train": 100, "validation": 1000, "test": 1}
    splits, dropped = balanced_splits(pool, caps, ("yes", "no"))
    again, _ = balanced_splits(pool[::-1], caps, ("yes", "no"))
    assert splits == again
    assert Counter(each.label for each in splits["train"]) == {"yes": 50, "no": 50}
    counts = Counter(each.label for each in splits["validation"])
    assert counts["yes"] == counts["no"] > 0
    assert splits["test"] == []  # one example cannot be balanced over two labels
    assert sum(map(len, splits.values())) + sum(dropped.values()) == 600


def test_baselines():
    train = [candidate("a", "", "x, y"), candidate("b", "", "x, y"), candidate("c", "", "z")]
    assert baselines("documentation_arguments", train, [candidate("d", "", "y, w"), candidate("e", "", "x, y")]) == {
        "majority_set_f1": 0.75,
        "majority_set_exact": 0.5,
    }
    assert baselines("documentation_kind", train, []) == {}
    lead = Candidate("a", "a", "a", "", {"body": "One two. Three."}, "One two four", "")
    assert baselines("documentation_summary", [lead], [lead])["lead_rouge1"] == pytest.approx(0.8)


def test_first_sentence():
    assert first_sentence("A b. C") == "A b."
    assert first_sentence("  A\nb\n\nC d.") == "A b"
    assert first_sentence("") == ""
