/**
 * A request as a span, in OpenTelemetry's names for HTTP servers and generative models
 * (https://opentelemetry.io/docs/specs/semconv/http/http-spans/, .../gen-ai/gen-ai-spans/) and vLLM's for times.
 */
import { OPERATIONS } from "../operations.ts";
import type { RequestRecord } from "../request_record.ts";

type Attributes = Record<string, string | number | string[]>;

export function spanName({ method, facts: { operation } }: RequestRecord): string {
  return operation === undefined ? method : `${method} ${OPERATIONS[operation].path}`;
}

/** Nothing of what was asked or answered is in them. */
export function spanAttributes({ id, method, path, facts }: RequestRecord): Attributes {
  const { operation, finish } = facts;
  return withoutAbsent({
    "http.request.method": method,
    "url.path": path,
    "http.route": operation && OPERATIONS[operation].path,
    "http.response.status_code": facts.status,
    "error.type": facts.error,
    "apiq.request.id": id,
    "apiq.client": facts.client,
    "gen_ai.request.model": facts.model,
    "gen_ai.usage.input_tokens": facts.promptTokens,
    "gen_ai.usage.output_tokens": facts.generatedTokens,
    "gen_ai.response.finish_reasons": finish && [finish],
    "gen_ai.latency.time_in_queue": facts.queueSeconds,
    "gen_ai.latency.time_to_first_token": facts.firstTokenSeconds,
  });
}

function withoutAbsent(attributes: Record<string, string | number | string[] | undefined>): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined)) as Attributes;
}
