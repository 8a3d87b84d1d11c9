/** What a person sees of a finetuning run: a bar on a terminal, and a line for every validation and now and then for a step. */
import type { FinetuneEvents } from "../finetune/options.ts";
import type { EvalRecord, StepRecord } from "../finetune/records.ts";
import { formatBytes, formatDuration, formatNumber } from "./format.ts";
import type { Output } from "./output.ts";
import type { Progress } from "./progress.ts";

/** Milliseconds between two lines of steps. */
const LINE_MS = 30_000;

export class FinetuneProgress implements FinetuneEvents, Disposable {
  readonly #out: Output;
  readonly #partial: string;
  readonly #now: () => number;
  #bar: Progress | null = null;
  /** Steps that an earlier call had made. */
  #first = 0;
  #epochs = 0;
  #began = 0;
  #lineAt = 0;

  /** @param partial where the run's state is */
  constructor(out: Output, partial: string, now: () => number = () => performance.now()) {
    this.#out = out;
    this.#partial = partial;
    this.#now = now;
  }

  onNote(text: string): void {
    this.#bar?.clear();
    this.#out.note(text);
  }

  onResume(step: number, steps: number): void {
    this.#first = step;
    this.onNote(`Continuing ${this.#partial}: ${step} of ${steps} steps are made.`);
  }

  onTeacher(done: number, total: number): void {
    this.#bar ??= this.#out.progress("asking the teacher", total, "examples", this.#now);
    this.#bar.update(done);
  }

  onBegin(steps: number, epochs: number): void {
    this.#epochs = epochs;
    this.#began = this.#now();
    this.#lineAt = this.#began;
    this.#bar?.end();
    this.#bar = this.#out.progress(`step ${this.#first}/${steps}`, steps - this.#first, "percent", this.#now);
    this.#bar.update(0);
  }

  onStep(record: StepRecord, steps: number): void {
    const { step, epoch, loss, learningRate, tokensPerSecond, peakBytes } = record;
    const now = this.#now();
    const speed = `${formatNumber(tokensPerSecond)} tokens/s`;
    if (now - this.#lineAt >= LINE_MS || step === steps) {
      this.#lineAt = now;
      const left = ((now - this.#began) / 1000 / (step - this.#first)) * (steps - step);
      const words = [
        `loss ${formatNumber(loss, 4)}`,
        `lr ${formatNumber(learningRate)}`,
        speed,
        formatBytes(peakBytes),
        ...(step < steps ? [`${formatDuration(left)} left`] : []),
      ];
      this.onNote(`step ${step}/${steps}, epoch ${epoch}/${this.#epochs}: ${words.join(", ")}`);
    }
    this.#bar?.update(step - this.#first, { label: `step ${step}/${steps}, loss ${formatNumber(loss)}, ${speed}` });
  }

  onEval({ step, loss, perplexity, seconds }: EvalRecord, isBest: boolean): void {
    const place = step === 0 ? "before the first step" : `after step ${step}`;
    const words = [`loss ${formatNumber(loss, 4)}`, `perplexity ${formatNumber(perplexity, 4)}`];
    const best = isBest && step > 0 ? ", the best so far" : "";
    this.onNote(`validation ${place}: ${words.join(", ")}${best}, ${formatDuration(seconds)}`);
  }

  [Symbol.dispose](): void {
    this.#bar?.end();
  }
}
