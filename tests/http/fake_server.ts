/** A server process with the fake model and engine for the tests of one group, started before them and stopped after them. */
import { afterAll, beforeAll } from "@std/testing/bdd";
import OpenAI from "openai";
import { createFakeModel } from "./fake_model.ts";
import { FAKE_ENGINE, type Runtime, type ServerProcess, startServerProcess } from "./server_process.ts";

export interface FakeServer {
  readonly url: string;
  /** OpenAI's own client of it, which does not retry. */
  readonly client: OpenAI;
}

/** Call it inside `describe`; the properties are there once the tests run. The model is called "fake". */
export function useFakeServer(runtime: Runtime, args: readonly string[] = []): FakeServer {
  const model = createFakeModel();
  let server: ServerProcess | undefined;
  let client: OpenAI | undefined;
  beforeAll(async () => {
    const fake = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
    server = await startServerProcess(runtime, [...fake, ...args]);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  });
  afterAll(async () => {
    await server?.stop();
    model.remove();
  });
  const started = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error("Cannot use the fake server: it has not started");
    return value;
  };
  return {
    get url() {
      return started(server).url;
    },
    get client() {
      return started(client);
    },
  };
}
