import type { BlockJob } from "./method.ts";

/** The calibration data of a job whose method needs some. */
export function calibrationOf({ calibration, layer }: BlockJob): NonNullable<BlockJob["calibration"]> {
  if (calibration !== null) return calibration;
  throw new Error(`Cannot quantize block ${layer}: the method needs calibration samples`);
}
