"""Stores for tests: memory://, and s3:// on moto's server in a thread of this process."""

import logging

import pytest

from t5x_style.files import remote

BUCKET = "t5x-style-tests"


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3 server that lives as long as the tests."""
    moto_server = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def s3_bucket(s3_server):
    """s3://<bucket>, with credentials and the server's address in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3_server)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/nothing")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nothing")
        files = remote.filesystem("s3://")
        files.clear_instance_cache()
        files = remote.filesystem("s3://")
        if not files.exists(BUCKET):
            files.mkdir(BUCKET)
        yield f"s3://{BUCKET}"
        files.clear_instance_cache()


@pytest.fixture(params=["memory", "s3"])
def root(request, tmp_path):
    """The URL of an empty place."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    return f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A local cache of the test's own."""
    monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "local_cache"))
    return tmp_path / "local_cache"
