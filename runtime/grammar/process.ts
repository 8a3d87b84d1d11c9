/**
 * Main module of a grammar process: compiles grammars and computes masks with XGrammar. It is a process because nothing less can
 * be stopped: neither Bun nor Deno interrupts a thread that is inside WebAssembly, and a hostile grammar can keep it there.
 *
 * The first reply says that the tokenizer is read, or why it cannot be.
 */
import process from "node:process";
import { encodeFrame, FrameDecoder } from "../engine/frames.ts";
import { MatcherHost } from "./matcher_host.ts";
import type { GrammarCommand, GrammarProcessArguments, GrammarReply } from "./process_protocol.ts";
import { readGrammarVocabulary } from "./vocabulary.ts";

function reply(message: GrammarReply): void {
  process.stdout.write(encodeFrame(message));
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function answer(host: MatcherHost, command: GrammarCommand): Promise<GrammarReply | undefined> {
  switch (command.type) {
    case "start":
      await host.start(command.id, command.spec);
      return {};
    case "mask": {
      const mask = await host.mask(command.id, command.accepted);
      return { mask: new Uint8Array(mask.buffer, mask.byteOffset, mask.byteLength) };
    }
    case "finish":
      host.finish(command.id);
      return undefined;
  }
}

async function open(): Promise<MatcherHost> {
  // A caller that passes something else is a bug in process_handle.ts.
  const { model, vocabSize } = JSON.parse(process.argv[2]) as GrammarProcessArguments;
  return await MatcherHost.open(readGrammarVocabulary(model, vocabSize));
}

async function main(): Promise<void> {
  const host = await open();
  reply({});
  const decoder = new FrameDecoder();
  for await (const chunk of process.stdin) {
    for (const message of decoder.push(chunk)) {
      const answered = await answer(host, message as GrammarCommand).catch((error) => ({ error: reasonOf(error) }));
      if (answered !== undefined) reply(answered);
      // The other side sees the end of this process and starts another.
      if (!host.usable) return;
    }
  }
}

// Ctrl-C in a terminal reaches the whole process group; this process ends with its standard input.
process.on("SIGINT", () => {});
await main().catch((error) => reply({ error: reasonOf(error) }));
