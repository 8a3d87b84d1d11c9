/** apiq.toml and APIQ_ variables as the real command takes them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, describe, it } from "@std/testing/bdd";
import { RUNTIMES, runApiq, startServerProcess } from "../http/server_process.ts";

for (const runtime of RUNTIMES) {
  describe(`settings of apiq serve under ${runtime}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "apiq-config-"));
    const path = join(folder, "apiq.toml");
    afterAll(() => rmSync(folder, { recursive: true }));

    it("are shown with where they come from", async () => {
      writeFileSync(path, 'max-queue = 7\nport = 1\nmax-body = "1M"\n');
      const env = { APIQ_PORT: "2", APIQ_MAX_BODY: "2M" };
      const { code, stdout } = await runApiq(runtime, ["serve", "--print-config", "--max-body", "3M"], {
        cwd: folder,
        env,
      });
      assertEquals(code, 0);
      for (const line of [
        /^max-queue = 7 +# apiq.toml$/m,
        /^port = 2 +# APIQ_PORT$/m,
        /^max-body = 3145728 +# --max-body$/m,
      ]) {
        assert(line.test(stdout), stdout);
      }
    });

    it("that cannot be used end the command, and are named", async () => {
      writeFileSync(path, "prot = 1\n");
      const { code, stderr } = await runApiq(runtime, ["serve"], { cwd: folder });
      assertEquals(code, 2);
      assertStringIncludes(stderr, "Cannot use apiq.toml: unknown key prot (did you mean port?)");
    });

    it("take effect, whichever place they come from", async () => {
      writeFileSync(path, 'host = "127.0.0.2"\nlog-format = "pretty"\n');
      const server = await startServerProcess(runtime, [], { env: { APIQ_CONFIG: path } });
      assertEquals(new URL(server.url).hostname, "127.0.0.2");
      assertEquals((await fetch(`${server.url}/health`)).status, 200);
      assertStringIncludes(server.output(), "INFO  listening");
      assertEquals(await server.stop(), 0);
    });
  });
}
