/** The page by keyboard, by screen reader, on a phone, in light and in dark. */
import { readFileSync } from "node:fs";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe } from "@std/testing/bdd";
import type { Page } from "playwright-core";
import { useFakeServer } from "../http/fake_server.ts";
import { repositoryRoot } from "../shared.ts";
import { ChatPage } from "./chat_page.ts";
import { DESKTOP, itInChromium, PHONE, useChromium } from "./chromium.ts";

const AXE = readFileSync(`${repositoryRoot}node_modules/axe-core/axe.min.js`, "utf8");

const ANSWER =
  "say # Title\n\n`code` [link](https://example.org)\n\n```js\nlet x = 1; // why\n```\n\n|a|b|\n|-|-|\n|1|2|";

/** Whether the element with the focus has a ring; a radio button's is around its label, a message field's around its form. */
const RING = `(() => {
  const { activeElement: focused, body } = document;
  const shows = (element) => {
    const { outlineStyle, boxShadow } = getComputedStyle(element);
    return outlineStyle !== "none" || boxShadow !== "none";
  };
  const frames = [focused, focused.closest("label"), focused.closest("form")];
  return focused === body || frames.some((element) => element && shows(element));
})()`;

interface Violation {
  readonly id: string;
  readonly nodes: readonly { readonly target: readonly string[]; readonly failureSummary?: string }[];
}

/** What axe-core finds wrong with the page as it is now, in dark and in light; between those only contrast differs. */
async function violations(page: Page): Promise<readonly string[]> {
  if (!(await page.evaluate("'axe' in window"))) await page.evaluate(AXE);
  const found: string[] = [];
  for (const [colorScheme, rules] of Object.entries({ dark: "{ runOnly: ['color-contrast'] }", light: "{}" })) {
    await page.emulateMedia({ colorScheme: colorScheme as "dark" | "light" });
    const { violations } = (await page.evaluate(`axe.run(${rules})`)) as { violations: readonly Violation[] };
    for (const { id, nodes } of violations) {
      found.push(...nodes.map((node) => `${colorScheme}: ${id} ${node.target} ${node.failureSummary}`));
    }
  }
  return found;
}

describe("the page for everyone", () => {
  const server = useFakeServer("bun");
  const chromium = useChromium();

  for (const [size, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
    itInChromium(`has nothing that axe-core objects to, in light and in dark: ${size}`, async () => {
      const chat = new ChatPage(await chromium.visit(server.url, { viewport }));
      const { page } = chat;
      const found: string[] = [];
      const look = async (state: string) => {
        found.push(...(await violations(page)).map((violation) => `${state}, ${violation}`));
      };
      await page.getByRole("option", { name: "fake" }).waitFor({ state: "attached" });
      await look("empty");
      await chat.ask(ANSWER);
      await look("answer");
      await chat.button("Settings").click();
      await chat.dialog.getByLabel("Temperature").fill("9");
      await look("settings");
      await page.keyboard.press("Escape");
      await page.keyboard.press("Control+/");
      await chat.dialog.getByText("stop the answer").waitFor();
      await look("shortcuts");
      await page.keyboard.press("Escape");
      if (size === "phone") {
        await chat.button("Conversations").click();
        await look("drawer");
      }
      await chat.link("Server").click();
      await page.getByText("None is loaded").waitFor();
      await look("server");
      assertEquals(found, []);
      assertEquals(await page.evaluate("document.documentElement.scrollWidth"), viewport.width);
    });
  }

  itInChromium("can be used by keyboard alone", async () => {
    const chat = new ChatPage(await chromium.visit(server.url));
    const { keyboard } = chat.page;
    const focused = () =>
      chat.page.evaluate<string>("document.activeElement.ariaLabel ?? document.activeElement.innerText");
    await chat.page.getByText("Ready").waitFor();
    await keyboard.press("Alt+M");
    await keyboard.type("say one");
    await keyboard.press("Shift+Enter");
    await keyboard.type("two");
    await keyboard.press("Enter");
    await chat.whole();
    assertStringIncludes(await chat.text(chat.messages.first()), "say one\ntwo");
    assertEquals(await focused(), "Message");

    await keyboard.press("ArrowUp");
    assertEquals(await focused(), "Edit message");
    await keyboard.press("Escape");
    await keyboard.press("Alt+M");
    assertEquals(await focused(), "Message");

    await keyboard.press("Alt+S");
    await chat.dialog.waitFor();
    await keyboard.press("Escape");
    await chat.dialog.waitFor({ state: "detached" });
    assertEquals(await focused(), "Message");
    await keyboard.press("Control+/");
    await chat.dialog.getByText("stop the answer").waitFor();
    await keyboard.press("Escape");

    await keyboard.press("Alt+N");
    await chat.page.getByRole("heading", { name: "What shall we talk about?" }).waitFor();
    assertEquals(await focused(), "Message");
    // Back through everything: all of it is reached, and its focus can be seen.
    const reached = new Set<string>();
    for (let step = 0; step < 24; step++) {
      await keyboard.press("Shift+Tab");
      reached.add(await focused());
      const isSeen = await chat.page.evaluate<boolean>(RING);
      assert(isSeen, `${await focused()} has the focus and does not show it`);
    }
    for (const name of ["Settings", "Chat", "Server", "New conversation", "Keyboard shortcuts"]) {
      assert(
        [...reached].some((label) => label.trim() === name),
        `${name} is not among ${[...reached].join(", ")}`,
      );
    }
  });

  itInChromium("tells a screen reader of an answer's beginning and end, not of its tokens", async () => {
    const chat = new ChatPage(await chromium.visit(server.url));
    await chat.page.getByText("Ready").waitFor();
    await chat.page.evaluate(`
      window.said = [];
      const region = document.querySelector("[role=status]");
      new MutationObserver(() => said.push(region.textContent)).observe(region, {
        childList: true, characterData: true, subtree: true,
      });
    `);
    await chat.ask("slow a dozen words or so that come one letter after the other");
    const said = await chat.page.evaluate<string[]>("said");
    assertEquals(said, [
      "The model is answering.",
      "a dozen words or so that come one letter after the other End of answer.",
    ]);
    assertEquals(await chat.page.locator("[aria-live], [role=status], [role=log], [role=alert]").count(), 1);
  });

  itInChromium("keeps the choice of colours, and fits a narrow phone", async () => {
    const viewport = { width: 320, height: 640 };
    const page = await chromium.visit(server.url, { viewport, colorScheme: "light" });
    const chat = new ChatPage(page);
    const ground = () => page.evaluate<string>("getComputedStyle(document.documentElement).backgroundColor");
    const light = await ground();
    await chat.button("Conversations").click();
    await chat.dialog.getByRole("radio", { name: "dark" }).check();
    const dark = await ground();
    assert(light !== dark);
    await page.reload();
    assertEquals(await ground(), dark);
    await chat.field.fill(`say ${"wide ".repeat(30)}\n\n\`\`\`\n${"x".repeat(200)}\n\`\`\`\n\n${"y".repeat(200)}`);
    await chat.button("Send").click();
    await chat.whole();
    assertEquals(await page.evaluate("document.documentElement.scrollWidth"), viewport.width);
  });
});
