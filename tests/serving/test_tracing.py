"""Request ids, JSON logs, and spans that reach an OTLP collector."""

import json
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serving.app import create_app
from serving.logs import JsonFormatter
from serving.settings import Settings
from serving.tracing import tracing
from simile.errors import InputError
from tests.live_servers import started

BODY = {"pairs": [["The water was cold.", "A cold drink of water."], ["no", "signal"]]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    """The address of an OTLP collector, and the spans that it has got."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            scopes = [scope for resource in body.resource_spans for scope in resource.scope_spans]
            spans.extend(span for scope in scopes for span in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()
        thread.join()


@pytest.fixture
def client(scorer):
    with TestClient(create_app(Settings(), scorer)) as client:
        yield client


def test_request_id_is_taken_or_made_and_is_in_header_error_and_log(client, caplog):
    caplog.set_level(logging.INFO)
    given = client.post("/v1/similarity", json={"pairs": []}, headers={"x-request-id": "order-17"})
    assert given.headers["x-request-id"] == given.json()["error"]["request_id"] == "order-17"
    assert "id order-17" in caplog.text
    for odd in (b"", b"a b", b"x" * 65, b"\xe4"):
        made = client.post("/v1/similarity", json=BODY, headers={"x-request-id": odd})
        assert len(made.headers["x-request-id"]) == 16


def test_json_log_has_the_facts_of_a_request_and_no_text(client, caplog):
    caplog.set_level(logging.INFO)
    usage = client.post("/v1/similarity", json=BODY).json()["usage"]
    (record,) = [record for record in caplog.records if record.name == "serving.middleware"]
    line = json.loads(JsonFormatter().format(record))
    expected = {"route": "/v1/similarity", "status": 200, "pairs": 2, "tokens": usage["tokens"], "truncated": 0}
    assert expected.items() <= line.items()
    assert line["milliseconds"] > 0
    assert line["level"] == "INFO"
    assert "water" not in json.dumps(line)


def test_json_log_of_an_error_has_its_traceback_on_one_line():
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.LogRecord("name", logging.ERROR, "file", 1, "it\nfailed", (), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError" in json.loads(line)["traceback"]


def test_spans_of_a_call_reach_the_collector_with_the_clients_trace_id(bundle, tmp_path, collector):
    address, spans = collector
    with started(bundle.path, tmp_path / "log", OTEL_EXPORTER_OTLP_ENDPOINT=address) as process:
        given = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        answer = httpx2.post(f"{process.url}/v1/similarity", json=BODY, headers=given)
        assert httpx2.post(f"{process.url}/v1/similarity", json={"pairs": []}).status_code == 422
        assert httpx2.get(f"{process.url}/readyz").status_code == 200
        exposed = httpx2.get(f"{process.metrics_url}/metrics", headers={"accept": "application/openmetrics-text"}).text
        process.process.terminate()
        assert process.process.wait(20) == 0, process.log.read_text()
    of_call = {span.name: span for span in spans if span.trace_id.hex() == TRACE}
    assert set(of_call) == {"POST /v1/similarity", "receive", "parse", "tokenize", "queue", "infer"}
    root = of_call["POST /v1/similarity"]
    assert root.parent_span_id.hex() == PARENT
    assert answer.headers["traceparent"] == f"00-{TRACE}-{root.span_id.hex()}-01"
    assert all(span.parent_span_id == root.span_id for span in of_call.values() if span is not root)
    times = [(span.start_time_unix_nano, span.end_time_unix_nano) for span in of_call.values()]
    assert all(root.start_time_unix_nano - 10**6 <= start <= end for start, end in times)
    facts = {one.key: one.value.int_value for one in root.attributes}
    assert (facts["simile.pairs"], facts["http.response.status_code"]) == (2, 200)
    assert facts["simile.tokens"] == answer.json()["usage"]["tokens"]
    # The refused call has a trace of its own, and probes have none.
    assert [span.name for span in spans if not span.parent_span_id] == ["POST /v1/similarity"]
    assert f'trace_id="{TRACE}"' in exposed


@pytest.mark.parametrize("environ", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}])
def test_no_tracer_without_an_endpoint(environ):
    with tracing(environ) as tracer:
        assert tracer is None


def test_missing_extra_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with (
        pytest.raises(InputError, match=r"is set, need pip install 'simile-pairs\[otel\]'"),
        tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}),
    ):
        pass


def test_odd_headers_of_traces_are_not_logged(collector, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector[0])
    parent = f"00-{TRACE}-{PARENT}-01"
    with tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": collector[0]}) as tracer:
        for state in ("what a client says", "a=b" + " " * 60_000):
            span = tracer.begin("name", {"traceparent": parent, "tracestate": state}, 0.0)
            assert span.trace_id == TRACE
        assert tracer.begin("name", {"traceparent": parent + "-" * 1000}, 0.0).trace_id != TRACE
    assert caplog.text == ""
