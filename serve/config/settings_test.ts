import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { afterAll, describe, it } from "@std/testing/bdd";
import { parse } from "smol-toml";
import { UsageError } from "../../runtime/cli/command.ts";
import { kebabCase, parseArguments } from "../../runtime/cli/flags.ts";
import { checkSettings } from "./check.ts";
import { netPermissions } from "./permissions.ts";
import { printConfig } from "./print.ts";
import { ONLY_FLAGS, SERVE_FLAGS } from "./serve_flags.ts";
import { type Resolved, resolveSettings } from "./settings.ts";

describe("settings", () => {
  const folder = `${mkdtempSync(join(tmpdir(), "apiq-settings-"))}/`;
  afterAll(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "given.toml");

  const resolve = (line: string, environment: Record<string, string> = {}, toml?: string): Resolved => {
    if (toml !== undefined) writeFileSync(path, toml);
    const config = toml === undefined ? [] : ["--config", path];
    const args = [...line.split(" ").filter(Boolean), ...config];
    return resolveSettings(parseArguments({ flags: SERVE_FLAGS }, args), environment, folder);
  };

  it("come from the flag, else the environment, else the file, else the default", () => {
    const toml = "port = 1\nmax-queue = 1\ncontext = 1\n";
    const environment = { APIQ_PORT: "2", APIQ_MAX_QUEUE: "2", APIQ_THREADS: "", OTHER: "2" };
    const { settings, sources } = resolve("--port 3", environment, toml);
    const { port, maxQueue, context, threads, model } = settings;
    assertEquals([port, maxQueue, context, threads, model], [3, 2, 1, 0, undefined]);
    assertEquals(
      ["port", "maxQueue", "context", "threads", "model"].map((name) => sources[name]),
      ["--port", "APIQ_MAX_QUEUE", path, "default", undefined],
    );
  });

  it("may be any flag's, in the file and in the environment", () => {
    const written = (name: string): string | number | boolean => {
      const spec = SERVE_FLAGS[name as keyof typeof SERVE_FLAGS];
      if (spec.type === "boolean") return true;
      if (spec.type === "string") return "choices" in spec ? (spec.choices[1] ?? "") : "x";
      return "min" in spec ? spec.min + 1 : 1;
    };
    const isList = (name: string) => "multiple" in SERVE_FLAGS[name as keyof typeof SERVE_FLAGS];
    const names = Object.keys(SERVE_FLAGS).filter((name) => !ONLY_FLAGS.has(name));
    const line = (name: string) => {
      const value = JSON.stringify(written(name));
      return `${kebabCase(name)} = ${isList(name) ? `[${value}]` : value}`;
    };
    const fromFile = resolve("", {}, names.map(line).join("\n"));
    const variables = names.map((name) => [
      `APIQ_${kebabCase(name).replaceAll("-", "_").toUpperCase()}`,
      `${written(name)}`,
    ]);
    const fromEnvironment = resolve("", Object.fromEntries(variables));
    for (const name of names) {
      const expected = isList(name) ? [written(name)] : written(name);
      assertEquals((fromFile.settings as Record<string, unknown>)[name], expected, name);
      assertEquals((fromEnvironment.settings as Record<string, unknown>)[name], expected, name);
    }
  });

  it("take sizes as text and lists with commas", () => {
    const { settings } = resolve("", { APIQ_CORS_ORIGIN: "https://a.org, https://b.org" }, 'max-body = "1M"');
    assertEquals([settings.maxBody, settings.corsOrigin], [1048576, ["https://a.org", "https://b.org"]]);
  });

  it("are read from apiq.toml in the working folder, unless another file is named", () => {
    writeFileSync(join(folder, "apiq.toml"), "port = 4\n");
    assertEquals([resolve("").settings.port, resolve("").sources.port], [4, `${folder}apiq.toml`]);
    assertEquals(resolve("", {}, "").settings.port, 8000);
    writeFileSync(path, "port = 5\n");
    assertEquals(resolve("", { APIQ_CONFIG: path }).settings.port, 5);
    rmSync(join(folder, "apiq.toml"));
    assertThrows(() => resolve("--config /nowhere/apiq.toml"), UsageError, "Cannot read /nowhere/apiq.toml");
  });

  it("name file and key, what was received and what was expected", () => {
    const refusals: readonly (readonly [toml: string, message: string])[] = [
      ["prot = 1", "unknown key prot (did you mean port?)"],
      ["config = 'x'", "unknown key config"],
      ['port = "80"', 'port: received "80", expected a whole number, at least 0, at most 65535'],
      ["port = 70000", "port: received 70000, expected a whole number"],
      ["port = 1.5", "received 1.5"],
      // What a timer takes for no time at all.
      [
        "body-timeout = 2147484",
        "body-timeout: received 2147484, expected a whole number, at least 1, at most 2147483",
      ],
      ["request-timeout = 2147484", "request-timeout: received 2147484"],
      ["drain-timeout = 2147484", "drain-timeout: received 2147484"],
      ["max-body = 'lots'", 'max-body: received "lots", expected a size such as 512M or 2G, at least 1024'],
      ["device = 'gpu'", 'device: received "gpu", expected one of auto, cpu, cuda'],
      ["log-prompts = 'yes'", 'log-prompts: received "yes", expected true or false'],
      ["adapter = 'a=b'", 'adapter: received "a=b", expected a list, each a text'],
      ["adapter = ['a=b', 3]", "adapter: received 3, expected a text"],
      ["port = 2020-01-01", "port: received"],
      ["port = = 1", "line 1, column"],
      ["port = 1\nport = 2", "line 2"],
    ];
    for (const [toml, message] of refusals) {
      const error = assertThrows(() => resolve("", {}, toml), UsageError, message) as Error;
      assertStringIncludes(error.message, path);
    }
    assertThrows(() => resolve("", { APIQ_PORT: "tcp://10.0.0.1:80" }), UsageError, "Cannot read APIQ_PORT: received");
    assertThrows(() => resolve("", { APIQ_LOG_PROMPTS: "yes" }), UsageError, "expected true or false");
  });

  it("are printed with their sources, as a file that gives the same settings", () => {
    const resolved = resolve("--port 3 --adapter a=b --adapter c=d", { APIQ_HOST: "::1" }, "max-body = '1M'");
    const text = printConfig(resolved);
    for (const line of [/^port = 3 +# --port$/m, /^host = "::1" +# APIQ_HOST$/m, /^# model +# not set$/m]) {
      assert(line.test(text), text);
    }
    assertEquals(parse(text).adapter, ["a=b", "c=d"]);
    const { config: _, ...expected } = resolved.settings;
    const { config: _again, ...settings } = resolve("", {}, text).settings;
    assertEquals(settings, expected);
  });

  it("do not open the server to others without keys", () => {
    for (const host of ["127.0.0.1", "127.8.8.8", "::1", "localhost"]) checkSettings(resolve(`--host ${host}`));
    for (const host of ["0.0.0.0", "::", "example.org", "127.0.0.1.example.org"]) {
      assertThrows(() => checkSettings(resolve(`--host ${host}`)), UsageError, "api-key-file");
      checkSettings(resolve(`--host ${host} --api-key-file keys`));
    }
    assertThrows(
      () => checkSettings(resolve("", {}, "host = '0.0.0.0'")),
      UsageError,
      `Cannot use ${path}: host: received "0.0.0.0"`,
    );
  });

  it("name origins and collectors as addresses", () => {
    for (const line of [
      "--cors-origin *",
      "--cors-origin https://a.org/",
      "--cors-origin a.org",
      "--otlp-endpoint a:1",
    ]) {
      assertThrows(() => checkSettings(resolve(line)), UsageError, "received");
    }
    checkSettings(resolve("--cors-origin http://a.org:81 --otlp-endpoint http://a.org:4318"));
  });
});

describe("netPermissions", () => {
  it("are the server's own address and the collector's", async () => {
    const base = { host: "::1", port: 80, otlpEndpoint: undefined };
    assertEquals(await netPermissions(base), ["[::1]:80"]);
    const collectors = ["https://10.0.0.1/x", "http://[::1]:4318"].map(async (otlpEndpoint) => {
      return (await netPermissions({ ...base, otlpEndpoint }))[1];
    });
    assertEquals(await Promise.all(collectors), ["10.0.0.1:443", "[::1]:4318"]);
  });

  it("are of a name and of what it stands for", async () => {
    const found = await netPermissions({ host: "localhost", port: 80, otlpEndpoint: undefined });
    assertEquals(found[0], "localhost");
    assert(found.includes("127.0.0.1:80") || found.includes("[::1]:80"), found.join());
  });
});
