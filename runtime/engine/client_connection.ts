/** One life of the engine process: its socket, its messages, and why it ended. */
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { FrameChannel } from "./frames.ts";
import type { FromEngine, ToEngine } from "./protocol.ts";

/** How long a process that was told to stop may take: one step and the release of its memory. */
const STOP_MS = 5000;
/** How long a process may outlive its connection, so that it is known what it died of. */
const DYING_MS = 1000;

export interface EngineConnectionOptions {
  /** Undefined: a socket in a fresh folder that only this user can enter. */
  socketPath: string | undefined;
  /** Starts the process that will connect to `socketPath`. */
  spawn(socketPath: string): ChildProcess;
  onMessage(message: FromEngine): void;
  /** Called once, when the process is gone or never came. */
  onDeath(reason: string): void;
}

export class EngineConnection {
  readonly #options: EngineConnectionOptions;
  readonly #server: Server;
  readonly #socketPath: string;
  readonly #ownsFolder: boolean;
  readonly #dead = Promise.withResolvers<void>();
  #channel: FrameChannel<FromEngine, ToEngine> | undefined;
  #failure: string | undefined;
  #ended = false;
  #dying: ReturnType<typeof setTimeout> | undefined;
  child: ChildProcess | undefined;

  constructor(options: EngineConnectionOptions) {
    this.#options = options;
    this.#ownsFolder = options.socketPath === undefined;
    this.#socketPath = options.socketPath ?? join(mkdtempSync(join(tmpdir(), "apiq-")), "engine.sock");
    if (!this.#ownsFolder) rmSync(this.#socketPath, { force: true });
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.once("error", (error) => this.#end(`its socket cannot be made (${error.message})`));
    this.#server.listen(this.#socketPath, () => this.#spawn());
  }

  send(message: ToEngine): void {
    this.#channel?.send(message);
  }

  /** Asks the process to stop, and kills it if it does not in time. */
  async close(): Promise<void> {
    this.send({ type: "shutdown" });
    if (!this.#channel) this.child?.kill("SIGKILL");
    const timer = setTimeout(() => this.child?.kill("SIGKILL"), STOP_MS);
    if (!this.child) this.#end("it was closed");
    await this.#dead.promise;
    clearTimeout(timer);
  }

  #spawn(): void {
    if (this.#ended) return;
    const child = this.#options.spawn(this.#socketPath);
    this.child = child;
    child.once("error", (error) => this.#end(`its process cannot be started (${error.message})`));
    child.once("exit", (code, signal) => {
      const how = signal ? `its process was ended by ${signal}` : `its process ended with exit code ${code}`;
      // What the process said last may still lie in the socket.
      setImmediate(() => this.#end(this.#failure ?? how));
    });
  }

  #accept(socket: Socket): void {
    // One process, one connection; nobody else may connect from here on.
    this.#server.close();
    this.#channel = new FrameChannel<FromEngine, ToEngine>(
      socket,
      (message) => {
        if (message.type === "failed") this.#failure = message.error;
        this.#options.onMessage(message);
      },
      (error) => {
        // A socket error (it has a code) is how a death looks from here, and the exit code says more; others are faults of frames.
        if (error && !("code" in error)) this.#failure ??= error.message;
        if (this.#ended) return;
        this.#dying = setTimeout(() => this.child?.kill("SIGKILL"), DYING_MS);
      },
    );
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#dying);
    this.#server.close();
    this.#channel?.destroy();
    rmSync(this.#ownsFolder ? dirname(this.#socketPath) : this.#socketPath, { recursive: true, force: true });
    this.#options.onDeath(reason);
    this.#dead.resolve();
  }
}
