import { EXPORT_DTYPES, type ExportDtype } from "../../export/export_model.ts";
import { exportMerged, joinAdapters, type MergeOptions } from "../../merge/merge.ts";
import { defineCommand, type FlagValues, UsageError } from "../command.ts";
import { formatBytes } from "../format.ts";

const FLAGS = {
  adapter: { type: "string", summary: "a LoRA adapter of the model", placeholder: "DIR", multiple: true },
  out: { type: "string", summary: "folder to write", placeholder: "DIR", required: true },
  weights: {
    type: "string",
    summary: "a factor for each adapter, such as 1,0.5 (default: all 1)",
    placeholder: "LIST",
  },
  method: {
    type: "string",
    summary: "one adapter with all ranks together, which is exact, or the nearest of rank --rank",
    choices: ["rank-sum", "svd"],
    default: "rank-sum",
  },
  rank: { type: "integer", summary: "with --method svd: of the result", min: 1, max: 65536 },
  mode: {
    type: "string",
    summary: "adapters without apiq.json: do they contain the calibrated LoRA (replace) or come on top of it (stack)",
    choices: ["replace", "stack"],
  },
  exportFp16: { type: "boolean", summary: "write a plain model instead, the adapters added to its weights" },
  dtype: {
    type: "string",
    summary: "with --export-fp16: type of all weights (default float16)",
    choices: Object.keys(EXPORT_DTYPES) as ExportDtype[],
  },
  json: { type: "boolean", summary: "print JSON" },
} as const;

export const mergeCommand = defineCommand({
  name: "merge",
  summary: "join LoRA adapters into one, or export a model with them added to its weights",
  description: [
    "Packed weights cannot take an adapter in: their few levels do not hold the sum. What can be done: several adapters become",
    "one, which is served beside the model as any other, or base and adapters become a plain model with --export-fp16.",
    "",
    "An adapter trained from the model's calibrated LoRA contains it and replaces it (apiq.json says so); with weights w the",
    "result is base + calibrated LoRA + the sum of w times what each training changed.",
  ].join("\n"),
  positionals: [{ name: "MODEL", summary: "model folder", required: true }],
  flags: FLAGS,
  examples: [
    "apiq merge model-2bit --adapter math --adapter chat --out both",
    "apiq merge model-2bit --adapter math --adapter chat --weights 1,0.5 --method svd --rank 32 --out small",
    "apiq merge model-2bit --adapter math --export-fp16 --out model-fp16",
  ],
  async run({ flags, positionals, out, signal }) {
    checkTogether(flags);
    const options: MergeOptions = {
      model: positionals[0]!,
      adapters: weighted(flags),
      out: flags.out,
      mode: flags.mode ?? null,
      signal,
    };
    using progress = out.progress("merging", 1, flags.exportFp16 ? "tensors" : "linears");
    if (flags.exportFp16) {
      const dtype = flags.dtype ?? "float16";
      const result = await exportMerged({ ...options, dtype }, ({ done, total }) => progress.update(done, { total }));
      progress.end();
      if (flags.json) out.json(result);
      else out.line(`${result.out}: ${result.tensors} tensors in ${dtype}, ${formatBytes(result.bytes)}`);
      return 0;
    }
    const rank = flags.method === "svd" ? flags.rank! : null;
    const result = await joinAdapters({ ...options, rank }, (done, total) => progress.update(done, { total }));
    progress.end();
    if (flags.json) {
      out.json(result);
      return 0;
    }
    const kept = result.kept === null ? "exact" : `${(100 * result.kept).toFixed(2)} % of the squares kept`;
    out.line(
      `${result.out}: rank ${result.rank} on ${result.linears} linears, ${formatBytes(result.bytes)}, ${kept}; ` +
        (result.replaces ? "replaces the calibrated LoRA" : "comes on top of the model's own LoRA"),
    );
    return 0;
  },
});

type Flags = FlagValues<typeof FLAGS>;

function checkTogether({ adapter, method, rank, exportFp16, dtype }: Flags): void {
  if (adapter.length === 0) throw new UsageError("Missing --adapter DIR");
  if (exportFp16 && (method === "svd" || rank !== undefined)) {
    throw new UsageError("Cannot use --method svd or --rank with --export-fp16: the weights hold any rank");
  }
  if ((method === "svd") !== (rank !== undefined)) throw new UsageError("--method svd and --rank N go together");
  if (dtype !== undefined && !exportFp16) throw new UsageError("Cannot use --dtype without --export-fp16");
}

/** Each adapter with its factor. */
function weighted({ adapter, weights }: Flags): MergeOptions["adapters"] {
  const factors = weights?.split(",").map((text) => (text.trim() === "" ? Number.NaN : Number(text)));
  if (factors?.some((factor) => !Number.isFinite(factor))) {
    throw new UsageError(`Cannot read --weights: received "${weights}", expected numbers such as 1,0.5`);
  }
  if (factors && factors.length !== adapter.length) {
    const expected = `${adapter.length}, one for each adapter`;
    throw new UsageError(`Cannot use --weights: received ${factors.length} numbers, expected ${expected}`);
  }
  return adapter.map((dir, i) => ({ dir, weight: factors?.[i] ?? 1 }));
}
