import { EXPORT_DTYPES, type ExportDtype, type ExportResult, exportModel } from "../../export/export_model.ts";
import { defineCommand } from "../command.ts";
import { formatBytes } from "../format.ts";

const LORA: Record<ExportResult["calibratedLora"], string> = {
  none: "",
  copied: ", with its calibrated LoRA as an adapter in apiq_init",
  merged: ", its calibrated LoRA merged",
  replaced: ", its calibrated LoRA replaced",
};

export const exportCommand = defineCommand({
  name: "export",
  summary: "make a plain 16-bit folder from a packed model",
  description: [
    "Writes a Hugging Face folder of dense safetensors, which other tools read, with the numbers that the packed model computes",
    "with. The calibrated LoRA is copied as an adapter in apiq_init, or added to the weights with --merge-lora. One matrix is",
    "held at a time; the folder appears only when it is complete.",
  ].join("\n"),
  positionals: [{ name: "MODEL", summary: "model folder", required: true }],
  flags: {
    out: { type: "string", summary: "folder to write", placeholder: "DIR", required: true },
    dtype: {
      type: "string",
      summary: "type of all weights",
      choices: Object.keys(EXPORT_DTYPES) as ExportDtype[],
      default: "float16",
    },
    mergeLora: { type: "boolean", summary: "add the calibrated LoRA to the weights" },
    force: { type: "boolean", summary: "replace DIR if it is a model's folder" },
    dryRun: { type: "boolean", summary: "say what would be written, and write nothing" },
    json: { type: "boolean", summary: "print JSON" },
  },
  examples: [
    "apiq export model-2bit --out model-fp16",
    "apiq export model-2bit --out merged --merge-lora --dtype bfloat16",
  ],
  async run({ flags, positionals, out, signal }) {
    using progress = out.progress("exporting", 1, "tensors");
    const { dtype, mergeLora, force, dryRun } = flags;
    const options = { model: positionals[0]!, out: flags.out, dtype, mergeLora, force, dryRun, signal };
    const result = await exportModel(options, ({ done, total }) => progress.update(done, { total }));
    progress.end();
    if (flags.json) {
      out.json(result);
      return 0;
    }
    const what = `${result.tensors} tensors in ${dtype}, ${formatBytes(result.bytes)}, ${result.unpacked} matrices unpacked`;
    out.line(`${dryRun ? "Would write " : ""}${result.out}: ${what}${LORA[result.calibratedLora]}`);
    return 0;
  },
});
