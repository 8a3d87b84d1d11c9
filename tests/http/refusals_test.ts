/** What the real server process refuses, and how: statuses, codes and the parameter's name, in OpenAI's shape. */
import { createConnection } from "node:net";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createFakeModel } from "./fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, type ServerProcess, startServerProcess } from "./server_process.ts";

interface Refusal {
  status: number;
  error: { message: string; type: string; param: string | null; code: string | null };
}

const MESSAGES = [{ role: "user", content: "say x" }];
const MAX_BODY = 100_000;

function tool(name: string, parameters: object = { type: "object", properties: {} }): object {
  return { type: "function", function: { name, parameters, strict: true } };
}

/** Fields beside `model` and `messages`, and what is said about them. */
const REFUSED_FIELDS: readonly (readonly [fields: object, param: string, code: string | null, message: string])[] = [
  [{ tools: [{ type: "custom", custom: { name: "f" } }] }, "tools.0.type", null, 'expected "function"'],
  [{ tools: [tool("a b")] }, "tools.0.function.name", null, "letters, digits"],
  [{ tools: [tool("f"), tool("f")] }, "tools", null, 'two of them are called "f"'],
  [{ tools: [tool("f", { type: "object", properties: { a: { not: {} } } })] }, "tools.0", null, "not"],
  [{ tool_choice: "required" }, "tool_choice", null, "needs tools"],
  [{ tool_choice: "sometimes" }, "tool_choice", null, 'received "sometimes"'],
  [
    { tools: [tool("f")], tool_choice: { type: "function", function: { name: "g" } } },
    "tool_choice",
    null,
    'no tool is called "g"',
  ],
  [{ functions: [] }, "functions", "unsupported_parameter", "functions"],
  [{ response_format: { type: "xml" } }, "response_format.type", null, 'received "xml"'],
  [{ response_format: { type: "json_schema" } }, "response_format.json_schema", null, "Missing required parameter"],
  [
    { response_format: { type: "json_schema", json_schema: { name: "x", schema: { type: "thing" } } } },
    "response_format",
    null,
    "thing",
  ],
  [{ modalities: ["text", "audio"] }, "modalities", "unsupported_parameter", "modalities"],
  [{ audio: { voice: "alloy", format: "wav" } }, "audio", "unsupported_parameter", "audio"],
  [{ n: 0 }, "n", null, "received 0"],
  [{ n: 129 }, "n", null, "<=128"],
  [{ store: true }, "store", "unsupported_parameter", "store"],
  [{ reasoning_effort: "low" }, "reasoning_effort", "unsupported_parameter", "reasoning_effort"],
  [{ max_token: 3 }, "max_token", "unknown_parameter", "did you mean max_tokens?"],
  [{ temperature: 3 }, "temperature", null, "received 3"],
  [{ top_p: "high" }, "top_p", null, 'received "high"'],
  [{ max_tokens: 0 }, "max_tokens", null, "received 0"],
  [{ seed: 1.5 }, "seed", null, "received 1.5"],
  [{ stop: ["a", "b", "c", "d", "e"] }, "stop", null, "<=4"],
  [{ stop: "" }, "stop", null, 'received ""'],
  [{ logit_bias: { "9999": 1 } }, "logit_bias", null, "token 9999"],
  [{ top_logprobs: 3 }, "top_logprobs", null, "needs logprobs"],
  [{ stream_options: { include_obfuscation: true } }, "stream_options.include_obfuscation", null, "received true"],
  [{ messages: [] }, "messages", null, "received []"],
  [{ messages: [{ role: "function", content: "x" }] }, "messages.0.role", null, 'received "function"'],
  [{ messages: [{ role: "tool", content: "x" }] }, "messages.0.tool_call_id", null, "Missing required parameter"],
  [{ messages: [{ role: "user", content: null }] }, "messages.0.content", null, "received null"],
  [{ messages: [{ role: "assistant", content: null }] }, "messages.0.content", null, "expected a text or tool_calls"],
  [{ messages: [{ role: "user", content: "x", name: "y" }] }, "messages.0.name", "unsupported_parameter", "name"],
  [
    { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
    "messages.0.content.0.type",
    null,
    "image_url",
  ],
  [{ messages: [...MESSAGES, ...MESSAGES] }, "messages", null, "Roles must alternate"],
  [{ max_tokens: 3000 }, "messages", "context_length_exceeded", "context holds 3000 tokens"],
  [
    { messages: [{ role: "user", content: "x".repeat(4000) }] },
    "messages",
    "context_length_exceeded",
    "context holds 3000 tokens",
  ],
];

for (const runtime of RUNTIMES) {
  describe(`refusals under ${runtime}`, () => {
    let server: ServerProcess;
    const model = createFakeModel();

    beforeAll(async () => {
      const args = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
      server = await startServerProcess(runtime, [...args, "--context", "3000", "--max-body", `${MAX_BODY}`]);
    });
    afterAll(async () => {
      await server?.stop();
      model.remove();
    });

    const refusal = async (path: string, init: RequestInit): Promise<Refusal> => {
      const response = await fetch(`${server.url}${path}`, init);
      const { error } = (await response.json()) as Pick<Refusal, "error">;
      return { status: response.status, error };
    };
    const post = (body: NonNullable<RequestInit["body"]>) => refusal("/v1/chat/completions", { method: "POST", body });

    it("names every field it does not honour", async () => {
      for (const [fields, param, code, message] of REFUSED_FIELDS) {
        const { status, error } = await post(JSON.stringify({ model: "fake", messages: MESSAGES, ...fields }));
        const about = JSON.stringify(fields).slice(0, 100);
        assertEquals(
          { status, type: error.type, param: error.param, code: error.code, about },
          {
            status: 400,
            type: "invalid_request_error",
            param,
            code,
            about,
          },
        );
        assertStringIncludes(error.message, message);
      }
    });

    it("accepts what asks for nothing", async () => {
      const harmless = {
        user: "me",
        metadata: { a: "b" },
        store: false,
        n: 1,
        tools: [],
        tool_choice: "none",
        response_format: { type: "text" },
        modalities: ["text"],
        service_tier: "auto",
        temperature: null,
        functions: null,
      };
      const body = JSON.stringify({ model: "fake", messages: MESSAGES, ...harmless });
      const response = await fetch(`${server.url}/v1/chat/completions`, { method: "POST", body });
      assertEquals(response.status, 200);
    });

    it("knows its models and routes", async () => {
      const unknown = await post(JSON.stringify({ model: "gpt-4", messages: MESSAGES }));
      assertEquals([unknown.status, unknown.error.code, unknown.error.param], [404, "model_not_found", "model"]);
      assertEquals((await refusal("/v1/models/gpt-4", {})).error.code, "model_not_found");
      for (const [method, path] of [
        ["GET", "/v1/chat/completions"],
        ["POST", "/v1/embeddings"],
        ["DELETE", "/v1/models/fake"],
      ] as const) {
        const { status, error } = await refusal(path, { method });
        assertEquals(status, 404);
        assertStringIncludes(error.message, `${method} ${path}; this server has POST /v1/chat/completions`);
      }
      const models = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { id: string }[] };
      assertEquals(
        models.data.map(({ id }) => id),
        ["fake"],
      );
    });

    it("refuses bodies that are not JSON objects in UTF-8", async () => {
      for (const body of [
        '{"model": "fa',
        "",
        "[1]",
        "null",
        '"x"',
        "[".repeat(50_000),
        new Uint8Array([0x22, 0xff, 0x22]),
      ]) {
        const { status, error } = await post(body);
        assertEquals([status, error.type], [400, "invalid_request_error"]);
      }
    });

    it("refuses a body that is too large, whether its length is announced or not", async () => {
      const content = "x".repeat(MAX_BODY);
      const large = JSON.stringify({ model: "fake", messages: [{ role: "user", content }] });
      assertEquals((await post(large)).status, 413);
      const stream = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(large));
          controller.close();
        },
      });
      const init: RequestInit & { duplex: "half" } = { method: "POST", body: stream, duplex: "half" };
      assertEquals((await refusal("/v1/chat/completions", init)).error.code, "request_too_large");
    });

    it("takes no harm from requests that are not HTTP, or end in the middle", async () => {
      const { hostname, port } = new URL(server.url);
      for (const text of [
        "\x16\x03\x01\x02\x00nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://[ HTTP/1.1\r\nHost: [\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
        `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${"y".repeat(200_000)}\r\n\r\n`,
      ]) {
        await new Promise<void>((resolve) => {
          const socket = createConnection({ host: hostname, port: Number(port) }, () => socket.write(text));
          socket.on("error", () => {});
          socket.on("close", () => resolve());
          setTimeout(() => socket.destroy(), 100);
        });
      }
      assertEquals((await fetch(`${server.url}/health`)).status, 200);
      assert(!server.output().includes('"level":"error"'), server.output());
    });
  });
}
