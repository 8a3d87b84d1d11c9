import type { BlockList } from "./block_manager.ts";
import type { EngineRequest } from "./protocol.ts";

/** One request on its way through the engine: its tokens, and how far the KV cache has come with them. */
export class Sequence implements BlockList {
  readonly request: EngineRequest;
  /** Prompt, then what was drawn. */
  readonly tokens: number[];
  readonly promptTokens: number;
  /** The LoRA slot of the request's adapter, or -1. It has to be known before the sequence is scheduled. */
  adapterSlot: number;
  /** What its keys and values depend on besides its tokens: sequences of one root may share blocks. */
  readonly root: string;
  readonly #stopTokens: ReadonlySet<number>;
  /** Tokens whose keys and values are in the cache. Falls to 0 when the sequence is preempted. */
  computed = 0;
  readonly blocks: number[] = [];
  readonly contents: number[] = [];
  /** Row of the block table and of the sampling history while it runs, -1 while it waits. */
  seat = -1;
  /** How often it was admitted: more than once after a preemption, each time with other blocks. */
  admissions = 0;
  /** Prompt tokens that the cache held when it was first admitted. */
  sharedTokens = 0;
  /** Seconds from its arrival to when it was first admitted. */
  queueSeconds = 0;
  readonly #arrived = performance.now();

  constructor(request: EngineRequest, adapterSlot: number) {
    this.request = request;
    this.tokens = [...request.prompt];
    this.promptTokens = request.prompt.length;
    this.adapterSlot = adapterSlot;
    // Not the slot, which other adapters have at other times.
    this.root = `adapter ${request.adapter ?? ""}`;
    this.#stopTokens = new Set(request.stopTokens);
  }

  /** Tokens that have to pass through the model before the next one can be drawn: 1 while decoding, more in prefill. */
  get pending(): number {
    return this.tokens.length - this.computed;
  }

  get generated(): number {
    return this.tokens.length - this.promptTokens;
  }

  /** Notes that it was given a seat and blocks, `sharedTokens` of whose tokens the cache held. */
  admit(sharedTokens: number): void {
    if (++this.admissions > 1) return;
    this.sharedTokens = sharedTokens;
    this.queueSeconds = (performance.now() - this.#arrived) / 1000;
  }

  /** Takes a drawn token; says whether and why the sequence is over. */
  append(token: number): "stop" | "length" | undefined {
    this.tokens.push(token);
    if (this.#stopTokens.has(token)) return "stop";
    return this.generated >= this.request.maxTokens ? "length" : undefined;
  }
}
