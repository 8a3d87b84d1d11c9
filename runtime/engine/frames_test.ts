import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { encodeFrame, FrameChannel, FrameDecoder, MAX_FRAME_BYTES } from "./frames.ts";

const MESSAGES = [
  {
    type: "add",
    request: { id: "a", prompt: [1, 2, 300_000], sampling: { seed: 2n ** 64n - 1n, small: 0n, minP: 0.25 } },
  },
  { type: "abort", id: "é😀" },
  { type: "outputs", outputs: [{ id: "x".repeat(70_000), tokens: [] }] },
];

describe("frames", () => {
  it("survive any cutting of the stream", () => {
    const frames = MESSAGES.map(encodeFrame);
    const stream = Buffer.concat(frames);
    for (const size of [1, 3, 7, 4096, stream.length]) {
      const decoder = new FrameDecoder();
      const received: unknown[] = [];
      for (let at = 0; at < stream.length; at += size) received.push(...decoder.push(stream.subarray(at, at + size)));
      assertEquals(received, MESSAGES);
    }
  });

  it("of an impossible length are refused before anything is kept", () => {
    const header = new Uint8Array(4);
    new DataView(header.buffer).setUint32(0, MAX_FRAME_BYTES + 1, true);
    const error = assertThrows(() => [...new FrameDecoder().push(header)], Error);
    assertStringIncludes(error.message, `received a length of ${MAX_FRAME_BYTES + 1}`);
  });
});

describe("FrameChannel", () => {
  it("delivers in order, and closes on a malformed frame with the error", async () => {
    await withSocketPair(async (near, far) => {
      const received: unknown[] = [];
      const closed = Promise.withResolvers<Error | undefined>();
      new FrameChannel<unknown, unknown>(near, (message) => received.push(message), closed.resolve);
      for (const message of MESSAGES) far.write(encodeFrame(message));
      far.write(new Uint8Array([255, 255, 255, 255]));
      far.on("error", () => {});
      const error = await closed.promise;
      assertEquals(received, MESSAGES);
      assertStringIncludes(error?.message ?? "", "Cannot read frame");
    });
  });

  it("tells a sender to wait while the other side does not read", async () => {
    await withSocketPair(async (near, far) => {
      far.pause();
      const channel = new FrameChannel<unknown, unknown>(
        near,
        () => {},
        () => {},
      );
      let sent = 0;
      let waiting = false;
      const sender = (async () => {
        for (; sent < 1000; sent++) {
          channel.send({ filler: "x".repeat(100_000) });
          waiting = true;
          await channel.drained();
          waiting = false;
        }
      })();
      await new Promise((resolve) => setTimeout(resolve, 200));
      assert(waiting && sent < 100, `sent ${sent} messages to a reader that does not read`);

      const decoder = new FrameDecoder();
      let received = 0;
      far.on("data", (chunk: Uint8Array) => {
        received += [...decoder.push(chunk)].length;
      });
      far.resume();
      await sender;
      channel.end();
      await once(far, "end");
      assertEquals(received, 1000);
    });
  });
});

async function withSocketPair(body: (near: Socket, far: Socket) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "apiq-frames-"));
  const path = join(folder, "test.sock");
  const server = createServer();
  server.listen(path);
  await once(server, "listening");
  const far = connect(path);
  const [near] = (await once(server, "connection")) as [Socket];
  try {
    await body(near, far);
  } finally {
    near.destroy();
    far.destroy();
    server.close();
    rmSync(folder, { recursive: true });
  }
}
