/** The events of a streamed response. Without a stream its object is the one that the last event has. */
import type { TokenLogprob } from "../../runtime/engine/protocol.ts";
import type { AnswerDelta, ToolCallDelta } from "../../runtime/grammar/tools/mod.ts";
import type { Tokenizer } from "../../runtime/tokenizer/mod.ts";
import type { ChatGeneration } from "../conversation.ts";
import { toApiError } from "../errors.ts";
import type { ServerEvent } from "../sse.ts";
import { logprobEntries } from "./logprobs.ts";
import {
  type CallItem,
  finalStatus,
  type ItemStatus,
  type MessageItem,
  type OutputItem,
  outputText,
  type ResponseHead,
  type ResponseState,
  responseObject,
} from "./response_object.ts";

/** One event before it is numbered. */
interface ResponseEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** The item that is being written. */
type OpenItem =
  | { readonly kind: "message"; readonly id: string; text: string; readonly logprobs: TokenLogprob[] }
  | { readonly kind: "call"; readonly id: string; readonly callId: string; readonly name: string; text: string };

export class ResponseWriter {
  readonly #head: ResponseHead;
  readonly #tokenizer: Tokenizer;
  readonly #output: OutputItem[] = [];
  #open: OpenItem | undefined;
  #sequence = 0;

  constructor(head: ResponseHead, tokenizer: Tokenizer) {
    this.#head = head;
    this.#tokenizer = tokenizer;
  }

  /** The whole response. Undefined if the client went away before it was complete. */
  async whole(generation: ChatGeneration): Promise<object | undefined> {
    let last: ResponseEvent | undefined;
    for await (const event of this.#write(generation)) last = event;
    return last?.response as object | undefined;
  }

  /** Ends early, without the last event, when the client went away. */
  async *events(generation: ChatGeneration): AsyncGenerator<ServerEvent, void, void> {
    for await (const event of this.#write(generation)) yield this.#numbered(event);
  }

  /** The last events of a stream that failed. */
  failure(error: unknown): readonly ServerEvent[] {
    const { code, message, param } = toApiError(error);
    const response = this.#object({
      status: "failed",
      output: this.#output,
      error: { code: code ?? "server_error", message },
    });
    return [
      this.#numbered({ type: "error", code, message, param }),
      this.#numbered({ type: "response.failed", response }),
    ];
  }

  #numbered(event: ResponseEvent): ServerEvent {
    return { event: event.type, data: JSON.stringify({ ...event, sequence_number: this.#sequence++ }) };
  }

  #object(state: ResponseState): object {
    return responseObject(this.#head, state);
  }

  async *#write(generation: ChatGeneration): AsyncGenerator<ResponseEvent, void, void> {
    const begun = this.#object({ status: "in_progress", output: [] });
    yield { type: "response.created", response: begun };
    yield { type: "response.in_progress", response: begun };
    let generated = 0;
    /** Log-probabilities go with the text that comes next, which their own may be a part of. */
    const held: TokenLogprob[] = [];
    for await (const { parts, tokens, logprobs, finish } of generation.deltas) {
      generated += tokens;
      for (const logprob of logprobs ?? []) held.push(logprob);
      for (const part of parts) yield* this.#part(part, part.content === undefined ? [] : held.splice(0));
      if (!finish) continue;
      const status = finalStatus(finish);
      // An answer of nothing is a message without text.
      if (!this.#open && this.#output.length === 0) yield* this.#openMessage();
      yield* this.#close(status);
      const counts = { prompt: generation.prompt, generated };
      const response = this.#object({ status, output: this.#output, tokens: counts });
      yield { type: `response.${status}`, response };
    }
  }

  *#part({ content, tool_calls }: AnswerDelta, logprobs: readonly TokenLogprob[]): Generator<ResponseEvent> {
    if (content !== undefined) yield* this.#text(content, logprobs);
    for (const call of tool_calls ?? []) yield* this.#call(call);
  }

  *#text(text: string, logprobs: readonly TokenLogprob[]): Generator<ResponseEvent> {
    if (this.#open?.kind !== "message") {
      yield* this.#close("completed");
      yield* this.#openMessage();
    }
    const item = this.#open;
    if (item?.kind !== "message") return;
    item.text += text;
    for (const logprob of logprobs) item.logprobs.push(logprob);
    yield {
      type: "response.output_text.delta",
      ...this.#place(item),
      content_index: 0,
      delta: text,
      logprobs: logprobEntries(logprobs, this.#tokenizer),
    };
  }

  *#call({ id, function: { name, arguments: text } }: ToolCallDelta): Generator<ResponseEvent> {
    if (id !== undefined) {
      yield* this.#close("completed");
      const item: OpenItem = { kind: "call", id: newId("fc"), callId: id, name: name ?? "", text: "" };
      this.#open = item;
      yield { type: "response.output_item.added", ...this.#index(), item: callItem(item, "in_progress") };
    }
    const item = this.#open;
    if (item?.kind !== "call" || text === "") return;
    item.text += text;
    yield { type: "response.function_call_arguments.delta", ...this.#place(item), delta: text };
  }

  *#openMessage(): Generator<ResponseEvent> {
    const item: OpenItem = { kind: "message", id: newId("msg"), text: "", logprobs: [] };
    this.#open = item;
    const empty: MessageItem = { type: "message", id: item.id, status: "in_progress", role: "assistant", content: [] };
    yield { type: "response.output_item.added", ...this.#index(), item: empty };
    const part = outputText("", [], this.#tokenizer);
    yield { type: "response.content_part.added", ...this.#place(item), content_index: 0, part };
  }

  /** Ends the item that is being written, if there is one. */
  *#close(status: ItemStatus): Generator<ResponseEvent> {
    const item = this.#open;
    if (!item) return;
    const place = this.#place(item);
    let done: OutputItem;
    if (item.kind === "message") {
      const part = outputText(item.text, item.logprobs, this.#tokenizer);
      const at = { ...place, content_index: 0 };
      yield { type: "response.output_text.done", ...at, text: item.text, logprobs: part.logprobs };
      yield { type: "response.content_part.done", ...at, part };
      done = { type: "message", id: item.id, status, role: "assistant", content: [part] };
    } else {
      yield { type: "response.function_call_arguments.done", ...place, name: item.name, arguments: item.text };
      done = callItem(item, status);
    }
    yield { type: "response.output_item.done", ...this.#index(), item: done };
    this.#output.push(done);
    this.#open = undefined;
  }

  #index(): { output_index: number } {
    return { output_index: this.#output.length };
  }

  #place({ id }: OpenItem): { item_id: string; output_index: number } {
    return { item_id: id, ...this.#index() };
  }
}

function callItem({ id, callId, name, text }: Extract<OpenItem, { kind: "call" }>, status: ItemStatus): CallItem {
  return { type: "function_call", id, status, call_id: callId, name, arguments: text };
}

function newId(prefix: string): string {
  return `${prefix}_${crypto.randomUUID().replaceAll("-", "")}`;
}
