/** Constrained decoding: descriptions of what an output may be, as masks over tokens. */
export type { MaskRequest } from "./relay_protocol.ts";
export { prepareSchema } from "./schema.ts";
export { GrammarService, type GrammarServiceOptions } from "./service.ts";
export { GrammarError, type GrammarSpec, LIMITS, type TagFormat } from "./spec.ts";
