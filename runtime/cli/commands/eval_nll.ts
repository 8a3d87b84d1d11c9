import { sequenceNlls } from "../../eval/nll.ts";
import { readText } from "../../eval/text_file.ts";
import { defineCommand } from "../command.ts";
import { MODEL_FLAGS, openForEval, pause } from "../eval_flags.ts";

/** Reads {"sequences": [[ids]]}. */
function readSequences(path: string): number[][] {
  const fail = (received: string): never => {
    throw new Error(`Cannot use ${path}: received ${received}, expected {"sequences": [[token ids, at least two]]}`);
  };
  const text = readText(path);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
  const sequences = (parsed as { sequences?: unknown } | null)?.sequences;
  if (!Array.isArray(sequences)) return fail(`sequences of type ${typeof sequences}`);
  if (sequences.length === 0) return fail("no sequences");
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
  description: [
    'The file holds {"sequences": [[ids]]}; the answer is {"nll": [[nats per token, the first omitted]]}.',
    "The folder needs no tokenizer.",
  ].join("\n"),
  flags: {
    ...MODEL_FLAGS,
    tokens: { type: "string", summary: "JSON file with token ids", placeholder: "FILE", required: true },
  },
  examples: ["apiq eval nll --model m --tokens ids.json --json"],
  async run({ flags, out, signal }) {
    const sequences = readSequences(flags.tokens);
    const longest = sequences.reduce((most, tokens) => Math.max(most, tokens.length), 2);
    const { loaded, adapterSlot } = openForEval(flags, { contextLength: longest, maxSequences: 1 });
    using _owned = loaded;
    const vocab = loaded.config.vocabSize;
    const outside = sequences.flat().find((token) => token >= vocab);
    if (outside !== undefined) {
      throw new Error(`Cannot score: received token ${outside}, expected ids below ${vocab} (the model's vocabulary)`);
    }
    using bar = out.progress("scoring", sequences.flat().length, "tokens");
    const nlls = await sequenceNlls(loaded, sequences, adapterSlot, (done) => pause(signal, bar, done));
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
