import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError, type Ref } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random, throughF16 } from "./harness.ts";
import { centralDifference, clamp, roundEven, sigmoid } from "./quantizer_reference.ts";

const COUNTS = [1, 15, 16, 33, 1024, 2500];

/** Both results of one op after one another. */
const readPair = (bench: Bench, a: Ref, b: Ref, count: number) =>
  Float32Array.from([...bench.read(a, count), ...bench.read(b, count)]);

describe("groupRange", () => {
  it("is the smallest and the largest weight of every group, 0 included where asked for", () => {
    for (const [outFeatures, inFeatures, group] of [
      [1, 8, 8],
      [3, 24, 24],
      [5, 144, 72],
      [9, 1024, 1024],
      [300, 576, 64],
    ] as const) {
      const w = new Random(group)
        .normals(outFeatures * inFeatures)
        .map((value, i) => value + (Math.floor(i / group) % 3) * 5 - 5);
      const groups = w.length / group;
      for (const includeZero of [0, 1]) {
        const ends = onEveryIsa((bench) => {
          const [low, high] = [bench.room(groups), bench.room(groups)];
          bench.context.groupRange({ w: bench.f32(w), low, high, outFeatures, inFeatures, group, includeZero });
          return readPair(bench, low, high, groups);
        });
        const rows = Array.from({ length: groups }, (_, g) => [
          ...w.slice(g * group, (g + 1) * group),
          ...(includeZero ? [0] : []),
        ]);
        assertEquals(
          [...ends.slice(0, groups)],
          rows.map((row) => Math.min(...row)),
        );
        assertEquals(
          [...ends.slice(groups)],
          rows.map((row) => Math.max(...row)),
        );
      }
    }
  });

  it("is NaN for a group with a NaN in any place, and infinite for infinities", () => {
    const group = 24;
    const w = Float32Array.from({ length: (group + 1) * group }, (_, i) =>
      i % (group + 1) === 0 ? Number.NaN : i % 7,
    );
    w.fill(1, group * group);
    w.set([Infinity, -Infinity], group * group + 3);
    const ends = onEveryIsa((bench) => {
      const [low, high] = [bench.room(group + 1), bench.room(group + 1)];
      const sizes = { outFeatures: group + 1, inFeatures: group, group, includeZero: 0 };
      bench.context.groupRange({ w: bench.f32(w), low, high, ...sizes });
      return readPair(bench, low, high, group + 1);
    });
    assertEquals([...ends.slice(0, group), ...ends.slice(group + 1, -1)], new Array(2 * group).fill(Number.NaN));
    assertEquals([ends[group], ends.at(-1)], [-Infinity, Infinity]);
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = { w: bench.room(64), low: bench.room(8), high: bench.room(8) };
    const sizes = { outFeatures: 4, inFeatures: 16, group: 8, includeZero: 0 };
    bench.context.groupRange({ ...good, ...sizes });
    const refused = (bad: Partial<typeof good & typeof sizes>, status: string) => {
      assertEquals(
        assertThrows(() => bench.context.groupRange({ ...good, ...sizes, ...bad }), ApiqError).status,
        status,
      );
    };
    refused({ group: 12 }, "INVALID_ARGUMENT");
    refused({ group: 32 }, "INVALID_ARGUMENT");
    refused({ includeZero: 2 }, "INVALID_ARGUMENT");
    refused({ outFeatures: 0 }, "INVALID_ARGUMENT");
    refused({ low: good.high }, "INVALID_ARGUMENT");
    refused({ high: good.w }, "INVALID_ARGUMENT");
    refused({ outFeatures: 5 }, "OUT_OF_RANGE");
    refused({ low: bench.room(7) }, "OUT_OF_RANGE");
  });
});

/** Ranges around 0 and beside it, some so narrow or wide that the scale is clamped. */
function ranges(count: number) {
  const random = new Random(count);
  const width = (i: number) => (i % 11 === 3 ? 1e-6 : i % 11 === 7 ? 1e6 : 0.1);
  const low = Float32Array.from({ length: count }, (_, i) => (random.uniform() - 0.8) * width(i));
  const high = Float32Array.from({ length: count }, (_, i) => low[i]! + random.uniform() * width(i));
  const lowFactor = random.normals(count).map((value) => 4 + 2 * value);
  const highFactor = random.normals(count).map((value) => 4 + 2 * value);
  return { low, high, lowFactor, highFactor };
}

describe("clipRange", () => {
  for (const learned of [false, true]) {
    it(`equals float64 ${learned ? "with" : "without"} factors, its scale rounded to float16 where asked for`, () => {
      for (const count of COUNTS) {
        for (const [bits, roundScale] of [
          [2, 0],
          [3, 1],
          [8, 0],
        ] as const) {
          const given = ranges(count);
          const top = 2 ** bits - 1;
          const both = onEveryIsa((bench) => {
            const [scale, zero] = [bench.room(count), bench.room(count)];
            const lowFactor = learned ? bench.f32(given.lowFactor) : null;
            const highFactor = learned ? bench.f32(given.highFactor) : null;
            const inputs = { low: bench.f32(given.low), high: bench.f32(given.high), lowFactor, highFactor };
            bench.context.clipRange({ ...inputs, scale, zero, count, bits, roundScale });
            return readPair(bench, scale, zero, count);
          });
          for (let i = 0; i < count; i++) {
            const h = given.high[i]! * (learned ? sigmoid(given.highFactor[i]!) : 1);
            const l = given.low[i]! * (learned ? sigmoid(given.lowFactor[i]!) : 1);
            const exact = clamp((h - l) / top, 1e-5, 1e4);
            const [scale, zero] = [both[i]!, both[count + i]!];
            // h - l cancels: its error is a few units of the larger of the two.
            const error = Math.max(exact * 2e-7, (4e-7 * Math.max(Math.abs(h), Math.abs(l))) / top);
            if (roundScale === 0) assertClose([scale], [exact], error, `scale ${i} of ${count}`);
            else
              assert(
                throughF16([scale])[0] === scale &&
                  Math.abs(scale - exact) <= error + Math.max(exact * 2 ** -11, 2 ** -25),
              );
            const ratio = clamp(-l / scale, -1e4, 1e4);
            assert(
              Number.isInteger(zero) && Math.abs(zero - ratio) <= 0.5 + 4e-7 * Math.abs(ratio),
              `zero ${i}: ${zero}, ${ratio}`,
            );
          }
        }
      }
    });
  }

  it("rounds zeros to even, and gives sigmoid its limits", () => {
    const low = [-0.5, -1.5, -2.5, 0.5, -3, -3, -3];
    const lowFactor = [1e3, 1e3, 1e3, 1e3, -1e3, Infinity, -Infinity];
    const result = onEveryIsa((bench) => {
      const [scale, zero] = [bench.room(7), bench.room(7)];
      const inputs = { low: bench.f32(low), high: bench.f32(low.map((value, i) => (i < 4 ? value + 3 : 3))) };
      const factors = { lowFactor: bench.f32(lowFactor), highFactor: bench.f32(low.map(() => 1e3)) };
      bench.context.clipRange({ ...inputs, ...factors, scale, zero, count: 7, bits: 2, roundScale: 0 });
      return readPair(bench, scale, zero, 7);
    });
    assertEquals([...result.slice(0, 7)], [1, 1, 1, 1, 1, 2, 1]);
    assertEquals(
      [...result.slice(7)].map((value) => value + 0),
      [0, 2, 2, 0, 0, roundEven(1.5), 0],
    );
  });

  it("keeps a NaN a NaN", () => {
    const result = onEveryIsa((bench) => {
      const [scale, zero] = [bench.room(4), bench.room(4)];
      const inputs = { low: bench.f32([Number.NaN, -1, -1, -1]), high: bench.f32([1, Number.NaN, 1, 1]) };
      const factors = { lowFactor: bench.f32([4, 4, Number.NaN, 4]), highFactor: bench.f32([4, 4, 4, Number.NaN]) };
      bench.context.clipRange({ ...inputs, ...factors, scale, zero, count: 4, bits: 4, roundScale: 1 });
      return Uint8Array.from([...bench.read(scale, 4), ...bench.read(zero, 4)], (value) =>
        Number.isNaN(value) ? 1 : 0,
      );
    });
    assertEquals([...result], new Array(8).fill(1));
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const rooms = () => bench.room(8);
    const good = { low: rooms(), high: rooms(), scale: rooms(), zero: rooms(), count: 8, bits: 4, roundScale: 0 };
    const factors: { lowFactor: Ref | null; highFactor: Ref | null } = { lowFactor: rooms(), highFactor: rooms() };
    bench.context.clipRange({ ...good, ...factors });
    const refused = (bad: Partial<typeof good & typeof factors>, status: string) => {
      assertEquals(
        assertThrows(() => bench.context.clipRange({ ...good, ...factors, ...bad }), ApiqError).status,
        status,
      );
    };
    refused({ lowFactor: null }, "INVALID_ARGUMENT");
    refused({ highFactor: null }, "INVALID_ARGUMENT");
    refused({ count: 0 }, "INVALID_ARGUMENT");
    refused({ bits: 9 }, "INVALID_ARGUMENT");
    refused({ roundScale: 2 }, "INVALID_ARGUMENT");
    refused({ scale: good.zero }, "INVALID_ARGUMENT");
    refused({ zero: good.low }, "INVALID_ARGUMENT");
    refused({ count: 9 }, "OUT_OF_RANGE");
  });
});

describe("clipRangeBackward", () => {
  it("equals differences of the float64 scale, and is 0 where its clamp stops it", () => {
    for (const count of COUNTS) {
      const given = ranges(count);
      const bits = 2 + (count % 3);
      const top = 2 ** bits - 1;
      const dscale = new Random(count + 5).normals(count);
      const both = onEveryIsa((bench) => {
        const [dlowFactor, dhighFactor] = [bench.room(count), bench.room(count)];
        const ends = { low: bench.f32(given.low), high: bench.f32(given.high) };
        const factors = { lowFactor: bench.f32(given.lowFactor), highFactor: bench.f32(given.highFactor) };
        bench.context.clipRangeBackward({
          ...ends,
          ...factors,
          dscale: bench.f32(dscale),
          dlowFactor,
          dhighFactor,
          count,
          bits,
        });
        return readPair(bench, dlowFactor, dhighFactor, count);
      });
      let stopped = 0;
      for (let i = 0; i < count; i++) {
        const [low, high, lowFactor, highFactor] = [
          given.low[i]!,
          given.high[i]!,
          given.lowFactor[i]!,
          given.highFactor[i]!,
        ];
        const scale = (a: number, b: number) => clamp((sigmoid(b) * high - sigmoid(a) * low) / top, 1e-5, 1e4);
        const dlow = dscale[i]! * centralDifference((a) => scale(a, highFactor), lowFactor, 1e-4);
        const dhigh = dscale[i]! * centralDifference((b) => scale(lowFactor, b), highFactor, 1e-4);
        if (dlow === 0 && dhigh === 0) stopped++;
        // 1 - sigmoid has lost digits: one unit of 6e-8 in each of up to 5e-5 (factors below 10), and h^2 / 6 of the difference.
        const slack = (x: number) => 1e-7 / (1 - sigmoid(x)) + 1e-6;
        assertClose([both[i]!], [dlow], slack(lowFactor) * Math.abs(dlow), `dlow ${i} of ${count}`);
        assertClose([both[count + i]!], [dhigh], slack(highFactor) * Math.abs(dhigh), `dhigh ${i} of ${count}`);
      }
      if (count > 100) assert(stopped > 0, "no scale was stopped by its clamp");
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const rooms = () => bench.room(8);
    const good = {
      ...{ low: rooms(), high: rooms(), lowFactor: rooms(), highFactor: rooms(), dscale: rooms() },
      ...{ dlowFactor: rooms(), dhighFactor: rooms(), count: 8, bits: 4 },
    };
    bench.context.clipRangeBackward(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.clipRangeBackward({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ bits: 0 }, "INVALID_ARGUMENT");
    refused({ dlowFactor: good.dhighFactor }, "INVALID_ARGUMENT");
    refused({ dlowFactor: good.lowFactor }, "INVALID_ARGUMENT");
    refused({ dhighFactor: good.dscale }, "INVALID_ARGUMENT");
    refused({ count: 9 }, "OUT_OF_RANGE");
  });
});
