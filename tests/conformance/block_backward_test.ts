/** Gradients of the decoder block's norm and activation. */
import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";
import { centralDifference, sigmoid } from "./quantizer_reference.ts";

const EPS = 1e-5;

/** dy . rms_norm(x) of one row. */
function normLoss(x: readonly number[], weight: Float32Array, dy: Float32Array): number {
  const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + EPS);
  return x.reduce((sum, value, i) => sum + dy[i]! * weight[i]! * value * scale, 0);
}

describe("rmsNormBackward", () => {
  it("equals differences of the float64 norm", () => {
    for (const [rows, cols] of [
      [1, 1],
      [3, 15],
      [2, 48],
      [40, 576],
      [5, 4099],
    ] as const) {
      const random = new Random(cols);
      const [x, weight, dy] = [random.normals(rows * cols, 3), random.normals(cols), random.normals(rows * cols)];
      const dx = onEveryIsa((bench) => {
        const result = bench.room(rows * cols);
        const inputs = { x: bench.f32(x), weight: bench.f32(weight), dy: bench.f32(dy) };
        bench.context.rmsNormBackward({ ...inputs, dx: result, rows, cols, eps: EPS, accumulate: 0 });
        return bench.read(result, rows * cols);
      });
      for (let row = 0; row < rows; row += rows > 10 ? 13 : 1) {
        const values = [...x.subarray(row * cols, (row + 1) * cols)];
        const gradient = dy.subarray(row * cols, (row + 1) * cols);
        for (let i = 0; i < cols; i += cols > 100 ? 97 : 1) {
          const at = (value: number) => normLoss(values.with(i, value), weight, gradient);
          // Three roundings of terms up to 5; with one column x^2 / (x^2 + eps) leaves almost nothing of them.
          assertClose(
            [dx[row * cols + i]!],
            [centralDifference(at, values[i]!, 1e-4)],
            1.5e-6,
            `${rows} x ${cols}: ${row}, ${i}`,
          );
        }
      }
    }
  });

  it("adds to dx where asked for, and writes over dy", () => {
    const [rows, cols] = [5, 37];
    const random = new Random(8);
    const [x, weight, dy, before] = [random.normals(rows * cols), random.normals(cols), random.normals(rows * cols), 3];
    const all = onEveryIsa((bench) => {
      const inputs = { x: bench.f32(x), weight: bench.f32(weight), rows, cols, eps: EPS };
      const refs = [bench.room(rows * cols), bench.f32(new Float32Array(rows * cols).fill(before)), bench.f32(dy)];
      bench.context.rmsNormBackward({ ...inputs, dy: bench.f32(dy), dx: refs[0]!, accumulate: 0 });
      bench.context.rmsNormBackward({ ...inputs, dy: bench.f32(dy), dx: refs[1]!, accumulate: 1 });
      bench.context.rmsNormBackward({ ...inputs, dy: refs[2]!, dx: refs[2]!, accumulate: 0 });
      return Float32Array.from(refs.flatMap((ref) => [...bench.read(ref, rows * cols)]));
    });
    const plain = all.slice(0, rows * cols);
    assertEquals(
      all.slice(rows * cols, 2 * rows * cols),
      plain.map((value) => before + value),
    );
    assertEquals(all.slice(2 * rows * cols), plain);
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const room = () => bench.room(64);
    const good = {
      x: room(),
      weight: bench.room(16),
      dy: room(),
      dx: room(),
      rows: 4,
      cols: 16,
      eps: EPS,
      accumulate: 0,
    };
    bench.context.rmsNormBackward(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.rmsNormBackward({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ eps: -1 }, "INVALID_ARGUMENT");
    refused({ accumulate: 2 }, "INVALID_ARGUMENT");
    refused({ dx: good.x }, "INVALID_ARGUMENT");
    refused({ dx: good.dy, accumulate: 1 }, "INVALID_ARGUMENT");
    refused({ dx: good.dy.buffer.at(4), rows: 3 }, "INVALID_ARGUMENT");
    refused({ rows: 5 }, "OUT_OF_RANGE");
  });
});

describe("rmsNormWeightBackward", () => {
  it("equals differences of the float64 norm, summed over rows, and adds where asked for", () => {
    for (const [rows, cols] of [
      [1, 1],
      [3, 15],
      [300, 48],
      [1025, 64],
      [5, 4099],
    ] as const) {
      const random = new Random(cols + rows);
      const [x, weight, dy] = [random.normals(rows * cols, 3), random.normals(cols), random.normals(rows * cols)];
      const before = random.normals(cols);
      const both = onEveryIsa((bench) => {
        const [plain, added] = [bench.room(cols), bench.f32(before)];
        const inputs = { x: bench.f32(x), dy: bench.f32(dy), rows, cols, eps: EPS };
        bench.context.rmsNormWeightBackward({ ...inputs, dweight: plain, accumulate: 0 });
        bench.context.rmsNormWeightBackward({ ...inputs, dweight: added, accumulate: 1 });
        return Float32Array.from([...bench.read(plain, cols), ...bench.read(added, cols)]);
      });
      const row = (of: Float32Array, r: number) => of.subarray(r * cols, (r + 1) * cols);
      for (let c = 0; c < cols; c += cols > 100 ? 97 : 1) {
        const loss = (value: number) => {
          const moved = weight.with(c, value);
          let sum = 0;
          for (let r = 0; r < rows; r++) sum += normLoss([...row(x, r)], moved, row(dy, r));
          return sum;
        };
        // The loss is linear in the weight: any step does.
        const slope = loss(1) - loss(0);
        const bound = 3e-7 * Math.sqrt(rows) * 3 + 1e-7 * Math.abs(slope);
        assertClose([both[c]!], [slope], bound, `${rows} x ${cols}: ${c}`);
        assertClose([both[cols + c]!], [before[c]! + slope], bound + 1e-6, `${rows} x ${cols}: ${c}, added`);
        if (rows > 100 && c > 3) break;
      }
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const zeros = (count: number) => bench.f32(new Float32Array(count));
    const good = { x: zeros(64), dy: zeros(64), dweight: zeros(16), rows: 4, cols: 16, eps: EPS, accumulate: 0 };
    bench.context.rmsNormWeightBackward(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(
        assertThrows(() => bench.context.rmsNormWeightBackward({ ...good, ...bad }), ApiqError).status,
        status,
      );
    };
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ rows: 5 }, "OUT_OF_RANGE");
    refused({ eps: -1 }, "INVALID_ARGUMENT");
    refused({ accumulate: 2 }, "INVALID_ARGUMENT");
    refused({ dweight: good.x }, "INVALID_ARGUMENT");
    refused({ dweight: good.dy.buffer.at(64) }, "INVALID_ARGUMENT");
  });
});

describe("siluMulBackward", () => {
  const run = (gate: ArrayLike<number>, up: ArrayLike<number>, dy: ArrayLike<number>) =>
    onEveryIsa((bench) => {
      const count = gate.length;
      const [dgate, dup] = [bench.room(count), bench.room(count)];
      bench.context.siluMulBackward({ gate: bench.f32(gate), up: bench.f32(up), dy: bench.f32(dy), dgate, dup, count });
      return Float32Array.from([...bench.read(dgate, count), ...bench.read(dup, count)]);
    });

  it("equals differences of silu(gate) * up", () => {
    for (const count of [1, 15, 17, 2048, 16385]) {
      const random = new Random(count);
      const [gate, up, dy] = [random.normals(count, 4), random.normals(count), random.normals(count)];
      const both = run(gate, up, dy);
      const silu = (x: number) => x * sigmoid(x);
      for (let i = 0; i < count; i += count > 100 ? 7 : 1) {
        const dgate = dy[i]! * up[i]! * centralDifference(silu, gate[i]!, 1e-4);
        const dup = dy[i]! * silu(gate[i]!);
        // The slope, at most 1.1, takes an error of the sigmoid (up to 3e-7) up to three times; the difference is good to 1e-9.
        assertClose([both[i]!], [dgate], 1e-6 * Math.abs(dy[i]! * up[i]!) + 1e-8, `dgate ${i} of ${count}`);
        assertClose([both[count + i]!], [dup], 5e-7 * Math.abs(dup), `dup ${i} of ${count}`);
      }
    }
  });

  it("saturates without overflow", () => {
    const gate = [-1e30, -200, -90, 90, 200, 1e30];
    const ones = gate.map(() => 1);
    const both = run(gate, ones, ones);
    assertClose(both.slice(0, 6), [0, 0, 0, 1, 1, 1], 1e-36, "dgate");
    assertClose(both.slice(6), [0, 0, 0, 90, 200, Math.fround(1e30)], 1e-36, "dup");
  });

  it("may write dgate over gate or dy, and dup over up", () => {
    const count = 37;
    const random = new Random(2);
    const values = [random.normals(count), random.normals(count), random.normals(count)] as const;
    const expected = run(...values);
    for (const over of ["gate", "dy"] as const) {
      const both = onEveryIsa((bench) => {
        const refs = { gate: bench.f32(values[0]), up: bench.f32(values[1]), dy: bench.f32(values[2]) };
        bench.context.siluMulBackward({ ...refs, dgate: refs[over], dup: refs.up, count });
        return Float32Array.from([...bench.read(refs[over], count), ...bench.read(refs.up, count)]);
      });
      assertEquals(both, expected);
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const room = () => bench.room(64);
    const good = { gate: room(), up: room(), dy: room(), dgate: room(), dup: room(), count: 64 };
    bench.context.siluMulBackward(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.siluMulBackward({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ count: 0 }, "INVALID_ARGUMENT");
    refused({ count: 65 }, "OUT_OF_RANGE");
    refused({ dgate: good.up }, "INVALID_ARGUMENT");
    refused({ dup: good.gate }, "INVALID_ARGUMENT");
    refused({ dup: good.dy }, "INVALID_ARGUMENT");
    refused({ dup: good.dgate }, "INVALID_ARGUMENT");
    refused({ dgate: good.gate.buffer.at(4), count: 63 }, "INVALID_ARGUMENT");
  });
});
