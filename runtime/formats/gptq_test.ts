import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { BITS, packRows, packZeros, unpackRows, unpackZeros, wordsFor } from "./gptq.ts";
import { openSafetensors, readInts, readTensor } from "./mod.ts";

const OUT = 96;
const IN = 192;
const GROUP = 64;

/** Values of all sizes in an order that repeats late. */
const pattern = (count: number, bits: number): Uint8Array =>
  Uint8Array.from({ length: count }, (_, i) => (Math.imul(i, 2654435761) >>> 8) & (2 ** bits - 1));

describe("GPTQ packing", () => {
  for (const bits of BITS) {
    itShared(`agrees with AutoGPTQ at ${bits} bits`, () => {
      const { tensors } = openSafetensors(sharedPath(`golden/gptq/v1_b${bits}.safetensors`));
      const ints = (name: string): Int32Array => readInts(tensors.get(name)!);
      const q = ints("q");
      assertEquals(packRows(q, OUT, IN, bits), ints("qweight"));
      assertEquals(Int32Array.from(unpackRows(ints("qweight"), OUT, IN, bits)), q);

      const groups = IN / GROUP;
      const zeros = unpackZeros(ints("qzeros"), groups, OUT, bits, "gptq");
      const goldenZeros = ints("zeros");
      const scales = readTensor(tensors.get("scales")!);
      const dequantized = new Float32Array(OUT * IN);
      for (let row = 0; row < OUT; row++) {
        for (let col = 0; col < IN; col++) {
          const at = Math.floor(col / GROUP) * OUT + row;
          assertEquals(zeros[at], goldenZeros[row * groups + Math.floor(col / GROUP)]);
          dequantized[row * IN + col] = scales[at]! * (q[row * IN + col]! - zeros[at]!);
        }
      }
      assertEquals(dequantized, readTensor(tensors.get("dequantized")!));
    });

    it(`comes back unchanged at ${bits} bits, whatever the width`, () => {
      for (const out of [1, 3, 11, 32, 33]) {
        const q = pattern(out * 64, bits);
        assertEquals(unpackRows(packRows(q, out, 64, bits), out, 64, bits), q);
        const zeros = pattern(2 * out, bits);
        const packed = packZeros(zeros, 2, out, bits);
        assertEquals(packed.length, 2 * wordsFor(out, bits));
        assertEquals(unpackZeros(packed, 2, out, bits, "gptq_v2"), zeros);
      }
    });

    it(`adds the one that version 1 leaves out, modulo 2^${bits}`, () => {
      const mask = 2 ** bits - 1;
      const packed = packZeros([0, mask], 1, 2, bits);
      assertEquals(unpackZeros(packed, 1, 2, bits, "gptq"), Uint8Array.of(1, 0));
    });
  }
});
