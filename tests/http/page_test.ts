/** How the page and its files are served. What they do in a browser is in tests/browser. */
import { request } from "node:http";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { useFakeServer } from "./fake_server.ts";
import { RUNTIMES } from "./server_process.ts";

for (const runtime of RUNTIMES) {
  describe(`the page at / under ${runtime}`, () => {
    const server = useFakeServer(runtime);
    const get = (path: string, headers: Record<string, string> = {}) => fetch(server.url + path, { headers });
    /** fetch would take the dots out of a path before it is sent. */
    const status = (path: string) =>
      new Promise<number | undefined>((resolve, reject) => {
        const { hostname, port } = new URL(server.url);
        const sent = request({ hostname, port, path }, (answer) => resolve(answer.resume().statusCode));
        sent.on("error", reject).end();
      });
    const files = async () => [...(await (await get("/")).text()).matchAll(/\/page\/[\w.-]+/g)].map(([path]) => path);

    it("holds no script of its own and allows none but the server's", async () => {
      const response = await get("/");
      assertEquals([response.status, response.headers.get("content-type")], [200, "text/html; charset=utf-8"]);
      const policy = response.headers.get("content-security-policy") ?? "";
      for (const part of ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]) {
        assertStringIncludes(policy, part);
      }
      assert(!/unsafe|\*|https?:/.test(policy));
      const page = await response.text();
      assertEquals(page.match(/<script(?! type="module" src="\/page\/)|<style|\son\w+=|style=|https?:/g), null);
    });

    it("has files that may be kept for ever, and itself asks whether it has changed", async () => {
      const page = await get("/");
      assertEquals(page.headers.get("cache-control"), "no-cache");
      const etag = page.headers.get("etag") ?? "";
      assertEquals((await get("/", { "if-none-match": etag })).status, 304);
      assertEquals((await files()).length, 3);
      for (const path of await files()) {
        const file = await get(path);
        assertEquals([file.status, file.headers.get("x-content-type-options")], [200, "nosniff"]);
        assertMatch(file.headers.get("cache-control") ?? "", /immutable/);
        assertMatch(
          file.headers.get("content-type") ?? "",
          /^(text\/(javascript|css); charset=utf-8|image\/svg\+xml)$/,
        );
        assert(!/https?:\/\/(?!www\.w3\.org\/)[\w.]+\.\w+\/[^\s"'`]*\.(js|css|woff2?|png)/.test(await file.text()));
        assertEquals((await get(path, { "if-none-match": file.headers.get("etag") ?? "" })).status, 304);
      }
    });

    it("gives away nothing but its own files", async () => {
      for (const path of [
        "/page/index.html",
        "/page/.built",
        "/page/../../package.json",
        "/page/..%2f..%2fpackage.json",
        "/page/main-0000000000000000.js",
        "/page/%00",
        "/page/",
      ]) {
        assertEquals(await status(path), 404, path);
      }
    });
  });
}
