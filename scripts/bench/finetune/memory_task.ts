/** What a process that trains for its memory is told, and what it answers. */
export interface MemoryTask {
  /** Name of a shape, or a model's folder. */
  readonly model: string;
  /** Of a shape's matrices; a folder has its own. */
  readonly bits: 2 | 3 | 4 | 8;
  readonly group: 32 | 64 | 128;
  readonly headBits: 2 | 3 | 4 | 8;
  readonly rank: number;
  readonly sequences: number;
  readonly length: number;
  readonly threads: number;
  readonly steps: number;
}

/** Bytes. */
export interface MemoryAnswer {
  /** Resident before the model is opened. */
  readonly programBytes: number;
  /** At the most in the context's buffers, in mapped tensors, and in the kernels' own working memory. */
  readonly deviceBytes: number;
  readonly mappedBytes: number;
  readonly scratchBytes: number;
  /** Resident at the most. */
  readonly peakBytes: number;
}
