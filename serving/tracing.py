"""Traces by OpenTelemetry: a span per request, with one per stage, where the standard OTEL_* variables ask for them.

The spans of the stages are made after the response, from the times that the metrics use as well.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simile.errors import InputError
from simile.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@dataclass(frozen=True, slots=True)
class RequestSpan:
    """The span of one request, until it is answered."""

    span: "Span"

    @property
    def trace_id(self) -> str:
        """The id of the trace, in hexadecimal digits."""
        return f"{self.span.get_span_context().trace_id:032x}"

    @property
    def traceparent(self) -> str:
        """The span as the header ``traceparent`` names it (W3C Trace Context)."""
        context = self.span.get_span_context()
        return f"00-{self.trace_id}-{context.span_id:016x}-{int(context.trace_flags):02x}"


class Tracer:
    """Makes spans and exports them in the background."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("simile", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, headers: Mapping[str, str], start: float) -> RequestSpan:
        """Begin the span of a request that began at ``start`` (`time.perf_counter`), as a child of the client's."""
        from opentelemetry.trace import SpanKind

        given = {header: headers[header] for header in ("traceparent", "tracestate") if header in headers}
        context = self._propagator.extract(given)
        return RequestSpan(self._tracer.start_span(name, context, SpanKind.SERVER, start_time=_nanoseconds(start)))

    def end(
        self, request: RequestSpan, attributes: Mapping[str, Any], stages: Mapping[str, tuple[float, float]]
    ) -> None:
        """End the span with these attributes, and with a child for each stage that has a beginning and an end."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        span, context = request.span, set_span_in_context(request.span)
        for name, (begun, ended) in stages.items():
            stage = self._tracer.start_span(name, context, start_time=_nanoseconds(begun))
            stage.end(_nanoseconds(ended))
        span.set_attributes(dict(attributes))
        if attributes["http.response.status_code"] >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()


@contextmanager
def tracing(environ: Mapping[str, str]) -> Iterator[Tracer | None]:
    """Yield a tracer if the environment names an OTLP endpoint, else None; at the end, export the last spans.

    Raises:
        InputError: the extra ``otel`` is not installed.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(environ.get(name) for name in _ENDPOINTS):
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise InputError(f"{_ENDPOINTS[1]} is set, need pip install 'simile-pairs[otel]'") from None
    # Its warnings are about headers of clients, and show what these say.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    resource = Resource.create() if environ.get("OTEL_SERVICE_NAME") else Resource.create({"service.name": "simile"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Tracer(provider)
    finally:
        provider.shutdown()


def _nanoseconds(moment: float) -> int:
    """Return the time since 1970 of a moment of `time.perf_counter`."""
    return time.time_ns() - int((time.perf_counter() - moment) * 1e9)
