/** The end of an engine process, as its connection sees it. */
import type { ChildProcess } from "node:child_process";
import { EventEmitter } from "node:events";
import { connect } from "node:net";
import { setTimeout } from "node:timers/promises";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { EngineConnection } from "./client_connection.ts";
import { encodeFrame } from "./frames.ts";

describe("EngineConnection", () => {
  it("kills nobody after the process has ended", async () => {
    const killed: unknown[] = [];
    const child = Object.assign(new EventEmitter(), { kill: (signal: unknown) => killed.push(signal) });
    const message = Promise.withResolvers<void>();
    const death = Promise.withResolvers<string>();
    new EngineConnection({
      socketPath: undefined,
      spawn: (path) => {
        // It says something, so that its connection is known to be taken, and stays open until the other end closes.
        const socket = connect(path, () =>
          socket.write(encodeFrame({ type: "loading", stage: "", done: 0, total: 1 })),
        );
        socket.on("error", () => {});
        return child as unknown as ChildProcess;
      },
      onMessage: () => message.resolve(),
      onDeath: death.resolve,
    });
    await message.promise;
    child.emit("exit", 0, null);
    assertEquals(await death.promise, "its process ended with exit code 0");
    await setTimeout(1300);
    assertEquals(killed, []);
  });
});
