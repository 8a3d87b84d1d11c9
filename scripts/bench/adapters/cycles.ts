/**
 * `bun scripts/bench/adapters/cycles.ts --model DIR`: the engine process's resident memory while an adapter is loaded and unloaded
 * again and again.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { AdapterRegistry } from "../../../runtime/adapters/registry.ts";
import { EngineClient } from "../../../runtime/engine/client.ts";
import { openCheckpoint } from "../../../runtime/formats/mod.ts";
import { parseConfig } from "../../../runtime/models/config.ts";
import { writeRandomAdapter } from "./random_adapter.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    cycles: { type: "string", default: "1000" },
    rank: { type: "string", default: "16" },
  },
});
if (values.model === undefined) throw new Error("Missing --model DIR");
const [cycles, rank] = [Number(values.cycles), Number(values.rank)];

const dir = mkdtempSync(`${tmpdir()}/apiq-cycles-`);
await writeRandomAdapter(parseConfig(openCheckpoint(values.model).config, values.model), dir, rank, 1);
const client = new EngineClient({
  engine: {
    ...{ model: values.model, device: "cpu", threads: 1, contextLength: 512, maxSequences: 1, kvMemory: undefined },
    ...{ activations: "auto", adapters: {}, hotAdapters: { max: 2, memory: undefined, maxRank: Math.max(rank, 64) } },
  },
});
try {
  const registry = new AdapterRegistry("base", client);
  await client.ready();
  const started = performance.now();
  for (let cycle = 1; cycle <= cycles; cycle++) {
    const { bytes } = await registry.load({ name: "a", dir });
    registry.unload("a");
    if (cycle !== 1 && cycle % Math.ceil(cycles / 10) !== 0) continue;
    const resident = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${client.pid}/status`, "utf8"))?.[1]) / 1024;
    const each = (performance.now() - started) / cycle;
    const what = `${String(cycle).padStart(6)} cycles of ${(bytes / 1e6).toFixed(1)} MB`;
    process.stdout.write(`${what}: ${resident.toFixed(1)} MiB resident, ${each.toFixed(1)} ms each\n`);
  }
} finally {
  await client.close();
  rmSync(dir, { recursive: true });
}
