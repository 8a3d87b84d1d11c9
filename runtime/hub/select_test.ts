import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { HubError } from "./failure.ts";
import { globPattern, selectFiles } from "./select.ts";

function select(paths: string, ...globs: string[]): string {
  const checksum = { algorithm: "sha256", hex: "" } as const;
  const files = paths.split(" ").map((path) => ({ path, bytes: 2_000_000, checksum }));
  return selectFiles("o/m", files, globs)
    .map(({ path }) => path)
    .join(" ");
}

describe("selectFiles", () => {
  it("takes one form of the weights, and what belongs to them", () => {
    const shards = "model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json";
    const adapter = "adapter_config.json adapter_model.safetensors";
    const init = "apiq_init/adapter_config.json apiq_init/adapter_model.safetensors";
    const cases: readonly (readonly [all: string, taken: string])[] = [
      ["config.json model.safetensors pytorch_model.bin a.gguf .gitattributes", "config.json model.safetensors"],
      [`config.json ${shards} consolidated.safetensors`, `config.json ${shards}`],
      [`model.safetensors ${shards}`, "model.safetensors"],
      [`config.json model.safetensors ${init}`, `config.json model.safetensors ${init}`],
      [`${adapter} checkpoint-10/adapter_model.safetensors README.md`, adapter],
      ["LICENSE.txt NOTICE licenses.csv USE_POLICY.md m.gguf", "LICENSE.txt NOTICE USE_POLICY.md m.gguf"],
      ["quant/m.Q4_0.gguf tokenizer.json", "quant/m.Q4_0.gguf tokenizer.json"],
    ];
    for (const [all, taken] of cases) assertEquals(select(all), taken);
  });

  it("takes exactly what an include names", () => {
    assertEquals(select("a.Q4_0.gguf b/a.Q8_0.gguf config.json", "*.gguf"), "a.Q4_0.gguf b/a.Q8_0.gguf");
    assertEquals(select("config.json a.bin", "config.json", "*.bin"), "config.json a.bin");
  });

  it("says what there is when it cannot choose", () => {
    const cases: readonly (readonly [paths: string, globs: string[], part: string])[] = [
      ["a.Q4_0.gguf a.Q8_0.gguf", [], "several GGUF files, choose with --include NAME: a.Q4_0.gguf (2.00 MB), a.Q8_0"],
      ["config.json pytorch_model.bin", [], "only pytorch_model.bin (--include"],
      ["README.md", [], "no model.safetensors, adapter_model.safetensors or GGUF (--include"],
      ["README.md", ["*.bin"], "--include *.bin matches none of its 1 files"],
    ];
    for (const [paths, globs, part] of cases) {
      assertStringIncludes(assertThrows(() => select(paths, ...globs), HubError).message, part);
    }
  });
});

describe("globPattern", () => {
  it("keeps * within a folder and takes other characters as they are", () => {
    const cases: readonly (readonly [glob: string, path: string, matches: boolean])[] = [
      ["*.json", "a/b.json", true],
      ["a/*.json", "a/b/c.json", false],
      ["a/**", "a/b/c.json", true],
      ["**/c.json", "c.json", true],
      ["?.json", "ab.json", false],
      ["a.json", "axjson", false],
      ["a+(b)[c]{d}^$|\\.json", "a+(b)[c]{d}^$|\\.json", true],
      ["größe*", "größe-1", true],
    ];
    for (const [glob, path, matches] of cases) assertEquals([glob, globPattern(glob).test(path)], [glob, matches]);
  });
});
