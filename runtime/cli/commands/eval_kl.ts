import { divergence } from "../../eval/divergence.ts";
import { readText } from "../../eval/text_file.ts";
import { tokenWindows } from "../../eval/windows.ts";
import { defineCommand } from "../command.ts";
import { checkWindow, MODEL_FLAGS, openForEval, pause, tokenizerOf, WINDOW_FLAGS } from "../eval_flags.ts";
import { formatDuration } from "../format.ts";

export const evalKlCommand = defineCommand({
  name: "eval kl",
  summary: "how far a model's predictions are from a reference's",
  description: [
    "Mean KL(reference || model) per token in nats, and the share of tokens where both find the same next token likeliest, over",
    "windows of a text file. Both models are loaded at once; the reference's tokenizer reads the file. An adapter goes to the",
    "model, not to the reference.",
  ].join("\n"),
  flags: {
    ...MODEL_FLAGS,
    reference: { type: "string", summary: "model folder to compare with", placeholder: "DIR", required: true },
    ...WINDOW_FLAGS,
  },
  examples: ["apiq eval kl --model m-2bit --reference m-fp16 --data wikitext-2/test.txt --limit 10 --json"],
  async run({ flags, out, signal }) {
    for (const dir of [flags.reference, flags.model]) checkWindow(dir, flags.window);
    const stream = tokenizerOf(flags.reference).encode(readText(flags.data));
    const windows = tokenWindows(stream, flags.window, flags.limit);
    const size = { contextLength: flags.window, maxSequences: 1 };
    const reference = openForEval({ ...flags, model: flags.reference, adapter: undefined }, size);
    using _reference = reference.loaded;
    const model = openForEval(flags, size);
    using _model = model.loaded;
    const started = performance.now();
    using bar = out.progress("comparing", windows.length * flags.window, "tokens");
    const result = await divergence(reference, model, windows, (soFar) =>
      pause(signal, bar, soFar.tokens, `KL ${soFar.kl.toFixed(4)}`),
    );
    bar.end();
    const seconds = (performance.now() - started) / 1000;
    if (flags.json) {
      out.json({ ...result, window: flags.window, seconds });
      return 0;
    }
    out.line(`mean KL      ${result.kl.toPrecision(4)} nats`);
    out.line(`same top-1   ${(100 * result.agreement).toFixed(2)} %`);
    out.line(`tokens       ${result.tokens} in ${result.windows} windows of ${flags.window}`);
    out.line(`time         ${formatDuration(seconds)}`);
    return 0;
  },
});
