"""Downloads by name, from a local HTTP server that answers as the hub does."""

import hashlib
import http.server
import threading
import time

import numpy as np
import pytest

import keras_deit as kd

NAME = "deit_tiny_patch16_224"


class Hub(http.server.BaseHTTPRequestHandler):
    """The few answers of the Hugging Face hub that a download needs."""

    content, digest, requests, limit = b"", None, None, None

    def _head(self):
        first = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        type(self).requests.append((self.command, self.path, first))
        if self.path != f"/timm/{NAME}.fb_in1k/resolve/main/model.safetensors":
            self.send_error(404)
            return None
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{self.digest}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(self.content) - first))
        if first:
            total = len(self.content)
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        self.end_headers()
        return self.content[first:]

    def do_HEAD(self):
        self._head()

    def do_GET(self):
        content = self._head()
        if content is not None:
            self.wfile.write(content[: self.limit])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A model, and the content of its file on a hub."""
    model = kd.build(NAME)
    for i, variable in enumerate(model.variables):
        values = np.random.default_rng(i).normal(size=variable.shape, scale=0.05)
        variable.assign(values.astype("float32"))
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    kd.save_pretrained(model, path)
    return model, path.read_bytes()


@pytest.fixture
def hub(published):
    class Server(Hub):
        content, digest = published[1], hashlib.sha256(published[1]).hexdigest()

    Server.requests = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Server, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


PROGRAM = """
import sys, numpy as np, keras_deit as kd
try:
    model = kd.load("deit_tiny_patch16_224", cache_dir=sys.argv[1])
except kd.UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
print(repr(float(np.sum(model(np.ones((1, 224, 224, 3), "float32"))))))
"""


@pytest.fixture
def load(forks, tmp_path):
    """Loads the model by its name, in a separate process, whose cache is ``tmp_path``."""

    def run(endpoint, **variables):
        environ = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
        environ |= {"HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **variables}
        return forks.run(["-c", PROGRAM, str(tmp_path)], environ=environ)

    return run


def gets(server):
    """The first byte of each request for the file."""
    return [first for command, path, first in server.requests if command == "GET" and NAME in path]


@pytest.mark.slow
def test_a_name_is_downloaded_once(hub, published, load, tmp_path):
    server, endpoint = hub
    done = load(endpoint)
    expected = float(np.sum(published[0](np.ones((1, 224, 224, 3), "float32"))))
    assert float(done.stdout) == pytest.approx(expected, abs=1e-2), done.stderr

    server.requests.clear()
    assert load(endpoint).stdout == done.stdout
    assert not gets(server)
    assert load(endpoint, HF_HUB_OFFLINE="1").stdout == done.stdout

    (blob,) = (path for path in tmp_path.rglob("blobs/*") if path.is_file())
    content = bytearray(blob.read_bytes())
    content[-100] ^= 1
    blob.write_bytes(content)
    assert "is corrupt" in load(endpoint).stderr


@pytest.mark.slow
def test_an_interrupted_download_resumes(hub, load):
    server, endpoint = hub
    server.limit = 15_000_000  # then the connection ends
    assert load(endpoint).returncode == 0
    assert gets(server) == [0, 10 << 20]  # the second request is for the rest


@pytest.mark.slow
def test_a_file_in_the_cache_needs_no_network(hub, load):
    assert load(hub[1]).returncode == 0
    done = load("http://127.0.0.1:9")  # no server there
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("offline", ["1", "0"])
def test_an_unreachable_hub_is_one_line(offline, load):
    start = time.monotonic()
    done = load("http://127.0.0.1:9", HF_HUB_OFFLINE=offline)  # no server there
    assert time.monotonic() - start < 20
    assert done.returncode == 1
    assert "error: cannot get timm/deit_tiny_patch16_224.fb_in1k from the hub" in done.stderr
    assert "https://dl.fbaipublicfiles.com/deit/deit_tiny_patch16_224-a1311bcf.pth" in done.stderr
    assert done.stderr.count("\n") == 1
