import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";

const EPS = 1e-5;

function reference(x: Float32Array, weight: Float32Array, rows: number, xStride: number): Float64Array {
  const cols = weight.length;
  const y = new Float64Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    const values = x.subarray(row * xStride, row * xStride + cols);
    const mean = values.reduce((sum, value) => sum + value * value, 0) / cols;
    const scale = 1 / Math.sqrt(mean + EPS);
    values.forEach((value, i) => {
      y[row * cols + i] = value * scale * weight[i]!;
    });
  }
  return y;
}

describe("rmsNorm", () => {
  it("equals float64 over ragged shapes and strides", () => {
    for (const [rows, cols, xStride] of [
      [1, 1, 1],
      [3, 15, 15],
      [2, 16, 20],
      [5, 48, 48],
      [1, 2048, 2048],
      [40, 576, 580],
      [9, 4099, 4099],
    ] as const) {
      const random = new Random(cols);
      const x = random.normals(rows * xStride, 3);
      const weight = random.normals(cols);
      const y = onEveryIsa((bench) => {
        const result = bench.room(rows * cols);
        const sizes = { rows, cols, xStride, yStride: cols, eps: EPS };
        bench.context.rmsNorm({ x: bench.f32(x), weight: bench.f32(weight), y: result, ...sizes });
        return bench.read(result, rows * cols);
      });
      // Squares are added in 16 lanes: at most 260 float32 additions each, all positive, so about 260 * 6e-8 / 2 relative at worst
      // and a tenth of that in practice; halved by the square root. Values reach 4 * 4.
      assertClose(y, reference(x, weight, rows, xStride), 1e-5, `${rows} x ${cols}`);
    }
  });

  it("normalises heads in place and leaves what lies between rows alone", () => {
    const [rows, cols, stride] = [6, 16, 24];
    const random = new Random(3);
    const x = random.normals(rows * stride);
    const weight = random.normals(cols);
    const y = onEveryIsa((bench) => {
      const ref = bench.f32(x);
      bench.context.rmsNorm({
        x: ref,
        weight: bench.f32(weight),
        y: ref,
        rows,
        cols,
        xStride: stride,
        yStride: stride,
        eps: EPS,
      });
      return bench.read(ref, rows * stride);
    });
    const expected = Float64Array.from(x);
    const normed = reference(x, weight, rows, stride);
    for (let row = 0; row < rows; row++) expected.set(normed.subarray(row * cols, (row + 1) * cols), row * stride);
    assertClose(y, expected, 1e-6, "in place");
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = {
      x: bench.room(64),
      weight: bench.room(16),
      y: bench.room(64),
      rows: 4,
      cols: 16,
      xStride: 16,
      yStride: 16,
      eps: 0,
    };
    bench.context.rmsNorm(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      const error = assertThrows(() => bench.context.rmsNorm({ ...good, ...bad }), ApiqError);
      assertEquals(error.status, status, error.message);
    };
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ cols: 0 }, "INVALID_ARGUMENT");
    refused({ xStride: 15 }, "INVALID_ARGUMENT");
    refused({ yStride: 15 }, "INVALID_ARGUMENT");
    refused({ eps: -1 }, "INVALID_ARGUMENT");
    refused({ rows: 5 }, "OUT_OF_RANGE");
    refused({ xStride: 17 }, "OUT_OF_RANGE");
    refused({ rows: 2 ** 32 - 1, xStride: 2 ** 32 - 1 }, "INVALID_ARGUMENT");
    refused({ y: good.x.buffer.at(64), rows: 3 }, "INVALID_ARGUMENT");
    refused({ y: good.weight, rows: 1 }, "INVALID_ARGUMENT");
  });
});
