/** A recorded sequence of ops. */

import type { ContextHandle } from "./context_handle.ts";

/** What Context.record recorded. Shapes and refs are fixed; the contents of the buffers are read anew at every launch. */
export class Graph implements Disposable {
  readonly #context: ContextHandle;
  #handle: number;

  /** Made by Context.record only. */
  constructor(context: ContextHandle, handle: number) {
    this.#context = context;
    this.#handle = handle;
  }

  /** Runs the recorded ops in order, asynchronously like the ops themselves. */
  launch(): void {
    const handle = this.#handle;
    if (handle === 0) throw new Error("Cannot launch the graph: it is disposed");
    if (!this.#context.isOpen()) throw new Error("Cannot launch the graph: its context is disposed");
    this.#context.call("launch the graph", (native, context) => native.apiq_graph_launch(context, handle));
  }

  /** Frees the recording. Does nothing the second time, or after the context went. */
  [Symbol.dispose](): void {
    const handle = this.#handle;
    if (handle === 0) return;
    if (this.#context.isOpen()) {
      this.#context.call("dispose the graph", (native, context) => native.apiq_graph_destroy(context, handle));
    }
    this.#handle = 0;
  }
}
