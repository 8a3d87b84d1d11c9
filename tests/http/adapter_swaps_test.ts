/** Adapters that are replaced while clients stream: every token has to be of the generation that its request began with. */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createByteModel } from "../fixtures/byte_model.ts";
import { writeTinyAdapter } from "../fixtures/tiny_adapter.ts";
import type { TinyModel } from "../fixtures/tiny_model.ts";
import { RUNTIMES, type ServerProcess, startServerProcess } from "./server_process.ts";
import { until } from "./until.ts";

const SWAPS = 100;
const CLIENTS = 16;
const TOKENS = 64;
/** Adapters that differ; generation after generation takes the next one. */
const VARIANTS = [
  { seed: 1, rank: 4 },
  { seed: 2, rank: 8, modules: ["q_proj", "v_proj"] },
  { seed: 3, rank: 3, dora: true },
  { seed: 4, rank: 16, rsLora: true },
  { seed: 5, rank: 1 },
] as const;

interface Answer {
  /** Of every token: its text and its log-probability, which no other adapter gives to the last bit. */
  readonly tokens: readonly string[];
  /** Swaps that were complete when the request was sent, and begun when its first token came. */
  readonly complete: number;
  readonly begun: number;
  /** Swaps that were complete when its last token came. */
  readonly atEnd: number;
}

for (const runtime of RUNTIMES) {
  describe(`${SWAPS} swaps under ${CLIENTS} streaming clients under ${runtime}`, () => {
    let model: TinyModel;
    let root: string;
    let server: ServerProcess;

    beforeAll(async () => {
      model = await createByteModel({ loraRank: 4 });
      root = realpathSync(mkdtempSync(join(tmpdir(), "apiq-swaps-")));
      for (const [index, variant] of VARIANTS.entries()) {
        await writeTinyAdapter(model.dir, join(root, `${index}`), variant);
      }
      const flags = ["--threads", "1", "--max-sequences", `${CLIENTS}`, "--context", "128", "--adapter-root", root];
      server = await startServerProcess(runtime, ["--model", model.dir, "--served-model-name", "base", ...flags]);
      await until(async () => (await fetch(`${server.url}/ready`)).ok, "the server is ready");
    });
    afterAll(async () => {
      await server?.stop();
      rmSync(root, { recursive: true });
      model[Symbol.dispose]();
    });

    const post = (path: string, body: object) =>
      fetch(server.url + path, { method: "POST", body: JSON.stringify(body) });

    /** Every client has a prompt of its own, so that none is served from another's cache. */
    const ask = (name: string, client: number) =>
      post("/v1/completions", {
        ...{ model: name, prompt: `Client ${client} asks`, max_tokens: TOKENS, temperature: 0, ignore_eos: true },
        ...{ stream: true, stream_options: { include_usage: true }, logprobs: 0 },
      });

    /** The tokens of a stream; `onFirst` is called with the first of them. */
    async function read(response: Response, onFirst: () => void): Promise<string[]> {
      assertEquals(response.status, 200);
      const tokens: string[] = [];
      let usage = -1;
      for (const event of await events(response, onFirst)) {
        if (event === "[DONE]") continue;
        const chunk = JSON.parse(event) as {
          choices: { logprobs: { tokens: string[]; token_logprobs: number[] } | null }[];
          usage?: { completion_tokens: number };
          error?: unknown;
        };
        assertEquals(chunk.error, undefined);
        for (const { logprobs } of chunk.choices) {
          tokens.push(...(logprobs?.tokens.map((text, i) => `${text} ${logprobs.token_logprobs[i]}`) ?? []));
        }
        usage = chunk.usage?.completion_tokens ?? usage;
      }
      assertEquals([tokens.length, usage], [TOKENS, TOKENS], "a token is missing");
      return tokens;
    }

    async function events(response: Response, onFirst: () => void): Promise<string[]> {
      let text = "";
      const decoder = new TextDecoder();
      for await (const bytes of response.body!) {
        if (text === "") onFirst();
        text += decoder.decode(bytes, { stream: true });
      }
      return [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => data!);
    }

    it("delivers every token, each as its generation draws it alone", async () => {
      const swap = async (index: number) => {
        const body = { lora_name: "live", lora_path: `${index % VARIANTS.length}`, load_inplace: true };
        const response = await post("/v1/load_lora_adapter", body);
        assertEquals(response.status, 200, await response.text());
      };
      const expected: string[][][] = [];
      for (const variant of VARIANTS.keys()) {
        await swap(variant);
        const answers: string[][] = [];
        for (let client = 0; client < CLIENTS; client++) answers.push(await read(await ask("live", client), () => {}));
        expected.push(answers);
      }
      assertEquals(new Set(expected.map((answers) => answers[0]!.join())).size, VARIANTS.length);

      let [complete, begun] = [VARIANTS.length - 1, VARIANTS.length - 1];
      const last = begun + SWAPS;
      const answers: Answer[][] = Array.from({ length: CLIENTS }, () => []);
      /** Of requests that have no token yet: until they have. */
      const beginning = new Set<Promise<void>>();
      const client = async (index: number) => {
        while (complete < last) {
          const sent = complete;
          let first = 0;
          const { promise, resolve } = Promise.withResolvers<void>();
          beginning.add(promise);
          const response = await ask("live", index);
          const tokens = await read(response, () => {
            first = begun;
            beginning.delete(promise);
            resolve();
          });
          answers[index]!.push({ tokens, complete: sent, begun: first, atEnd: complete });
        }
      };
      const clients = Promise.all(Array.from({ length: CLIENTS }, (_, index) => client(index)));
      while (begun < last) {
        await swap(++begun);
        complete = begun;
        // So no request has more than two generations to begin with, and many run on while theirs is replaced.
        await Promise.race([Promise.all(beginning), clients]);
      }
      await clients;

      for (const [index, own] of answers.entries()) {
        for (const answer of own) {
          const candidates = [answer.complete, answer.begun].map((i) => expected[i % VARIANTS.length]![index]!.join());
          assert(answer.begun <= answer.complete + 1, `client ${index} could begin with more than two generations`);
          assert(
            candidates.includes(answer.tokens.join()),
            `client ${index} got tokens of no generation it could begin with`,
          );
        }
      }
      const all = answers.flat();
      const spanning = all.filter(({ begun, atEnd }) => atEnd > begun).length;
      assert(spanning > SWAPS / 4, `only ${spanning} of ${all.length} answers ran while their adapter was replaced`);

      const metrics = await (await fetch(`${server.url}/metrics`)).text();
      assertEquals(/^apiq:adapters_resident\{[^}]*\} (\d+)$/m.exec(metrics)?.[1], "1", "generations were left behind");
    });
  });
}
