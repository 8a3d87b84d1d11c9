/** Opens an adapter for a certain model: everything that can be refused from headers and A matrices is refused here. */
import { type AdapterMode, type AdapterSource, checkBinding, openAdapter } from "../formats/mod.ts";
import { checkTargets, type LinearShapes } from "../models/lora_image.ts";
import { RESEMBLES, resemblance } from "./resemblance.ts";

/** What an adapter has to fit. */
export interface AdapterHost {
  readonly fingerprint: string;
  readonly shapes: LinearShapes;
  readonly maxRank: number;
  readonly calibrated: AdapterSource | null;
}

export interface FittingAdapter {
  readonly source: AdapterSource;
  /** It takes the place of the calibrated LoRA; otherwise it comes on top of it, where there is one. */
  readonly replaces: boolean;
}

/** The adapter resembles the model's calibrated LoRA, and nobody said what is to become of that. */
export class ModeNeededError extends Error {
  override readonly name = "ModeNeededError";
}

/**
 * @param mode what its user says becomes of the calibrated LoRA; undefined: what its apiq.json says, or else "stack"
 * @throws Error that says what was received and what was expected; ModeNeededError where only `mode` is missing
 */
export function openFitting(dir: string, host: AdapterHost, mode?: AdapterMode): FittingAdapter {
  const source = openAdapter(dir);
  checkBinding(source, host.fingerprint);
  checkTargets(source, host.shapes, host.maxRank);
  return { source, replaces: replacesCalibrated(source, host, mode) };
}

function replacesCalibrated(source: AdapterSource, { calibrated }: AdapterHost, mode?: AdapterMode): boolean {
  const { dir, binding } = source;
  if (binding !== null) {
    const bound = binding.replaces ? "replace" : "stack";
    if (mode === undefined || mode === bound) return binding.replaces;
    throw new Error(
      `Cannot load adapter ${dir}: mode received "${mode}", expected "${bound}", which its apiq.json says`,
    );
  }
  if (mode !== undefined || calibrated === null) return mode === "replace";
  const cosine = resemblance(source, calibrated);
  // Of values that are no numbers reading them says more.
  if (!(cosine > RESEMBLES)) return false;
  throw new ModeNeededError(
    `Cannot load adapter ${dir}: its A matrices resemble the model's calibrated LoRA (cosine ${cosine.toFixed(3)}), so it seems ` +
      'to be finetuned from that; expected mode "replace" (it takes the place of the calibrated LoRA) or "stack" (it comes on top)',
  );
}
