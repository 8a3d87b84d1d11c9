/**
 * Trained tensors that share a learning rate: one flat buffer each for values, gradients and AdamW's moments, so a step is one
 * op.
 */
import type { Context, DeviceBuffer, Ref } from "../../ffi/mod.ts";

/** Slices start on 64 bytes. What lies between them stays zero: its gradient is. */
const ALIGNMENT = 16;

const padded = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

/** Bits of AdamW's moments: float32, or codes in blocks that share a scale (arXiv 2110.02861). */
export type MomentBits = 32 | 8;

/** Elements of such a block. */
const BLOCK = 256;

/** AdamW's settings that groups do not share. */
export interface GroupSettings {
  readonly learningRate: number;
  readonly weightDecay: number;
  /** 32 unless given. */
  readonly momentBits?: MomentBits;
}

/** A part of what training continues from. */
export interface StatePart {
  readonly name: string;
  readonly dtype: "F32" | "U8";
  /** [count] */
  readonly ref: Ref;
  readonly count: number;
}

type PartName = "values" | "gradients" | "m" | "v" | "mScale" | "vScale";

interface Part {
  readonly name: PartName;
  readonly dtype: StatePart["dtype"];
  readonly count: number;
}

/** What a group of `count` elements holds, in the order in which it lies in the group's buffer. */
function partsOf(count: number, bits: MomentBits): readonly Part[] {
  const floats = (name: PartName, count: number): Part => ({ name, dtype: "F32", count });
  const own = [floats("values", count), floats("gradients", count)];
  if (bits === 32) return [...own, floats("m", count), floats("v", count)];
  const blocks = Math.ceil(count / BLOCK);
  const codes = (["m", "v"] as const).map((name): Part => ({ name, dtype: "U8", count }));
  return [...own, ...codes, floats("mScale", blocks), floats("vScale", blocks)];
}

const bytesOf = ({ dtype, count }: Part): number => padded(dtype === "F32" ? count : Math.ceil(count / 4)) * 4;

const totalBytes = (parts: readonly Part[]): number => parts.reduce((sum, part) => sum + bytesOf(part), 0);

const elements = (sizes: readonly number[]): number => sizes.reduce((sum, size) => sum + padded(size), 0);

/** Bytes of a group whose tensors have these numbers of elements. */
export function parameterBytes(sizes: readonly number[], momentBits: MomentBits = 32): number {
  return totalBytes(partsOf(elements(sizes), momentBits));
}

export class ParameterGroup implements Disposable {
  readonly #context: Context;
  readonly #settings: GroupSettings;
  readonly #count: number;
  readonly #buffer: DeviceBuffer;
  readonly #parts: ReadonlyMap<PartName, StatePart>;
  #used = 0;
  #step = 0;

  /** @param sizes elements of the tensors that `place` will be asked for, in order */
  constructor(context: Context, sizes: readonly number[], settings: GroupSettings) {
    this.#context = context;
    this.#settings = settings;
    this.#count = elements(sizes);
    const parts = partsOf(this.#count, settings.momentBits ?? 32);
    this.#buffer = context.alloc(totalBytes(parts));
    let offset = 0;
    this.#parts = new Map(
      parts.map((part) => {
        const ref = this.#buffer.at(offset);
        offset += bytesOf(part);
        return [part.name, { ...part, ref }];
      }),
    );
  }

  /** The next tensor, with its first values. */
  place(values: Float32Array): { value: Ref; gradient: Ref } {
    const at = (part: "values" | "gradients"): Ref => {
      const { buffer, offset } = this.#at(part);
      return { buffer, offset: offset + this.#used * 4 };
    };
    const [value, gradient] = [at("values"), at("gradients")];
    this.#buffer.upload(values, value.offset);
    this.#used += padded(values.length);
    return { value, gradient };
  }

  /** Adds the squares of all gradients to the float64 at `sum`. */
  addSquares(sum: Ref): void {
    this.#context.sumSquares({ x: this.#at("gradients"), sum, count: this.#count });
  }

  /**
   * One step of AdamW (arXiv 1711.05101) over all tensors.
   * @param factor of the learning rate
   * @param gradScale of the gradients
   */
  step(factor = 1, gradScale = 1): void {
    const step = {
      parameter: this.#at("values"),
      grad: this.#at("gradients"),
      m: this.#at("m"),
      v: this.#at("v"),
      count: this.#count,
      lr: this.#settings.learningRate * factor,
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      weightDecay: this.#settings.weightDecay,
      gradScale,
      step: ++this.#step,
    };
    if (this.#settings.momentBits !== 8) this.#context.adamw(step);
    else this.#context.adamw8bit({ ...step, mScale: this.#at("mScale"), vScale: this.#at("vScale") });
  }

  /** Values and moments, where they lie: what training continues from, with the number of steps. */
  get state(): readonly StatePart[] {
    return [...this.#parts.values()].filter(({ name }) => name !== "gradients");
  }

  /** Continues behind `steps` steps, the state of which was put back. */
  continueFrom(steps: number): void {
    this.#step = steps;
  }

  #at(name: PartName): Ref {
    return (this.#parts.get(name) as StatePart).ref;
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}
