/**
 * apiq.h as data: every function with its C declaration, every struct with its fields in order. Adapters bind what stands
 * here, the codec computes layouts from it, and the types of the op arguments are inferred from it. A test compares it with
 * the header.
 */

import { TRAINING_FUNCTIONS, TRAINING_STRUCTS } from "./symbols_training.ts";

/** Result and parameters of each function, as the header declares them. */
export const FUNCTIONS = {
  apiq_abi_version: "uint32_t (void)",

  apiq_context_create: "apiq_status (const apiq_context_options* options, uint64_t* context)",
  apiq_context_destroy: "apiq_status (uint64_t context)",
  apiq_context_synchronize: "apiq_status (uint64_t context)",
  apiq_context_describe: "apiq_status (uint64_t context, uint8_t* utf8, uint64_t capacity, uint64_t* bytes)",
  apiq_last_error: "apiq_status (uint64_t context, uint8_t* utf8, uint64_t capacity, uint64_t* bytes)",
  apiq_context_memory: "apiq_status (uint64_t context, apiq_memory_info* info)",
  apiq_measure_bandwidth: "apiq_status (uint64_t context, uint64_t buffer, uint32_t threads, double* bytes_per_second)",

  apiq_buffer_alloc: "apiq_status (uint64_t context, uint64_t bytes, uint64_t* buffer)",
  apiq_buffer_free: "apiq_status (uint64_t context, uint64_t buffer)",
  apiq_buffer_view: "apiq_status (uint64_t context, uint64_t buffer, uint64_t offset, uint64_t bytes, uint64_t* view)",
  apiq_buffer_map_file:
    "apiq_status (uint64_t context, const uint8_t* path_utf8, uint64_t path_bytes, uint64_t offset, uint64_t bytes, uint64_t* buffer)",
  apiq_buffer_release_pages: "apiq_status (uint64_t context, uint64_t buffer, uint64_t offset, uint64_t bytes)",
  apiq_buffer_bytes: "apiq_status (uint64_t context, uint64_t buffer, uint64_t* bytes)",
  apiq_buffer_upload:
    "apiq_status (uint64_t context, uint64_t buffer, uint64_t offset, const void* source, uint64_t bytes)",
  apiq_buffer_download:
    "apiq_status (uint64_t context, uint64_t buffer, uint64_t offset, void* target, uint64_t bytes)",

  apiq_graph_begin: "apiq_status (uint64_t context)",
  apiq_graph_end: "apiq_status (uint64_t context, uint64_t* graph)",
  apiq_graph_abort: "apiq_status (uint64_t context)",
  apiq_graph_launch: "apiq_status (uint64_t context, uint64_t graph)",
  apiq_graph_destroy: "apiq_status (uint64_t context, uint64_t graph)",

  apiq_weight_packed_bytes: "apiq_status (uint64_t context, const apiq_weight* weight, uint64_t* bytes)",
  apiq_weight_repack: "apiq_status (uint64_t context, const apiq_weight_repack_args* args)",
  apiq_weight_dequantize: "apiq_status (uint64_t context, const apiq_weight_dequantize_args* args)",

  apiq_embedding: "apiq_status (uint64_t context, const apiq_embedding_args* args)",
  apiq_rms_norm: "apiq_status (uint64_t context, const apiq_rms_norm_args* args)",
  apiq_rope_table: "apiq_status (uint64_t context, const apiq_rope_table_args* args)",
  apiq_rotary: "apiq_status (uint64_t context, const apiq_rotary_args* args)",
  apiq_linear: "apiq_status (uint64_t context, const apiq_linear_args* args)",
  apiq_lora: "apiq_status (uint64_t context, const apiq_lora_args* args)",
  apiq_kv_store: "apiq_status (uint64_t context, const apiq_kv_store_args* args)",
  apiq_attention: "apiq_status (uint64_t context, const apiq_attention_args* args)",
  apiq_silu_mul: "apiq_status (uint64_t context, const apiq_silu_mul_args* args)",
  apiq_add: "apiq_status (uint64_t context, const apiq_add_args* args)",
  apiq_token_nll: "apiq_status (uint64_t context, const apiq_token_nll_args* args)",
  apiq_sample: "apiq_status (uint64_t context, const apiq_sample_args* args)",

  ...TRAINING_FUNCTIONS,
} as const;

/**
 * Fields of each struct in order, with their C types. Two names have a meaning for the codec: `reserved` is always 0, and
 * `n_<array>` is the number of elements given for the array field of that name.
 */
export const STRUCTS = {
  apiq_ref: { buffer: "uint64_t", offset: "uint64_t" },
  apiq_weight: {
    data: "apiq_ref",
    kind: "uint32_t",
    dtype: "uint32_t",
    bits: "uint32_t",
    group: "uint32_t",
    zero: "uint32_t",
    out_features: "uint32_t",
    in_features: "uint32_t",
    reserved: "uint32_t",
  },
  apiq_context_options: { device: "uint32_t", threads: "uint32_t", isa: "uint32_t", reserved: "uint32_t" },
  apiq_memory_info: {
    allocated_bytes: "uint64_t",
    peak_bytes: "uint64_t",
    mapped_bytes: "uint64_t",
    scratch_bytes: "uint64_t",
  },
  apiq_weight_repack_args: {
    qweight: "apiq_ref",
    zeros: "apiq_ref",
    scales: "apiq_ref",
    weight: "apiq_weight",
    format: "uint32_t",
    release_source: "uint32_t",
  },
  apiq_weight_dequantize_args: { weight: "apiq_weight", y: "apiq_ref", first_row: "uint32_t", n_rows: "uint32_t" },
  apiq_embedding_args: { table: "apiq_weight", ids: "apiq_ref", y: "apiq_ref", rows: "uint32_t", reserved: "uint32_t" },
  apiq_rms_norm_args: {
    x: "apiq_ref",
    weight: "apiq_ref",
    y: "apiq_ref",
    rows: "uint32_t",
    cols: "uint32_t",
    x_stride: "uint32_t",
    y_stride: "uint32_t",
    eps: "float",
    reserved: "uint32_t",
  },
  apiq_rope_table_args: {
    positions: "apiq_ref",
    inv_freq: "apiq_ref",
    table: "apiq_ref",
    rows: "uint32_t",
    half_dim: "uint32_t",
    scale: "float",
    reserved: "uint32_t",
  },
  apiq_rotary_args: {
    x: "apiq_ref",
    table: "apiq_ref",
    rows: "uint32_t",
    n_heads: "uint32_t",
    head_dim: "uint32_t",
    inverse: "uint32_t",
  },
  apiq_linear_part: { weight: "apiq_weight", bias: "apiq_ref", y: "apiq_ref" },
  apiq_linear_args: {
    x: "apiq_ref",
    rows: "uint32_t",
    in_features: "uint32_t",
    activations: "uint32_t",
    n_parts: "uint32_t",
    parts: "apiq_linear_part[4]",
  },
  apiq_lora_slot: {
    a_offset: "uint64_t",
    b_offset: "uint64_t",
    rank: "uint32_t",
    dtype: "uint32_t",
    scale: "float",
    reserved: "uint32_t",
  },
  apiq_lora_part: { slots: "apiq_ref", y: "apiq_ref", out_features: "uint32_t", reserved: "uint32_t" },
  apiq_lora_args: {
    x: "apiq_ref",
    pool: "apiq_ref",
    row_slots: "apiq_ref",
    pool_bytes: "uint64_t",
    rows: "uint32_t",
    in_features: "uint32_t",
    n_slots: "uint32_t",
    max_rank: "uint32_t",
    n_parts: "uint32_t",
    reserved: "uint32_t",
    parts: "apiq_lora_part[4]",
  },
  apiq_kv_layout: {
    k: "apiq_ref",
    v: "apiq_ref",
    block_tables: "apiq_ref",
    row_seq: "apiq_ref",
    row_pos: "apiq_ref",
    dtype: "uint32_t",
    n_blocks: "uint32_t",
    block_size: "uint32_t",
    n_kv_heads: "uint32_t",
    head_dim: "uint32_t",
    n_seqs: "uint32_t",
    max_blocks: "uint32_t",
    rows: "uint32_t",
  },
  apiq_kv_store_args: { kv: "apiq_kv_layout", keys: "apiq_ref", values: "apiq_ref" },
  apiq_attention_args: {
    kv: "apiq_kv_layout",
    q: "apiq_ref",
    y: "apiq_ref",
    n_heads: "uint32_t",
    window: "uint32_t",
    scale: "float",
    reserved: "uint32_t",
  },
  apiq_silu_mul_args: { gate: "apiq_ref", up: "apiq_ref", y: "apiq_ref", count: "uint64_t" },
  apiq_add_args: { a: "apiq_ref", b: "apiq_ref", y: "apiq_ref", count: "uint64_t" },
  apiq_token_nll_args: {
    logits: "apiq_ref",
    targets: "apiq_ref",
    nll: "apiq_ref",
    rows: "uint32_t",
    vocab: "uint32_t",
  },
  apiq_token_bias: { token: "int32_t", bias: "float" },
  apiq_sample_params: {
    seed: "uint64_t",
    position: "uint64_t",
    temperature: "float",
    top_p: "float",
    min_p: "float",
    top_k: "int32_t",
    repetition_penalty: "float",
    presence_penalty: "float",
    frequency_penalty: "float",
    history_row: "int32_t",
    prompt_tokens: "int32_t",
    history_tokens: "int32_t",
    bias_first: "int32_t",
    bias_count: "int32_t",
    mask_row: "int32_t",
    n_top: "int32_t",
  },
  apiq_sample_args: {
    logits: "apiq_ref",
    params: "apiq_ref",
    history: "apiq_ref",
    bias: "apiq_ref",
    masks: "apiq_ref",
    tokens: "apiq_ref",
    logprobs: "apiq_ref",
    top_tokens: "apiq_ref",
    top_logprobs: "apiq_ref",
    rows: "uint32_t",
    vocab: "uint32_t",
    history_rows: "uint32_t",
    history_cols: "uint32_t",
    bias_capacity: "uint32_t",
    mask_rows: "uint32_t",
    max_top: "uint32_t",
    reserved: "uint32_t",
  },

  ...TRAINING_STRUCTS,
} as const;

export type FunctionName = keyof typeof FUNCTIONS;
export type StructName = keyof typeof STRUCTS;
