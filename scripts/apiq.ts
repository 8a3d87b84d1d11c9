/** The command line: composes the commands of runtime/cli and serve. Started by scripts/apiq. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { adaptersCommands } from "../runtime/cli/commands/adapters.ts";
import { benchCommand } from "../runtime/cli/commands/bench.ts";
import { chatCommand } from "../runtime/cli/commands/chat.ts";
import { evalClassifyCommand } from "../runtime/cli/commands/eval_classify.ts";
import { evalKlCommand } from "../runtime/cli/commands/eval_kl.ts";
import { evalNllCommand } from "../runtime/cli/commands/eval_nll.ts";
import { evalPplCommand } from "../runtime/cli/commands/eval_ppl.ts";
import { evalRougeCommand } from "../runtime/cli/commands/eval_rouge.ts";
import { evalTasksCommand } from "../runtime/cli/commands/eval_tasks.ts";
import { exportCommand } from "../runtime/cli/commands/export.ts";
import { finetuneCommand } from "../runtime/cli/commands/finetune.ts";
import { importCommand } from "../runtime/cli/commands/import.ts";
import { inspectCommand } from "../runtime/cli/commands/inspect.ts";
import { mergeCommand } from "../runtime/cli/commands/merge.ts";
import { planCommand } from "../runtime/cli/commands/plan.ts";
import { pullCommand } from "../runtime/cli/commands/pull.ts";
import { quantizeCommand } from "../runtime/cli/commands/quantize.ts";
import { EXIT_INTERRUPTED, runProgram } from "../runtime/cli/main.ts";
import { Output } from "../runtime/cli/output.ts";
import { serveCommand } from "../serve/command.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = {
  name: "apiq",
  summary: "a local runtime for large language models whose weights take two bits",
  version,
  commands: [
    serveCommand(version),
    chatCommand,
    pullCommand,
    importCommand,
    quantizeCommand,
    finetuneCommand,
    exportCommand,
    mergeCommand,
    inspectCommand,
    planCommand,
    ...adaptersCommands,
    benchCommand,
    evalPplCommand,
    evalNllCommand,
    evalKlCommand,
    evalTasksCommand,
    evalClassifyCommand,
    evalRougeCommand,
  ],
};

const interrupted = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) {
  process.on(name, () => {
    if (interrupted.signal.aborted) process.exit(EXIT_INTERRUPTED);
    interrupted.abort();
  });
}

// A reader that stops reading (`apiq ... | head`) is no failure of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

const out = new Output(process.stdout, process.stderr, process.env);
const debug = Boolean(process.env.APIQ_DEBUG);
const exitCode = await runProgram(program, process.argv.slice(2), out, interrupted.signal, debug);
// Exiting before a pipe has taken the last write would lose it.
process.stdout.write("", () => process.exit(exitCode));
