/**
 * The kernel libraries, called from TypeScript. The only folder that knows about pointers: above it there are contexts,
 * buffers, refs into buffers, graphs, and ops that take one object each.
 */

export { encodeArray } from "./codec.ts";
export * from "./constants.ts";
export { Context, type ContextDescription, type ContextOptions, type Isa, type MemoryInfo } from "./context.ts";
export { DeviceBuffer } from "./device_buffer.ts";
export { FileLock } from "./file_lock.ts";
export { Graph } from "./graph.ts";
export { structBytes } from "./layout.ts";
export { type Device, libraryPath } from "./library.ts";
export { ApiqError, type StatusName } from "./status.ts";
export type {
  AddArgs,
  AttentionArgs,
  EmbeddingArgs,
  KvLayout,
  KvStoreArgs,
  LinearArgs,
  LinearPart,
  LoraArgs,
  LoraPart,
  LoraSlot,
  OptionalRef,
  Ref,
  RmsNormArgs,
  RopeTableArgs,
  RotaryArgs,
  SampleArgs,
  SampleParams,
  SiluMulArgs,
  TokenBias,
  TokenNllArgs,
  Weight,
  WeightDequantizeArgs,
  WeightRepackArgs,
  WeightShape,
} from "./types.ts";
