/* apiq.h: the contract between the TypeScript runtime and a kernel library. It is long because it is the whole contract: every
 * op with its layouts and the source of its algorithm; the ops of training and quantization are in apiq_training.h.
 *
 * Two libraries implement all of it with the same symbols: libapiq_cpu and libapiq_cuda.
 *
 *   - Handles (contexts, buffers, graphs) are numbers, never 0 and never reused, looked up in a table on
 *     every call: a stale or forged handle is a status, not undefined behaviour.
 *   - Every call returns an apiq_status. Nothing prints, exits or throws across this border. After a
 *     failure, apiq_last_error gives the text.
 *   - An op takes one struct of arguments by address and reads it before it returns. All fields have
 *     fixed width, structs are multiples of 8 bytes with every padding field spelled out, so the same
 *     bytes can be written from any language.
 *   - Tensors live in buffers and are named by apiq_ref: {buffer, byte offset}. {0, 0} means "absent".
 *     A ref is checked: the whole tensor must lie in its buffer and be aligned to its element.
 *   - Tensors are row-major and dense unless a stride is named. Activations are float32.
 *   - Ops are asynchronous on the context's stream, in order. apiq_context_synchronize and
 *     apiq_buffer_download wait. Between apiq_graph_begin and apiq_graph_end ops are recorded and not
 *     executed; apiq_graph_launch replays them. A recording fixes shapes and refs; what changes from
 *     step to step (ids, positions, block tables, slots, sampler parameters) lives in buffers.
 *   - The order of every sum is a function of (op, in_features, out_features, position) alone, never of
 *     the number of rows, of threads, or of what else is in the batch.
 *   - A context is used from one thread at a time.
 */
#ifndef APIQ_H
#define APIQ_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define APIQ_ABI_VERSION 2u

#if defined(_WIN32)
#define APIQ_API
#else
#define APIQ_API __attribute__((visibility("default")))
#endif

/* ---- status ------------------------------------------------------------------------------------ */

typedef int32_t apiq_status;
enum {
  APIQ_OK = 0,
  APIQ_INVALID_HANDLE = 1,   /* a context, buffer or graph that does not exist (any more) */
  APIQ_INVALID_ARGUMENT = 2, /* a null, a bad shape, an unknown enumerator */
  APIQ_OUT_OF_RANGE = 3,     /* a ref or an index that reaches past its buffer or table */
  APIQ_OUT_OF_MEMORY = 4,
  APIQ_IO_ERROR = 5,         /* a file that cannot be opened or mapped */
  APIQ_UNSUPPORTED = 6,      /* well-formed, but this library or machine cannot do it */
  APIQ_INVALID_STATE = 7,    /* graph_end without graph_begin, and the like */
  APIQ_INTERNAL = 8          /* a device fault or a bug; the context is not to be used any further */
};

/* ---- element types and weight families --------------------------------------------------------- */

enum { APIQ_F32 = 0, APIQ_F16 = 1, APIQ_BF16 = 2 };

enum {
  APIQ_WEIGHT_DENSE = 0, /* row-major [out_features, in_features] of `dtype` */
  APIQ_WEIGHT_AFFINE = 1, /* packed by apiq_weight_repack: w = scale * (q - zero), or scale * q + min */
  APIQ_WEIGHT_LUT = 2     /* packed by apiq_weight_repack: w = scale * table[q], one table of 2^bits float32 for the matrix */
};

/* How the zero of an affine group is stored. */
enum {
  APIQ_ZERO_INTEGER = 0, /* w = scale * (q - z), z an integer of `bits` bits */
  APIQ_ZERO_FLOAT = 1    /* w = scale * q + m, m a float16 */
};

/* Which integer layout apiq_weight_repack reads. */
enum {
  APIQ_GPTQ_V1 = 0, /* qzeros hold z - 1 (modulo 2^bits) */
  APIQ_GPTQ_V2 = 1  /* qzeros hold z */
};

/* How a packed linear treats its input. */
enum {
  APIQ_ACTIVATIONS_INT8 = 0, /* symmetric int8 per (row, group of `in`): the fast path of the CPU */
  APIQ_ACTIVATIONS_F32 = 1   /* exact float32 */
};

typedef struct apiq_ref {
  uint64_t buffer; /* handle, 0 = absent */
  uint64_t offset; /* bytes */
} apiq_ref;

/* One matrix W[out_features, in_features] of a linear layer. */
typedef struct apiq_weight {
  apiq_ref data;
  uint32_t kind;  /* APIQ_WEIGHT_* */
  uint32_t dtype; /* dense: element type; packed: 0 */
  uint32_t bits;  /* affine: 2, 3, 4 or 8; lut: 2, 3 or 4; dense: 0 */
  uint32_t group; /* packed: 32, 64 or 128, a divisor of in_features; dense: 0 */
  uint32_t zero;  /* affine: APIQ_ZERO_*; others: 0 */
  uint32_t out_features;
  uint32_t in_features;
  uint32_t reserved; /* 0 */
} apiq_weight;

/* ---- library and contexts ---------------------------------------------------------------------- */

APIQ_API uint32_t apiq_abi_version(void);

/* Instruction sets of the CPU library. All give the same bits. */
enum {
  APIQ_ISA_AUTO = 0, /* what APIQ_ISA=scalar|avx2|avx512|avx512bf16 in the environment says, else the best the processor has */
  APIQ_ISA_SCALAR = 1,
  APIQ_ISA_AVX2 = 2,  /* AVX2, FMA, F16C */
  APIQ_ISA_AVX512 = 3, /* AVX-512 F, BW, DQ, VL and VNNI besides */
  APIQ_ISA_AVX512_BF16 = 4 /* AVX-512 BF16 besides, for APIQ_COMPUTE_BF16 */
};

typedef struct apiq_context_options {
  uint32_t device;   /* CUDA: device ordinal. CPU: 0 */
  uint32_t threads;  /* CPU: worker threads including the caller's; 0 = as many as the process may use */
  uint32_t isa;      /* CPU: APIQ_ISA_*. CUDA: 0 */
  uint32_t reserved; /* 0 */
} apiq_context_options;

APIQ_API apiq_status apiq_context_create(const apiq_context_options* options, uint64_t* context);
/* Frees everything the context owns. */
APIQ_API apiq_status apiq_context_destroy(uint64_t context);
/* Waits until every op so far is done; returns the first failure of an asynchronous op. */
APIQ_API apiq_status apiq_context_synchronize(uint64_t context);
/* JSON about the context: {"backend","device","isa","available_isas",[..],"threads"}. Writes at most `capacity` bytes
 * (no terminator) and the full length into *bytes. */
APIQ_API apiq_status apiq_context_describe(uint64_t context, uint8_t* utf8, uint64_t capacity, uint64_t* bytes);
/* Text of the context's last failure; context 0: of the last failed call on this thread that had no context. */
APIQ_API apiq_status apiq_last_error(uint64_t context, uint8_t* utf8, uint64_t capacity, uint64_t* bytes);

typedef struct apiq_memory_info {
  uint64_t allocated_bytes; /* by buffer_alloc, now */
  uint64_t peak_bytes;      /* highest allocated_bytes so far */
  uint64_t mapped_bytes;    /* address space of mapped files */
  uint64_t scratch_bytes;   /* the library's own working memory */
} apiq_memory_info;
APIQ_API apiq_status apiq_context_memory(uint64_t context, apiq_memory_info* info);

/* Streams over `buffer` with one or with all threads and reports bytes per second: the yardstick of every
 * "fraction of bandwidth" figure. */
APIQ_API apiq_status apiq_measure_bandwidth(uint64_t context, uint64_t buffer, uint32_t threads, double* bytes_per_second);

/* ---- buffers ----------------------------------------------------------------------------------- */

/* Zero-filled, aligned to at least 64 bytes. */
APIQ_API apiq_status apiq_buffer_alloc(uint64_t context, uint64_t bytes, uint64_t* buffer);
/* Pending ops that use the buffer finish first. A parent outlives its views: freeing it early is INVALID_STATE. */
APIQ_API apiq_status apiq_buffer_free(uint64_t context, uint64_t buffer);
/* A window of another buffer, a handle of its own. */
APIQ_API apiq_status apiq_buffer_view(uint64_t context, uint64_t buffer, uint64_t offset, uint64_t bytes, uint64_t* view);
/* A file, read-only, paged in on demand. bytes 0 = to its end. */
APIQ_API apiq_status apiq_buffer_map_file(uint64_t context, const uint8_t* path_utf8, uint64_t path_bytes, uint64_t offset,
                                          uint64_t bytes, uint64_t* buffer);
/* Gives the pages of a mapped range back to the system; reading it again reads the file again. */
APIQ_API apiq_status apiq_buffer_release_pages(uint64_t context, uint64_t buffer, uint64_t offset, uint64_t bytes);
APIQ_API apiq_status apiq_buffer_bytes(uint64_t context, uint64_t buffer, uint64_t* bytes);
APIQ_API apiq_status apiq_buffer_upload(uint64_t context, uint64_t buffer, uint64_t offset, const void* source, uint64_t bytes);
APIQ_API apiq_status apiq_buffer_download(uint64_t context, uint64_t buffer, uint64_t offset, void* target, uint64_t bytes);

/* ---- graphs ------------------------------------------------------------------------------------ */

APIQ_API apiq_status apiq_graph_begin(uint64_t context);
APIQ_API apiq_status apiq_graph_end(uint64_t context, uint64_t* graph);
/* Frees the graph begun and not ended, if any: what a caller does after a failed op while recording. */
APIQ_API apiq_status apiq_graph_abort(uint64_t context);
/* The graph keeps no buffer alive: launching after one of its buffers was freed is INVALID_HANDLE. */
APIQ_API apiq_status apiq_graph_launch(uint64_t context, uint64_t graph);
APIQ_API apiq_status apiq_graph_destroy(uint64_t context, uint64_t graph);

/* ---- weights ----------------------------------------------------------------------------------- */

/* Bytes of the packed form of `weight` in this context (data is not read). */
APIQ_API apiq_status apiq_weight_packed_bytes(uint64_t context, const apiq_weight* weight, uint64_t* bytes);

/* GPTQ's layout -> the library's own. q is a little-endian bit stream along `in`: column-wise words
 *   qweight int32 [in*bits/32, out]       32/bits values a word, lowest bits first; 3 bits: 32 values in 3 words
 *   qzeros  int32 [in/group, ceil(out*bits/32)]   the same stream along `out`   (APIQ_ZERO_INTEGER)
 *   mins    float16 [in/group, out]                                             (APIQ_ZERO_FLOAT)
 *   scales  float16 [in/group, out]
 *   table   float32 [2^bits]                                                    (APIQ_WEIGHT_LUT, which has no zeros)
 * Format: AutoGPTQ 0.7 (v1) and GPTQModel (v2). The table becomes part of the packed form. Runs at once, also while a graph is
 * being recorded. APIQ_WEIGHT_LUT serves QLoRA's NormalFloat (arXiv 2305.14314) and any other table; libapiq_cuda refuses it as
 * UNSUPPORTED in every op. */
typedef struct apiq_weight_repack_args {
  apiq_ref qweight;
  apiq_ref zeros; /* qzeros or mins, as weight.zero says; lut: absent */
  apiq_ref scales;
  apiq_weight weight;        /* data: target, at least packed_bytes long, aligned to 64 */
  uint32_t format;           /* APIQ_GPTQ_*, for integer zeros; lut: APIQ_GPTQ_V2 */
  uint32_t release_source;   /* 1: give the source's mapped pages back when done */
  apiq_ref table;            /* lut only; else absent */
} apiq_weight_repack_args;
APIQ_API apiq_status apiq_weight_repack(uint64_t context, const apiq_weight_repack_args* args);

/* y[n_rows, in] = rows first_row .. of the matrix, as float32; exactly scale*(q-z), fma(scale, q, m) or scale*table[q]. */
typedef struct apiq_weight_dequantize_args {
  apiq_weight weight;
  apiq_ref y;
  uint32_t first_row;
  uint32_t n_rows;
} apiq_weight_dequantize_args;
APIQ_API apiq_status apiq_weight_dequantize(uint64_t context, const apiq_weight_dequantize_args* args);

/* ---- ops: gather, norm, rotary ----------------------------------------------------------------- */

/* y[r, :] = table[ids[r], :]. ids int32, each in [0, table.out_features); an id outside gives a row of zeros
 * and the status OUT_OF_RANGE at the next synchronize or download. The table is dense or packed. */
typedef struct apiq_embedding_args {
  apiq_weight table; /* out_features = number of entries, in_features = their width */
  apiq_ref ids;
  apiq_ref y; /* float32 [rows, in_features] */
  uint32_t rows;
  uint32_t reserved;
} apiq_embedding_args;
APIQ_API apiq_status apiq_embedding(uint64_t context, const apiq_embedding_args* args);

/* y = x / sqrt(mean(x^2) + eps) * weight, row by row (Zhang and Sennrich 2019). y may be x. */
typedef struct apiq_rms_norm_args {
  apiq_ref x;      /* float32 [rows, cols], rows x_stride apart */
  apiq_ref weight; /* float32 [cols] */
  apiq_ref y;      /* float32 [rows, cols], rows y_stride apart */
  uint32_t rows;
  uint32_t cols;
  uint32_t x_stride; /* elements */
  uint32_t y_stride;
  float eps;
  uint32_t reserved;
} apiq_rms_norm_args;
APIQ_API apiq_status apiq_rms_norm(uint64_t context, const apiq_rms_norm_args* args);

/* table[r] = cos(a), sin(a) with a = float(positions[r]) * inv_freq[i]: float32 [rows, 2, half_dim].
 * Made once a step for all layers. inv_freq comes from the model's rope settings (default, llama3 scaling). */
typedef struct apiq_rope_table_args {
  apiq_ref positions; /* int32 [rows] */
  apiq_ref inv_freq;  /* float32 [half_dim] */
  apiq_ref table;     /* float32 [rows, 2, half_dim] */
  uint32_t rows;
  uint32_t half_dim;
  float scale; /* multiplies both (attention factor), 1 for default and llama3 */
  uint32_t reserved;
} apiq_rope_table_args;
APIQ_API apiq_status apiq_rope_table(uint64_t context, const apiq_rope_table_args* args);

/* In place, halves apart as Hugging Face stores them (RoFormer, arXiv 2104.09864):
 *   x[i], x[i+half] = x[i] cos - x[i+half] sin, x[i+half] cos + x[i] sin
 * inverse 1 rotates back, by the negative angles: the backward pass. */
typedef struct apiq_rotary_args {
  apiq_ref x;     /* float32 [rows, n_heads, head_dim] */
  apiq_ref table; /* float32 [rows, 2, head_dim/2] */
  uint32_t rows;
  uint32_t n_heads;
  uint32_t head_dim;
  uint32_t inverse;
} apiq_rotary_args;
APIQ_API apiq_status apiq_rotary(uint64_t context, const apiq_rotary_args* args);

/* ---- ops: linear and LoRA ---------------------------------------------------------------------- */

enum { APIQ_MAX_PARTS = 4 };

typedef struct apiq_linear_part {
  apiq_weight weight;
  apiq_ref bias; /* float32 [out_features] or absent */
  apiq_ref y;    /* float32 [rows, out_features] */
} apiq_linear_part;

/* y_i = x W_i^T + bias_i for up to four matrices that share an input (q, k, v; gate, up).
 * int8 activations: x is quantized per (row, group) with scale max|x|/127, rounded to nearest even; integer dot products
 * inside a group are exact; groups are added in order with one fma each. A group whose maximum is below 2^-100 counts as zero; one
 * with a NaN or an infinity makes the row's outputs NaN. All affine parts share one group size. Features are at most 2^27.
 * Dense and lut parts compute in float32 under both settings. A lut part sums table[q] * x inside a group, even and odd columns
 * apart, and adds scale times that to the row's sum, group by group. */
typedef struct apiq_linear_args {
  apiq_ref x; /* float32 [rows, in_features] */
  uint32_t rows;
  uint32_t in_features;
  uint32_t activations; /* APIQ_ACTIVATIONS_*, for affine parts */
  uint32_t n_parts;
  apiq_linear_part parts[4];
} apiq_linear_args;
APIQ_API apiq_status apiq_linear(uint64_t context, const apiq_linear_args* args);

/* One adapter's matrices for one linear. An array of these, one a slot, is the linear's slot table; it lives in a buffer,
 * so loading an adapter never changes a recorded graph. A^T and B^T are both stored with the rank outermost:
 * a [rank, in], b [rank, out] (that is, PEFT's lora_A as it is and lora_B transposed). */
typedef struct apiq_lora_slot {
  uint64_t a_offset; /* bytes into the pool */
  uint64_t b_offset;
  uint32_t rank; /* 0: the slot is empty for this linear */
  uint32_t dtype; /* APIQ_F32 or APIQ_F16 */
  float scale;   /* alpha/rank, or alpha/sqrt(rank) for rsLoRA */
  uint32_t factors; /* 1: DoRA. float32 [2, out], factor and shift, follow b at the next multiple of 64 bytes of the pool; else 0 */
} apiq_lora_slot;

typedef struct apiq_lora_part {
  apiq_ref slots; /* apiq_lora_slot [n_slots] */
  apiq_ref y;     /* float32 [rows, out_features], added to */
  uint32_t out_features;
  uint32_t reserved;
} apiq_lora_part;

/* y_i[r] += scale * (x[r] A^T) B^T, then with factors y_i[r] = factor * y_i[r] + shift, for both slots that row_slots[r] names
 * (calibrated first, then the request's adapter); -1 names none. arXiv 2106.09685. The factors make DoRA of it (arXiv 2402.09353):
 * m / |W + scale B A| by row, with shift = (1 - factor) * bias where y has a bias in it. A slot that reaches past the pool is
 * OUT_OF_RANGE at launch. */
typedef struct apiq_lora_args {
  apiq_ref x;         /* float32 [rows, in_features] */
  apiq_ref pool;      /* the adapters' matrices */
  apiq_ref row_slots; /* int32 [rows, 2] */
  uint64_t pool_bytes;
  uint32_t rows;
  uint32_t in_features;
  uint32_t n_slots;
  uint32_t max_rank; /* no slot's rank exceeds it */
  uint32_t n_parts;
  uint32_t reserved;
  apiq_lora_part parts[4];
} apiq_lora_args;
APIQ_API apiq_status apiq_lora(uint64_t context, const apiq_lora_args* args);

/* ---- ops: paged attention ---------------------------------------------------------------------- */

/* One layer's cache: blocks of block_size positions (vLLM's paged attention, arXiv 2309.06180).
 *   k [n_blocks, n_kv_heads, head_dim, block_size]   transposed, so that one load holds one dimension of many positions
 *   v [n_blocks, n_kv_heads, block_size, head_dim]
 * A row belongs to sequence row_seq[r] (a row of block_tables; negative: padding, which writes nothing and reads as zeros) at
 * position row_pos[r]; that position lies in block block_tables[seq, pos / block_size]. */
typedef struct apiq_kv_layout {
  apiq_ref k;
  apiq_ref v;
  apiq_ref block_tables; /* int32 [n_seqs, max_blocks] */
  apiq_ref row_seq;      /* int32 [rows] */
  apiq_ref row_pos;      /* int32 [rows] */
  uint32_t dtype;        /* APIQ_F32 or APIQ_F16 */
  uint32_t n_blocks;
  uint32_t block_size; /* 16 */
  uint32_t n_kv_heads;
  uint32_t head_dim; /* a multiple of 16, at most 256 */
  uint32_t n_seqs;
  uint32_t max_blocks;
  uint32_t rows;
} apiq_kv_layout;

/* Writes the rows' keys and values to their places. Block ids or sequences out of range: OUT_OF_RANGE at launch. */
typedef struct apiq_kv_store_args {
  apiq_kv_layout kv;
  apiq_ref keys;   /* float32 [rows, n_kv_heads, head_dim] */
  apiq_ref values; /* float32 [rows, n_kv_heads, head_dim] */
} apiq_kv_store_args;
APIQ_API apiq_status apiq_kv_store(uint64_t context, const apiq_kv_store_args* args);

/* y[r, h] = softmax(scale * q[r, h] . k[0 .. row_pos[r], h / (n_heads / n_kv_heads)]) v. With a window w > 0 only positions
 * above row_pos[r] - w count (Mistral). Decode rows and the rows of prefill chunks may be mixed in one call. Sums run in order of
 * positions, so a row's result does not depend on chunking. */
typedef struct apiq_attention_args {
  apiq_kv_layout kv;
  apiq_ref q; /* float32 [rows, n_heads, head_dim] */
  apiq_ref y; /* float32 [rows, n_heads, head_dim] */
  uint32_t n_heads;
  uint32_t window;
  float scale;
  uint32_t reserved;
} apiq_attention_args;
APIQ_API apiq_status apiq_attention(uint64_t context, const apiq_attention_args* args);

/* ---- ops: elementwise -------------------------------------------------------------------------- */

/* y = gate / (1 + exp(-gate)) * up. y may be gate or up. */
typedef struct apiq_silu_mul_args {
  apiq_ref gate;
  apiq_ref up;
  apiq_ref y;
  uint64_t count; /* elements */
} apiq_silu_mul_args;
APIQ_API apiq_status apiq_silu_mul(uint64_t context, const apiq_silu_mul_args* args);

/* y = a + b. y may be a or b. */
typedef struct apiq_add_args {
  apiq_ref a;
  apiq_ref b;
  apiq_ref y;
  uint64_t count;
} apiq_add_args;
APIQ_API apiq_status apiq_add(uint64_t context, const apiq_add_args* args);

/* ---- ops: from logits to tokens ---------------------------------------------------------------- */

/* nll[r] = log(sum(exp(logits[r]))) - logits[r, targets[r]]; a negative target gives 0. */
typedef struct apiq_token_nll_args {
  apiq_ref logits;  /* float32 [rows, vocab] */
  apiq_ref targets; /* int32 [rows] */
  apiq_ref nll;     /* float32 [rows] */
  uint32_t rows;
  uint32_t vocab;
} apiq_token_nll_args;
APIQ_API apiq_status apiq_token_nll(uint64_t context, const apiq_token_nll_args* args);

/* A logit bias entry: added to one token's logit. */
typedef struct apiq_token_bias {
  int32_t token;
  float bias;
} apiq_token_bias;

/* One row's sampling parameters. Applied in this order: penalties over the row's history, bias, mask, temperature, top-k,
 * top-p, min-p; the survivors are taken in order of (logit descending, id ascending) and one is drawn by
 * u, the first whose cumulative probability exceeds it. u = ((word1 << 32 | word0) >> 11) * 2^-53 of Philox4x32-10(key = seed,
 * counter = (position, 0)) (Salmon et al. 2011): a seed and a position give the same u in any batch. Logits that hold a NaN or an
 * infinity, or are all -infinity, and parameters out of range: INVALID_ARGUMENT at launch, token 0 for that row. */
typedef struct apiq_sample_params {
  uint64_t seed;
  uint64_t position;        /* number of tokens before this one */
  float temperature;        /* 0: the largest logit, lowest id on ties */
  float top_p;              /* in (0, 1]; 1: off */
  float min_p;              /* in [0, 1]; 0: off */
  int32_t top_k;            /* 0: off */
  float repetition_penalty; /* over prompt and output; 1: off (arXiv 1909.05858) */
  float presence_penalty;   /* over the output only; 0: off */
  float frequency_penalty;  /* over the output only; 0: off */
  int32_t history_row;      /* row of `history`; -1: none, then penalties must be off */
  int32_t prompt_tokens;    /* history[0 .. prompt_tokens) is prompt */
  int32_t history_tokens;   /* history[prompt_tokens .. history_tokens) is output */
  int32_t bias_first;       /* entries bias_first .. bias_first + bias_count of `bias` */
  int32_t bias_count;
  int32_t mask_row; /* row of `masks`; -1: none. A token whose bit is 0 cannot be drawn */
  int32_t n_top;    /* how many of the most likely tokens to report, at most max_top; places not used hold -1 */
} apiq_sample_params;

/* Log-probabilities are of the raw logits (before penalties, bias and temperature), as vLLM's default. */
typedef struct apiq_sample_args {
  apiq_ref logits;     /* float32 [rows, vocab]; left unchanged */
  apiq_ref params;     /* apiq_sample_params [rows] */
  apiq_ref history;    /* int32 [history_rows, history_cols] or absent */
  apiq_ref bias;       /* apiq_token_bias [bias_capacity] or absent */
  apiq_ref masks;      /* uint32 [mask_rows, ceil(vocab/32)], bit t of a row allows token t; or absent */
  apiq_ref tokens;     /* int32 [rows], out */
  apiq_ref logprobs;   /* float32 [rows], out, of the drawn token */
  apiq_ref top_tokens; /* int32 [rows, max_top], out, or absent */
  apiq_ref top_logprobs; /* float32 [rows, max_top], out, or absent */
  uint32_t rows;
  uint32_t vocab;
  uint32_t history_rows;
  uint32_t history_cols;
  uint32_t bias_capacity;
  uint32_t mask_rows;
  uint32_t max_top;
  uint32_t reserved;
} apiq_sample_args;
APIQ_API apiq_status apiq_sample(uint64_t context, const apiq_sample_args* args);

#include "apiq_training.h"

#ifdef __cplusplus
}
#endif
#endif
