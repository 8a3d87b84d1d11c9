/** What a run is asked for, and what it tells. */
import type { Best } from "./checkpoint.ts";
import type { DataFile, DatasetOptions } from "./data/mod.ts";
import type { EvalRecord, StepRecord } from "./records.ts";
import type { FinetuneSettings, LoraSettings } from "./settings.ts";
import type { StartName } from "./start.ts";

export interface FinetuneOptions {
  /** Folder of the model, packed or not. */
  readonly model: string;
  /** Folder to make; `out`.partial holds the run's state until then. */
  readonly out: string;
  readonly data: Pick<DatasetOptions, "format" | "template" | "promptLoss" | "onBadRow" | "tooLong"> & {
    readonly files: readonly DataFile[];
  };
  readonly validation: Validation;
  /** null: the model's calibrated LoRA where it has one, else zero. */
  readonly start: StartName | null;
  /** Shape of the LoRA, for a start at zero. */
  readonly lora: Partial<LoraSettings>;
  /** Folder of the full-precision model, for distillation. */
  readonly teacher: string | null;
  /**
   * Where weights that train begin: folder of the full-precision model. null: the teacher where it is one of the same architecture,
   * else the packed weights themselves.
   */
  readonly weightsFrom: string | null;
  readonly settings: FinetuneSettings;
  /** Steps between two states on disk; null: about two minutes. */
  readonly saveEvery: number | null;
  /** Whether the backward pass computes each block again; false keeps what it needs of all blocks, which gives the same result. */
  readonly recompute: boolean;
  /** 0: all. */
  readonly threads: number;
  readonly signal?: AbortSignal;
}

export interface Validation {
  /** Another file; null: none. */
  readonly file: string | null;
  /** Examples of the data to hold out: below 1 a share, else how many; 0: none. */
  readonly holdOut: number;
  /** Steps between two validations; null: an epoch. */
  readonly every: number | null;
}

export interface FinetuneEvents {
  onNote?(text: string): void;
  /** An earlier call had made `step` steps. */
  onResume?(step: number, steps: number): void;
  /** While a teacher is asked: examples done, and all. */
  onTeacher?(done: number, total: number): void;
  /** Once, before the first step. */
  onBegin?(steps: number, epochs: number): void;
  onStep?(record: StepRecord, steps: number): void;
  onEval?(record: EvalRecord, isBest: boolean): void;
}

export interface FinetuneResult {
  readonly out: string;
  /** With --train-scales or --train-weights a whole model. */
  readonly kind: "adapter" | "model";
  readonly steps: number;
  readonly epochs: number;
  /** Of all steps: tokens that the loss wanted. */
  readonly tokens: number;
  /** Mean of the first and of the last steps of the run, at most ten. */
  readonly firstLoss: number;
  readonly lastLoss: number;
  /** null without validation. */
  readonly firstValidation: EvalRecord | null;
  readonly best: Best | null;
  /** Of LoRA, or of all that trained. */
  readonly parameters: number;
  readonly tokensPerSecond: number;
  readonly seconds: number;
  readonly peakBytes: number;
}
