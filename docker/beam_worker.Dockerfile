# The image of Beam workers (docs/web_dataflow.md): everything is in it, so workers install nothing when they start.
#
#     docker build --file docker/beam_worker.Dockerfile --tag us-docker.pkg.dev/PROJECT/images/t5x_style:1 .
#
# Python and Beam are those of the driver's environment.
FROM python:3.11-slim
COPY --from=apache/beam_python3.11_sdk:2.77.0 /opt/apache/beam /opt/apache/beam
WORKDIR /opt/t5x_style
COPY requirements.lock ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
# Beam's Google Cloud client, and nothing that was locked in another version. s3fs is locked.
RUN pip freeze > /tmp/locked.txt && pip install --no-cache-dir -c /tmp/locked.txt 'apache-beam[gcp]==2.77.0'
COPY setup.py pyproject.toml README.md LICENSE ./
COPY t5x_style t5x_style
COPY tasks tasks
COPY beam_pipelines beam_pipelines
COPY gin gin
RUN pip install --no-cache-dir --no-deps .
# Blocklists, classifiers and language models that a recipe names by a local path: COPY them here, to that path.
ENTRYPOINT ["/opt/apache/beam/boot"]
