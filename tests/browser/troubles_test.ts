/** What the page says when something is wrong, and that it goes on by itself when that has passed. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, describe } from "@std/testing/bdd";
import { useFakeServer } from "../http/fake_server.ts";
import { startServerProcess } from "../http/server_process.ts";
import { ChatPage } from "./chat_page.ts";
import { itInChromium, useChromium } from "./chromium.ts";

const KEY = "a-key-of-sixteen-or-more";

describe("the page in trouble", () => {
  const folder = mkdtempSync(join(tmpdir(), "apiq-page-keys-"));
  writeFileSync(join(folder, "keys"), `${KEY}\n`);
  const server = useFakeServer("bun");
  const locked = useFakeServer("bun", ["--api-key-file", join(folder, "keys")]);
  const chromium = useChromium();
  const open = async () => new ChatPage(await chromium.visit(server.url));
  afterAll(() => rmSync(folder, { recursive: true }));

  itInChromium("says how to get a model where there is none", async () => {
    const empty = await startServerProcess("bun", []);
    try {
      const chat = new ChatPage(await chromium.visit(empty.url));
      await chat.page.getByRole("heading", { name: "No model is loaded" }).waitFor();
      await chat.page.getByText("npm start -- --model DIR").waitFor();
      await chat.send("say hi");
      await chat.last.getByText("No model is loaded", { exact: true }).waitFor();
    } finally {
      await empty.stop();
    }
  });

  itInChromium("notices that the server is away, keeps the message, and goes on when it is back", async () => {
    const chat = await open();
    await chat.page.getByText("Ready").waitFor();
    await chat.page.route("**/*", (route) => route.abort("connectionrefused"));
    await chat.send("say hello");
    await chat.last.getByText("The server does not answer").waitFor();
    assertStringIncludes(await chat.text(), "npm start");
    await chat.page.getByText("Away").waitFor();
    await chat.page.unroute("**/*");
    await chat.page.getByText("Ready").waitFor();
    await chat.button("Try again").click();
    await chat.whole();
    assertStringIncludes(await chat.text(), "hello");
    assertEquals(await chat.page.getByText("The server does not answer").count(), 0);
  });

  itInChromium(
    "tells of an engine that died in the middle of an answer, and answers when there is another",
    async () => {
      const chat = await open();
      await chat.send("die");
      await chat.last.getByText("The engine stopped before the answer was complete").waitFor();
      assertStringIncludes(await chat.text(), "xxx");
      await chat.page.getByText("Ready").waitFor();
      await chat.ask("say alive");
      assertStringIncludes(await chat.text(), "alive");
    },
  );

  itInChromium("shows how far loading is, and a queue that is full as something that passes", async () => {
    const chat = await open();
    const loading = { status: "loading", model: "fake", stage: "weights", done: 30, total: 100 };
    await chat.page.route("**/health", (route) => route.fulfill({ status: 503, json: loading }));
    await chat.page.reload();
    const progress = chat.page.getByRole("progressbar", { name: "Loading the model" });
    await progress.waitFor();
    assertEquals(await progress.getAttribute("value"), "0.3");
    const error = { message: "Too many requests: 9 wait already", code: "rate_limit_exceeded" };
    await chat.page.route("**/v1/chat/completions", (route) => route.fulfill({ status: 429, json: { error } }));
    await chat.send("say hi");
    await chat.last.getByText("The server is busy").waitFor();
    await chat.page.unroute("**/v1/chat/completions");
    await chat.button("Try again").click();
    await chat.whole();
  });

  itInChromium(
    "says what to do about a conversation that is too long, and about an adapter that has gone",
    async () => {
      const chat = await open();
      const refuse = async (status: number, code: string) => {
        const json = { error: { message: "m", code } };
        await chat.page.route("**/v1/chat/completions", (route) => route.fulfill({ status, json }), { times: 1 });
      };
      await refuse(400, "context_length_exceeded");
      await chat.send("say a");
      await chat.last.getByText("longer than the model can read").waitFor();
      await refuse(404, "model_not_found");
      await chat.send("say b");
      await chat.last.getByText("This model or adapter is not there any more").waitFor();
    },
  );

  itInChromium("asks for a key where the server wants one, tries it, and keeps it only if told to", async () => {
    const chat = new ChatPage(await chromium.visit(locked.url));
    const enter = async (key: string) => {
      await chat.dialog.getByLabel("Key", { exact: true }).fill(key);
      await chat.button("Use this key").click();
    };
    await chat.page.getByText("This server wants an API key").waitFor();
    await chat.button("Enter a key").click();
    await enter("another-key-of-that-length");
    await chat.dialog.getByText("The server does not know this key").waitFor();
    await enter(KEY);
    await chat.dialog.waitFor({ state: "detached" });
    await chat.ask("say open");
    assertStringIncludes(await chat.text(), "open");
    const stored = () => chat.page.evaluate<string>("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)");
    assert(!(await stored()).includes(KEY));

    await chat.page.reload();
    await chat.button("Enter a key").click();
    await chat.dialog.getByLabel("Keep it in this browser").check();
    await enter(KEY);
    await chat.dialog.waitFor({ state: "detached" });
    await chat.page.reload();
    await chat.button("Answer again").click();
    await chat.whole();
    await chat.button("Settings").click();
    await chat.button("Change API key").click();
    await chat.button("Forget the key").click();
    assert(!(await stored()).includes(KEY));
  });
});
