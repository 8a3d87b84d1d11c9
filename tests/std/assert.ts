/**
 * The part of `@std/assert` that the tests use, over `node:assert`, which both runtimes have. See bdd.ts for the mapping.
 */

import nodeAssert from "node:assert/strict";

export { AssertionError } from "node:assert/strict";

// biome-ignore lint/suspicious/noExplicitAny: constructors of any arguments, as in @std/assert
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** Runs a check of node:assert; a caller's message goes before the difference instead of replacing it. */
function check(message: string | undefined, body: () => void): void {
  try {
    body();
  } catch (error) {
    if (message !== undefined && error instanceof Error) error.message = `${message}: ${error.message}`;
    throw error;
  }
}

export function assert(condition: unknown, message = "Expected a truthy value"): asserts condition {
  nodeAssert.ok(condition, message);
}

export function assertFalse(condition: unknown, message = "Expected a falsy value"): void {
  nodeAssert.ok(!condition, message);
}

export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  check(message, () => nodeAssert.deepStrictEqual(actual, expected));
}

export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  check(message, () => nodeAssert.notDeepStrictEqual(actual, expected));
}

export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): asserts actual is T {
  nodeAssert.ok(Object.is(actual, expected), message ?? `Expected ${String(actual)} to be ${String(expected)} itself`);
}

export function assertNotStrictEquals(actual: unknown, unexpected: unknown, message?: string): void {
  nodeAssert.ok(!Object.is(actual, unexpected), message ?? `Expected something other than ${String(unexpected)}`);
}

/** Like @std/assert: the default tolerance is 1e-7, relative to `expected` where that is finite. */
export function assertAlmostEquals(actual: number, expected: number, tolerance?: number, message?: string): void {
  if (Object.is(actual, expected)) return;
  const allowed = tolerance ?? (Number.isFinite(expected) ? Math.abs(expected * 1e-7) : 1e-7);
  const delta = Math.abs(expected - actual);
  nodeAssert.ok(
    delta <= allowed,
    message ?? `Expected ${actual} to be within ${allowed} of ${expected}, is off by ${delta}`,
  );
}

export function assertGreater<T>(actual: T, limit: T, message?: string): void {
  nodeAssert.ok(actual > limit, message ?? `Expected ${actual} > ${limit}`);
}

export function assertGreaterOrEqual<T>(actual: T, limit: T, message?: string): void {
  nodeAssert.ok(actual >= limit, message ?? `Expected ${actual} >= ${limit}`);
}

export function assertLess<T>(actual: T, limit: T, message?: string): void {
  nodeAssert.ok(actual < limit, message ?? `Expected ${actual} < ${limit}`);
}

export function assertLessOrEqual<T>(actual: T, limit: T, message?: string): void {
  nodeAssert.ok(actual <= limit, message ?? `Expected ${actual} <= ${limit}`);
}

export function assertExists<T>(actual: T, message?: string): asserts actual is NonNullable<T> {
  nodeAssert.ok(actual !== undefined && actual !== null, message ?? `Expected a value, received ${actual}`);
}

export function assertInstanceOf<E extends Error>(
  actual: unknown,
  type: ErrorClass<E>,
  message?: string,
): asserts actual is E {
  nodeAssert.ok(actual instanceof type, message ?? `Expected a ${type.name}, received ${String(actual)}`);
}

export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  check(message, () => nodeAssert.match(actual, expected));
}

export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  nodeAssert.ok(
    actual.includes(expected),
    message ?? `Expected ${JSON.stringify(actual)} to contain ${JSON.stringify(expected)}`,
  );
}

export function assertArrayIncludes<T>(actual: readonly T[], expected: readonly T[], message?: string): void {
  const missing = expected.filter((item) => !actual.includes(item));
  nodeAssert.ok(missing.length === 0, message ?? `Expected ${JSON.stringify(missing)} among ${JSON.stringify(actual)}`);
}

export function fail(message = "Failed"): never {
  return nodeAssert.fail(message);
}

function checkError<E extends Error>(error: unknown, type?: ErrorClass<E>, includes?: string): E {
  nodeAssert.ok(error instanceof Error, `Expected an Error to be thrown, received ${String(error)}`);
  if (type) nodeAssert.ok(error instanceof type, `Expected a ${type.name}, received ${error.name}: ${error.message}`);
  if (includes !== undefined) assertStringIncludes(error.message, includes);
  return error as E;
}

/** Calls `body`, which must throw; returns what it threw. */
export function assertThrows<E extends Error = Error>(body: () => unknown, type?: ErrorClass<E>, includes?: string): E {
  let thrown: { error: unknown } | undefined;
  try {
    body();
  } catch (error) {
    thrown = { error };
  }
  nodeAssert.ok(thrown, "Expected the function to throw");
  return checkError(thrown.error, type, includes);
}

/** Awaits `body`, which must reject; returns what it rejected with. */
export async function assertRejects<E extends Error = Error>(
  body: () => PromiseLike<unknown>,
  type?: ErrorClass<E>,
  includes?: string,
): Promise<E> {
  let thrown: { error: unknown } | undefined;
  try {
    await body();
  } catch (error) {
    thrown = { error };
  }
  nodeAssert.ok(thrown, "Expected the promise to reject");
  return checkError(thrown.error, type, includes);
}
