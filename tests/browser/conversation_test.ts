/** Conversations on the page, in a real browser against a real server with the fake engine (tests/http/fake_engine.ts). */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, describe } from "@std/testing/bdd";
import { useFakeServer } from "../http/fake_server.ts";
import { until } from "../http/until.ts";
import { ChatPage } from "./chat_page.ts";
import { itInChromium, useChromium } from "./chromium.ts";

describe("a conversation on the page", () => {
  const folder = mkdtempSync(join(tmpdir(), "apiq-page-"));
  mkdirSync(join(folder, "sql"));
  writeFileSync(join(folder, "sql", "adapter_config.json"), "{}");
  const server = useFakeServer("bun", ["--adapter", `sql=${join(folder, "sql")}`]);
  const chromium = useChromium();
  const open = async () => new ChatPage(await chromium.visit(server.url));
  const running = async () => {
    const { stats } = (await (await fetch(`${server.url}/health`)).json()) as { stats: { running: number } };
    return stats.running;
  };
  afterAll(() => rmSync(folder, { recursive: true }));

  itInChromium("shows an answer as it comes, and how fast it came", async () => {
    const chat = await open();
    const text = "one step at a time, said slowly enough to be seen";
    await chat.send(`slow ${text}`);
    await chat.last.getByText("one step").waitFor();
    const early = (await chat.text()).length;
    await chat.whole();
    assert((await chat.text()).length > early);
    assertStringIncludes(await chat.text(), text);
    assertMatch(
      await chat.text(),
      new RegExp(`${text.length + 1} tokens[\\d.]+ tokens/sfirst token after [\\d.]+ m?s`),
    );
    assertEquals(await chat.messages.count(), 2);
  });

  itInChromium("stops on Escape and keeps what had come", async () => {
    const chat = await open();
    await chat.send("forever");
    await chat.last.getByText("xxx").waitFor();
    await chat.field.press("Escape");
    await chat.last.getByText("Stopped").waitFor();
    assertStringIncludes(await chat.text(), "xxx");
    await until(async () => (await running()) === 0, "the engine has nothing to do");
    await chat.ask("say more");
    assertStringIncludes(await chat.text(), "more");
  });

  itInChromium("answers again in place of the answer that is there", async () => {
    const chat = await open();
    const requests = chat.requests();
    await chat.ask("say hello");
    await chat.button("Answer again").click();
    await until(() => requests.length === 2, "the second request is sent");
    await chat.whole();
    assertEquals(requests[1]?.messages, requests[0]?.messages);
    assertEquals(await chat.messages.count(), 2);
  });

  itInChromium("goes on from an edited message and forgets what followed it", async () => {
    const chat = await open();
    const requests = chat.requests();
    await chat.ask("say first");
    await chat.ask("say second");
    await chat.messages.first().hover();
    await chat.messages.first().getByRole("button", { name: "Edit message" }).click();
    const editor = chat.page.getByRole("textbox", { name: "Edit message" });
    assertEquals(await editor.inputValue(), "say first");
    await editor.fill("say changed");
    await editor.press("Enter");
    await until(() => requests.length === 3, "the changed message is sent");
    await chat.whole();
    assertEquals(requests[2]?.messages, [{ role: "user", content: "say changed" }]);
    assertEquals(await chat.messages.count(), 2);
    assertStringIncludes(await chat.text(), "changed");

    // The same in the middle of an answer, by the keyboard's way to it.
    await chat.send("forever");
    await chat.last.getByText("xxx").waitFor();
    await chat.field.press("ArrowUp");
    await editor.fill("say done");
    await editor.press("Enter");
    await chat.whole();
    assertEquals(await chat.messages.count(), 4);
    assertStringIncludes(await chat.text(), "done");
    await until(async () => (await running()) === 0, "the engine has nothing to do");
  });

  itInChromium("sends the chosen adapter, the system prompt and every setting", async () => {
    const chat = await open();
    const requests = chat.requests();
    await chat.page.getByLabel("Model or adapter").selectOption("sql");
    await chat.button("Settings").click();
    const settings = {
      Temperature: ["temperature", 0.3],
      "Longest answer": ["max_completion_tokens", 500],
      "Top p": ["top_p", 0.9],
      "Top k": ["top_k", 40],
      "Min p": ["min_p", 0.05],
      "Repetition penalty": ["repetition_penalty", 1.1],
      "Presence penalty": ["presence_penalty", 0.5],
      "Frequency penalty": ["frequency_penalty", -0.5],
      Seed: ["seed", 7],
    } as const;
    await chat.dialog.getByRole("textbox", { name: "System prompt" }).fill("Be brief.");
    for (const [label, [, value]] of Object.entries(settings)) {
      await chat.dialog.getByLabel(label, { exact: true }).fill(`${value}`);
    }
    await chat.page.keyboard.press("Escape");
    await chat.ask("params");
    const { messages, model, ...sent } = requests[0] ?? {};
    assertEquals(model, "sql");
    assertEquals(messages, [
      { role: "system", content: "Be brief." },
      { role: "user", content: "params" },
    ]);
    assertEquals(sent, {
      ...Object.fromEntries(Object.values(settings)),
      stream: true,
      stream_options: { include_usage: true },
    });
    assertMatch(await chat.text(), /"temperature":\s*0\.3/);
  });

  itInChromium("takes over no setting that the server would refuse, and says what it expects", async () => {
    const chat = await open();
    const requests = chat.requests();
    await chat.button("Settings").click();
    await chat.dialog.getByLabel("Temperature").fill("9");
    await chat.dialog.getByText("Expected a number from 0 to 2").waitFor();
    await chat.dialog.getByLabel("Top k").fill("1.5");
    await chat.dialog.getByText("Expected a whole number from 0").waitFor();
    await chat.page.keyboard.press("Escape");
    await chat.ask("say hi");
    assertEquals([requests[0]?.temperature, requests[0]?.top_k], [undefined, undefined]);
  });

  itInChromium("keeps several conversations over a reload, and gives back one that was deleted", async () => {
    const chat = await open();
    await chat.ask("say alpha");
    await chat.button("New conversation").click();
    await chat.ask("say beta");
    await chat.page.reload();
    assertStringIncludes(await chat.text(), "beta");
    await chat.link("say alpha").click();
    assertStringIncludes(await chat.text(), "alpha");
    await chat.page.goBack();
    assertStringIncludes(await chat.text(), "beta");

    await chat.link("say alpha").hover();
    await chat.button("Delete conversation: say alpha").click();
    assertEquals(await chat.link("say alpha").count(), 0);
    await chat.button("Undo").click();
    await chat.link("say alpha").waitFor();
    await chat.button("Delete conversation: say beta").click();
    await chat.page.reload();
    assertEquals([await chat.link("say alpha").count(), await chat.link("say beta").count()], [1, 0]);
  });

  itInChromium("keeps the part of an answer that had come when the page is left", async () => {
    const chat = await open();
    await chat.send("forever");
    await chat.last.getByText("xxx").waitFor();
    await chat.page.reload();
    await chat.last.getByText("Stopped").waitFor();
    assertStringIncludes(await chat.text(), "xxx");
    await until(async () => (await running()) === 0, "the engine has nothing to do");
  });

  itInChromium("goes on with an answer while another conversation is on the page", async () => {
    const chat = await open();
    await chat.send("slow this one takes its time to be written");
    await chat.last.getByText("this").waitFor();
    await chat.button("New conversation").click();
    await chat.ask("say quick");
    await chat.link("slow this one").click();
    await chat.whole();
    assertStringIncludes(await chat.text(), "this one takes its time to be written");
  });

  itInChromium("gives a conversation away as a file", async () => {
    const chat = await open();
    await chat.ask("say **bold**");
    await chat.button("Settings").click();
    const save = async (name: string) => {
      const [file] = await Promise.all([
        chat.page.waitForEvent("download"),
        chat.dialog.getByRole("button", { name, exact: true }).click(),
      ]);
      return { name: file.suggestedFilename(), text: readFileSync(await file.path(), "utf8") };
    };
    const markdown = await save("Markdown");
    assertMatch(markdown.name, /^\d{4}-\d\d-\d\d-say-bold\.md$/);
    assertEquals(markdown.text, "# say **bold**\n\n## You\n\nsay **bold**\n\n## fake\n\n**bold**\n");
    const { messages } = JSON.parse((await save("JSON")).text) as { messages: { role: string; content: string }[] };
    assertEquals(
      messages.map(({ role, content }) => [role, content]),
      [
        ["user", "say **bold**"],
        ["assistant", "**bold**"],
      ],
    );
  });
});
