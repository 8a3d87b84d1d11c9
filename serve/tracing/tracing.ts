/** A trace of every request, sent to an OpenTelemetry collector. Loaded only with --otlp-endpoint. */
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, type TextMapGetter } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import type { RequestRecord } from "../request_record.ts";
import { spanAttributes, spanName } from "./span.ts";

/** How often finished spans are sent. */
const SEND_MS = 1000;
/** A collector that does not answer must not hold up the server's end. */
const EXPORT_MS = 2000;

export interface Tracing {
  /** Makes the span of a request that has ended. `headers` may name the caller's span (https://www.w3.org/TR/trace-context/). */
  trace(record: RequestRecord, headers: Headers): void;
  /** Sends what is left. Never throws. */
  close(): Promise<void>;
}

const HEADERS: TextMapGetter<Headers> = {
  get: (headers, name) => headers.get(name) ?? undefined,
  keys: (headers) => [...headers.keys()],
};

/** @param endpoint the collector's address for OTLP over HTTP, without /v1/traces */
export function openTracing(endpoint: string, version: string): Tracing {
  const url = `${endpoint.replace(/\/$/, "")}/v1/traces`;
  const exporter = new OTLPTraceExporter({ url, timeoutMillis: EXPORT_MS });
  const processor = new BatchSpanProcessor(exporter, { scheduledDelayMillis: SEND_MS, exportTimeoutMillis: EXPORT_MS });
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ "service.name": "apiq", "service.version": version }),
    spanProcessors: [processor],
  });
  const tracer = provider.getTracer("apiq", version);
  const propagator = new W3CTraceContextPropagator();
  return {
    trace(record, headers) {
      const end = Date.now();
      const startTime = end - record.seconds * 1000;
      const parent = propagator.extract(ROOT_CONTEXT, headers, HEADERS);
      const options = { kind: SpanKind.SERVER, startTime, attributes: spanAttributes(record) };
      const span = tracer.startSpan(spanName(record), options, parent);
      const { firstTokenSeconds, status = 0, error } = record.facts;
      if (firstTokenSeconds !== undefined) span.addEvent("first_token", startTime + firstTokenSeconds * 1000);
      if (status >= 500 || (record.streaming && error))
        span.setStatus({ code: SpanStatusCode.ERROR, message: error ?? "" });
      span.end(end);
    },
    async close() {
      // Failures to export are the collector's; there is nobody left to tell.
      await provider.shutdown().catch(() => {});
    },
  };
}
