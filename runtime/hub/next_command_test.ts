import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { inFolder } from "../formats/test_files.ts";
import { nextCommand } from "./next_command.ts";

function next(dir: string, ...paths: string[]): string | undefined {
  const checksum = { algorithm: "sha256", hex: "" } as const;
  return nextCommand(
    dir,
    paths.map((path) => ({ path, bytes: 1, checksum })),
  );
}

describe("nextCommand", () => {
  it("serves a model, imports a GGUF, and puts an adapter on its base", () =>
    inFolder((dir) => {
      assertEquals(next("m", "config.json", "model.safetensors"), "apiq serve --model m");
      assertEquals(next("my m", "config.json", "a.gguf"), "apiq import 'my m/a.gguf' --out 'my m-imported'");
      assertEquals(next("m", "README.md"), undefined);
      const adapter = ["adapter_config.json", "adapter_model.safetensors"];
      const name = dir.split("/").at(-1);
      assertEquals(next(dir, ...adapter), `apiq serve --model BASE --adapter ${name}=${dir}`);
      const config = { base_model_name_or_path: "org/base; rm" };
      writeFileSync(join(dir, "adapter_config.json"), JSON.stringify(config));
      assertEquals(next(dir, ...adapter), `apiq serve --model 'base; rm' --adapter ${name}=${dir}`);
    }));
});
