/** One life of a grammar process, with a time limit on everything it is asked. */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { encodeFrame, FrameDecoder } from "../engine/frames.ts";
import type { GrammarCommand, GrammarProcessArguments, GrammarReply } from "./process_protocol.ts";

const MAIN = fileURLToPath(new URL("./process.ts", import.meta.url));
const DENO_CONFIG = fileURLToPath(new URL("../../deno.json", import.meta.url));
/** Reading a tokenizer of 150,000 tokens takes about a second on an idle machine. */
const OPEN_MS = 60_000;

interface Expected {
  /** From the moment at which all earlier replies are there. */
  limitMs: number;
  /** For the message when the limit is exceeded, as in "compiling the grammar". */
  what: string;
  resolve(reply: GrammarReply): void;
}

export class GrammarProcess {
  readonly #child: ChildProcess;
  readonly #onDeath: (reason: string) => void;
  readonly #expected: Expected[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #died: string | undefined;

  /** @param onDeath called once, when the process is gone for whatever reason but `close` */
  constructor(args: GrammarProcessArguments, onDeath: (reason: string) => void) {
    this.#onDeath = onDeath;
    const runtime = process.versions.deno === undefined ? ["run"] : ["run", ...denoFlags()];
    this.#child = spawn(process.execPath, [...runtime, MAIN, JSON.stringify(args)], {
      stdio: ["pipe", "pipe", 2],
      env: { ...process.env, MSGPACKR_NATIVE_ACCELERATION_DISABLED: "true" },
    });
    const decoder = new FrameDecoder();
    this.#child.stdout!.on("data", (chunk: Uint8Array) => {
      for (const reply of decoder.push(chunk)) this.#take(reply as GrammarReply);
    });
    this.#child.stdin!.on("error", () => this.#die("its process does not listen"));
    this.#child.once("error", (error) => this.#die(`its process cannot be started (${error.message})`));
    // What the process said last may still lie in the pipe: "close" comes after it, "exit" may not.
    this.#child.once("close", (code, signal) => this.#die(`its process ended (${signal ?? `exit code ${code}`})`));
    this.#expect("reading the tokenizer", OPEN_MS).then(({ error }) => {
      if (error !== undefined) this.#die(error);
    });
  }

  /** Sends a command and resolves to its reply; to an error when the limit passes or the process dies. Never rejects. */
  ask(command: GrammarCommand, what: string, limitMs: number): Promise<GrammarReply> {
    const reply = this.#expect(what, limitMs);
    if (this.#died === undefined) this.#child.stdin!.write(encodeFrame(command));
    return reply;
  }

  /** Sends a command that has no reply. */
  tell(command: GrammarCommand): void {
    if (this.#died === undefined) this.#child.stdin!.write(encodeFrame(command));
  }

  /** Ends the process at once and without a call of onDeath. */
  close(): void {
    this.#end("grammars are not in use any more");
  }

  #expect(what: string, limitMs: number): Promise<GrammarReply> {
    if (this.#died !== undefined) return Promise.resolve({ error: this.#died });
    return new Promise((resolve) => {
      this.#expected.push({ limitMs, what, resolve });
      if (this.#expected.length === 1) this.#startTimer();
    });
  }

  #take(reply: GrammarReply): void {
    clearTimeout(this.#timer);
    this.#expected.shift()?.resolve(reply);
    this.#startTimer();
  }

  #startTimer(): void {
    const [head] = this.#expected;
    if (head === undefined) return;
    this.#timer = setTimeout(() => {
      this.#die(`${head.what} took more than ${head.limitMs / 1000} s`);
    }, head.limitMs);
  }

  #die(reason: string): void {
    if (this.#end(reason)) this.#onDeath(reason);
  }

  /** Returns whether this was the end, and not one after it. */
  #end(reason: string): boolean {
    if (this.#died !== undefined) return false;
    this.#died = reason;
    clearTimeout(this.#timer);
    this.#child.kill("SIGKILL");
    for (const { resolve } of this.#expected.splice(0)) resolve({ error: reason });
    return true;
  }
}

/** A grammar process reads the program, the tokenizer and the environment, and may do nothing else. */
function denoFlags(): string[] {
  return ["--quiet", "--no-prompt", "--cached-only", `--config=${DENO_CONFIG}`, "--allow-read", "--allow-env"];
}
