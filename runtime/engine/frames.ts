/**
 * Messages over a stream socket: each is a frame of a little-endian uint32 byte length and that many bytes of MessagePack.
 *
 *     | length: u32 LE | payload: `length` bytes |
 */
import type { Socket } from "node:net";
import { Packr } from "msgpackr";

const HEADER_BYTES = 4;
/** A prompt of a million tokens takes 5 MB; nothing legitimate comes near this. */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;

// Plain maps instead of msgpackr's records: a frame then means the same whatever was sent before it.
const packr = new Packr({ useRecords: false });

/** One message as a frame. Throws if it is larger than `MAX_FRAME_BYTES`. */
export function encodeFrame(message: unknown): Uint8Array {
  const payload = packr.pack(message);
  if (payload.length > MAX_FRAME_BYTES) {
    throw new Error(`Cannot send frame: received ${payload.length} bytes, expected at most ${MAX_FRAME_BYTES}`);
  }
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  new DataView(frame.buffer).setUint32(0, payload.length, true);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/** Cuts a byte stream, in pieces of any size, back into messages. */
export class FrameDecoder {
  #chunks: Uint8Array[] = [];
  #bytes = 0;

  /** The messages that `chunk` completes, in order. Throws on a length above `MAX_FRAME_BYTES` or a malformed payload. */
  *push(chunk: Uint8Array): Generator<unknown, void, void> {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    for (let length = this.#nextLength(); length !== undefined; length = this.#nextLength()) {
      if (this.#bytes < HEADER_BYTES + length) return;
      yield packr.unpack(this.#take(HEADER_BYTES + length).subarray(HEADER_BYTES));
    }
  }

  #nextLength(): number | undefined {
    if (this.#bytes < HEADER_BYTES) return undefined;
    const head = this.#join(HEADER_BYTES);
    const length = new DataView(head.buffer, head.byteOffset).getUint32(0, true);
    if (length > MAX_FRAME_BYTES) {
      throw new Error(`Cannot read frame: received a length of ${length} bytes, expected at most ${MAX_FRAME_BYTES}`);
    }
    return length;
  }

  /** Removes the first `count` bytes and returns them in one piece. */
  #take(count: number): Uint8Array {
    const first = this.#join(count);
    this.#chunks[0] = first.subarray(count);
    if (first.length === count) this.#chunks.shift();
    this.#bytes -= count;
    return first.subarray(0, count);
  }

  /** Joins chunks until the first holds at least `count` bytes; each byte is copied at most once per frame. */
  #join(count: number): Uint8Array {
    const [first] = this.#chunks;
    if (first !== undefined && first.length >= count) return first;
    const joined = Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }
}

/** A socket that sends and receives messages, and says when the other side does not keep up. */
export class FrameChannel<Incoming, Outgoing> {
  readonly #socket: Socket;
  #closed = false;
  readonly #waiters: (() => void)[] = [];

  /**
   * `onMessage` is called for each message in order; `onClose` once, with the error if there was one. The two ends of a
   * channel are parts of the same program, so a message is taken to be of its declared type.
   */
  constructor(socket: Socket, onMessage: (message: Incoming) => void, onClose: (error?: Error) => void) {
    this.#socket = socket;
    const decoder = new FrameDecoder();
    let failure: Error | undefined;
    socket.on("data", (chunk: Uint8Array) => {
      try {
        for (const message of decoder.push(chunk)) onMessage(message as Incoming);
      } catch (error) {
        socket.destroy(error instanceof Error ? error : new Error(String(error)));
      }
    });
    socket.on("drain", () => this.#release());
    socket.on("error", (error) => {
      failure = error;
    });
    socket.on("close", () => {
      this.#closed = true;
      this.#release();
      onClose(failure);
    });
  }

  /** Queues a message; a message to a closed channel is dropped, as its end has been reported through `onClose`. */
  send(message: Outgoing): void {
    if (!this.#closed) this.#socket.write(encodeFrame(message));
  }

  /** Resolves once the socket's queue is short again (at once if it is) or the channel is closed. A sender that awaits this
   * between messages holds at most one high-water mark and one message in memory. */
  async drained(): Promise<void> {
    if (this.#closed || !this.#socket.writableNeedDrain) return;
    await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** Sends what is queued, then closes. */
  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #release(): void {
    for (const resolve of this.#waiters.splice(0)) resolve();
  }
}
