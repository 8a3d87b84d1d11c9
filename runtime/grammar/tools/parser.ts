/** Turns the text of an answer, piece by piece, into content and tool calls in the shape of OpenAI's stream deltas. */
import { randomBytes } from "node:crypto";
import type { ToolFamily } from "./format.ts";
import { type CallProgress, JsonCallReader } from "./json_call.ts";

export interface ToolCallDelta {
  index: number;
  /** Comes with the call's first delta, as do `type` and the name. */
  id?: string;
  type?: "function";
  function: { name?: string; arguments: string };
}

export interface AnswerDelta {
  content?: string;
  tool_calls?: ToolCallDelta[];
}

interface Markup {
  /** What announces calls. */
  opener: string;
  /** Whether the opener counts, and a bare "{" does as well, at the very beginning of the answer only. */
  onlyFirst: boolean;
  /** What ends them, if anything does. */
  closer: string;
  /** What may stand around and between calls. */
  filler: RegExp;
}

const MARKUP: Record<ToolFamily, Markup> = {
  hermes: { opener: "<tool_call>", onlyFirst: false, closer: "</tool_call>", filler: /\s/ },
  llama3: { opener: "<|python_tag|>", onlyFirst: true, closer: "", filler: /[\s;,]/ },
  mistral: { opener: "[TOOL_CALLS]", onlyFirst: false, closer: "", filler: /[\s[\],]/ },
};

export interface ToolCallParserOptions {
  /** The functions that exist. Llama 3 marks calls by nothing else, so there an object with another name is content. */
  names: Iterable<string>;
  newId?: () => string;
}

/**
 * The text may be cut anywhere. Held back are only the beginnings of tags, a call until its name is known, and whitespace until
 * something follows it: around calls it is dropped. What turns out not to be a call is content.
 */
export class ToolCallParser {
  readonly #markup: Markup;
  readonly #names: ReadonlySet<string>;
  readonly #newId: () => string;
  #state: "start" | "content" | "between" | "call";
  /** A part of the opener or closer. */
  #partial = "";
  #whitespace = "";
  /** All since the opener that may have to become content after all. */
  #raw = "";
  #reader = new JsonCallReader();
  #isNamed = false;
  #hasArguments = false;
  #calls = 0;
  #deltas: AnswerDelta[] = [];

  constructor(family: ToolFamily, { names, newId = newCallId }: ToolCallParserOptions) {
    this.#markup = MARKUP[family];
    this.#names = new Set(names);
    this.#newId = newId;
    this.#state = this.#markup.onlyFirst ? "start" : "content";
  }

  /** How many calls there have been: with any, the answer's finish_reason is "tool_calls". */
  get calls(): number {
    return this.#calls;
  }

  push(text: string): AnswerDelta[] {
    for (const char of text) this.#step(char);
    return this.#take();
  }

  /** What was held back, now that the text is over. */
  finish(): AnswerDelta[] {
    if (this.#state === "between" && this.#calls > 0) this.#raw = "";
    const rest = this.#raw + (this.#state === "between" ? "" : this.#partial);
    this.#raw = "";
    this.#partial = "";
    if (rest !== "") this.#content(rest);
    if (this.#calls === 0 && this.#whitespace !== "") this.#emitContent(this.#whitespace);
    this.#whitespace = "";
    return this.#take();
  }

  #take(): AnswerDelta[] {
    const deltas = this.#deltas;
    this.#deltas = [];
    return deltas;
  }

  #step(char: string): void {
    if (this.#state === "start") this.#start(char);
    else if (this.#state === "between") this.#between(char);
    else if (this.#state === "call") this.#call(char);
    else if (this.#markup.onlyFirst) this.#content(char);
    else this.#lookForOpener(char);
  }

  #start(char: string): void {
    if (this.#partial === "" && /\s/.test(char)) {
      this.#content(char);
    } else if (this.#partial === "" && char === "{") {
      this.#open("");
      this.#between(char);
    } else {
      this.#lookForOpener(char);
      if (this.#state === "start" && this.#partial === "") this.#state = "content";
    }
  }

  #lookForOpener(char: string): void {
    this.#partial += char;
    while (!this.#markup.opener.startsWith(this.#partial)) {
      this.#content(this.#partial[0]);
      this.#partial = this.#partial.slice(1);
    }
    if (this.#partial === this.#markup.opener) this.#open(this.#markup.opener);
  }

  #open(raw: string): void {
    this.#state = "between";
    this.#partial = "";
    this.#raw = raw;
  }

  /** Around calls: only filler, the next call or the closer. */
  #between(char: string): void {
    this.#raw += char;
    const partial = this.#partial + char;
    if (partial === this.#markup.closer) {
      this.#raw = "";
      this.#partial = "";
      this.#state = "content";
    } else if (this.#markup.closer.startsWith(partial)) {
      this.#partial = partial;
    } else if (this.#partial === "" && char === "{") {
      this.#state = "call";
      this.#reader = new JsonCallReader();
      this.#isNamed = false;
      this.#hasArguments = false;
      this.#advance(this.#reader.push(char));
    } else if (this.#partial !== "" || !this.#markup.filler.test(char)) {
      this.#giveUp();
    }
  }

  #call(char: string): void {
    if (!this.#isNamed) this.#raw += char;
    this.#advance(this.#reader.push(char));
  }

  #advance({ name, arguments: text, state }: CallProgress): void {
    if (name !== undefined && !this.#isCallable(name)) {
      this.#giveUp();
      return;
    }
    if (name !== undefined) this.#begin(name);
    if (text !== "") this.#arguments(text);
    if (state === "done") {
      if (!this.#hasArguments) this.#arguments("{}");
      this.#state = "between";
    } else if (state === "broken") {
      this.#giveUp();
    }
  }

  #isCallable(name: string): boolean {
    return !this.#markup.onlyFirst || this.#names.has(name);
  }

  #begin(name: string): void {
    this.#isNamed = true;
    this.#raw = "";
    this.#whitespace = "";
    this.#emitCall({ index: this.#calls++, id: this.#newId(), type: "function", function: { name, arguments: "" } });
  }

  /** What came since the last call is content. */
  #giveUp(): void {
    const raw = this.#raw;
    this.#raw = "";
    this.#partial = "";
    this.#state = "content";
    this.#content(raw);
  }

  #arguments(text: string): void {
    this.#hasArguments = true;
    this.#emitCall({ index: this.#calls - 1, function: { arguments: text } });
  }

  /** Passes content on, but whitespace only together with what follows it. */
  #content(text: string): void {
    const all = this.#whitespace + text;
    const end = all.trimEnd().length;
    this.#whitespace = all.slice(end);
    if (end > 0) this.#emitContent(all.slice(0, end));
  }

  #emitContent(text: string): void {
    const last = this.#deltas.at(-1);
    if (last?.content !== undefined) last.content += text;
    else this.#deltas.push({ content: text });
  }

  #emitCall(call: ToolCallDelta): void {
    const last = this.#deltas.at(-1)?.tool_calls?.at(-1);
    if (last?.index === call.index) last.function.arguments += call.function.arguments;
    else this.#deltas.push({ tool_calls: [call] });
  }
}

function newCallId(): string {
  return `call_${randomBytes(12).toString("hex")}`;
}
