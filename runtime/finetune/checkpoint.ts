/**
 * The state of a run between two steps, in one safetensors file: parameters and moments of every group, and where the run was. A
 * run that continues from it ends with the bytes of one that was never stopped.
 */
import { dtypeBytes } from "../formats/dtype.ts";
import { FormatError } from "../formats/failure.ts";
import { readBytes } from "../formats/read.ts";
import { openSafetensors, type StoredTensor } from "../formats/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors_writer.ts";
import type { ParameterGroup, StatePart } from "../training/parameters.ts";

const POSITION = "apiq_finetune";
const PIECE_BYTES = 4 << 20;

/** A step whose validation loss was the lowest. */
export interface Best {
  readonly step: number;
  readonly loss: number;
}

export interface Position {
  /** Steps made. */
  readonly step: number;
  /** The step behind which validation ran last; null: never. */
  readonly evaluated: number | null;
  readonly best: Best | null;
  /** Spent so far, over all calls. */
  readonly seconds: number;
}

/** By name. */
export type Groups = Readonly<Record<string, ParameterGroup>>;

/** Writes values and moments. */
export async function saveState(path: string, groups: Groups, position: Position): Promise<void> {
  await write(path, groups, position, () => true);
}

/** Writes values only: what validation liked best. */
export async function saveValues(path: string, groups: Groups, position: Position): Promise<void> {
  await write(path, groups, position, ({ name }) => name === "values");
}

async function write(
  path: string,
  groups: Groups,
  position: Position,
  wants: (part: StatePart) => boolean,
): Promise<void> {
  const tensors = Object.entries(groups).flatMap(([group, { state }]) =>
    state.filter(wants).map((part) => stored(`${group}.${part.name}`, part)),
  );
  await writeSafetensors(path, tensors, { [POSITION]: JSON.stringify(position) });
}

function stored(name: string, part: StatePart): TensorToWrite {
  const { ref, count, dtype } = part;
  return {
    name,
    dtype,
    shape: [count],
    *data() {
      // A piece is written before the next is asked for, and new memory for each would pile up until it is collected.
      const piece = new Uint8Array(PIECE_BYTES);
      for (const [first, bytes] of pieces(part)) {
        yield ref.buffer.download(piece.subarray(0, bytes), ref.offset + first);
      }
    },
  };
}

/** Offset and length of parts that pass through JavaScript, in bytes. */
function* pieces({ dtype, count }: StatePart): Generator<readonly [first: number, bytes: number]> {
  const total = count * dtypeBytes(dtype);
  for (let first = 0; first < total; first += PIECE_BYTES) yield [first, Math.min(PIECE_BYTES, total - first)];
}

/** A file of `saveState` or `saveValues`. @throws {FormatError} for any other */
export class SavedState {
  readonly #path: string;
  readonly #tensors: ReadonlyMap<string, StoredTensor>;
  readonly position: Position;

  constructor(path: string) {
    const { tensors, metadata } = openSafetensors(path);
    const text = metadata[POSITION];
    if (text === undefined) throw new FormatError("use", { file: path, reason: "it is no state of a finetuning run" });
    this.#path = path;
    this.#tensors = tensors;
    this.position = JSON.parse(text) as Position;
  }

  /** Puts back what the file holds. @throws {FormatError} where it belongs to other groups; then nothing was changed */
  restore(groups: Groups): void {
    const parts = Object.entries(groups).flatMap(([group, { state }]) =>
      state.map((part) => ({ name: `${group}.${part.name}`, part })),
    );
    const found = parts.filter(({ name }) => this.#tensors.has(name));
    const fits = found.every(({ name, part }) => {
      const tensor = this.#tensors.get(name)!;
      return tensor.shape[0] === part.count && tensor.dtype === part.dtype;
    });
    if (!fits || found.length !== this.#tensors.size) {
      throw new FormatError("use", { file: this.#path, reason: "it is the state of another run" });
    }
    for (const { name, part } of found) upload(this.#tensors.get(name)!, part);
    for (const group of Object.values(groups)) group.continueFrom(this.position.step);
  }
}

function upload(tensor: StoredTensor, part: StatePart): void {
  for (const [first, bytes] of pieces(part)) {
    part.ref.buffer.upload(readBytes(tensor, first, bytes), part.ref.offset + first);
  }
}
