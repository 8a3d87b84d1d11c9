/** Data sets for finetuning: files to examples, examples to sequences, and in which order. */
export { readDataset } from "./dataset.ts";
export {
  DATASET_FORMATS,
  type Dataset,
  type DatasetFormat,
  type DatasetOptions,
  type Example,
  type SkippedRow,
} from "./example.ts";
export { type DataFile, parseDataFile, readMixture } from "./mixture.ts";
export { epochOrder, type SplitExamples, splitValidation } from "./order.ts";
export {
  fillRatio,
  PACKINGS,
  type PackedSequence,
  type PackingOrder,
  packExamples,
  packSequence,
  planPacking,
} from "./packing.ts";
