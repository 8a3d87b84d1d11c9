/**
 * The part of `@std/testing/bdd` that the tests use, as the runtime's own test API: `bun:test` under Bun, `node:test` under
 * Deno (where it registers with `deno test`). deno.json maps the specifier to JSR; tsconfig.json and deno.offline.json map it
 * here, so that the tests run without a network.
 */

type Body = () => void | Promise<void>;

interface Register {
  (name: string, body: Body): void;
  /** Registers a test or a group that is reported as skipped. Put the reason into the name. */
  skip(name: string, body: Body): void;
}

interface Bdd {
  describe: Register;
  it: Register;
  beforeAll(body: Body): void;
  afterAll(body: Body): void;
  beforeEach(body: Body): void;
  afterEach(body: Body): void;
}

/** Long enough for a loaded machine with two cores: a test that hangs fails, a slow one does not. */
const TIMEOUT_MS = 300_000;

async function ownApi(): Promise<Bdd> {
  if (!("Bun" in globalThis)) {
    const { describe, it, before, after, beforeEach, afterEach } = await import("node:test");
    return { describe, it, beforeAll: before, afterAll: after, beforeEach, afterEach };
  }
  // Bun would end a test after 5 seconds. Its setDefaultTimeout holds for one file, and this module is loaded once for all.
  const bun = await import("bun:test");
  const patient =
    (hook: (body: Body, timeout: number) => void) =>
    (body: Body): void =>
      hook(body, TIMEOUT_MS);
  return {
    describe: bun.describe as Register,
    it: Object.assign((name: string, body: Body) => bun.it(name, body, TIMEOUT_MS), { skip: bun.it.skip as Register }),
    beforeAll: patient(bun.beforeAll),
    afterAll: patient(bun.afterAll),
    beforeEach: patient(bun.beforeEach),
    afterEach: patient(bun.afterEach),
  };
}

export const { describe, it, beforeAll, afterAll, beforeEach, afterEach } = await ownApi();
