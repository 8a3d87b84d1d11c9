/**
 * An EngineCore without a model, for fake_model.ts: the last user message, or a prompt that is no conversation, says what it
 * answers.
 *
 *     say TEXT      TEXT, one byte per step
 *     slow TEXT     the same, 20 ms a step
 *     late TEXT     the same, half a second a step
 *     forever       "x" until max_tokens
 *     flood         the same, 500 tokens a step
 *     die           the process kills itself after three tokens
 *     params        the request's sampling parameters as JSON, all in one step
 *     grammar       the request's grammar as JSON, likewise
 *     call F JSON   a tool call of the function F with these arguments, after a word of text
 *     anything else the number of messages it saw
 *
 * Its adapters are folders whose adapter_config.json says how long loading takes ({"ms": N}); there is nothing else to them.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import type {
  AdapterFinding,
  AdapterSpec,
  EngineCore,
  EngineOptions,
  EngineOutput,
  EngineRequest,
  TokenLogprob,
} from "../../runtime/engine/protocol.ts";
import type { CreateEngine } from "../../runtime/engine/worker_loop.ts";
import { MESSAGE_END, MESSAGE_START } from "./fake_model.ts";

const CONTEXT_LENGTH = 1_000_000;
const VOCAB_SIZE = 258;

interface Running {
  request: EngineRequest;
  answer: Uint8Array;
  endless: boolean;
  tokensPerStep: number;
  stepMs: number;
  dies: boolean;
  given: number;
}

export const createEngine: CreateEngine = async (options, onProgress) => {
  if (!existsSync(join(options.model, "config.json"))) {
    throw new Error(`Cannot open model: no config.json in ${options.model}`);
  }
  onProgress("weights", 1, 2);
  onProgress("weights", 2, 2);
  return new FakeEngine(options);
};

class FakeEngine implements EngineCore {
  readonly model;
  readonly #running = new Map<string, Running>();
  readonly #adapters = new Set<string>();
  #steps = 0;
  #promptTokens = 0;
  #generatedTokens = 0;

  constructor(options: EngineOptions) {
    for (const name of Object.keys(options.adapters)) this.#adapters.add(name);
    this.model = {
      contextLength: options.contextLength ?? CONTEXT_LENGTH,
      vocabSize: VOCAB_SIZE,
      maxSequences: options.maxSequences,
      fingerprint: "fake",
      adapters: Object.keys(options.adapters),
      device: "fake",
      isa: "none",
      threads: 1,
      memory: { weights: 0, lora: 0, kvCache: 0, scratch: 0 },
      loadSeconds: 0,
    };
  }

  add(request: EngineRequest): void {
    const { messages, last } = readPrompt(request.prompt);
    const { adapter } = request;
    if (adapter !== undefined && !this.#adapters.has(adapter))
      throw new Error(`Cannot run request: no adapter ${adapter}`);
    if (last === "refuse") throw new Error("Cannot run request: the fake engine was asked to refuse");
    this.#promptTokens += request.prompt.length;
    this.#running.set(request.id, { ...script(request, messages, last), request, given: 0 });
  }

  abort(id: string): void {
    this.#running.delete(id);
  }

  waiting(): undefined {
    return undefined;
  }

  hasWork(): boolean {
    return this.#running.size > 0;
  }

  step(): EngineOutput[] {
    this.#steps++;
    const outputs = [...this.#running.values()].map((running) => this.#advance(running));
    const pause = Math.max(1, ...[...this.#running.values()].map(({ stepMs }) => stepMs));
    for (const { id, finish } of outputs) if (finish) this.#running.delete(id);
    // A real step blocks its thread as well.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pause);
    return outputs;
  }

  stats() {
    return {
      running: this.#running.size,
      waiting: 0,
      kvBlocksUsed: this.#running.size,
      kvBlocksTotal: 100,
      kvBlockSize: 16,
      promptTokens: this.#promptTokens,
      generatedTokens: this.#generatedTokens,
      sharedTokens: 0,
      steps: this.#steps,
      adapters: { bytes: 0, capacityBytes: 0, resident: this.#adapters.size, most: 8, running: [], waiting: [] },
    };
  }

  async loadAdapter({ key, dir }: AdapterSpec): Promise<AdapterFinding> {
    const { ms = 0 } = JSON.parse(readFileSync(join(dir, "adapter_config.json"), "utf8")) as { ms?: number };
    await setTimeout(ms);
    this.#adapters.add(key);
    return { sha256: "0".repeat(64), bytes: 1, rank: 1, targets: 1, replaces: false };
  }

  knowAdapters(adapters: readonly AdapterSpec[]): void {
    for (const { key } of adapters) this.#adapters.add(key);
  }

  freeAdapter(key: string): void {
    this.#adapters.delete(key);
  }

  [Symbol.dispose](): void {
    this.#running.clear();
  }

  #advance(running: Running): EngineOutput {
    const { request } = running;
    if (running.dies && running.given >= 3) process.kill(process.pid, "SIGKILL");
    const tokens: number[] = [];
    let finish: EngineOutput["finish"];
    while (tokens.length < running.tokensPerStep && !finish) {
      const ended = !running.endless && running.given >= running.answer.length;
      tokens.push(ended ? MESSAGE_END : (running.answer[running.given % running.answer.length] ?? 0));
      running.given++;
      if (ended && request.stopTokens.includes(MESSAGE_END)) finish = "stop";
      else if (running.given >= request.maxTokens) finish = "length";
    }
    this.#generatedTokens += tokens.length;
    const { logprobs } = request.sampling;
    return {
      id: request.id,
      tokens,
      ...(logprobs !== undefined && { logprobs: tokens.map((token) => fakeLogprob(token, logprobs)) }),
      ...(finish && { finish }),
    };
  }
}

function script(request: EngineRequest, messages: number, last: string): Omit<Running, "request" | "given"> {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const plain = { answer: bytes(`${messages} messages`), endless: false, tokensPerStep: 1, stepMs: 1, dies: false };
  const [verb, rest] = [last.split(" ")[0], last.slice(last.indexOf(" ") + 1)];
  switch (verb) {
    case "say":
      return { ...plain, answer: bytes(rest) };
    case "slow":
      return { ...plain, answer: bytes(rest), stepMs: 20 };
    case "late":
      return { ...plain, answer: bytes(rest), stepMs: 500 };
    case "forever":
      return { ...plain, answer: bytes("x"), endless: true };
    case "flood":
      return { ...plain, answer: bytes("x"), endless: true, tokensPerStep: 500 };
    case "die":
      return { ...plain, answer: bytes("x"), endless: true, dies: true };
    case "params": {
      const { adapter, sampling, maxTokens } = request;
      const text = JSON.stringify({ adapter, maxTokens, ...sampling }, (_key, value) =>
        typeof value === "bigint" ? value.toString() : value,
      );
      return { ...plain, answer: bytes(text), tokensPerStep: 10_000 };
    }
    case "grammar":
      return { ...plain, answer: bytes(JSON.stringify(request.grammar ?? null)), tokensPerStep: 10_000 };
    case "call": {
      const [name, args] = [rest.split(" ")[0], rest.slice(rest.indexOf(" ") + 1)];
      return { ...plain, answer: bytes(`Well,\n<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`) };
    }
    default:
      return plain;
  }
}

/** How many messages the prompt holds, and the content of the last before the one to be answered. */
function readPrompt(prompt: readonly number[]): { messages: number; last: string } {
  const decode = (tokens: readonly number[]) => new TextDecoder().decode(new Uint8Array(tokens));
  if (!prompt.includes(MESSAGE_START)) return { messages: 0, last: decode(prompt) };
  const starts = prompt.flatMap((token, index) => (token === MESSAGE_START ? [index] : []));
  const begin = starts.at(-2) ?? 0;
  const end = prompt.indexOf(MESSAGE_END, begin);
  const text = decode(prompt.slice(begin + 1, end));
  return { messages: starts.length - 1, last: text.slice(text.indexOf("\n") + 1) };
}

function fakeLogprob(token: number, count: number): TokenLogprob {
  const top = Array.from({ length: count }, (_, rank) => [(token + rank) % VOCAB_SIZE, -0.5 - rank] as const);
  return { token, logprob: -0.5, top };
}
