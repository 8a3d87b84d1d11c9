/**
 * What the conformance tests share: a context per instruction set, tensors in and out of it, random numbers, and comparison.
 * References are computed in float64 by the tests themselves.
 */

import { assert } from "@std/assert";
import { Context, encodeArray, type Isa, type Ref } from "../../ffi/mod.ts";

/** A context with short ways to make and read tensors. */
export class Bench implements Disposable {
  readonly context: Context;

  constructor(isa: Isa = "auto", threads = 1) {
    this.context = Context.open({ isa, threads });
  }

  /** A buffer that holds a copy of `values`. */
  put(values: ArrayBufferView): Ref {
    const buffer = this.context.alloc(Math.max(values.byteLength, 1));
    buffer.upload(values);
    return buffer.at(0);
  }

  f32(values: ArrayLike<number>): Ref {
    return this.put(Float32Array.from(values));
  }

  i32(values: ArrayLike<number>): Ref {
    return this.put(Int32Array.from(values));
  }

  /** An array of C structs. */
  structs(...args: Parameters<typeof encodeArray>): Ref {
    return this.put(encodeArray(...args));
  }

  /** Room for `count` 32-bit elements, filled with a pattern that no result should still show. */
  room(count: number): Ref {
    return this.put(new Uint8Array(count * 4).fill(0x7b));
  }

  read(ref: Ref, count: number): Float32Array {
    return ref.buffer.download(new Float32Array(count), ref.offset);
  }

  readInts(ref: Ref, count: number): Int32Array {
    return ref.buffer.download(new Int32Array(count), ref.offset);
  }

  [Symbol.dispose](): void {
    this.context[Symbol.dispose]();
  }
}

/** The instruction sets of this machine, the portable one first. */
export const isas: readonly Isa[] = (() => {
  using bench = new Bench();
  return bench.context.describe().availableIsas;
})();

/**
 * Runs `body` with every instruction set, and with two threads as well as one, asserts that all results have the same bits,
 * and returns them.
 */
export function onEveryIsa<T extends ArrayBufferView>(body: (bench: Bench) => T): T {
  let first: T | undefined;
  for (const [isa, threads] of isas.flatMap((isa) => [[isa, 1] as const, [isa, 2] as const])) {
    using bench = new Bench(isa, threads);
    const result = body(bench);
    if (first === undefined) first = result;
    else assertSameBits(result, first, `${isa} with ${threads} threads against ${isas[0]}`);
  }
  return first!;
}

export function assertSameBits(actual: ArrayBufferView, expected: ArrayBufferView, what: string): void {
  const a = Buffer.from(actual.buffer, actual.byteOffset, actual.byteLength);
  const b = Buffer.from(expected.buffer, expected.byteOffset, expected.byteLength);
  if (a.equals(b)) return;
  const at = a.findIndex((byte, index) => byte !== b[index]);
  throw new Error(`${what}: the results differ, first in byte ${at} of ${b.length} (received length ${a.length})`);
}

/** Largest |actual - expected|; fails where it exceeds `bound` or where a number is missing. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: number,
  what: string,
): number {
  assert(actual.length === expected.length, `${what}: ${actual.length} results, expected ${expected.length}`);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!);
    assert(error <= bound, `${what}: element ${i} is ${actual[i]}, expected ${expected[i]} within ${bound}`);
    worst = Math.max(worst, error);
  }
  return worst;
}

/** A small generator (xorshift) for test data: the same numbers on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761 + 88172645) | 1;
  }

  /** In [0, 1). */
  uniform(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) / 2 ** 32;
  }

  /** In 0 .. limit - 1. */
  integer(limit: number): number {
    return Math.floor(this.uniform() * limit);
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  normals(count: number, deviation = 1): Float32Array {
    return Float32Array.from({ length: count }, () => this.normal() * deviation);
  }
}

/** Values as they are after a trip through float16. */
export const throughF16 = (values: ArrayLike<number>): Float32Array => Float32Array.from(Float16Array.from(values));
