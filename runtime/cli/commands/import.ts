import { importGguf } from "../../import/import_gguf.ts";
import { defineCommand } from "../command.ts";
import { formatBytes } from "../format.ts";

export const importCommand = defineCommand({
  name: "import",
  summary: "make a model folder from a GGUF file",
  description:
    "Writes a Hugging Face folder with the same numbers as the GGUF, bit for bit. Tensor types F32, F16, BF16, Q8_0, Q4_0 and " +
    "Q4_1; architectures llama (Mistral too), qwen2 and qwen3. config.json and the tokenizer's files are taken from the GGUF's " +
    "folder where they lie there. The folder appears only when it is complete.",
  positionals: [{ name: "GGUF", summary: "the file", required: true }],
  flags: {
    out: { type: "string", summary: "folder to write", placeholder: "DIR", required: true },
    force: { type: "boolean", summary: "replace DIR if it is a model's folder" },
    json: { type: "boolean", summary: "print JSON" },
  },
  examples: ["apiq import model.Q4_1.gguf --out model"],
  async run({ flags, positionals, out, signal }) {
    using progress = out.progress("importing", 1, "tensors");
    const options = { gguf: positionals[0]!, out: flags.out, force: flags.force, signal };
    const result = await importGguf(options, ({ done, total }) => progress.update(done, { total }));
    progress.end();
    for (const warning of result.warnings) out.note(warning);
    if (flags.json) {
      out.json(result);
      return 0;
    }
    const types = Object.entries(result.types).map(([type, count]) => `${count} ${type}`);
    out.line(`${result.out}: ${result.tensors} tensors (${types.join(", ")}), ${formatBytes(result.bytes)}`);
    out.line(`Next: apiq serve --model ${result.out}`);
    return 0;
  },
});
