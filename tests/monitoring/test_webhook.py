from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fraud_kedro.monitoring.webhook import announce


@pytest.fixture
def receiver():
    """A server that keeps what it is sent, and answers as it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.received.append((self.path, json.loads(body)))
            if server.holds:
                server.holds.wait(10)
            self.send_response(server.answers)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.received, server.answers, server.holds = [], 200, None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/hook/secret-token"
    yield server
    if server.holds:
        server.holds.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_event_is_posted_as_json(receiver, now):
    assert announce(receiver.url, {"retrain": True, "at": now})
    assert receiver.received == [("/hook/secret-token", {"retrain": True, "at": str(now)})]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_refusal_is_logged_without_the_secret_and_followed_nowhere(receiver, caplog, status):
    receiver.answers = status
    assert not announce(receiver.url, {"a": 1})
    assert f"The webhook at 127.0.0.1 answered {status}." in caplog.text
    assert "secret-token" not in caplog.text
    assert len(receiver.received) == 1


def test_a_receiver_that_hangs_is_given_up(receiver, caplog):
    receiver.holds = threading.Event()
    assert not announce(receiver.url, {"a": 1}, seconds=0.2)
    assert "took nothing" in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/secret-token", "file:///etc/secret-token", "secret-token", "http://[secret-token"],
)
def test_an_address_that_does_not_work_is_never_fatal(url, caplog):
    assert not announce(url, {"a": 1})
    assert caplog.text
    assert "secret-token" not in caplog.text


def test_without_an_address_nothing_is_said(caplog):
    assert not announce(None, {"a": 1})
    assert not announce("", {"a": 1})
    assert not caplog.text
