import { homedir } from "node:os";
import process from "node:process";
import { type PullOptions, type PullPlan, planPull, pull } from "../../hub/pull.ts";
import type { RemoteFile } from "../../hub/repository.ts";
import { hubSettings } from "../../hub/settings.ts";
import { defineCommand } from "../command.ts";
import { formatBytes } from "../format.ts";
import { EXIT_INTERRUPTED } from "../main.ts";
import type { Output } from "../output.ts";

export const pullCommand = defineCommand({
  name: "pull",
  summary: "download a model or an adapter from a Hugging Face hub",
  description:
    "Takes the configuration, tokenizer, chat template, licence and weights: safetensors, or the only GGUF. Every file is checked " +
    "against the hub's checksum, and the folder appears only when it is complete. A pull that was cut short goes on where it was " +
    "when the same command is given again.\n" +
    "HF_ENDPOINT names another hub, HF_TOKEN gives access to private and gated repositories (or the token that Hugging Face's " +
    "own login left in ~/.cache/huggingface/token).",
  positionals: [{ name: "ORG/NAME", summary: "the repository", required: true }],
  flags: {
    revision: { type: "string", summary: "branch, tag or commit", placeholder: "REV", default: "main" },
    out: { type: "string", summary: "folder to make (default: NAME in this folder)", placeholder: "DIR" },
    include: {
      type: "string",
      summary: "take exactly the files that match, in place of the default choice",
      placeholder: "GLOB",
      multiple: true,
    },
    force: { type: "boolean", summary: "replace DIR if it is a model's folder" },
    dryRun: { type: "boolean", summary: "say what would be downloaded" },
    json: { type: "boolean", summary: "print JSON" },
  },
  examples: [
    "apiq pull HuggingFaceTB/SmolLM2-135M-Instruct",
    "apiq pull ORG/NAME-GGUF --include '*Q4_0.gguf' --out gguf",
    "HF_TOKEN=... apiq pull ORG/GATED --revision v1.0 --dry-run",
  ],
  async run({ flags, positionals, out, signal }) {
    const { revision, include, force } = flags;
    const settings = hubSettings(process.env, homedir());
    const options = { repository: positionals[0]!, revision, out: flags.out, include, force, settings, signal };
    try {
      if (flags.dryRun) printPlan(await planPull(options), flags.json, out);
      else await download(options, flags.json, out);
      return 0;
    } catch (error) {
      if (!signal.aborted) throw error;
      out.note("Interrupted: the same command goes on from here");
      return EXIT_INTERRUPTED;
    }
  },
});

async function download(options: PullOptions, asJson: boolean, out: Output): Promise<void> {
  using progress = out.progress("pulling", 1, "bytes");
  const result = await pull({
    ...options,
    onProgress: ({ done, total, bytesPerSecond, waiting }) => {
      const speed = bytesPerSecond > 0 ? ` ${formatBytes(bytesPerSecond)}/s` : "";
      progress.update(done, { total, label: waiting === undefined ? `pulling${speed}` : `waiting (${waiting})` });
    },
  });
  progress.end();
  const { dir, repository, commit, files, bytes, wasComplete, next } = result;
  if (asJson) {
    out.json({ ...result, files: files.map(jsonFile) });
    return;
  }
  const what = `${files.length} files, ${formatBytes(bytes)}`;
  out.line(
    `${dir}: ${repository} at ${commit.slice(0, 12)}, ${what}, ${wasComplete ? "complete already" : "verified"}`,
  );
  if (next !== undefined) out.line(`Next: ${next}`);
}

function printPlan(plan: PullPlan, asJson: boolean, out: Output): void {
  const { dir, repository, commit, files, bytes } = plan;
  if (asJson) {
    out.json({ ...plan, files: files.map(jsonFile) });
    return;
  }
  for (const file of files) out.line(`${formatBytes(file.bytes).padStart(8)}  ${file.path}`);
  out.line(`${repository} at ${commit.slice(0, 12)} into ${dir}: ${files.length} files, ${formatBytes(bytes)}`);
}

/** As in the folder's manifest: {"path", "bytes", "sha256"} or {..., "git-sha1"}. */
function jsonFile({ path, bytes, checksum }: RemoteFile): Record<string, unknown> {
  return { path, bytes, [checksum.algorithm]: checksum.hex };
}
