/** The loss of one training step: mean squared error to one or more targets, and the gradient of their sum. */
import type { Context, DeviceBuffer, Ref } from "../../../ffi/mod.ts";

export class StepLoss implements Disposable {
  readonly #context: Context;
  /** float64 [1] */
  readonly #sum: DeviceBuffer;

  constructor(context: Context) {
    this.#context = context;
    this.#sum = context.alloc(8);
  }

  /** Begins a step: the loss is 0. */
  reset(): void {
    this.#sum.upload(new Float64Array(1));
  }

  /** Adds mean((prediction - target)^2), and writes its gradient or, with `accumulate`, adds it. */
  add(prediction: Ref, target: Ref, grad: Ref, count: number, accumulate: boolean): void {
    const loss = this.#sum.at(0);
    this.#context.mseLoss({ prediction, target, grad, loss, count, scale: 1, accumulate: accumulate ? 1 : 0 });
  }

  /** Waits for the step. */
  read(): number {
    return this.#sum.download(new Float64Array(1))[0];
  }

  [Symbol.dispose](): void {
    this.#sum[Symbol.dispose]();
  }
}
