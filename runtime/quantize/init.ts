/** --init-from: the result of another run on the same model. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Checkpoint, openCheckpoint } from "../formats/checkpoint.ts";
import { LOG, readSettings } from "./partial_folder.ts";
import type { Source } from "./source.ts";

/** @throws where `dir` holds no packed weights, or its log says that they are another model's */
export function openInit(dir: string, { checkpoint }: Source): Checkpoint {
  const init = openCheckpoint(dir);
  if (init.quantization === undefined) {
    throw new Error(`Cannot begin from ${dir}: its weights are not packed, expected a result of apiq quantize`);
  }
  const log = join(dir, LOG);
  const source = existsSync(log) ? readSettings(log)?.source : undefined;
  if (source !== undefined && source !== checkpoint.fingerprint) {
    throw new Error(`Cannot begin from ${dir}: it was made from another model than ${checkpoint.dir}`);
  }
  return init;
}
