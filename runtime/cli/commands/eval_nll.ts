import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { loadModel } from "../../engine/loaded_model.ts";
import { sequenceNlls } from "../../eval/nll.ts";
import { defineCommand } from "../command.ts";

/** Reads {"sequences": [[ids]]}. */
function readSequences(path: string): number[][] {
  const fail = (received: string): never => {
    throw new Error(`Cannot use ${path}: received ${received}, expected {"sequences": [[token ids, at least two]]}`);
  };
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
  const sequences = (parsed as { sequences?: unknown } | null)?.sequences;
  if (!Array.isArray(sequences)) return fail(`sequences of type ${typeof sequences}`);
  for (const [index, tokens] of sequences.entries()) {
    if (!Array.isArray(tokens) || tokens.length < 2) return fail(`sequence ${index} with fewer than two tokens`);
    const bad = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= 2 ** 31);
    if (bad !== undefined) return fail(`${JSON.stringify(bad)} in sequence ${index}`);
  }
  return sequences;
}

export const evalNllCommand = defineCommand({
  name: "eval nll",
  summary: "per-token negative log-likelihood of token sequences",
  description: `The file holds {"sequences": [[ids]]}; the answer is {"nll": [[nats per token, the first omitted]]}. The folder needs no tokenizer.`,
  flags: {
    model: { type: "string", summary: "model folder", placeholder: "DIR", required: true },
    adapter: { type: "string", summary: "PEFT adapter folder", placeholder: "DIR" },
    tokens: { type: "string", summary: "JSON file with token ids", placeholder: "FILE", required: true },
    activations: {
      type: "string",
      summary: "how packed linears treat their input",
      choices: ["auto", "int8", "f32"],
      default: "auto",
    },
    threads: { type: "integer", summary: "threads (0: all)", default: 0, min: 0, max: 1024 },
    json: { type: "boolean", summary: "print JSON" },
  },
  examples: ["apiq eval nll --model m --tokens ids.json --json"],
  async run({ flags, out, signal }) {
    const sequences = readSequences(flags.tokens);
    const longest = Math.max(2, ...sequences.map((tokens) => tokens.length));
    using loaded = loadModel({
      model: flags.model,
      device: "auto",
      threads: flags.threads,
      contextLength: longest,
      maxSequences: 1,
      kvMemory: Number.POSITIVE_INFINITY,
      activations: flags.activations,
      adapters: flags.adapter === undefined ? {} : { adapter: flags.adapter },
    });
    const vocab = loaded.config.vocabSize;
    const outside = sequences.flat().find((token) => token >= vocab);
    if (outside !== undefined) {
      throw new Error(`Cannot score: received token ${outside}, expected ids below ${vocab} (the model's vocabulary)`);
    }
    const slot = flags.adapter === undefined ? -1 : (loaded.adapterSlots.get("adapter") ?? -1);
    using bar = out.progress("scoring", sequences.length, "sequences");
    const nlls = await sequenceNlls(loaded, sequences, slot, async (done) => {
      bar.update(done);
      await setImmediate();
      signal.throwIfAborted();
    });
    bar.end();
    if (flags.json) {
      out.json({ nll: nlls.map((nll) => [...nll]) });
      return 0;
    }
    const total = nlls.reduce((sum, nll) => sum + nll.reduce((a, b) => a + b, 0), 0);
    const count = nlls.reduce((sum, nll) => sum + nll.length, 0);
    out.line(`tokens      ${count}`);
    out.line(`mean nll    ${(total / count).toFixed(4)} nats`);
    out.line(`perplexity  ${Math.exp(total / count).toFixed(3)}`);
    return 0;
  },
});
