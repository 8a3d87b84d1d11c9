/** What the tests of a pull share: a hub with a model, and pulls that never really wait. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { assert, assertRejects, assertStringIncludes } from "@std/assert";
import { afterEach, beforeEach } from "@std/testing/bdd";
import { HubError } from "./failure.ts";
import { type PullOptions, pull } from "./pull.ts";
import { type Intercept, sendContent, TestHub } from "./test_hub.ts";

export const WEIGHTS = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 2654435761) >>> 24);
export const FILES = {
  "config.json": '{"model_type":"llama"}',
  "tokenizer.json": "{}",
  "chat_template.jinja": "{{ messages }}",
  LICENSE: "Apache-2.0",
  "README.md": "# m",
  "pytorch_model.bin": WEIGHTS.subarray(0, 2000),
  "onnx/model.onnx": "onnx",
  "model.safetensors": WEIGHTS,
};
const TOKEN = "hf_secret";

export class PullTest {
  /** A fresh one for every test. */
  hub!: TestHub;
  /** The pauses that were asked for, in milliseconds. */
  pauses: number[] = [];

  /** Called at the top of a test file. */
  static use(): PullTest {
    const test = new PullTest();
    beforeEach(async () => {
      test.hub = await TestHub.start(FILES);
      test.pauses = [];
    });
    afterEach(() => test.hub.stop());
    return test;
  }

  /** Options of a pull of `o/m` into the folder `m` of `dir`. */
  options(dir: string, more: Partial<PullOptions> = {}): PullOptions {
    const settings = { endpoint: this.hub.endpoint, token: undefined, tokenFrom: undefined };
    const pause = async (ms: number) => void this.pauses.push(ms);
    return { repository: "o/m", out: join(dir, "m"), settings, signal: new AbortController().signal, pause, ...more };
  }

  withToken(token = TOKEN): Pick<PullOptions, "settings"> {
    return { settings: { endpoint: this.hub.endpoint, token, tokenFrom: "HF_TOKEN" } };
  }

  /** The pull must fail with one line that holds all of `parts`, and leave no folder. */
  async assertFails(options: PullOptions, ...parts: string[]): Promise<void> {
    const { message } = await assertRejects(() => pull(options), HubError);
    for (const part of parts) assertStringIncludes(message, part);
    assert(!message.includes("\n") && !message.includes(TOKEN), message);
    assert(!existsSync(join(options.out!, "config.json")));
  }

  /** A pull that ends within the weights, as if the process had been killed; returns how many of their bytes it left. */
  async pullInterrupted(dir: string): Promise<number> {
    const controller = new AbortController();
    this.hub.intercept = onStorage(cutAt(1_200_000));
    const pause = async () => controller.abort();
    await assertRejects(() => pull(this.options(dir, { signal: controller.signal, pause })));
    this.hub.intercept = () => false;
    this.hub.seen.length = 0;
    const partials = join(dir, ".m.pull", "partial");
    const left = Math.max(...readdirSync(partials).map((name) => statSync(join(partials, name)).size));
    assert(left > 0 && left <= 1_200_000, `${left}`);
    return left;
  }

  /** The bytes that the requests for the weights began with, 0 for a whole file. */
  starts(): number[] {
    return this.hub
      .downloads("storage")
      .map(({ headers }) => Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0));
  }
}

/** For requests to the storage host: `answers` are used up one by one, then it works as usual. */
export function onStorage(...answers: Intercept[]): Intercept {
  return (request, response) => {
    if (request.server !== "storage") return false;
    return answers.shift()?.(request, response) ?? false;
  };
}

/** Sends the weights up to this byte and closes the connection. */
export function cutAt(byte: number): Intercept {
  return ({ headers }, response) => {
    sendContent(response, WEIGHTS, headers, byte);
    return true;
  };
}
