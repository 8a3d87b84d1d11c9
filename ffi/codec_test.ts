import { assert, assertEquals, assertThrows } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { encode, encodeArray } from "./codec.ts";
import { Context } from "./context.ts";
import { type DeviceBuffer, handleOf } from "./device_buffer.ts";
import { shapeOf, structBytes } from "./layout.ts";
import type { StructName } from "./symbols.ts";
import type { LinearArgs, SampleParams, WeightShape } from "./types.ts";

const TWO_BITS: WeightShape = { kind: 1, dtype: 0, bits: 2, group: 64, zero: 0, outFeatures: 8, inFeatures: 128 };

const SAMPLE: SampleParams = {
  seed: 0xfedc_ba98_7654_3210n,
  position: 7,
  temperature: 0.5,
  topP: 0.9,
  minP: 0,
  topK: 40,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  historyRow: -1,
  promptTokens: 3,
  historyTokens: 4,
  biasFirst: 0,
  biasCount: 0,
  maskRow: -1,
  nTop: 2,
};

function offsetOf(struct: StructName, field: string): number {
  const shape = shapeOf(struct);
  return shape.kind === "struct" ? shape.fields.find(({ name }) => name === field)!.offset : Number.NaN;
}

describe("codec", () => {
  let context: Context;
  let buffer: DeviceBuffer;

  beforeAll(() => {
    context = Context.open({ threads: 1 });
    buffer = context.alloc(64);
  });
  afterAll(() => context[Symbol.dispose]());

  function norm(change: Record<string, unknown> = {}) {
    const args = {
      x: buffer.at(0),
      weight: null,
      y: buffer.at(32),
      rows: 1,
      cols: 4,
      xStride: 4,
      yStride: 5,
      eps: 0.5,
    };
    return encode("apiq_rms_norm_args", { ...args, ...change }, "run rmsNorm");
  }

  it("writes refs, integers, floats and zeros where C expects them", () => {
    const bytes = norm();
    const view = new DataView(bytes.buffer);
    const handle = BigInt(handleOf(buffer)!);
    const quads = [handle, 0n, 0n, 0n, handle, 32n];
    assertEquals(
      quads.map((_, index) => view.getBigUint64(index * 8, true)),
      quads,
    );
    assertEquals(
      [48, 52, 56, 60].map((at) => view.getUint32(at, true)),
      [1, 4, 4, 5],
    );
    assertEquals(view.getFloat32(64, true), 0.5);
    assertEquals(view.getUint32(68, true), 0);
  });

  it("counts the parts of a linear and clears the unused ones", () => {
    const part = { weight: { data: buffer.at(0), ...TWO_BITS }, bias: null, y: buffer.at(0) };
    const linear = (parts: LinearArgs["parts"]) =>
      encode("apiq_linear_args", { x: null, rows: 1, inFeatures: 128, activations: 0, parts }, "run linear");
    const [count, first] = [offsetOf("apiq_linear_args", "n_parts"), offsetOf("apiq_linear_args", "parts")];
    assertEquals(new DataView(linear([part, part, part]).buffer).getUint32(count, true), 3);
    const bytes = linear([part]);
    assertEquals(new DataView(bytes.buffer).getUint32(count, true), 1);
    const unused = bytes.subarray(first + structBytes("apiq_linear_part"), structBytes("apiq_linear_args"));
    assert(unused.every((byte) => byte === 0));
    assertThrows(
      () => linear([part, part, part, part, part]),
      TypeError,
      "bad parts, received an array of 5, expected",
    );
    const wrong = { ...part, weight: { ...part.weight, bits: -2 } };
    assertThrows(() => linear([part, wrong]), TypeError, "Cannot run linear: bad parts[1].weight.bits, received -2");
  });

  it("writes arrays of structs, with all 64 bits of a seed", () => {
    const bytes = encodeArray("apiq_sample_params", [SAMPLE, { ...SAMPLE, seed: 2 ** 53 - 1, topK: -5 }]);
    assertEquals(bytes.length, 2 * structBytes("apiq_sample_params"));
    const view = new DataView(bytes.buffer);
    assertEquals(view.getBigUint64(0, true), 0xfedc_ba98_7654_3210n);
    const second = structBytes("apiq_sample_params");
    assertEquals(view.getBigUint64(second, true), 2n ** 53n - 1n);
    assertEquals(view.getInt32(second + offsetOf("apiq_sample_params", "top_k"), true), -5);
    assertEquals(encodeArray("apiq_token_bias", []).length, 0);
    assertThrows(
      () =>
        encodeArray("apiq_token_bias", [
          { token: 1, bias: 0 },
          { token: 2 ** 31, bias: 0 },
        ]),
      TypeError,
      "Cannot encode apiq_token_bias 1: bad token, received 2147483648",
    );
  });

  it("refuses what a field cannot hold, naming op and field", () => {
    const refused: [change: Record<string, unknown>, message: string][] = [
      [{ rows: 1.5 }, "bad rows, received 1.5, expected an integer from 0 to 4294967295"],
      [{ rows: 2 ** 32 }, "bad rows, received 4294967296"],
      [{ rows: -1 }, "bad rows, received -1"],
      [{ rows: Number.NaN }, "bad rows, received NaN"],
      [{ rows: "1" }, 'bad rows, received "1"'],
      [{ rows: 1n }, "bad rows, received 1n"],
      [{ rows: undefined }, "bad rows, received nothing"],
      [{ eps: Number.NaN }, "bad eps, received NaN, expected a finite float32"],
      [{ eps: 1e39 }, "bad eps, received 1e+39"],
      [{ x: undefined }, "bad x, received nothing, expected a ref {buffer, offset} or null"],
      [{ x: 5 }, "bad x, received 5"],
      [{ x: { buffer: {}, offset: 0 } }, "bad x, received an object"],
      [{ x: { buffer, offset: -8 } }, "bad x.offset, received -8"],
      [{ x: { buffer } }, "bad x.offset, received nothing"],
      [{ xstride: 4 }, "bad xstride, received 4, expected no such field, only x, weight, y, rows"],
      [{ reserved: 0 }, "bad reserved, received 0, expected no such field"],
    ];
    for (const [change, message] of refused)
      assertThrows(() => norm(change), TypeError, `Cannot run rmsNorm: ${message}`);
    assertThrows(() => encode("apiq_add_args", null as never, "run add"), TypeError, "bad arguments, received null");
    assertThrows(() => encodeArray("apiq_sample_params", [{ ...SAMPLE, seed: 2n ** 64n }]), TypeError, "bad seed");
    assertThrows(
      () => encodeArray("apiq_sample_params", [{ ...SAMPLE, position: 2 ** 53 }]),
      TypeError,
      "bad position",
    );
  });
});
