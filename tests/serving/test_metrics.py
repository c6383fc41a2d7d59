"""The page of metrics over several workers, also when one of them is killed."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fraud_kedro.serving.metrics import forget_the_dead
from fraud_kedro.serving.settings import SettingsError
from fraud_kedro.serving.tracing import tracing_options

MODEL = ("model_version", "fraud_detection_logistic_regression_v1")


def samples(server):
    text = httpx.get(f"{server.url}/metrics", timeout=30, verify=False).text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def workers(server):
    """The processes that answer; one that was killed may not have been waited for yet."""
    found = []
    for process in psutil.Process(server._process.pid).children(recursive=True):
        try:
            if "bentoml" in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.ZombieProcess, psutil.NoSuchProcess):
            continue
    return found


def ask_anew(server, body, times):
    """Ask by new connections, which any worker may take; gives the statuses."""
    # verify=False: a client reads every certificate of the machine at first, for 30 ms.
    statuses = []
    for number in range(times):
        with httpx.Client(base_url=server.url, timeout=30, verify=False) as client:
            answer = client.post("/predict", json=body | {"V1": number / 10})
            statuses.append(answer.status_code)
    return statuses


def _until_both_serve(server, info):
    for _ in range(600):
        if len(workers(server)) == 2 and samples(server).get(info) == 2:
            break
        threading.Event().wait(0.3)
    assert samples(server)[info] == 2


def test_two_workers_add_up_and_go_on_adding_up_when_one_is_killed(
    start_server, make_bundle, transactions, tmp_path
):
    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path, workers=2)
    [body] = transactions(1)
    assert ask_anew(server, body, 30) == [200] * 30
    assert httpx.post(f"{server.url}/predict", json={}, timeout=30, verify=False).status_code == 422
    assert httpx.post(f"{server.url}/predict", content=b"x", timeout=30, verify=False).status_code == 415
    assert httpx.get(f"{server.url}/nowhere/{'x' * 50}", timeout=30, verify=False).status_code == 404
    found = samples(server)
    request = "fraud_requests_total"
    assert found[request, ("route", "/predict"), ("status", "200")] == 30
    assert found[request, ("route", "/predict"), ("status", "422")] == 1
    assert found[request, ("route", "/predict"), ("status", "415")] == 1
    assert found[request, ("route", "other"), ("status", "404")] == 1
    assert found["fraud_log_records_total",] == found["fraud_probability_count",] == 30
    assert found["fraud_log_commit_seconds_count",] <= 30
    info = ("fraud_model_info", ("algorithm", "logistic_regression"), MODEL, ("source", "local bundle"))
    # The service is ready with its first worker; the other may still be loading.
    _until_both_serve(server, info)
    buckets = sorted(
        float(dict(key[1:])["le"])
        for key in found
        if key[0] == "fraud_request_seconds_bucket"
        and ("route", "/predict") in key
        and ("status", "200") in key
    )
    assert buckets[0] == 0.0005
    assert buckets[-2] >= 10

    first, *_ = victims = workers(server)
    assert len(victims) == 2
    first.kill()
    statuses, refused = [], 0
    while len(statuses) < 40:
        try:
            statuses += ask_anew(server, body, 1)
        except httpx.TransportError:
            # It had taken this connection.
            refused += 1
    assert statuses == [200] * 40
    assert refused <= 2
    _until_both_serve(server, info)
    # What the killed worker has counted is still counted.
    assert 70 <= samples(server)[request, ("route", "/predict"), ("status", "200")] <= 70 + refused


def test_gauges_of_the_dead_are_forgotten_and_counters_kept(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = psutil.Process().pid
    names = [f"gauge_livesum_{ended.pid}.db", f"gauge_livemax_{alive}.db", f"counter_{ended.pid}.db"]
    for name in names:
        (tmp_path / name).touch()
    forget_the_dead(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names[1:])


class Collector(BaseHTTPRequestHandler):
    """Takes what an OpenTelemetry exporter sends."""

    received: ClassVar[list[bytes]] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_collector_gets_a_span_of_each_request_where_one_is_named(start_server, served_root, transactions):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    server = start_server(served_root, tracing_endpoint=f"http://127.0.0.1:{collector.server_port}/v1/traces")
    assert server.client.post("/predict", json=transactions(1)[0]).status_code == 200
    assert server.client.get("/livez").status_code == 200
    # What is left is sent at the end.
    server.stop()
    collector.shutdown()
    spans = [
        span
        for body in Collector.received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    targets = {
        a.value.string_value for s in spans for a in s.attributes if a.key in ("http.target", "url.path")
    }
    assert targets == {"/predict"}


def test_without_its_exporter_tracing_is_refused_in_words(monkeypatch):
    monkeypatch.setattr("fraud_kedro.serving.tracing.find_spec", lambda _: None)
    with pytest.raises(
        SettingsError, match=r"FRAUD_TRACING_ENDPOINT.*opentelemetry-exporter-otlp-proto-http"
    ):
        tracing_options("http://127.0.0.1:4318/v1/traces")
    assert tracing_options(None) == {"excluded_urls": ".*"}
