/** Memory of a context. */

import type { ContextHandle } from "./context_handle.ts";
import type { Ref } from "./types.ts";

/** Handle of a buffer that is alive; throws for a disposed one, undefined for anything that is no buffer. */
export let handleOf: (buffer: DeviceBuffer) => number | undefined;

/**
 * Bytes in the memory of a context's device: allocated, mapped from a file, or a window of another buffer. Belongs to the
 * context, which frees it with itself; disposing it gives it back earlier.
 */
export class DeviceBuffer implements Disposable {
  readonly bytes: number;
  readonly #context: ContextHandle;
  #handle: number;

  static {
    handleOf = (buffer) => (buffer instanceof DeviceBuffer ? buffer.#live() : undefined);
  }

  /** Made by Context.alloc, Context.mapFile and DeviceBuffer.view only. */
  constructor(context: ContextHandle, handle: number, bytes: number) {
    this.#context = context;
    this.#handle = handle;
    this.bytes = bytes;
  }

  /** The place `offset` bytes into the buffer, as ops take it. Native code checks that the tensor there fits. */
  at(offset: number): Ref {
    return { buffer: this, offset };
  }

  /** Copies all bytes of `source`, a window of its ArrayBuffer or not, to `offset`. */
  upload(source: ArrayBufferView, offset = 0): void {
    const handle = this.#live();
    this.#checkRange("upload to", offset, source.byteLength);
    const memory = bytesOf(source);
    this.#context.call("upload to the buffer", (native, context) =>
      native.apiq_buffer_upload(context, handle, offset, memory, source.byteLength),
    );
  }

  /** Waits for pending ops, fills all of `target` from `offset` on and returns it. */
  download<T extends ArrayBufferView>(target: T, offset = 0): T {
    const handle = this.#live();
    this.#checkRange("download from", offset, target.byteLength);
    const memory = bytesOf(target);
    this.#context.call("download from the buffer", (native, context) =>
      native.apiq_buffer_download(context, handle, offset, memory, target.byteLength),
    );
    return target;
  }

  /** A window with a handle of its own. It has to be disposed before this buffer is. */
  view(offset: number, bytes: number): DeviceBuffer {
    const handle = this.#live();
    this.#checkRange("view", offset, bytes);
    const view = this.#context.create("view the buffer", (native, context, out) =>
      native.apiq_buffer_view(context, handle, offset, bytes, out),
    );
    return new DeviceBuffer(this.#context, view, bytes);
  }

  /** Gives the pages of a mapped range back to the system; reading it again reads the file again. */
  releasePages(offset: number, bytes: number): void {
    const handle = this.#live();
    this.#checkRange("release pages of", offset, bytes);
    this.#context.call("release pages of the buffer", (native, context) =>
      native.apiq_buffer_release_pages(context, handle, offset, bytes),
    );
  }

  /** Frees the memory once pending ops are done. Does nothing the second time, or after the context went. */
  [Symbol.dispose](): void {
    const handle = this.#handle;
    if (handle === 0) return;
    if (this.#context.isOpen()) {
      this.#context.call("free the buffer", (native, context) => native.apiq_buffer_free(context, handle));
    }
    this.#handle = 0;
  }

  #live(): number {
    if (this.#handle === 0) throw new Error("Cannot use the buffer: it is disposed");
    if (!this.#context.isOpen()) throw new Error("Cannot use the buffer: its context is disposed");
    return this.#handle;
  }

  #checkRange(action: string, offset: number, bytes: number): void {
    const fits =
      Number.isInteger(offset) && Number.isInteger(bytes) && offset >= 0 && bytes >= 0 && offset + bytes <= this.bytes;
    if (!fits) {
      throw new RangeError(
        `Cannot ${action} the buffer: received bytes ${offset} to ${offset + bytes}, expected a range in 0 to ${this.bytes}`,
      );
    }
  }
}

/** One byte to point at where there is nothing to copy: the address of an empty view may be null. */
const NOTHING = new Uint8Array(1);

function bytesOf(view: ArrayBufferView): Uint8Array {
  return view.byteLength === 0 ? NOTHING : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
