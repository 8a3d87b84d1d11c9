/** What a person sees of a quantization run: a bar on a terminal, and a line for every finished block. */
import type { BlockRecord } from "../quantize/block_file.ts";
import type { MethodEvent } from "../quantize/method.ts";
import type { ModelRecord } from "../quantize/model_phase.ts";
import type { BlockEvent, Phase, QuantizeEvents } from "../quantize/pipeline.ts";
import { formatDuration, formatNumber } from "./format.ts";
import type { Output } from "./output.ts";
import type { Progress } from "./progress.ts";

const PHASES: Readonly<Record<Phase, string>> = {
  targets: "full-precision outputs",
  quantize: "quantizing",
  advance: "quantized outputs",
};

/** A block with more loss curves than this, one per linear, has them in its log only. */
const CURVES_SHOWN = 4;

export class QuantizeProgress implements QuantizeEvents, Disposable {
  readonly #out: Output;
  readonly #partial: string;
  readonly #now: () => number;
  #bar: Progress | null = null;
  /** Blocks that an earlier run had finished. */
  #first = 0;
  #layer = -1;
  #blockBegan = 0;
  /** Milliseconds that the block before took; null for the first. */
  #usual: number | null = null;
  /** Of the current block, by its steps: a method may have several parts, which are not known in advance. */
  #share = 0;

  /** @param partial where finished blocks are */
  constructor(out: Output, partial: string, now: () => number = () => performance.now()) {
    this.#out = out;
    this.#partial = partial;
    this.#now = now;
  }

  onNote(text: string): void {
    this.#bar?.clear();
    this.#out.note(text);
  }

  onResume(finished: number, layers: number): void {
    this.#first = finished;
    this.onNote(`Continuing ${this.#partial}: ${finished} of ${layers} blocks are finished.`);
  }

  onPhase(phase: Phase, layer: number, layers: number): void {
    if (layer < this.#first) {
      this.#bar ??= this.#out.progress("replaying finished blocks", this.#first, "blocks", this.#now);
      this.#bar.update(layer);
      return;
    }
    if (layer !== this.#layer) this.#beginBlock(layer, layers);
    this.#draw(layers, PHASES[phase]);
  }

  onStep(event: BlockEvent): void {
    const { epoch, epochs, step, steps, layers } = event;
    const done = (epoch - 1 + step / Math.max(1, steps)) / Math.max(1, epochs);
    this.#share = Math.min(1, Math.max(this.#share, done));
    this.#draw(layers, labelOf(event));
  }

  onBlock(record: BlockRecord, layers: number): void {
    this.#usual = this.#now() - this.#blockBegan;
    this.onNote(`block ${record.layer + 1}/${layers}: ${summaryOf(record)}`);
  }

  onModelStep({ part, epoch, epochs, step, steps, loss }: MethodEvent): void {
    if (epoch === 1 && step === 1) {
      this.#bar?.end();
      this.#bar = this.#out.progress("", epochs * steps, "percent", this.#now);
    }
    const label = `whole model, ${labelOf({ part, epoch, epochs, loss })}`;
    this.#bar?.update((epoch - 1) * steps + step, { label });
  }

  onModel({ losses, seconds }: ModelRecord): void {
    if (losses.length === 0) return;
    const curve = losses.map((loss) => formatNumber(loss, 4)).join(" -> ");
    this.onNote(`whole model: loss ${curve}, ${formatDuration(seconds)}`);
  }

  onAssemble(done: number, total: number): void {
    if (done === 0) {
      this.#bar?.end();
      this.#bar = this.#out.progress("writing the model", total, "tensors", this.#now);
    }
    this.#bar?.update(done);
  }

  #beginBlock(layer: number, layers: number): void {
    if (this.#layer < 0) {
      this.#bar?.end();
      this.#bar = this.#out.progress("", layers - this.#first, "percent", this.#now);
    }
    this.#layer = layer;
    this.#blockBegan = this.#now();
    this.#share = 0;
  }

  #draw(layers: number, words: string): void {
    // The block before tells best how far this one is.
    const share = this.#usual === null ? this.#share : Math.min(1, (this.#now() - this.#blockBegan) / this.#usual);
    const label = `block ${this.#layer + 1}/${layers}, ${words}`;
    this.#bar?.update(this.#layer - this.#first + 0.99 * share, { label });
  }

  [Symbol.dispose](): void {
    this.#bar?.end();
  }
}

function labelOf({ part, epoch, epochs, loss }: Pick<MethodEvent, "part" | "epoch" | "epochs" | "loss">): string {
  const words = part === null ? [] : [part.slice(part.lastIndexOf(".") + 1)];
  if (epochs > 1) words.push(`epoch ${epoch}/${epochs}`);
  if (loss !== null) words.push(`loss ${formatNumber(loss)}`);
  return words.join(", ");
}

function summaryOf({ losses, linears, outputError, seconds }: BlockRecord): string {
  const curves = losses.map((curve) => `${formatNumber(curve.losses[0]!)} -> ${formatNumber(curve.losses.at(-1)!)}`);
  const errors = Object.values(linears).map(({ error }) => error);
  return [
    ...(curves.length > 0 && curves.length <= CURVES_SHOWN ? [`loss ${curves.join(", ")}`] : []),
    `weights off by ${percent(errors.reduce((a, b) => a + b, 0) / errors.length)}`,
    ...(outputError === null ? [] : [`output off by ${percent(outputError)}`]),
    formatDuration(seconds),
  ].join(", ");
}

function percent(share: number): string {
  return `${(100 * share).toPrecision(3)} %`;
}
