/** Tensors that a run copies without computing with them: one number that is none would make the whole model useless. */
import { FormatError } from "../formats/failure.ts";
import { readBytes } from "../formats/read.ts";
import type { StoredTensor } from "../formats/safetensors.ts";
import type { Source } from "./source.ts";

const PIECE = 16 * 2 ** 20;

/** @throws {FormatError} naming an element of the embedding, the head or the last norm that is no finite number */
export function checkTables({ embedding, head, checkpoint }: Source): void {
  for (const tensor of [embedding, head, checkpoint.tensors.get("model.norm.weight")]) {
    if (tensor) checkFinite(tensor);
  }
}

/** Reads in pieces. In all float types, infinities and NaNs are those whose exponent is all ones. */
function checkFinite(tensor: StoredTensor): void {
  const wide = tensor.dtype === "F32";
  const exponent = wide ? 0x7f800000 : tensor.dtype === "F16" ? 0x7c00 : 0x7f80;
  for (let begin = 0; begin < tensor.bytes; begin += PIECE) {
    const { buffer } = readBytes(tensor, begin, Math.min(PIECE, tensor.bytes - begin));
    const words = wide ? new Uint32Array(buffer) : new Uint16Array(buffer);
    const at = words.findIndex((word) => (word & exponent) === exponent);
    if (at < 0) continue;
    const element = begin / words.BYTES_PER_ELEMENT + at;
    const columns = tensor.shape.at(-1)!;
    const where = `row ${Math.floor(element / columns)}, column ${element % columns}`;
    const reason = `a weight that is no finite number at ${tensor.shape.length > 1 ? where : `element ${element}`}`;
    throw new FormatError("use", { file: tensor.path, tensor: tensor.name, reason });
  }
}
