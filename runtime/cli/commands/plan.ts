import { totalmem } from "node:os";
import { Context } from "../../../ffi/mod.ts";
import { parseTargets } from "../../finetune/settings.ts";
import { BITS, GROUP_SIZES } from "../../formats/gptq.ts";
import { residentBytes } from "../../memory.ts";
import { SHAPES } from "../../models/shapes.ts";
import { makePlan, type Need, type Plan } from "../../plan/plan.ts";
import { DEFAULT_STORAGE, type PlannedStorage } from "../../plan/planned_model.ts";
import { EMBEDDING_BITS } from "../../quantize/settings.ts";
import { hasTokenizer, openTokenizer } from "../../tokenizer/mod.ts";
import { choice } from "../choice.ts";
import { defineCommand, type FlagValues } from "../command.ts";
import { formatBytes } from "../format.ts";
import type { Output } from "../output.ts";

const FLAGS = {
  shape: {
    type: "string",
    summary: `a model folder, or one of ${Object.keys(SHAPES).join(", ")}`,
    placeholder: "NAME|DIR",
    required: true,
  },
  bits: { type: "integer", summary: "bits of a weight that is not packed yet: 2, 3, 4 or 8 (default 2)" },
  groupSize: { type: "integer", summary: "weights that share a scale: 32, 64 or 128 (default 64)" },
  embedBits: { type: "integer", summary: "embedding and head: 16, 8 or 4 (default 16)" },
  rank: {
    type: "integer",
    summary: "of a LoRA that trains from zero (default: the calibrated one trains, or 64)",
    min: 1,
  },
  targets: {
    type: "string",
    summary: "linears that train, such as q_proj,v_proj or attention (default: all)",
    placeholder: "NAMES",
  },
  dora: { type: "boolean", summary: "DoRA" },
  seq: { type: "integer", summary: "tokens of a sequence in training", default: 2048, min: 1 },
  batch: { type: "integer", summary: "sequences that go through together", default: 1, min: 1 },
  optimizerBits: { type: "integer", summary: "bits of AdamW's moments: 32 or 8", default: 32 },
  recompute: {
    type: "boolean",
    undecided: true,
    summary: "run each block again in the backward pass instead of keeping what that needs (default on)",
  },
  context: { type: "integer", summary: "serving: tokens of a request (default: the model's, up to 4096)", min: 1 },
  maxSequences: { type: "integer", summary: "serving: requests at the same time", default: 1, min: 1, max: 1024 },
  deviceMemory: { type: "bytes", summary: "memory there is, such as 24G (default: this machine's)", min: 1 },
  json: { type: "boolean", summary: "print JSON" },
} as const;

export const planCommand = defineCommand({
  name: "plan",
  summary: "how much memory finetuning and serving a model take, part by part",
  description: [
    "Counts with the functions that size the buffers when it runs, and makes nothing. Of a folder only headers are read; one that",
    "is not packed is planned for as it lies, or with --bits as it would be packed. Training keeps the input of each block and",
    "computes the block again in the backward pass. Exit code 1 where training does not fit.",
  ].join("\n"),
  flags: FLAGS,
  examples: [
    "apiq plan --shape llama-2-7b --bits 2 --rank 64 --seq 2048",
    "apiq plan --shape model-2bit --seq 512 --device-memory 24G --json",
  ],
  run({ flags, out }) {
    using context = Context.open({ threads: 1 });
    // Training has it open too, and it takes more than the program.
    if (hasTokenizer(flags.shape)) openTokenizer(flags.shape);
    const plan = makePlan(context, {
      shape: flags.shape,
      storage: storageOf(flags),
      training: {
        rank: flags.rank ?? null,
        dora: flags.dora,
        targets: flags.targets === undefined ? null : parseTargets(flags.targets),
        sequences: flags.batch,
        length: flags.seq,
        recompute: flags.recompute ?? true,
        momentBits: choice("--optimizer-bits", flags.optimizerBits, [32, 8]),
        below: flags.rank !== undefined,
        dropout: false,
      },
      serving: { sequences: flags.maxSequences, contextLength: flags.context },
      memory: flags.deviceMemory ?? totalmem(),
      programBytes: residentBytes(),
    });
    if (flags.json) out.json(plan);
    else print(plan, flags, out);
    return Promise.resolve(plan.training.fits ? 0 : 1);
  },
});

/** null where nothing is said about it. */
function storageOf({ bits, groupSize, embedBits }: FlagValues<typeof FLAGS>): PlannedStorage | null {
  if (bits === undefined && groupSize === undefined && embedBits === undefined) return null;
  return {
    bits: choice("--bits", bits ?? DEFAULT_STORAGE.bits, BITS),
    group: choice("--group-size", groupSize ?? DEFAULT_STORAGE.group, GROUP_SIZES),
    embeddingBits: choice("--embed-bits", embedBits ?? DEFAULT_STORAGE.embeddingBits, EMBEDDING_BITS),
  };
}

function print(plan: Plan, { seq, batch }: FlagValues<typeof FLAGS>, out: Output): void {
  const { model, training, serving, remedies } = plan;
  const billions = (model.parameters / 1e9).toPrecision(3);
  out.line(
    `${out.style("bold", model.name)}: ${billions} B parameters, ${model.bitsPerWeight.toFixed(2)} bits a weight`,
  );
  const lora = `LoRA of ${(training.loraParameters / 1e6).toPrecision(3)} M parameters on ${training.linears} linears`;
  printNeed(`training   ${lora}, ${batch} x ${seq} tokens`, training, plan.memory, out);
  printNeed(`serving    ${serving.sequences} x ${serving.contextLength} tokens`, serving, plan.memory, out);
  if (remedies.length === 0) return;
  out.line();
  out.line(out.style("bold", "training would take"));
  for (const { change, bytes, fits } of remedies) {
    out.line(`  ${formatBytes(bytes).padStart(8)}  with ${change}${fits ? ", which fits" : ""}`);
  }
}

function printNeed(title: string, { parts, bytes, fits }: Need, memory: number, out: Output): void {
  out.line();
  out.line(out.style("bold", title));
  for (const part of parts) {
    const share = `${((100 * part.bytes) / bytes).toFixed(1)} %`;
    out.line(`  ${formatBytes(part.bytes).padStart(8)}  ${share.padStart(6)}  ${part.part}`);
  }
  const verdict = fits
    ? out.style("green", `fits into ${formatBytes(memory)}`)
    : out.style("red", `does not fit into ${formatBytes(memory)}: ${formatBytes(bytes - memory)} too much`);
  out.line(`  ${formatBytes(bytes).padStart(8)}          in all, ${verdict}`);
}
