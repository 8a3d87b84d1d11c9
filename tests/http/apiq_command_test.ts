/** scripts/apiq as a user calls it: the wrapper itself, and `apiq chat` with a fake engine. */
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, describe, it } from "@std/testing/bdd";
import { repositoryRoot } from "../shared.ts";
import { createFakeModel } from "./fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, runApiq } from "./server_process.ts";

for (const runtime of RUNTIMES) {
  describe(`scripts/apiq under ${runtime}`, () => {
    const model = createFakeModel();
    const folder = mkdtempSync(join(tmpdir(), "apiq-link-"));
    const chat = ["chat", "--model", model.dir, "--engine", FAKE_ENGINE];

    afterAll(() => {
      model.remove();
      rmSync(folder, { recursive: true });
    });

    it("runs from another folder, through a relative link to a link", async () => {
      symlinkSync(`${repositoryRoot}scripts/apiq`, join(folder, "first"));
      symlinkSync("first", join(folder, "second"));
      const { code, stdout } = await runApiq(runtime, ["--version"], { command: join(folder, "second"), cwd: folder });
      assertEquals(code, 0);
      assertMatch(stdout, /^apiq \d+\.\d+\.\d+\n$/);
    });

    it("explains every command", async () => {
      const { stdout } = await runApiq(runtime, ["--help"]);
      for (const name of ["serve", "chat", "import", "inspect", "bench", "eval nll"]) {
        assertStringIncludes(stdout, `  ${name} `);
        const help = await runApiq(runtime, [...name.split(" "), "--help"]);
        assertEquals([help.code, help.stderr], [0, ""]);
        assertStringIncludes(help.stdout, `Usage: apiq ${name} `);
      }
    });

    it("ends with 2 for a mistake, on standard error", async () => {
      const { code, stdout, stderr } = await runApiq(runtime, ["serve", "--prot", "1"]);
      assertEquals([code, stdout], [2, ""]);
      assertStringIncludes(stderr, "Unknown flag --prot (did you mean --port?)");
    });

    it("chat answers what is piped in, and prints nothing else", async () => {
      const piped = await runApiq(runtime, chat, { input: "say Grüße 😀\n" });
      assertEquals(piped, { code: 0, stdout: "Grüße 😀\n", stderr: "" });
      const withSystem = await runApiq(runtime, [...chat, "--system", "Be brief."], { input: "count" });
      assertEquals(withSystem.stdout, "2 messages\n");
      const sampling = ["--temperature", "0.5", "--top-k", "3", "--seed", "7", "--max-tokens", "200"];
      const params = JSON.parse((await runApiq(runtime, [...chat, ...sampling], { input: "params" })).stdout);
      assertEquals([params.temperature, params.topK, params.seed, params.maxTokens], [0.5, 3, "7", 200]);
    });

    it("chat says what is wrong with its model, its input or its adapter", async () => {
      const noModel = await runApiq(runtime, ["chat", "--model", `${model.dir}/absent`], { input: "x" });
      assertEquals([noModel.code, noModel.stdout], [1, ""]);
      assertStringIncludes(noModel.stderr, "absent");
      assertEquals((await runApiq(runtime, chat, { input: "  \n" })).code, 2);
      const noAdapter = await runApiq(runtime, [...chat, "--use", "sql"], { input: "x" });
      assertEquals(noAdapter.code, 2);
      assertStringIncludes(noAdapter.stderr, "load it with --adapter NAME=DIR");
      assertEquals((await runApiq(runtime, chat, { input: "refuse" })).code, 1);
    });
  });
}
