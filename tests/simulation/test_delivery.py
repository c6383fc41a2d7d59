from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from fraud_kedro.prediction_log import open_for_reading
from fraud_kedro.simulation.delivery import DeliveryError, JsonLines, Service
from fraud_kedro.simulation.events import LabelEvent, StreamOptions, TransactionEvent, stream
from fraud_kedro.simulation.label_delay import ConstantDelay
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.stream import deliver, main

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PROJECT = Path(__file__).parents[2]


def transaction(number: int) -> TransactionEvent:
    return TransactionEvent(f"t-{number}", NOON, {"Time": 43_200.0, "Amount": float(number)})


def label(number: int, value: int = 1) -> LabelEvent:
    return LabelEvent(f"t-{number}", NOON, value)


class Endpoint:
    """An HTTP server that remembers what it was sent and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.connections = 0
        self.answers: dict[str, tuple[int, str]] = {}
        self.keep_alive = True
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                endpoint.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.requests.append((self.path, json.loads(body)))
                status, text = endpoint.answers.get(self.path, (200, "{}"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())
                # Closed without a word, as servers do with idle connections.
                self.close_connection = not endpoint.keep_alive

            def log_message(self, *details: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def connect(endpoint: Endpoint) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def service(url: str = endpoint.url, **options: Any) -> Service:
        made.append(Service(url, **options))
        return made[-1]

    yield service
    for one in made:
        one.close()


def test_lines_of_json_hold_the_events() -> None:
    file = io.StringIO()
    lines = JsonLines(file)
    lines.write(transaction(3))
    lines.write(label(3))
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [
        {
            "type": "transaction",
            "transaction_id": "t-3",
            "event_time": "2026-01-01T12:00:00Z",
            "features": {"Time": 43_200.0, "Amount": 3.0},
        },
        {"type": "label", "transaction_id": "t-3", "event_time": "2026-01-01T12:00:00Z", "label": 1},
    ]


def test_single_transactions_go_to_predict_at_once_and_labels_to_feedback(
    endpoint: Endpoint, connect: Callable[..., Service]
) -> None:
    service = connect(f"{endpoint.url}/")
    for event in (transaction(1), label(1), transaction(2)):
        service.write(event)
    assert endpoint.requests == [
        ("/predict", {"Time": 43_200.0, "Amount": 1.0, "transaction_id": "t-1"}),
        ("/feedback", {"labels": [{"transaction_id": "t-1", "label": 1}]}),
        ("/predict", {"Time": 43_200.0, "Amount": 2.0, "transaction_id": "t-2"}),
    ]
    assert endpoint.connections == 1


def test_a_batch_is_sent_when_it_is_full_and_labels_come_after_their_transactions(
    endpoint: Endpoint, connect: Callable[..., Service]
) -> None:
    service = connect(batch=3)
    for event in (transaction(1), label(1), transaction(2), label(2, 0)):
        service.write(event)
    assert endpoint.requests == []
    service.write(transaction(3))
    service.write(transaction(4))
    service.flush()
    service.flush()
    paths = [path for path, _ in endpoint.requests]
    assert paths == ["/predict/batch", "/feedback", "/predict/batch"]
    sent = [[row["transaction_id"] for row in endpoint.requests[i][1]["transactions"]] for i in (0, 2)]
    assert sent == [["t-1", "t-2", "t-3"], ["t-4"]]
    assert endpoint.requests[1][1]["labels"][1] == {"transaction_id": "t-2", "label": 0}


def test_a_connection_that_the_server_has_closed_is_opened_again(
    endpoint: Endpoint, connect: Callable[..., Service]
) -> None:
    endpoint.keep_alive = False
    service = connect()
    for number in range(3):
        service.write(transaction(number))
    assert [body["transaction_id"] for _, body in endpoint.requests] == ["t-0", "t-1", "t-2"]


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        ("/feedback", (404, "no"), r"/feedback answers 404: .* no such route; `--labels none` streams"),
        ("/predict", (404, "no"), r"/predict answers 404: the service there has no such route\.$"),
        ("/predict", (422, '{"detail":\n "V3 is required"}'), r'/predict answers 422: .*"V3 is required"'),
        ("/predict", (503, "x" * 1_000), r"answers 503: x{300} \.\.\.$"),
        ("/predict", (302, ""), "answers 302"),
        ("/predict", (200, "<html>"), "what is no JSON: is it the service"),
    ],
)
def test_an_answer_that_is_not_success_is_one_line(
    endpoint: Endpoint, connect: Callable[..., Service], path: str, answer: tuple[int, str], message: str
) -> None:
    endpoint.answers[path] = answer
    service = connect()
    events = [label(1) if path == "/feedback" else transaction(1)]
    with pytest.raises(DeliveryError, match=message) as error:
        deliver(events, service)
    assert "\n" not in str(error.value)


def test_a_batch_with_refused_rows_is_an_error_that_shows_the_first(
    endpoint: Endpoint, connect: Callable[..., Service]
) -> None:
    refused = {"predictions": [], "errors": [{"row": 1, "detail": [{"msg": "is not a field"}]}]}
    endpoint.answers["/predict/batch"] = (200, json.dumps(refused))
    service = connect(batch=2)
    service.write(transaction(1))
    with pytest.raises(DeliveryError, match=r"refused 1 of 2 transactions; the first: .*is not a field"):
        service.write(transaction(2))


def test_no_service_is_an_error_with_the_way_out() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(DeliveryError, match=r"No service answers at .*refused.*`bentoml serve`"):
        Service(url).write(transaction(1))


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://h/?a=1"]
)
def test_what_is_no_url_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(DeliveryError, match=r"is no URL|should be the URL of a service"):
        Service(url)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(DeliveryError, match="should hold 1 or more"):
        Service("http://127.0.0.1:8000", batch=0)


def test_the_command_posts_every_transaction_and_label_once(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--rows", "90", "--fraud-rate", "0.1", "--post", endpoint.url, "--batch", "20"])
    assert "90 of 90 transactions and 9 labels" in capsys.readouterr().err
    sent = [
        row for path, body in endpoint.requests if path == "/predict/batch" for row in body["transactions"]
    ]
    assert [row["transaction_id"] for row in sent] == [f"sim-0-{row:09}" for row in range(90)]
    assert len(sent[0]) == 31
    reported = [one for path, body in endpoint.requests if path == "/feedback" for one in body["labels"]]
    assert len({one["transaction_id"] for one in reported}) == len(reported) == 9
    assert {one["label"] for one in reported} == {1}


@pytest.fixture
def served_root(tmp_path: Path, make_bundle: Callable[..., object]) -> Iterator[tuple[str, Path]]:
    make_bundle(tmp_path / "root" / "06_models" / "champion")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FRAUD_", "MLFLOW_"))}
    environment = {
        "FRAUD_ROOT": str(tmp_path / "root"),
        "FRAUD_PORT": str(port),
        "BENTOML_HOME": str(tmp_path / "bentoml"),
    }
    log = tmp_path / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve"],
            cwd=PROJECT,
            env={**inherited, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                break
            except (URLError, ConnectionError):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", tmp_path / "root"
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.slow
def test_a_running_service_scores_and_logs_every_transaction_of_a_stream(
    served_root: tuple[str, Path],
) -> None:
    url, root = served_root
    for batch, prefix in ((1, "one"), (400, "many")):
        service = Service(url, batch=batch)
        table = SimulationOptions(rows=1_000, frauds=10, seed=3)
        options = StreamOptions(
            table=table, label_delay=ConstantDelay(seconds=60), labels="none", id_prefix=prefix
        )
        for _ in range(2):  # Ids make it safe to send a stream again.
            deliver(stream(options), service)
        service.close()
    log = open_for_reading(f"sqlite:///{root / 'prediction_log.db'}")
    assert log.count() == 2_000
    log.close()
