/** Calibration data: a file becomes one stream of tokens, which is cut into windows of equal length. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { isObject } from "../formats/json.ts";
import { type ChatMessage, isChatMessage, openTokenizer, type Tokenizer } from "../tokenizer/mod.ts";
import type { CalibrationSettings } from "./settings.ts";

/** Tokens encoded beyond what is needed: where a text is cut, the last tokens may differ from those of the whole text. */
const MARGIN = 64;

export interface Calibration {
  readonly file: string;
  readonly kind: "text" | "JSONL of texts" | "JSONL of chats";
  /** int32 token ids, [samples][length] */
  readonly windows: readonly Int32Array[];
  readonly length: number;
  /** SHA-256 of all ids in order, as little-endian int32. */
  readonly sha256: string;
  /** What the person who runs this should know, in sentences. */
  readonly notes: readonly string[];
}

/**
 * Reads `settings.data`. Plain text is one stream; of JSONL, the documents are encoded one by one, with the special tokens that the
 * tokenizer puts around a text (chats with those that the template writes), and follow each other.
 *
 * @param seed of the random choice of windows
 * @throws for a file that cannot be read or holds less than one window
 */
export function readCalibration(
  settings: CalibrationSettings & { readonly data: string },
  dir: string,
  vocabSize: number,
  seed: number,
): Calibration {
  const { data: file, samples, length, windows: choice } = settings;
  const text = readText(file);
  const tokenizer = openTokenizer(dir);
  const documents = file.endsWith(".jsonl") ? readDocuments(text, file) : null;
  const needed = choice === "first" ? samples * length : Number.POSITIVE_INFINITY;
  const ids =
    documents === null ? encodePrefix(tokenizer, text, needed) : encodeDocuments(tokenizer, documents, needed);
  const outside = ids.find((id) => id >= vocabSize);
  if (outside !== undefined) {
    throw new Error(
      `Cannot use ${file}: the tokenizer gave token ${outside}, expected ids below ${vocabSize} (the model's vocabulary)`,
    );
  }
  const found = Math.floor(ids.length / length);
  if (found === 0) {
    throw new Error(
      `Cannot calibrate on ${file}: it has ${ids.length} tokens, expected at least ${length} (--seq-len)`,
    );
  }
  const count = Math.min(samples, found);
  const order = choice === "first" ? Array.from({ length: count }, (_, i) => i) : randomWindows(found, count, seed);
  const chosen = order.map((window) => Int32Array.from(ids.slice(window * length, (window + 1) * length)));
  const hash = createHash("sha256");
  for (const window of chosen) hash.update(new Uint8Array(window.buffer));
  const held = count === 1 ? "1 window" : `${count} windows`;
  const notes =
    count < samples
      ? [`${file} holds ${held} of ${length} tokens where --samples asks for ${samples}: calibrating on ${count}.`]
      : [];
  const kind = documents === null ? "text" : documents[0]!.kind;
  return { file, kind, windows: chosen, length, sha256: hash.digest("hex"), notes };
}

function readText(file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    throw new Error(`Cannot read calibration data ${file}: ${readFailure(error)}`);
  }
}

function readFailure(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "it does not exist";
  if (code === "EISDIR") return "it is a folder, expected a file";
  if (error instanceof TypeError) return "it is not UTF-8 text";
  return error instanceof Error ? error.message : String(error);
}

/** A row, and where it stands. */
type Document = { readonly where: string } & (
  | { readonly kind: "JSONL of texts"; readonly text: string }
  | { readonly kind: "JSONL of chats"; readonly messages: readonly ChatMessage[] }
);

function readDocuments(text: string, file: string): Document[] {
  const documents: Document[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() !== "") documents.push(readDocument(line, `line ${index + 1} of ${file}`));
  }
  if (documents.length === 0) throw new Error(`Cannot calibrate on ${file}: it holds no lines`);
  const [first] = documents;
  const other = documents.find(({ kind }) => kind !== first!.kind);
  if (other === undefined) return documents;
  const kinds = first!.kind === "JSONL of texts" ? "a chat after texts" : "a text after chats";
  throw new Error(`Cannot use ${other.where}: received ${kinds}, expected one kind in a file`);
}

function readDocument(line: string, where: string): Document {
  const expected = 'expected {"text": "..."} or {"messages": [{"role", "content"}, ...]}';
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new Error(`Cannot read ${where}: ${error instanceof Error ? error.message : error}, ${expected}`);
  }
  if (isObject(value) && typeof value.text === "string") return { where, kind: "JSONL of texts", text: value.text };
  const messages = isObject(value) ? value.messages : undefined;
  if (Array.isArray(messages) && messages.length > 0) {
    const bad = messages.findIndex((message) => !isChatMessage(message));
    if (bad < 0) return { where, kind: "JSONL of chats", messages: messages as ChatMessage[] };
    const shown = JSON.stringify(messages[bad]).slice(0, 200);
    throw new Error(`Cannot read ${where}: received ${shown} as message ${bad + 1}, ${expected}`);
  }
  const received =
    isObject(value) && !("text" in value) && !("messages" in value)
      ? `an object with ${Object.keys(value).join(", ") || "no keys"}`
      : JSON.stringify(value);
  throw new Error(`Cannot read ${where}: received ${received?.slice(0, 200)}, ${expected}`);
}

/** The first `needed` tokens of the text as a whole, without encoding all of a long one. */
function encodePrefix(tokenizer: Tokenizer, text: string, needed: number): number[] {
  for (let characters = (needed + MARGIN) * 5; ; characters *= 2) {
    const end = lineEnd(text, characters);
    const ids = tokenizer.encode(text.slice(0, end));
    if (end === text.length) return ids;
    if (ids.length >= needed + MARGIN) return ids.slice(0, needed);
  }
}

/** The first place from `from` on where a line begins, or the text's end. */
function lineEnd(text: string, from: number): number {
  if (from >= text.length) return text.length;
  const newline = text.indexOf("\n", from);
  return newline < 0 ? text.length : newline + 1;
}

function encodeDocuments(tokenizer: Tokenizer, documents: readonly Document[], needed: number): number[] {
  const ids: number[] = [];
  for (const document of documents) {
    if (ids.length >= needed) break;
    const more = document.kind === "JSONL of texts" ? tokenizer.encode(document.text) : encodeChat(tokenizer, document);
    for (const id of more) ids.push(id);
  }
  return ids;
}

function encodeChat(
  tokenizer: Tokenizer,
  { messages, where }: { readonly messages: readonly ChatMessage[]; readonly where: string },
): number[] {
  try {
    return tokenizer.encodeChat(messages, { addGenerationPrompt: false });
  } catch (error) {
    throw new Error(`Cannot calibrate on ${where}: ${error instanceof Error ? error.message : error}`);
  }
}

/** `count` of the windows 0 .. found - 1, each at most once, in random order: the head of a Fisher-Yates shuffle by mulberry32. */
function randomWindows(found: number, count: number, seed: number): number[] {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
  const windows = Array.from({ length: found }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const other = i + Math.floor(next() * (found - i));
    [windows[i], windows[other]] = [windows[other]!, windows[i]!];
  }
  return windows.slice(0, count);
}
