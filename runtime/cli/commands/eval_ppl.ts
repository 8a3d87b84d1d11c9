import { perplexity } from "../../eval/perplexity.ts";
import { readText } from "../../eval/text_file.ts";
import { tokenWindows } from "../../eval/windows.ts";
import { defineCommand } from "../command.ts";
import { checkWindow, MODEL_FLAGS, openForEval, pause, tokenizerOf, WINDOW_FLAGS } from "../eval_flags.ts";
import { formatDuration } from "../format.ts";

export const evalPplCommand = defineCommand({
  name: "eval ppl",
  summary: "perplexity over windows of a text file",
  description: [
    "The file is one stream of tokens, cut into windows back to back; a rest at the end is dropped. The result is exp of the mean",
    "over all predictions, window - 1 of each window.",
  ].join("\n"),
  flags: { ...MODEL_FLAGS, ...WINDOW_FLAGS },
  examples: ["apiq eval ppl --model m --data wikitext-2/test.txt --window 1024 --limit 40 --json"],
  async run({ flags, out, signal }) {
    const tokenizer = tokenizerOf(flags.model);
    checkWindow(flags.model, flags.window);
    const stream = tokenizer.encode(readText(flags.data));
    const windows = tokenWindows(stream, flags.window, flags.limit);
    const { loaded, adapterSlot } = openForEval(flags, { contextLength: flags.window, maxSequences: 1 });
    using _owned = loaded;
    const started = performance.now();
    using bar = out.progress("scoring", windows.length * flags.window, "tokens");
    const result = await perplexity(loaded, windows, adapterSlot, (done, { windows, ppl }) =>
      pause(signal, bar, done, windows === 0 ? undefined : `perplexity ${ppl.toFixed(3)}`),
    );
    bar.end();
    const seconds = (performance.now() - started) / 1000;
    if (flags.json) {
      out.json({ ...result, window: flags.window, seconds });
      return 0;
    }
    out.line(`perplexity  ${result.ppl.toFixed(3)}`);
    out.line(`mean nll    ${result.nll.toFixed(4)} nats`);
    out.line(`tokens      ${result.tokens} predicted in ${result.windows} windows of ${flags.window}`);
    out.line(`time        ${formatDuration(seconds)}`);
    return 0;
  },
});
