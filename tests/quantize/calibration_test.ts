import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { afterAll, describe, it } from "@std/testing/bdd";
import { type Calibration, readCalibration } from "../../runtime/quantize/calibration.ts";
import type { CalibrationSettings } from "../../runtime/quantize/settings.ts";
import { openTokenizer } from "../../runtime/tokenizer/mod.ts";
import { calibrationText } from "../fixtures/dense_model.ts";
import { createFakeModel } from "../http/fake_model.ts";
import { temporaryFolder } from "./run.ts";

describe("readCalibration", () => {
  const model = createFakeModel();
  const folder = temporaryFolder();
  const tokenizer = openTokenizer(model.dir);
  afterAll(() => {
    model.remove();
    folder[Symbol.dispose]();
  });

  const read = (name: string, content: string, given: Partial<CalibrationSettings> = {}, seed = 0): Calibration => {
    const data = join(folder.dir, name);
    writeFileSync(data, content);
    return readCalibration({ samples: 4, length: 16, windows: "first", ...given, data }, model.dir, 264, seed);
  };
  const ids = ({ windows }: Calibration): number[][] => windows.map((window) => [...window]);
  const cut = (stream: readonly number[], count: number): number[][] =>
    Array.from({ length: count }, (_, i) => stream.slice(i * 16, (i + 1) * 16));

  it("cuts a text, as one stream of tokens, into windows from its start", () => {
    const text = calibrationText(5000);
    const calibration = read("long.txt", text);
    assertEquals(ids(calibration), cut(tokenizer.encode(text), 4));
    assertEquals([calibration.kind, calibration.notes], ["text", []]);
    const hash = createHash("sha256").update(new Uint8Array(Int32Array.from(ids(calibration).flat()).buffer));
    assertEquals(calibration.sha256, hash.digest("hex"));
  });

  it("gives the same windows however much of a text follows, and other ids another hash", () => {
    const text = calibrationText(20_000);
    const [long, short] = [read("a.txt", text), read("b.txt", text.slice(0, 1000))];
    assertEquals(ids(long), ids(short));
    assertEquals(long.sha256, short.sha256);
    assert(read("c.txt", `x${text}`).sha256 !== long.sha256);
  });

  it("takes what there is of a short text, and says so", () => {
    const calibration = read("short.txt", calibrationText(40));
    assertEquals(calibration.windows.length, 2);
    assertStringIncludes(calibration.notes.join(), "holds 2 windows of 16 tokens where --samples asks for 4");
  });

  it("puts the documents of a JSONL file behind each other", () => {
    const texts = ["first document, ", "the second one, ", "and a third that is longer than the others."];
    const calibration = read("texts.jsonl", texts.map((text) => JSON.stringify({ text })).join("\n\n"), { samples: 3 });
    assertEquals(
      ids(calibration),
      cut(
        texts.flatMap((text) => tokenizer.encode(text)),
        3,
      ),
    );
    assertEquals(calibration.kind, "JSONL of texts");
  });

  it("renders chats through the model's template, without a prompt for an answer", () => {
    const messages = [
      { role: "user", content: "a question" },
      { role: "assistant", content: "an answer" },
    ];
    const calibration = read("chats.jsonl", `${JSON.stringify({ messages })}\n`.repeat(2), { samples: 5 });
    const chat = tokenizer.encodeChat(messages, { addGenerationPrompt: false });
    assertEquals(ids(calibration), cut([...chat, ...chat], calibration.windows.length));
    assertEquals(
      [calibration.kind, calibration.windows.length],
      ["JSONL of chats", Math.floor((2 * chat.length) / 16)],
    );
  });

  it("chooses windows by the seed where that is asked for, each at most once", () => {
    const text = Array.from({ length: 500 }, (_, i) => (i * 7919) % 9973).join(" ");
    const stream = tokenizer.encode(text);
    const all = cut(stream, Math.floor(stream.length / 16)).map((window) => window.join());
    const chosen = (seed: number) => ids(read("r.txt", text, { windows: "random", samples: 20 }, seed)).map(String);
    const [one, again, other] = [chosen(1), chosen(1), chosen(2)];
    assertEquals(one, again);
    assert(one.join() !== other.join());
    assertEquals(new Set(one).size, 20);
    assert(one.every((window) => all.includes(window)));
  });

  it("refuses a file that mixes texts and chats, or one with ids beyond the vocabulary", () => {
    const mixed = '{"text": "a"}\n{"messages": [{"role": "user", "content": "b"}]}';
    assertThrows(() => read("mixed.jsonl", mixed), Error, "line 2 of ");
    assertThrows(() => read("empty.jsonl", "\n"), Error, "it holds no lines");
    writeFileSync(join(folder.dir, "v.txt"), calibrationText(200));
    const settings = { samples: 1, length: 16, windows: "first", data: join(folder.dir, "v.txt") } as const;
    assertThrows(() => readCalibration(settings, model.dir, 50, 0), Error, "expected ids below 50");
  });
});
