/** mseLoss, tokenNllBackward and sumSquares. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError, type Ref } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";
import { centralDifference } from "./quantizer_reference.ts";

/** Around a vector, four of them, an item, and several items. */
const COUNTS = [1, 15, 16, 63, 65, 16384, 16385, 50001];

const double = (bench: Bench, value: number) => bench.put(Float64Array.of(value));
const readDouble = (ref: Ref) => ref.buffer.download(new Float64Array(1), ref.offset)[0]!;

describe("mseLoss", () => {
  it("adds scale times the mean square, summed in double precision, and gives its gradient", () => {
    for (const count of COUNTS) {
      const random = new Random(count);
      const [prediction, target] = [random.normals(count), random.normals(count)];
      const before = random.normals(count);
      const scale = 0.75;
      const all = onEveryIsa((bench) => {
        const [p, t, loss] = [bench.f32(prediction), bench.f32(target), double(bench, 2)];
        const [grad, added] = [bench.room(count), bench.f32(before)];
        bench.context.mseLoss({ prediction: p, target: t, grad, loss, count, scale, accumulate: 0 });
        bench.context.mseLoss({ prediction: p, target: t, grad: added, loss, count, scale, accumulate: 1 });
        bench.context.mseLoss({ prediction: p, target: t, grad: null, loss, count, scale, accumulate: 0 });
        return Float64Array.from([readDouble(loss), ...bench.read(grad, count), ...bench.read(added, count)]);
      });
      const errors = prediction.map((value, i) => value - target[i]!);
      const mean = errors.reduce((sum, error) => sum + error * error, 0) / count;
      assertClose([all[0]!], [2 + 3 * scale * mean], 1e-13 * (1 + mean), `loss of ${count}`);
      for (let i = 0; i < count; i++) {
        const gradient = ((2 * scale) / count) * errors[i]!;
        assertClose([all[1 + i]!], [gradient], 1.3e-7 * Math.abs(gradient), `gradient ${i} of ${count}`);
        const sum = before[i]! + gradient;
        assertClose(
          [all[1 + count + i]!],
          [sum],
          6e-8 * Math.abs(sum) + 7e-8 * Math.abs(gradient),
          `sum ${i} of ${count}`,
        );
      }
    }
  });

  it("is a gradient: differences of the loss", () => {
    using bench = new Bench();
    const count = 21;
    const random = new Random(4);
    const [prediction, target] = [random.normals(count), random.normals(count)];
    const grad = bench.room(count);
    const run = (values: Float32Array) => {
      const loss = double(bench, 0);
      const inputs = { prediction: bench.f32(values), target: bench.f32(target) };
      bench.context.mseLoss({ ...inputs, grad, loss, count, scale: 3, accumulate: 0 });
      return readDouble(loss);
    };
    run(prediction);
    const gradient = bench.read(grad, count);
    for (let i = 0; i < count; i++) {
      // Of the op's own loss, whose errors are float32: steps of 1/64 lose 6e-8 / (1/64).
      const slope = centralDifference((value) => run(prediction.with(i, value)), prediction[i]!, 1 / 64);
      assertClose([gradient[i]!], [slope], 1e-5, `gradient ${i}`);
    }
  });

  it("shows a NaN, in the loss and where it is", () => {
    using bench = new Bench();
    const [grad, loss] = [bench.room(3), double(bench, 0)];
    const inputs = { prediction: bench.f32([1, Number.NaN, 3]), target: bench.f32([1, 2, 1]) };
    bench.context.mseLoss({ ...inputs, grad, loss, count: 3, scale: 1, accumulate: 0 });
    assert(Number.isNaN(readDouble(loss)));
    assertEquals([...bench.read(grad, 3)], [0, Number.NaN, Math.fround(4 / 3)]);
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = {
      ...{ prediction: bench.room(64), target: bench.room(64), grad: bench.room(64), loss: double(bench, 0) },
      ...{ count: 64, scale: 1, accumulate: 0 },
    };
    bench.context.mseLoss(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.mseLoss({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ count: 0 }, "INVALID_ARGUMENT");
    refused({ count: 65 }, "OUT_OF_RANGE");
    refused({ accumulate: 2 }, "INVALID_ARGUMENT");
    refused({ grad: good.prediction }, "INVALID_ARGUMENT");
    refused({ grad: good.target }, "INVALID_ARGUMENT");
    refused({ loss: good.grad }, "INVALID_ARGUMENT");
    refused({ loss: bench.room(4).buffer.at(4) }, "INVALID_ARGUMENT");
    refused({ loss: bench.room(1) }, "OUT_OF_RANGE");
  });
});

describe("sumSquares", () => {
  it("adds the float64 sum, also where squares leave float32", () => {
    for (const count of COUNTS) {
      const x = new Random(count).normals(count).map((value, i) => value * (i % 5 === 0 ? 1e25 : 1));
      const sums = onEveryIsa((bench) => {
        const sum = double(bench, 7);
        bench.context.sumSquares({ x: bench.f32(x), sum, count });
        return Float64Array.of(readDouble(sum));
      });
      const expected = x.reduce((sum, value) => sum + value * value, 0);
      assertClose([sums[0]! / (expected + 7)], [1], 1e-13, `${count}`);
    }
  });

  it("tells of a NaN anywhere", () => {
    using bench = new Bench();
    for (const at of [0, 16384, 20000]) {
      const sum = double(bench, 0);
      bench.context.sumSquares({ x: bench.f32(new Float32Array(20001).with(at, Number.NaN)), sum, count: 20001 });
      assert(Number.isNaN(readDouble(sum)));
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = { x: bench.room(64), sum: double(bench, 0), count: 64 };
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.sumSquares({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ count: 0 }, "INVALID_ARGUMENT");
    refused({ count: 65 }, "OUT_OF_RANGE");
    refused({ sum: good.x }, "INVALID_ARGUMENT");
  });
});

describe("tokenNllBackward", () => {
  it("equals differences of the float64 loss, also over a large vocabulary and in place", () => {
    for (const [rows, vocab] of [
      [1, 1],
      [3, 17],
      [5, 320],
      [2, 49152],
    ] as const) {
      const random = new Random(vocab);
      const scale = 0.25;
      const logits = random.normals(rows * vocab, 3);
      const targets = Array.from({ length: rows }, (_, row) => (row === 1 ? -1 : random.integer(vocab)));
      const both = onEveryIsa((bench) => {
        const [ref, apart] = [bench.f32(logits), bench.room(rows * vocab)];
        bench.context.tokenNllBackward({ logits: ref, targets: bench.i32(targets), grad: apart, rows, vocab, scale });
        bench.context.tokenNllBackward({ logits: ref, targets: bench.i32(targets), grad: ref, rows, vocab, scale });
        return Float32Array.from([...bench.read(apart, rows * vocab), ...bench.read(ref, rows * vocab)]);
      });
      assertEquals(both.slice(rows * vocab), both.slice(0, rows * vocab));
      for (const [row, target] of targets.entries()) {
        const values = logits.slice(row * vocab, (row + 1) * vocab);
        const total = values.reduce((sum, value) => sum + Math.exp(value), 0);
        for (const i of new Set([...Array(Math.min(vocab, 40)).keys(), vocab - 1, Math.max(target, 0)])) {
          // The other logits' exponentials do not move with this one.
          const rest = total - Math.exp(values[i]!);
          const nll = (value: number) => Math.log(rest + Math.exp(value)) - (i === target ? value : values[target]!);
          const slope = target < 0 ? 0 : scale * centralDifference(nll, values[i]!, 1e-4);
          const bound = 3e-7 * scale * (i === target ? 1 : Math.exp(values[i]!) / total) + 2e-11;
          assertClose([both[row * vocab + i]!], [slope], bound, `${rows} x ${vocab}: ${row}, ${i}`);
        }
      }
    }
  });

  it("is exact for a certain token", () => {
    const grad = onEveryIsa((bench) => {
      const logits = bench.f32([1000, -1000, 0, 0]);
      bench.context.tokenNllBackward({ logits, targets: bench.i32([0]), grad: logits, rows: 1, vocab: 4, scale: 1 });
      return bench.read(logits, 4);
    });
    assertEquals([...grad], [0, 0, 0, 0]);
  });

  it("reports a target past the vocabulary and gives its row zeros", () => {
    using bench = new Bench();
    const grad = bench.room(8);
    const inputs = { logits: bench.f32(new Float32Array(8)), targets: bench.i32([1, 4]) };
    bench.context.tokenNllBackward({ ...inputs, grad, rows: 2, vocab: 4, scale: 1 });
    const error = assertThrows(() => bench.read(grad, 8), ApiqError);
    assertEquals(error.status, "OUT_OF_RANGE");
    assertStringIncludes(error.message, "row 1: received target 4");
    assertClose(bench.read(grad, 8), [0.25, -0.75, 0.25, 0.25, 0, 0, 0, 0], 1e-7, "gradient");
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = {
      logits: bench.room(64),
      targets: bench.i32([0, 0, 0, 0]),
      grad: bench.room(64),
      rows: 4,
      vocab: 16,
      scale: 1,
    };
    bench.context.tokenNllBackward(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.tokenNllBackward({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ vocab: 0 }, "INVALID_ARGUMENT");
    refused({ grad: good.logits.buffer.at(4), rows: 3 }, "INVALID_ARGUMENT");
    refused({ grad: good.targets, rows: 1, vocab: 4 }, "INVALID_ARGUMENT");
    refused({ rows: 5 }, "OUT_OF_RANGE");
  });
});
