import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { inFolder } from "../formats/test_files.ts";
import { HubError } from "./failure.ts";
import { hubSettings } from "./settings.ts";

describe("hubSettings", () => {
  it("takes HF_TOKEN, or else the file that Hugging Face's login writes", () =>
    inFolder((home) => {
      assertEquals(hubSettings({}, home).token, undefined);
      const file = join(home, ".cache", "huggingface", "token");
      mkdirSync(join(file, ".."), { recursive: true });
      writeFileSync(file, "hf_file\n");
      assertEquals(hubSettings({ HF_TOKEN: " hf_env " }, home).token, "hf_env");
      const fromFile = hubSettings({ HF_TOKEN: "" }, home);
      assertEquals([fromFile.token, fromFile.tokenFrom], ["hf_file", file]);
      writeFileSync(join(home, "token"), "hf_home");
      assertEquals(hubSettings({ HF_HOME: home }, "/nowhere").token, "hf_home");
      assertEquals(hubSettings({ HF_TOKEN_PATH: file }, "/nowhere").token, "hf_file");
    }));

  it("takes HF_ENDPOINT without the slash at its end", () => {
    assertEquals(hubSettings({}, "/nowhere").endpoint, "https://huggingface.co");
    assertEquals(hubSettings({ HF_ENDPOINT: "http://mirror:8080/hf/" }, "/nowhere").endpoint, "http://mirror:8080/hf");
  });

  it("refuses what cannot be used, and repeats no secret", () => {
    for (const HF_ENDPOINT of ["mirror", "ftp://mirror", "http://user:secret@mirror", "http://mirror?x=secret"]) {
      assert(!assertThrows(() => hubSettings({ HF_ENDPOINT }, "/"), HubError).message.includes("secret"));
    }
    const { message } = assertThrows(() => hubSettings({ HF_TOKEN: "hf_se\ncret" }, "/"), HubError);
    assertEquals(message, "Cannot use the token from HF_TOKEN: it holds spaces or characters outside ASCII");
  });
});
