/**
 * An adapter as it lies on the device, made on the host: everything is read, checked and converted here, so that what is left to do
 * is copying. One linear after another, each part at the next multiple of 64 bytes:
 *
 *     A [rank, in] | B^T [rank, out] | DoRA's factors and shifts, float32 [2, out], left open: they depend on the weights
 */
import { type AdapterSource, FormatError, type LoraMatrices, type LoraTarget, readLora } from "../formats/mod.ts";

export type LoraDtype = "f16" | "f32";

/** The linears that adapters can target, by module name. */
export type LinearShapes = ReadonlyMap<string, { readonly inFeatures: number; readonly outFeatures: number }>;

/** Where one linear's part of an image begins. */
export interface ImageTarget {
  readonly module: string;
  readonly aOffset: number;
  readonly bOffset: number;
  readonly rank: number;
  readonly scale: number;
  /** undefined: no DoRA */
  readonly factorsOffset: number | undefined;
}

/** What the factors of one linear are computed from: its own matrices last, before them those it comes on top of. */
export interface DoraSource {
  readonly module: string;
  readonly loras: readonly LoraMatrices[];
}

/** Plain data: it travels between threads. */
export interface LoraImage {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly targets: readonly ImageTarget[];
  readonly dora: readonly DoraSource[];
}

/** Beyond it float16 rounds to infinity. */
const LARGEST = { f16: 65519, f32: Number.MAX_VALUE } as const;

/**
 * Every target must be a linear of this model, with matrices of its shape, and of no higher rank than there is room for.
 *
 * @throws Error naming the target, or FormatError
 */
export function checkTargets(adapter: AdapterSource, shapes: LinearShapes, maxRank: number): void {
  for (const [module, { a, b, rank }] of adapter.targets) {
    const shape = shapes.get(module);
    if (!shape)
      throw new Error(`Cannot load adapter ${adapter.dir}: it targets ${module}, which this model does not have`);
    const { inFeatures, outFeatures } = shape;
    if (a.shape[0] !== rank || a.shape[1] !== inFeatures || b.shape[0] !== outFeatures || b.shape[1] !== rank) {
      throw new Error(
        `Cannot load adapter ${adapter.dir}: ${module} received A [${a.shape}] and B [${b.shape}], ` +
          `expected A [${rank},${inFeatures}] and B [${outFeatures},${rank}]`,
      );
    }
    if (rank > maxRank) {
      throw new Error(
        `Cannot load adapter ${adapter.dir}: ${module} received rank ${rank}, expected at most ${maxRank} (--max-adapter-rank)`,
      );
    }
  }
}

/** Bytes of an adapter's image. */
export function imageBytes(adapter: AdapterSource, dtype: LoraDtype): number {
  return plan(adapter, dtype).bytes;
}

/**
 * Reads an adapter that passed `checkTargets`.
 *
 * @param below what DoRA's lengths are measured on top of, besides the weights
 * @throws {FormatError} for a value that is no number or too large, or a file that became shorter meanwhile
 */
export function readImage(adapter: AdapterSource, dtype: LoraDtype, below: AdapterSource | null): LoraImage {
  const { targets, bytes } = plan(adapter, dtype);
  const data = new Uint8Array(bytes);
  const dora: DoraSource[] = [];
  for (const target of targets) {
    const { module, aOffset, bOffset, rank } = target;
    const source = adapter.targets.get(module)!;
    const matrices = readLora(source);
    checkValues(source, matrices, dtype);
    const place = (offset: number, count: number) =>
      dtype === "f16" ? new Float16Array(data.buffer, offset, count) : new Float32Array(data.buffer, offset, count);
    place(aOffset, matrices.a.length).set(matrices.a);
    transposeInto(place(bOffset, matrices.b.length), matrices.b, matrices.b.length / rank, rank);
    if (!matrices.magnitude) continue;
    const under = below?.targets.get(module);
    dora.push({ module, loras: under ? [readLora(under), matrices] : [matrices] });
  }
  return { data, targets, dora };
}

function plan(adapter: AdapterSource, dtype: LoraDtype): { targets: ImageTarget[]; bytes: number } {
  const elementBytes = dtype === "f16" ? 2 : 4;
  let bytes = 0;
  const part = (size: number): number => {
    const offset = bytes;
    bytes += Math.ceil(size / 64) * 64;
    return offset;
  };
  const targets = [...adapter.targets].map(([module, { a, b, rank, scale, magnitude }]) => ({
    module,
    aOffset: part(a.shape[0]! * a.shape[1]! * elementBytes),
    bOffset: part(b.shape[0]! * b.shape[1]! * elementBytes),
    rank,
    scale,
    factorsOffset: magnitude ? part(2 * 4 * b.shape[0]!) : undefined,
  }));
  return { targets, bytes };
}

function checkValues(source: LoraTarget, { a, b, magnitude }: LoraMatrices, dtype: LoraDtype): void {
  const check = (tensor: LoraTarget["a"], values: Float32Array, most: number): void => {
    // Written so that NaN fails.
    const bad = values.findIndex((value) => !(Math.abs(value) <= most));
    if (bad < 0) return;
    const details = { file: tensor.path, tensor: tensor.name, reason: `bad value at index ${bad}` };
    throw new FormatError("use", { ...details, received: String(values[bad]), expected: `a number up to ${most}` });
  };
  check(source.a, a, LARGEST[dtype]);
  check(source.b, b, LARGEST[dtype]);
  if (source.magnitude && magnitude) check(source.magnitude, magnitude, LARGEST.f32);
}

/** `from` [rows, cols] -> `to` [cols, rows] */
function transposeInto(to: Float32Array | Float16Array, from: Float32Array, rows: number, cols: number): void {
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) to[c * rows + r] = from[r * cols + c]!;
}
