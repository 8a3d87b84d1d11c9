/** The page's view of the server: what runs, and adapters that are loaded and unloaded. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, describe } from "@std/testing/bdd";
import { useFakeServer } from "../http/fake_server.ts";
import { ChatPage } from "./chat_page.ts";
import { itInChromium, useChromium } from "./chromium.ts";

describe("the page's view of the server", () => {
  const root = mkdtempSync(join(tmpdir(), "apiq-page-adapters-"));
  for (const name of ["sql", "poet"]) {
    mkdirSync(join(root, name));
    writeFileSync(join(root, name, "adapter_config.json"), "{}");
  }
  const server = useFakeServer("bun", ["--adapter-root", root]);
  const chromium = useChromium();
  const open = async () => new ChatPage(await chromium.visit(`${server.url}/#/server`));
  afterAll(() => rmSync(root, { recursive: true }));

  itInChromium("shows the requests that run and the cache they use, as they change", async () => {
    const chat = await open();
    await chat.page.getByRole("definition").filter({ hasText: "fake, none, 1 thread" }).waitFor();
    await chat.page.getByRole("img", { name: /^Requests: 0 now/ }).waitFor();
    const gone = new AbortController();
    const body = JSON.stringify({ model: "fake", stream: true, messages: [{ role: "user", content: "forever" }] });
    const url = `${server.url}/v1/chat/completions`;
    const read = async () => (await fetch(url, { method: "POST", body, signal: gone.signal })).text();
    const answers = Promise.allSettled([read(), read()]);
    await chat.page.getByRole("img", { name: /^Requests: 2 now/ }).waitFor();
    await chat.page.getByRole("img", { name: /^KV cache: 2\.0 % now/ }).waitFor();
    await chat.page.getByRole("img", { name: /^Generated tokens: [1-9][\d.,]*\/s now/ }).waitFor();
    gone.abort();
    await answers;
    await chat.page.getByRole("img", { name: /^Requests: 0 now/ }).waitFor();
  });

  itInChromium("loads an adapter, offers it in the chat, replaces and unloads it", async () => {
    const chat = await open();
    const load = async (name: string, path: string, button: string) => {
      await chat.page.getByLabel("Name", { exact: true }).fill(name);
      await chat.page.getByLabel("Folder on the server").fill(path);
      await chat.button(new RegExp(`^${button}$`)).click();
    };
    const row = chat.page.getByRole("row").filter({ hasText: "sql" });
    await chat.page.getByText("None is loaded").waitFor();
    await load("sql", join(root, "sql"), "Load");
    await row.waitFor();
    assertStringIncludes(await chat.text(row), join(root, "sql"));
    await load("sql", join(root, "poet"), "Replace");
    await row.filter({ hasText: join(root, "poet") }).waitFor();

    await chat.link("Chat").click();
    await chat.page.getByLabel("Model or adapter").selectOption("sql");
    await chat.ask("params");
    assertMatch(await chat.text(), /^Answer of sql/);
    assertMatch(await chat.text(), /"adapter":\s*"sql/);

    await chat.link("Server").click();
    await chat.button("Unload sql").click();
    await chat.page.getByText("None is loaded").waitFor();
    await chat.link("Chat").click();
    await chat.page.getByRole("option", { name: "sql (not loaded)" }).waitFor({ state: "attached" });
  });

  itInChromium("shows the server's reason when an adapter cannot be loaded", async () => {
    const chat = await open();
    await chat.page.getByLabel("Name", { exact: true }).fill("outside");
    await chat.page.getByLabel("Folder on the server").fill(tmpdir());
    await chat.button(/^Load$/).click();
    const panel = chat.page.getByRole("region", { name: "Adapters", exact: true });
    await panel.getByText("The server does not allow this").waitFor();
    await panel.getByText("--adapter-root").waitFor();
    // What was typed is still there to be mended.
    assertStringIncludes(await chat.page.getByLabel("Folder on the server").inputValue(), tmpdir());
  });
});
