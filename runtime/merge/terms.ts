/**
 * What several adapters of one model add up to. An adapter that stacks comes on top of the model's calibrated LoRA C; one that
 * replaces it was trained from it and contains it. So with weights w the model becomes
 *
 *   W + C + sum over replacing D of w (D - C) + sum over stacking S of w S
 *
 * the base, what was calibrated, and what each training changed.
 */
import { type AdapterSource, FormatError, readTensor } from "../formats/mod.ts";

export interface WeightedAdapter {
  readonly adapter: AdapterSource;
  readonly weight: number;
}

export type Mode = "replace" | "stack";

export interface MergeTerms {
  /** What the adapters amount to together with C. The calibrated LoRA comes first where it is among them; none has weight 0. */
  readonly all: readonly WeightedAdapter[];
  /** The same as an adapter: without C, where it stacks on it. */
  readonly adapter: readonly WeightedAdapter[];
  /** Whether that adapter takes the calibrated LoRA's place. */
  readonly replaces: boolean;
}

/** What is left of 1 after weights that add up to it, such as 0.3 and 0.7. */
const ROUNDING = 1e-9;

/**
 * @param calibrated the model's own LoRA
 * @param mode of adapters that do not say; null: they stack, unless they look like the calibrated LoRA
 * @throws {FormatError} for one that does
 */
export function mergeTerms(
  calibrated: AdapterSource | null,
  adapters: readonly WeightedAdapter[],
  mode: Mode | null,
): MergeTerms {
  const present = adapters.filter(({ weight }) => weight !== 0);
  const replacing = present.filter(({ adapter }) => replaces(adapter, calibrated, mode));
  const remaining = replacing.reduce((rest, { weight }) => rest - weight, 1);
  const first =
    calibrated === null || Math.abs(remaining) < ROUNDING ? [] : [{ adapter: calibrated, weight: remaining }];
  const all = [...first, ...present];
  return replacing.length > 0 ? { all, adapter: all, replaces: true } : { all, adapter: present, replaces: false };
}

function replaces(adapter: AdapterSource, calibrated: AdapterSource | null, mode: Mode | null): boolean {
  if (adapter.binding) return adapter.binding.replaces;
  if (mode !== null) return mode === "replace";
  if (calibrated === null || !resembles(adapter, calibrated)) return false;
  throw new FormatError("use", {
    file: adapter.dir,
    reason:
      "it has no apiq.json, and its matrices are nearly those of the model's calibrated LoRA, so it may contain that",
    received: "no --mode",
    expected: "--mode replace (it does) or --mode stack",
  });
}

/** A above this, of all A matrices together, is no coincidence. */
const SAME = 0.9;

/** Whether the A matrices point the same way as the calibrated ones, as after training from them. */
function resembles(adapter: AdapterSource, calibrated: AdapterSource): boolean {
  let [dot, own, other] = [0, 0, 0];
  for (const [module, target] of adapter.targets) {
    const before = calibrated.targets.get(module);
    if (before === undefined || String(before.a.shape) !== String(target.a.shape)) continue;
    const [x, y] = [readTensor(target.a), readTensor(before.a)];
    for (const [i, value] of x.entries()) {
      dot += value * y[i]!;
      own += value * value;
      other += y[i]! * y[i]!;
    }
  }
  return dot > SAME * Math.sqrt(own * other);
}
