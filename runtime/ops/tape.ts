/** What a backward pass needs to know about a forward pass: which tensors want a gradient, and how each was made. */
import type { Context } from "../../ffi/mod.ts";
import { type Arena, elements, type Tensor } from "../tensor.ts";
import { copyTensor } from "./copy.ts";

/** A gradient's storage and how many tensors it is at present the gradient of: a residual sum hands the same one to both terms. */
export interface Gradient {
  readonly tensor: Tensor;
  holders: number;
}

/** A list of steps back, in forward order. One backward pass uses it up. */
export class Tape {
  readonly #context: Context;
  readonly #arena: Arena;
  readonly #steps: (() => void)[] = [];
  readonly #wanted = new Set<Tensor>();
  readonly #saved = new Map<Tensor, number>();
  readonly #gradients = new Map<Tensor, Gradient>();

  constructor(context: Context, arena: Arena) {
    this.#context = context;
    this.#arena = arena;
  }

  /** Marks a tensor that a gradient is to be computed for. */
  want(tensor: Tensor): void {
    this.#wanted.add(tensor);
  }

  wants(...tensors: readonly Tensor[]): boolean {
    return tensors.some((tensor) => this.#wanted.has(tensor));
  }

  /** Marks tensors whose contents a step back reads: nothing may overwrite them until then. */
  save(...tensors: readonly Tensor[]): void {
    for (const tensor of tensors) this.#saved.set(tensor, this.savers(tensor) + 1);
  }

  /** How many steps back read the tensor. */
  savers(tensor: Tensor): number {
    return this.#saved.get(tensor) ?? 0;
  }

  /** Adds the step back of the op that made `outputs`; they want a gradient from now on. */
  push(outputs: readonly Tensor[], step: () => void): void {
    for (const output of outputs) this.want(output);
    this.#steps.push(step);
  }

  /** Runs all steps from the last to the first, beginning with the gradients of `outputs`. */
  run(outputs: readonly (readonly [output: Tensor, gradient: Tensor])[]): void {
    for (const [output, tensor] of outputs) this.#gradients.set(output, { tensor, holders: 1 });
    for (const step of this.#steps.reverse()) step();
    this.#steps.length = 0;
  }

  /** The finished gradient of a tensor that was only wanted, not made by a step; null where nothing reached it. */
  finished(tensor: Tensor): Tensor | null {
    return this.#gradients.get(tensor)?.tensor ?? null;
  }

  /** Takes a step's output gradient; null where nothing that was differentiated used the output. `release` follows. */
  take(tensor: Tensor): Gradient | null {
    const gradient = this.#gradients.get(tensor) ?? null;
    this.#gradients.delete(tensor);
    return gradient;
  }

  /** Takes a step's output gradient in storage that the step may overwrite. */
  takeOwn(tensor: Tensor): Tensor | null {
    const own = this.exclusive(tensor);
    this.#gradients.delete(tensor);
    return own;
  }

  release(gradient: Gradient): void {
    gradient.holders--;
  }

  /** Adds `gradient` to the tensor's, which shares its storage while it is the only term. */
  give(tensor: Tensor, gradient: Gradient): void {
    if (!this.wants(tensor)) return;
    if (this.#gradients.has(tensor)) {
      const sum = this.exclusive(tensor) as Tensor;
      this.#context.add({ a: sum.ref, b: gradient.tensor.ref, y: sum.ref, count: elements(sum.shape) });
      return;
    }
    gradient.holders++;
    this.#gradients.set(tensor, gradient);
  }

  /** Adds a gradient that nothing else holds. */
  giveNew(tensor: Tensor, computed: Tensor): void {
    this.give(tensor, { tensor: computed, holders: 0 });
  }

  /** Storage of what has been added to the tensor's gradient so far, which no other tensor shares: for ops that add to it. */
  exclusive(tensor: Tensor): Tensor | null {
    const gradient = this.#gradients.get(tensor);
    if (!gradient) return null;
    if (gradient.holders === 1) return gradient.tensor;
    gradient.holders--;
    const own = this.#arena.take(gradient.tensor.shape);
    copyTensor(this.#context, gradient.tensor.ref, own.ref, elements(own.shape));
    this.#gradients.set(tensor, { tensor: own, holders: 1 });
    return own;
  }
}
