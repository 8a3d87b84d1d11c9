/** Copies one adapter to the device piece by piece, so that steps of the model can run between the pieces. */
import type { Context } from "../../ffi/mod.ts";
import { EffectiveRows } from "./effective_rows.ts";
import type { LoraTable } from "./lora.ts";
import type { DoraSource, LoraImage } from "./lora_image.ts";

/** What one piece is meant to take: another one follows only where there is that much time left. */
const PIECE_MS = 0.4;
/** No more than a quiet machine copies in that time to memory that it has to find pages for. */
const PIECE_BYTES = 512 << 10;
const FIRST_ROWS = 4;

export class LoraUpload implements Disposable {
  readonly #context: Context;
  readonly #table: LoraTable;
  readonly #slot: number;
  readonly #base: number;
  readonly #image: LoraImage;
  #copied = 0;
  /** Linears with DoRA whose factors are still missing, the next one last. */
  readonly #dora: DoraSource[];
  #rows: EffectiveRows | undefined;
  #row = 0;
  #pieceRows = FIRST_ROWS;

  /**
   * @param slot occupied and empty; it shows the adapter when all of it is there
   * @param base where in the pool the image goes
   */
  constructor(context: Context, table: LoraTable, slot: number, base: number, image: LoraImage) {
    this.#context = context;
    this.#table = table;
    this.#slot = slot;
    this.#base = base;
    this.#image = image;
    this.#dora = [...image.dora].reverse();
  }

  /**
   * Goes on for about `milliseconds`, at least one piece.
   * @returns whether everything is done
   */
  advance(milliseconds: number): boolean {
    const deadline = performance.now() + milliseconds;
    do {
      if (this.#copied < this.#image.data.length) this.#copyPiece();
      else if (this.#dora.length > 0) this.#computePiece();
      else {
        this.#table.point(this.#slot, this.#base, this.#image.targets);
        return true;
      }
    } while (performance.now() + PIECE_MS < deadline);
    return false;
  }

  #copyPiece(): void {
    const piece = this.#image.data.subarray(this.#copied, this.#copied + PIECE_BYTES);
    this.#table.write(piece, this.#base + this.#copied);
    this.#copied += piece.length;
  }

  /** DoRA's factor and shift of some outputs of one linear. */
  #computePiece(): void {
    const started = performance.now();
    const { module, loras } = this.#dora.at(-1)!;
    const linear = this.#table.linear(module);
    const { outFeatures } = linear.weight;
    this.#rows ??= new EffectiveRows(this.#context, linear.weight, loras);
    const count = Math.min(this.#pieceRows, this.#rows.slabRows, outFeatures - this.#row);
    const factors = this.#rows.factors(this.#row, count);
    const { factorsOffset = 0 } = this.#image.targets.find((target) => target.module === module)!;
    const at = this.#base + factorsOffset + this.#row * 4;
    this.#table.write(factors, at);
    if (linear.bias !== null) {
      const bias = linear.bias.buffer.download(new Float32Array(count), linear.bias.offset + this.#row * 4);
      this.#table.write(
        bias.map((value, i) => (1 - factors[i]!) * value),
        at + outFeatures * 4,
      );
    } else {
      // The pool is not zero where another adapter has been.
      this.#table.write(new Float32Array(count), at + outFeatures * 4);
    }
    this.#row += count;
    this.#pieceRows = Math.max(1, Math.floor(this.#pieceRows * pace(performance.now() - started)));
    if (this.#row < outFeatures) return;
    this.#rows[Symbol.dispose]();
    this.#rows = undefined;
    this.#row = 0;
    this.#dora.pop();
  }

  [Symbol.dispose](): void {
    this.#rows?.[Symbol.dispose]();
  }
}

/** By how much a piece that took `milliseconds` should become larger or smaller: at most twice as large. */
function pace(milliseconds: number): number {
  return Math.min(2, PIECE_MS / Math.max(milliseconds, 0.001));
}
