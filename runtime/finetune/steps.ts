/** Which examples each step of a run sees, and the batches that they make. All of it follows from examples, settings and seed. */
import { createHash } from "node:crypto";
import type { TokenBatch } from "../training/model_trainer.ts";
import { type Example, epochOrder, type PackedSequence, packSequence, planPacking } from "./data/mod.ts";
import type { FinetuneSettings } from "./settings.ts";

type StepSettings = Pick<FinetuneSettings, "epochs" | "maxSteps" | "batchSize" | "seed">;

/** Every epoch sees every example once, in an order of its own; its last step may have fewer. */
export class Steps {
  readonly #examples: readonly Example[];
  readonly #settings: StepSettings;
  readonly perEpoch: number;
  readonly total: number;
  #order: { readonly epoch: number; readonly indices: Uint32Array } | null = null;

  constructor(examples: readonly Example[], settings: StepSettings) {
    const { epochs, maxSteps, batchSize } = settings;
    this.#examples = examples;
    this.#settings = settings;
    this.perEpoch = Math.ceil(examples.length / batchSize);
    this.total = maxSteps ?? epochs * this.perEpoch;
  }

  get epochs(): number {
    return Math.ceil(this.total / this.perEpoch);
  }

  /** From 0 on. */
  epochOf(step: number): number {
    return Math.floor(step / this.perEpoch);
  }

  /** Of step `step`, from 0 on. */
  examples(step: number): readonly Example[] {
    const { batchSize, seed } = this.#settings;
    const epoch = this.epochOf(step);
    if (this.#order?.epoch !== epoch) {
      this.#order = { epoch, indices: epochOrder(this.#examples.length, seed, epoch) };
    }
    const first = (step % this.perEpoch) * batchSize;
    return [...this.#order.indices.subarray(first, first + batchSize)].map((index) => this.#examples[index]!);
  }

  /** Tokens of the step that has most. */
  get mostTokens(): number {
    return Math.max(...Array.from({ length: this.total }, (_, step) => tokensOf(this.examples(step))));
  }
}

export function tokensOf(examples: readonly Example[]): number {
  return examples.reduce((sum, { ids }) => sum + ids.length, 0);
}

/** SHA-256 of ids and wanted tokens. */
export function examplesHash(examples: readonly Example[]): string {
  const hash = createHash("sha256");
  for (const { ids, wanted } of examples) {
    hash.update(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength)).update(wanted);
  }
  return hash.digest("hex");
}

export interface BatchShape {
  /** Rows that go through together. */
  readonly sequences: number;
  /** Tokens of a row. */
  readonly length: number;
}

/** An example in a batch, whose first token is the batch's token `first`. */
export interface PlacedExample {
  readonly example: Example;
  readonly first: number;
}

export interface PackedBatch extends TokenBatch {
  readonly places: readonly PlacedExample[];
}

/** Tokens of the batch that predict the example's wanted ones, in order. */
export function predictingTokens({ example: { wanted }, first }: PlacedExample): number[] {
  return [...wanted.keys()].filter((i) => i > 0 && wanted[i] === 1).map((i) => first + i - 1);
}

/** The examples packed into rows, and those into batches; the last one is filled up with rows that learn nothing. */
export function batchesOf(examples: readonly Example[], { sequences, length }: BatchShape): PackedBatch[] {
  const plan = planPacking(examples, length);
  return Array.from({ length: Math.ceil(plan.length / sequences) }, (_, batch) => {
    const rows = Array.from({ length: sequences }, (_, i) => plan[batch * sequences + i] ?? []);
    const packed = rows.map((members) => packSequence(examples, members, length));
    const together = (part: (row: PackedSequence) => Int32Array): Int32Array => {
      const all = new Int32Array(sequences * length);
      for (const [i, row] of packed.entries()) all.set(part(row), i * length);
      return all;
    };
    return {
      ids: together(({ ids }) => ids),
      targets: together(({ targets }) => targets),
      positions: together(({ positions }) => positions),
      rowStart: together(({ rowStart }) => rowStart),
      places: rows.flatMap((members, row) => placesOf(examples, members, row * length)),
    };
  });
}

/** As packSequence lays them out. */
function placesOf(examples: readonly Example[], members: readonly number[], first: number): PlacedExample[] {
  let at = first;
  return members.map((member) => {
    const example = examples[member]!;
    const place = { example, first: at };
    at += example.ids.length;
    return place;
  });
}
