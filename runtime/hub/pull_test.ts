import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { inFolder } from "../formats/test_files.ts";
import { HubError } from "./failure.ts";
import { planPull, pull } from "./pull.ts";
import { COMMIT, sendContent } from "./test_hub.ts";
import { PullTest, WEIGHTS } from "./test_pull.ts";

const TAKEN = ["LICENSE", "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"];
const test = PullTest.use();

describe("pull", () => {
  it("downloads what a model needs, verified, and says what to type next", () =>
    inFolder(async (dir) => {
      const totals: number[] = [];
      const result = await pull(test.options(dir, { onProgress: ({ done, total }) => totals.push(done / total) }));
      const out = join(dir, "m");
      assertEquals(readdirSync(out).sort(), [".apiq_pull.json", ...TAKEN]);
      assertEquals(readdirSync(dir), ["m"]);
      assert(readFileSync(join(out, "model.safetensors")).equals(WEIGHTS));
      assertEquals([result.commit, result.next], [COMMIT, `apiq serve --model ${out}`]);
      assertEquals([totals[0], totals.at(-1)], [0, 1]);
      const manifest = JSON.parse(readFileSync(join(out, ".apiq_pull.json"), "utf8"));
      assertEquals([manifest.repository, manifest.commit, manifest.files.length], ["o/m", COMMIT, TAKEN.length]);
    }));

  it("finds a complete folder again without a download, and replaces another revision's only when told to", () =>
    inFolder(async (dir) => {
      await pull(test.options(dir));
      test.hub.seen.length = 0;
      assertEquals((await pull(test.options(dir))).wasComplete, true);
      assertEquals(test.hub.downloads("hub").length, 0);
      test.hub.revisions.set("main", "b".repeat(40));
      test.hub.files.set("config.json", new TextEncoder().encode('{"model_type":"qwen2"}'));
      await assertRejects(() => pull(test.options(dir)), HubError, "--force replaces it");
      await pull(test.options(dir, { force: true }));
      assertStringIncludes(readFileSync(join(dir, "m", "config.json"), "utf8"), "qwen2");
      assertEquals(readdirSync(dir), ["m"]);
      mkdirSync(join(dir, "mine"));
      writeFileSync(join(dir, "mine", "diary"), "");
      const onto = test.options(dir, { out: join(dir, "mine"), force: true });
      await assertRejects(() => pull(onto), HubError, "neither empty nor a model's folder");
    }));

  it("plans without writing, for an include in place of the default choice", () =>
    inFolder(async (dir) => {
      const plan = await planPull(test.options(dir, { include: ["*.bin", "onnx/*"] }));
      assertEquals(
        plan.files.map(({ path }) => path),
        ["pytorch_model.bin", "onnx/model.onnx"],
      );
      assertEquals([plan.bytes, readdirSync(dir).length], [2004, 0]);
      await pull(test.options(dir, { include: ["onnx/*"] }));
      assertEquals(readFileSync(join(dir, "m", "onnx", "model.onnx"), "utf8"), "onnx");
    }));

  it("stays at the commit that the revision named when it began", () =>
    inFolder(async (dir) => {
      const pinned = "c".repeat(40);
      test.hub.revisions.set("v1/x", pinned);
      // A push right after the revision was resolved.
      test.hub.intercept = ({ path }) => {
        if (path.includes("/tree/")) test.hub.revisions.set("v1/x", "d".repeat(40));
        return false;
      };
      const { commit } = await pull(test.options(dir, { revision: "v1/x" }));
      assertEquals(commit, pinned);
      assert(test.hub.downloads("hub").every(({ path }) => path.startsWith(`/o/m/resolve/${pinned}/`)));
      await test.assertFails(test.options(dir, { revision: "v2", out: join(dir, "n") }), 'no revision "v2"');
    }));

  it("downloads at most four files at a time", () =>
    inFolder(async (dir) => {
      for (let i = 0; i < 12; i++) test.hub.files.set(`part${i}`, new TextEncoder().encode(`${i}`));
      let open = 0;
      let most = 0;
      test.hub.intercept = ({ path, headers }, response) => {
        if (path.startsWith("/api/")) return false;
        most = Math.max(most, ++open);
        setTimeout(() => {
          open--;
          sendContent(response, test.hub.files.get(path.split("/").at(-1)!)!, headers);
        }, 20);
        return true;
      };
      await pull(test.options(dir, { include: ["part*"] }));
      assertEquals(most, 4);
    }));
});
