/** Files of models and adapters: reading, checking and writing them. See docs/FORMAT.md. */
export * from "./adapter.ts";
export * from "./checkpoint.ts";
export * from "./dtype.ts";
export * from "./failure.ts";
export * from "./quantization.ts";
export * from "./read.ts";
export { isAligned, openSafetensors, type SafetensorsFile, type StoredTensor } from "./safetensors.ts";
