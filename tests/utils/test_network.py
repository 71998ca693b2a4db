"""A server that does not answer is known in seconds. The servers here are of this machine."""

import http.server
import socket
import threading
import time

import pytest

from keras_deit.utils import network


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


def test_any_answer_is_one():
    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    network.check_reachable(f"http://127.0.0.1:{server.server_port}/no/such/file")
    server.shutdown()
    server.server_close()


def test_nothing_is_checked_of_other_addresses():
    network.check_reachable("gs://tfds-data/datasets")


@pytest.mark.slow
@pytest.mark.parametrize("backlog", [None, 5])
def test_no_answer_is_an_error_within_seconds(backlog):
    """Of a port without a server, and of one whose server accepts connections and is silent."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if backlog:
            server.listen(backlog)
        host = f"127.0.0.1:{server.getsockname()[1]}"

        start = time.monotonic()
        reason = "no answer in 8 seconds" if backlog else "Connection refused"
        with pytest.raises(OSError, match=f"^no connection to {host}: .*{reason}"):
            network.check_reachable(f"http://{host}/file")
        assert time.monotonic() - start < network.SECONDS + 1
