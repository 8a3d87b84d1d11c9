/**
 * A real browser for the tests of one group. It is the same window for all of them, since opening one takes longer than most
 * tests, and is emptied of what the page has kept before the next. What the page throws, what its policy forbids and what it
 * asks of other hosts fails the test during which it happens.
 */
import { existsSync } from "node:fs";
import process from "node:process";
import { assertEquals } from "@std/assert";
import { afterAll, afterEach, beforeAll } from "@std/testing/bdd";
import { type Browser, chromium, type Page } from "playwright-core";
import { itWhen } from "../shared.ts";

const USUAL_PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

const executable = process.env.APIQ_CHROMIUM ?? USUAL_PATHS.find((path) => existsSync(path));

/** `it` for a test that needs the browser; without one it shows up as skipped. */
export const itInChromium = itWhen(executable !== undefined, "no Chromium; APIQ_CHROMIUM names one elsewhere");

export interface Look {
  readonly viewport: { readonly width: number; readonly height: number };
  readonly colorScheme: "light" | "dark";
}

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };

/** For a machine that does much else besides. */
const PATIENCE_MS = 60_000;

export interface Visits {
  /** Opens a page as someone does who has never been there. */
  visit(url: string, look?: Partial<Look>): Promise<Page>;
}

/** Call it inside `describe`. */
export function useChromium(): Visits {
  let browser: Browser | undefined;
  let page: Page | undefined;
  const faults: string[] = [];
  const origins = new Set<string>();
  beforeAll(async () => {
    if (executable === undefined) return;
    // Tests run as root in containers, where Chromium's sandbox cannot be set up.
    browser = await chromium.launch({ executablePath: executable, args: ["--no-sandbox", "--disable-gpu"] });
    page = await browser.newPage({ reducedMotion: "reduce" });
    page.setDefaultTimeout(PATIENCE_MS);
    watch(page, origins, faults);
  });
  afterEach(async () => {
    if (!page) return;
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.goto("about:blank");
    const session = await page.context().newCDPSession(page);
    for (const origin of origins)
      await session.send("Storage.clearDataForOrigin", { origin, storageTypes: "local_storage" });
    await session.detach();
    assertEquals(faults.splice(0), []);
  });
  afterAll(async () => {
    await browser?.close();
  });
  return {
    async visit(url, { viewport = DESKTOP, colorScheme = "light" } = {}) {
      if (!page) throw new Error("Cannot open a page: the browser has not started");
      origins.add(new URL(url).origin);
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      await page.goto(url);
      return page;
    },
  };
}

/** Notes what must not happen on any page of `origins`. */
function watch(page: Page, origins: ReadonlySet<string>, faults: string[]): void {
  page.on("pageerror", (error) => faults.push(`the page threw ${error.message}`));
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted/i.test(message.text())) faults.push(message.text());
  });
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol.startsWith("http") && !origins.has(origin)) faults.push(`the page asked for ${request.url()}`);
  });
}
