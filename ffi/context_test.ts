import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertMatch, assertStrictEquals, assertThrows } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { ApiqError, Context, type ContextOptions, WEIGHT_AFFINE } from "./mod.ts";

describe("Context", () => {
  let context: Context;

  beforeEach(() => {
    context = Context.open({ threads: 2 });
  });
  afterEach(() => context[Symbol.dispose]());

  it("describes itself", () => {
    const { backend, isa, availableIsas, threads } = context.describe();
    assertEquals(backend, "cpu");
    assertEquals(threads, 2);
    assert(availableIsas.includes(isa) && availableIsas.includes("scalar"));
  });

  it("refuses options, libraries and sizes that make no sense", () => {
    const open = (options: ContextOptions) => () => Context.open(options);
    assertThrows(
      open({ libraryPath: "/nowhere/libapiq_cpu.so" }),
      Error,
      "no file at /nowhere/libapiq_cpu.so. `npm run build`",
    );
    assertThrows(open({ threads: -1 }), TypeError, "Cannot open the context: bad threads, received -1");
    const error = assertThrows(open({ deviceIndex: 99 }), ApiqError);
    assertMatch(error.message, /^Cannot open the context: .+ \(\w+\)$/);
    assertThrows(() => context.alloc(-1), RangeError, "Cannot allocate a buffer: bad bytes, received -1");
    assertThrows(() => context.alloc(0.5), RangeError);
    assertEquals(assertThrows(() => context.alloc(2 ** 52), ApiqError).status, "OUT_OF_MEMORY");
  });

  it("reports a failed op with the library's text and goes on", () => {
    const buffer = context.alloc(64);
    const add = (count: number) => context.add({ a: buffer.at(0), b: buffer.at(0), y: buffer.at(0), count });
    const error = assertThrows(() => add(17), ApiqError);
    assertEquals(error.status, "OUT_OF_RANGE");
    assertEquals(error.operation, "run add");
    assertMatch(error.message, /^Cannot run add: .+ \(OUT_OF_RANGE\)$/);
    buffer.upload(new Float32Array([1, 2, 3]));
    add(3);
    assertEquals(buffer.download(new Float32Array(4)), new Float32Array([2, 4, 6, 0]));
  });

  it("counts the memory that it holds", () => {
    const before = context.memory();
    const buffer = context.alloc(1 << 20);
    assertEquals(context.memory().allocatedBytes, before.allocatedBytes + (1 << 20));
    buffer[Symbol.dispose]();
    assertEquals(context.memory().allocatedBytes, before.allocatedBytes);
    assert(context.memory().peakBytes >= before.allocatedBytes + (1 << 20));
  });

  it("sizes packed weights", () => {
    const shape = { kind: WEIGHT_AFFINE, dtype: 0, bits: 2, group: 64, zero: 0, outFeatures: 64, inFeatures: 128 };
    assert(context.packedBytes(shape) >= (64 * 128 * 2) / 8);
    assertEquals(assertThrows(() => context.packedBytes({ ...shape, bits: 5 }), ApiqError).status, "INVALID_ARGUMENT");
  });

  it("measures bandwidth over a buffer", () => {
    assert(context.measureBandwidth(context.alloc(1 << 22), 1) > 1e8);
  });

  it("is closed once and then refuses everything", () => {
    const buffer = context.alloc(64);
    const graph = context.record(() => {});
    context[Symbol.dispose]();
    context[Symbol.dispose]();
    assertThrows(() => context.synchronize(), Error, "Cannot finish pending ops: the context is disposed");
    assertThrows(() => context.alloc(1), Error, "Cannot allocate a buffer: the context is disposed");
    assertThrows(() => buffer.upload(new Uint8Array(1)), Error, "Cannot use the buffer: its context is disposed");
    assertThrows(() => graph.launch(), Error, "Cannot launch the graph: its context is disposed");
    buffer[Symbol.dispose]();
    graph[Symbol.dispose]();
  });
});

describe("DeviceBuffer", () => {
  let context: Context;

  beforeEach(() => {
    context = Context.open({ threads: 1 });
  });
  afterEach(() => context[Symbol.dispose]());

  it("copies any view of memory, to any offset", () => {
    const buffer = context.alloc(32);
    const bytes = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
    buffer.upload(bytes.subarray(4, 6), 1);
    buffer.upload(new DataView(bytes.buffer, 8, 3), 5);
    buffer.upload(new Float64Array([1.5]).subarray(0, 1), 16);
    assertEquals(buffer.download(new Uint8Array(9)), new Uint8Array([0, 5, 6, 0, 0, 9, 10, 11, 0]));
    assertEquals(buffer.download(new Float64Array(2).subarray(1), 16), new Float64Array([1.5]));
    const target = new Uint8Array(4).fill(255);
    buffer.download(target.subarray(1, 3), 1);
    assertEquals(target, new Uint8Array([255, 5, 6, 255]));
  });

  it("copies nothing from and to empty views, also at its very end", () => {
    const buffer = context.alloc(8);
    buffer.upload(new Uint8Array(0), 8);
    const target = new Float32Array(0);
    assertStrictEquals(buffer.download(target, 8), target);
  });

  it("refuses ranges outside itself before native code sees them", () => {
    const buffer = context.alloc(8);
    const message = "received bytes 5 to 9, expected a range in 0 to 8";
    assertThrows(() => buffer.upload(new Uint8Array(4), 5), RangeError, `Cannot upload to the buffer: ${message}`);
    assertThrows(
      () => buffer.download(new Uint8Array(4), 5),
      RangeError,
      `Cannot download from the buffer: ${message}`,
    );
    assertThrows(() => buffer.view(5, 4), RangeError, message);
    assertThrows(() => buffer.releasePages(5, 4), RangeError, message);
    for (const offset of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      assertThrows(() => buffer.upload(new Uint8Array(1), offset), RangeError);
    }
  });

  it("is viewed through windows, which go before it does", () => {
    const buffer = context.alloc(16);
    const view = buffer.view(4, 8);
    assertEquals(view.bytes, 8);
    view.upload(new Uint32Array([7]), 4);
    assertEquals(buffer.download(new Uint32Array(1), 8), new Uint32Array([7]));
    assertEquals(assertThrows(() => buffer[Symbol.dispose](), ApiqError).status, "INVALID_STATE");
    view[Symbol.dispose]();
    buffer[Symbol.dispose]();
  });

  it("is freed once and then refuses everything", () => {
    const [buffer, other] = [context.alloc(8), context.alloc(8)];
    const ref = buffer.at(0);
    buffer[Symbol.dispose]();
    buffer[Symbol.dispose]();
    const message = "Cannot use the buffer: it is disposed";
    assertThrows(() => buffer.upload(new Uint8Array(1)), Error, message);
    assertThrows(() => buffer.download(new Uint8Array(1)), Error, message);
    assertThrows(() => buffer.view(0, 1), Error, message);
    assertThrows(() => context.add({ a: ref, b: ref, y: ref, count: 1 }), Error, message);
    other.upload(new Uint8Array(8));
  });

  it("belongs to one context", () => {
    using stranger = Context.open({ threads: 1 });
    const ref = stranger.alloc(8).at(0);
    const error = assertThrows(() => context.add({ a: ref, b: ref, y: ref, count: 1 }), ApiqError);
    assertEquals(error.status, "INVALID_HANDLE");
  });

  it("maps a file, whole or from an offset", () => {
    const folder = mkdtempSync(join(tmpdir(), "apiq-ffi-"));
    const path = join(folder, "gewichte-ä.bin");
    writeFileSync(
      path,
      Uint8Array.from({ length: 10_000 }, (_, index) => index % 251),
    );
    using whole = context.mapFile(path);
    assertEquals(whole.bytes, 10_000);
    assertEquals(whole.download(new Uint8Array(2), 9_998), new Uint8Array([9_998 % 251, 9_999 % 251]));
    using part = context.mapFile(path, 5_000, 100);
    assertEquals(part.bytes, 100);
    assertEquals(part.download(new Uint8Array(1)), new Uint8Array([5_000 % 251]));
    whole.releasePages(0, 10_000);
    assertEquals(whole.download(new Uint8Array(1), 5_000), new Uint8Array([5_000 % 251]));
    assertThrows(() => whole.upload(new Uint8Array(1)), ApiqError);
    assertEquals(assertThrows(() => context.mapFile(join(folder, "absent")), ApiqError).status, "IO_ERROR");
    assertThrows(() => context.mapFile(path, 20_000), ApiqError);
    assertThrows(() => context.mapFile(path, -1), RangeError, "bad offset, received -1");
    rmSync(folder, { recursive: true });
  });
});

describe("Graph", () => {
  let context: Context;

  beforeEach(() => {
    context = Context.open({ threads: 2 });
  });
  afterEach(() => context[Symbol.dispose]());

  it("runs what was recorded at every launch, and not before", () => {
    const buffer = context.alloc(64);
    buffer.upload(new Float32Array([1, 2]));
    const double = () => context.add({ a: buffer.at(0), b: buffer.at(0), y: buffer.at(0), count: 2 });
    using graph = context.record(() => {
      double();
      double();
    });
    assertEquals(buffer.download(new Float32Array(2)), new Float32Array([1, 2]));
    graph.launch();
    graph.launch();
    assertEquals(buffer.download(new Float32Array(2)), new Float32Array([16, 32]));
  });

  it("drops a recording whose body throws", () => {
    const fault = new Error("on purpose");
    const body = () => {
      throw fault;
    };
    assertStrictEquals(
      assertThrows(() => context.record(body)),
      fault,
    );
    assertThrows(() => context.record(async () => {}), TypeError, "Cannot record a graph: received an async function");
    context.record(() => {}).launch();
  });

  it("is freed once, and refuses freed buffers", () => {
    const buffer = context.alloc(64);
    const graph = context.record(() => context.add({ a: buffer.at(0), b: buffer.at(0), y: buffer.at(0), count: 1 }));
    buffer[Symbol.dispose]();
    assertEquals(assertThrows(() => graph.launch(), ApiqError).status, "INVALID_HANDLE");
    graph[Symbol.dispose]();
    graph[Symbol.dispose]();
    assertThrows(() => graph.launch(), Error, "Cannot launch the graph: it is disposed");
  });
});
