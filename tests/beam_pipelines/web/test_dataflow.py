"""Dataflow, offline: every graph of a recipe as it would be submitted, and what its workers would load."""

import argparse
import os
import pickle
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as proto
from apache_beam.portability.common_urns import environments as environment_urns
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.pipeline_utils import group_by_key_input_visitor
from apache_beam.transforms.environments import DockerEnvironment

from beam_pipelines.files import storage
from beam_pipelines.jobs import runners
from beam_pipelines.jobs.runners import Runner, split_arguments
from beam_pipelines.web import pipeline
from beam_pipelines.web.gin_names import NAMES
from beam_pipelines.web.recipe import CleanWeb
from t5x_style import config

IMAGE = "us-docker.pkg.dev/project/images/t5x_style:1"
CLUSTER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"  # by this name it is any other runner to us
OPTIONS = (
    "--project=project --region=us-east4 --temp_location=gs://bucket/temporary --staging_location=gs://bucket/staging "
    f"--sdk_container_image={IMAGE} --experiments=use_runner_v2 --machine_type=n2-standard-4 --disk_size_gb=50 "
    "--number_of_worker_harness_threads=1 --max_num_workers=100 --autoscaling_algorithm=THROUGHPUT_BASED "
    "--dataflow_service_options=enable_prime --service_account_email=a@b.c --no_use_public_ips "
    "--worker_zone=us-east4-a --labels=run=test"
).split()


class Submitter(Runner):
    """Does to every graph what Beam's Dataflow runner does before it submits it, then runs it here."""

    def __init__(self):
        super().__init__(CLUSTER)
        self.graphs: list[proto.Pipeline] = []
        self.functions: list[bytes] = []

    def execute(self, graph: beam.Pipeline) -> str:
        graph.visit(DataflowRunner.combinefn_visitor())
        graph.visit(DataflowRunner.side_input_visitor())
        graph.visit(group_by_key_input_visitor())
        self.graphs.append(graph.to_runner_api(default_environment=DockerEnvironment.from_container_image(IMAGE)))
        self.functions += [path.read_bytes() for path in self.output.rglob("*.function")]
        return super().execute(graph)


@pytest.fixture(scope="module")
def submitted(crawl, tmp_path_factory, runs) -> Submitter:
    """All jobs of the quickstart's recipe, its stages made by gin as the command makes them."""
    bindings = [argument.removeprefix("--gin.") for argument in runs.arguments(crawl, Path()) if "--gin." in argument]
    recipe = config.load(CleanWeb, ["gin/web/quickstart.gin"], bindings, NAMES).root
    submitter = Submitter()
    submitter.output = tmp_path_factory.mktemp("dataflow")
    with submitter as runner:
        pipeline.clean(recipe, storage.expand([str(crawl / "*.warc.gz")]), str(submitter.output), runner)
    return submitter


def test_the_outputs_are_those_of_every_runner(submitted, cleaned, runs):
    assert runs.contents(submitted.output) == runs.contents(cleaned)


def test_every_step_runs_in_the_container(submitted):
    assert len(submitted.graphs) >= 5
    for graph in submitted.graphs:
        (environment,) = graph.components.environments.values()
        assert environment.urn == environment_urns.DOCKER.urn
        assert proto.DockerPayload.FromString(environment.payload).container_image == IMAGE
        assert not environment.dependencies  # all is in the image: workers install nothing


def test_graphs_are_small(submitted):
    """Nothing of the driver's data: names of files only; a graph of 90,000 inputs is as small (test_units_cluster)."""
    for graph in submitted.graphs:
        assert len(graph.SerializeToString()) < 40_000


LOADER = """
import pickle, sys
from apache_beam.internal import pickler
payloads, functions = pickle.load(open(sys.argv[1], "rb"))
for payload in payloads:
    pickler.loads(payload)
for function in functions:
    print(type(pickle.loads(function)).__name__)
driver = {"gin", "beam_pipelines.clean_web", "beam_pipelines.web.pipeline", "beam_pipelines.web.recipe", "jax"}
print("driver modules:", sorted(driver.intersection(sys.modules)))
"""


def payloads(graph: proto.Pipeline) -> list[bytes]:
    """The pickled functions of a graph."""
    found = []
    for transform in graph.components.transforms.values():
        if transform.spec.urn == "beam:transform:pardo:v1":
            function = proto.ParDoPayload.FromString(transform.spec.payload).do_fn
            if function.urn == "beam:dofn:pickled_python_info:v1":
                found.append(function.payload)
    return found


def test_workers_load_every_function_without_the_drivers_modules(submitted, tmp_path):
    """A fresh interpreter elsewhere: no __main__ of ours, so --save_main_session is not needed."""
    every = [payload for graph in submitted.graphs for payload in payloads(graph)]
    assert len(every) > 2 * len(submitted.graphs)
    path = tmp_path / "functions.pickle"
    path.write_bytes(pickle.dumps((every, submitted.functions)))
    loaded = subprocess.run(
        [sys.executable, "-c", LOADER, str(path)],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert loaded.returncode == 0, loaded.stderr
    *names, driver = loaded.stdout.splitlines()
    assert {"MapUnit", "CountFiles"} <= set(names)
    assert len(names) == len(submitted.functions)
    assert driver == "driver modules: []"


def test_the_documented_options_are_beams():
    parser = argparse.ArgumentParser(prog="clean_web", allow_abbrev=False)
    runners.add_arguments(parser)
    own, beams = split_arguments(parser, ["--runner", "DataflowRunner", *OPTIONS])
    assert own == ["--runner", "DataflowRunner"]
    assert beams == OPTIONS


def test_the_page_about_dataflow_has_only_options_that_exist():
    """Every --option of docs/web_dataflow.md is ours, gin's or among those that Beam's parser just took."""
    import re

    page = (Path(__file__).parents[3] / "docs" / "web_dataflow.md").read_text()
    known = {option.partition("=")[0] for option in OPTIONS} | {"--experiments", "--runner", "--workers"}
    known |= {
        "--input",
        "--input_paths",
        "--input_prefix",
        "--input_slice",
        "--output",
        "--gin_file",
        "--save_main_session",
    }
    of_tools = {"--file", "--tag", "--dask_client_address"}
    assert set(re.findall(r"--[a-z][a-z_-]+", page)) - known - of_tools - {"--gin"} == set()
