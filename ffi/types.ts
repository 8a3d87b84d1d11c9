/** TypeScript's view of the C types in symbols.ts, inferred: nothing here has to change when a struct or a function does. */

import type { DeviceBuffer } from "./device_buffer.ts";
import type { FUNCTIONS, FunctionName, STRUCTS, StructName } from "./symbols.ts";

/** A place in a buffer: what an op's tensor argument names. */
export interface Ref {
  readonly buffer: DeviceBuffer;
  /** In bytes. */
  readonly offset: number;
}

export type OptionalRef = Ref | null;

/** Memory of the caller that a native call reads or writes before it returns. */
export type Memory = Uint8Array | null;

type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Name;

interface Scalars {
  int32_t: number;
  uint32_t: number;
  /** A bigint where 53 bits are not enough, as in seeds. */
  uint64_t: number | bigint;
  float: number;
}

type Value<Type extends string> = Type extends "apiq_ref"
  ? OptionalRef
  : Type extends keyof Scalars
    ? Scalars[Type]
    : Type extends `${infer Element}[${number}]`
      ? readonly Value<Element>[]
      : Type extends StructName
        ? StructOf<Type>
        : never;

type Fields<Struct extends StructName> = (typeof STRUCTS)[Struct];

/** `n_parts` is filled in where there is an array `parts`; `n_heads` and the like are ordinary fields. */
type CountOfArray<Struct extends StructName> = {
  [Name in keyof Fields<Struct> & string]: Fields<Struct>[Name] extends `${string}[${number}]` ? `n_${Name}` : never;
}[keyof Fields<Struct> & string];

type GivenName<Struct extends StructName> = Exclude<keyof Fields<Struct> & string, "reserved" | CountOfArray<Struct>>;

/** The object a caller writes for a C struct: camelCase names, without the fields that the codec fills in. */
export type StructOf<Struct extends StructName> = {
  readonly [Name in GivenName<Struct> as CamelCase<Name>]: Value<Fields<Struct>[Name] & string>;
};

type Argument<Parameter extends string> = Parameter extends `${string}*${string}` ? Memory : number;

type Arguments<Parameters extends string> = Parameters extends "void"
  ? []
  : Parameters extends `${infer First}, ${infer Rest}`
    ? [Argument<First>, ...Arguments<Rest>]
    : [Argument<Parameters>];

/** The library's functions, callable. Handles and sizes are numbers: both stay far below 2^53. */
export type NativeFunctions = {
  readonly [Name in FunctionName]: (typeof FUNCTIONS)[Name] extends `${string} (${infer Parameters})`
    ? (...parameters: Arguments<Parameters>) => number
    : never;
};

export type Weight = StructOf<"apiq_weight">;
export type WeightShape = Omit<Weight, "data">;
export type WeightRepackArgs = StructOf<"apiq_weight_repack_args">;
export type WeightDequantizeArgs = StructOf<"apiq_weight_dequantize_args">;
export type EmbeddingArgs = StructOf<"apiq_embedding_args">;
export type RmsNormArgs = StructOf<"apiq_rms_norm_args">;
export type RopeTableArgs = StructOf<"apiq_rope_table_args">;
export type RotaryArgs = StructOf<"apiq_rotary_args">;
export type LinearPart = StructOf<"apiq_linear_part">;
export type LinearArgs = StructOf<"apiq_linear_args">;
export type LoraSlot = StructOf<"apiq_lora_slot">;
export type LoraPart = StructOf<"apiq_lora_part">;
export type LoraArgs = StructOf<"apiq_lora_args">;
export type KvLayout = StructOf<"apiq_kv_layout">;
export type KvStoreArgs = StructOf<"apiq_kv_store_args">;
export type AttentionArgs = StructOf<"apiq_attention_args">;
export type SiluMulArgs = StructOf<"apiq_silu_mul_args">;
export type AddArgs = StructOf<"apiq_add_args">;
export type TokenNllArgs = StructOf<"apiq_token_nll_args">;
export type TokenBias = StructOf<"apiq_token_bias">;
export type SampleParams = StructOf<"apiq_sample_params">;
export type SampleArgs = StructOf<"apiq_sample_args">;

export type GemmArgs = StructOf<"apiq_gemm_args">;
export type ScaleColumnsArgs = StructOf<"apiq_scale_columns_args">;
export type DotColumnsArgs = StructOf<"apiq_dot_columns_args">;
export type ScaleRowsArgs = StructOf<"apiq_scale_rows_args">;
export type DotRowsArgs = StructOf<"apiq_dot_rows_args">;
export type RowNormsArgs = StructOf<"apiq_row_norms_args">;
export type RmsNormBackwardArgs = StructOf<"apiq_rms_norm_backward_args">;
export type RmsNormWeightBackwardArgs = StructOf<"apiq_rms_norm_weight_backward_args">;
export type SiluMulBackwardArgs = StructOf<"apiq_silu_mul_backward_args">;
export type DropoutArgs = StructOf<"apiq_dropout_args">;
export type CausalAttentionArgs = StructOf<"apiq_causal_attention_args">;
export type CausalAttentionBackwardArgs = StructOf<"apiq_causal_attention_backward_args">;
export type MseLossArgs = StructOf<"apiq_mse_loss_args">;
export type TokenNllBackwardArgs = StructOf<"apiq_token_nll_backward_args">;
export type TopLogProbsArgs = StructOf<"apiq_top_log_probs_args">;
export type TeacherKlArgs = StructOf<"apiq_teacher_kl_args">;
export type TeacherKlBackwardArgs = StructOf<"apiq_teacher_kl_backward_args">;
export type SumSquaresArgs = StructOf<"apiq_sum_squares_args">;
export type AdamwArgs = StructOf<"apiq_adamw_args">;
export type Adamw8bitArgs = StructOf<"apiq_adamw_8bit_args">;
export type GroupRangeArgs = StructOf<"apiq_group_range_args">;
export type ClipRangeArgs = StructOf<"apiq_clip_range_args">;
export type ClipRangeBackwardArgs = StructOf<"apiq_clip_range_backward_args">;
export type FakeQuantizeArgs = StructOf<"apiq_fake_quantize_args">;
export type FakeQuantizeBackwardArgs = StructOf<"apiq_fake_quantize_backward_args">;
export type CholeskyArgs = StructOf<"apiq_cholesky_args">;
export type TriangularInverseArgs = StructOf<"apiq_triangular_inverse_args">;
export type GptqQuantizeArgs = StructOf<"apiq_gptq_quantize_args">;
