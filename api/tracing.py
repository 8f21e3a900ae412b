"""OpenTelemetry traces from the caller through the gateway to the worker; off unless an endpoint is set.

A request is one span, and each POST to a worker is one. A POST may carry jobs of many requests: it belongs to
the trace of the first and is linked to the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from api.endpoints import Target
    from api.jobs import Job


class TracingUnavailableError(ValueError):
    """Traces are asked for and their packages are not installed."""


class Tracing:
    """Does nothing; what the gateway uses when no endpoint is set."""

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[Any]:  # noqa: ARG002
        """A span for one HTTP request; gives it, or None."""
        yield None

    def end_request(self, span: Any, route: str, status: int, model: str | None) -> None:
        """Name what was learnt while the request was carried out."""

    @contextmanager
    def dispatch(self, model: str, target: Target, jobs: Sequence[Job]) -> Iterator[dict[str, str]]:  # noqa: ARG002
        """A span for one POST to a worker; gives the headers that carry it there."""
        yield {}

    def context(self) -> Any:
        """Where a job made now belongs."""
        return None

    def shutdown(self) -> None:
        """Send what has not been sent."""


NO_TRACING = Tracing()


class OpenTelemetry(Tracing):
    """Spans sent to an OTLP endpoint over HTTP."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._provider = provider
        self._tracer = provider.get_tracer("inkwell.gateway")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[Span]:
        parent = self._propagator.extract(headers)
        with self._tracer.start_as_current_span(
            method, context=parent, kind=self._trace.SpanKind.SERVER
        ) as span:
            yield span

    def end_request(self, span: Span, route: str, status: int, model: str | None) -> None:
        span.update_name(f"{span.name} {route}" if hasattr(span, "name") else route)
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if model:
            span.set_attribute("inkwell.model", model)
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)

    @contextmanager
    def dispatch(self, model: str, target: Target, jobs: Sequence[Job]) -> Iterator[dict[str, str]]:
        contexts = [job.trace_context for job in jobs if job.trace_context is not None]
        origins = list({context.span_id: context for context in contexts}.values())
        parent = (
            self._trace.set_span_in_context(self._trace.NonRecordingSpan(origins[0])) if origins else None
        )
        with self._tracer.start_as_current_span(
            "dispatch",
            context=parent,
            kind=self._trace.SpanKind.CLIENT,
            links=[self._trace.Link(origin) for origin in origins[1:]],
            attributes={
                "inkwell.model": model,
                "inkwell.version": target.version or "",
                "inkwell.jobs": len(jobs),
                "server.address": target.url,
            },
        ):
            headers: dict[str, str] = {}
            self._propagator.inject(headers)
            yield headers

    def context(self) -> Any:
        found = self._trace.get_current_span().get_span_context()
        return found if found.is_valid else None

    def shutdown(self) -> None:
        self._provider.shutdown()


def tracing_to(endpoint: str | None, share: float) -> Tracing:
    """Tracing to the OTLP `endpoint`, of a `share` of the requests; none for None.

    Raises `TracingUnavailableError` when the packages are missing.
    """
    if endpoint is None:
        return NO_TRACING
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise TracingUnavailableError(
            f"otel_endpoint is set, and traces need packages that are not installed ({error.name}): "
            "pip install 'inkwell[otel]'"
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": "inkwell-gateway"}), sampler=ParentBasedTraceIdRatio(share)
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return OpenTelemetry(provider)
