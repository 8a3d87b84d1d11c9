/** What a model's folder stores for the linears of its blocks, from the headers of its files alone. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";

/**
 * The header of a safetensors file.
 *
 * @param {string} path
 * @returns {Record<string, { dtype: string, shape: number[], data_offsets: [number, number] }>}
 */
export function readHeader(path) {
  const file = openSync(path, "r");
  try {
    const length = Buffer.alloc(8);
    readSync(file, length, 0, 8, 0);
    const json = Buffer.alloc(Number(length.readBigUInt64LE()));
    readSync(file, json, 0, json.length, 8);
    const { __metadata__, ...tensors } = JSON.parse(json.toString("utf8"));
    return tensors;
  } finally {
    closeSync(file);
  }
}

/** What a linear's matrix is stored as. A bias is no weight, and g_idx says nothing that a reader does not know. */
const WEIGHT_PARTS = /\.(weight|qweight|qzeros|scales|mins|lut|scale_codes|scale_absmax|scale_offset)$/;
const LINEAR = /^model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\./;
const LORA_BITS = 16;

/**
 * Bits per weight of the blocks' linears: codes, scales and zeros, and the calibrated LoRA at 16 bits a number, over the number of
 * weights of the full-precision linears.
 *
 * @param {string} dir the packed model
 * @param {string} source the full-precision one it was made from
 * @returns {{ weights: number, baseBitsPerWeight: number, loraBitsPerWeight: number, bitsPerWeight: number, rank: number }}
 */
export function measureStorage(dir, source) {
  const count = ({ shape }) => shape.reduce((product, size) => product * size, 1);
  const bits = ({ data_offsets: [begin, end] }) => 8 * (end - begin);
  const sum = (tensors, measure) => tensors.reduce((total, tensor) => total + measure(tensor), 0);
  const linearParts = (folder) =>
    headers(folder)
      .filter(([name]) => LINEAR.test(name) && WEIGHT_PARTS.test(name))
      .map(([, tensor]) => tensor);
  const weights = sum(linearParts(source), count);
  if (weights === 0) throw new Error(`Cannot measure ${source}: there is no linear in its blocks`);
  const adapter = join(dir, "apiq_init");
  const lora = existsSync(adapter) ? headers(adapter).map(([, tensor]) => tensor) : [];
  const baseBitsPerWeight = sum(linearParts(dir), bits) / weights;
  const loraBitsPerWeight = (LORA_BITS * sum(lora, count)) / weights;
  return {
    weights,
    baseBitsPerWeight,
    loraBitsPerWeight,
    bitsPerWeight: baseBitsPerWeight + loraBitsPerWeight,
    rank: lora.length > 0 ? JSON.parse(readFileSync(join(adapter, "adapter_config.json"), "utf8")).r : 0,
  };
}

/** Name and header of every tensor of the folder's safetensors files. */
function headers(folder) {
  const files = readdirSync(folder).filter((name) => name.endsWith(".safetensors"));
  return files.flatMap((name) => Object.entries(readHeader(join(folder, name))));
}
