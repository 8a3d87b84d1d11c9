/** What a model writes cannot do anything to its reader, whatever it is. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { useFakeServer } from "../http/fake_server.ts";
import { ChatPage } from "./chat_page.ts";
import { itInChromium, useChromium } from "./chromium.ts";

const ATTACKS = [
  "<script>window.attacked = true</script>",
  '<img src=x onerror="window.attacked = true">',
  '<iframe srcdoc="<script>parent.attacked = true</script>"></iframe>',
  "<svg onload=window.attacked=true>",
  '<a href="javascript:window.attacked=true">html link</a>',
  "[script link](javascript:window.attacked=true)",
  "[spaced link](<java\tscript:window.attacked=true>)",
  "[encoded link](&#106;avascript:window.attacked=true)",
  "[data link](data:text/html,<script>opener.attacked=true</script>)",
  "[reference link][1]",
  "![picture](https://attacker.example/pixel.png)",
  "<javascript:window.attacked=true>",
  "&lt;script&gt;window.attacked = true&lt;/script&gt;",
  '```"><img src=x onerror=window.attacked=true>\ncode\n```',
  "",
  "[1]: javascript:window.attacked=true",
];

describe("a model's text on the page", () => {
  const server = useFakeServer("bun");
  const chromium = useChromium();

  itInChromium("runs nothing, loads nothing and links to nothing but the web", async () => {
    const chat = new ChatPage(await chromium.visit(server.url));
    // Asking another host fails the test too, in useChromium.
    const check = async () => {
      const made = chat.last.locator("script, img, iframe, svg:not(.icon), [onerror], [onload], [style]");
      assertEquals(await made.count(), 0);
      for (const link of await chat.last.getByRole("link").all()) await link.click({ noWaitAfter: true, trial: true });
      const hrefs = await chat.last
        .getByRole("link")
        .evaluateAll((links) => links.map((link) => link.getAttribute("href")));
      assertEquals(hrefs, ["https://attacker.example/pixel.png"]);
      assertEquals(await chat.page.evaluate("window.attacked"), undefined);
    };
    await chat.ask(`say ${ATTACKS.join("\n\n")}`);
    await check();
    const shown = await chat.text();
    for (const attack of ["<script>window.attacked = true</script>", "script link", "<svg onload"]) {
      assertStringIncludes(shown, attack);
    }
    // The same from the browser's storage.
    await chat.page.reload();
    await chat.whole();
    await check();
  });

  itInChromium("may be the worst for a Markdown parser and is shown all the same", async () => {
    const chat = new ChatPage(await chromium.visit(server.url));
    for (const piece of ["> ", "- ", "[", "![](", "`", "*a "]) {
      const chunk = JSON.stringify({ choices: [{ delta: { content: `${piece.repeat(4000)}end` } }] });
      const body = `data: ${chunk}\n\ndata: [DONE]\n\n`;
      await chat.page.route("**/v1/chat/completions", (route) => route.fulfill({ body }), { times: 1 });
      await chat.button("New conversation").click();
      await chat.ask(piece);
      assertStringIncludes(await chat.text(), "end");
    }
  });

  itInChromium("is drawn as Markdown", async () => {
    const chat = new ChatPage(await chromium.visit(server.url));
    const text = [
      "# Title",
      "A **bold** and *leaning* `word`, 1 &lt; 2, see [a page](https://example.org/a?b=c&d).",
      "- one\n- two\n  1. inner",
      "```python\ndef f(x):\n    return 'é'  # why\n```",
      "| a | b |\n|---|--:|\n| 1 | 2 |",
      "> said\n\n- [x] done",
    ].join("\n\n");
    await chat.ask(`say ${text}`);
    const { last } = chat;
    await last.getByRole("heading", { name: "Title" }).waitFor();
    assertEquals(await chat.text(last.getByRole("strong")), "bold");
    assertStringIncludes(await chat.text(), "1 < 2");
    const link = last.getByRole("link", { name: "a page" });
    assertEquals(
      [await link.getAttribute("href"), await link.getAttribute("rel")],
      ["https://example.org/a?b=c&d", "noopener noreferrer"],
    );
    assertEquals(await last.getByRole("cell").allInnerTexts(), ["1", "2"]);
    assertEquals(await chat.text(last.locator("pre")), "def f(x):\n    return 'é'  # why");
    assertEquals(await last.locator("pre .keyword, pre .comment").allInnerTexts(), ["def", "return", "# why"]);
    assertEquals(await last.getByRole("checkbox", { name: "done" }).isChecked(), true);
    await chat.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await last.getByRole("button", { name: "Copy code" }).click();
    await last.getByRole("button", { name: "Copied" }).waitFor();
    assertStringIncludes(await chat.page.evaluate("navigator.clipboard.readText()"), "return 'é'");
  });
});
