/* apiq_training.h: the ops of training and quantization. Part of apiq.h, which includes it: the same rules hold (refs, checks,
 * row-major float32 tensors, order of sums). It is long because it is a contract: each op with its layouts, its definition and the
 * source of its algorithm. Every backward op here is tested against central differences of a float64 oracle; those of the
 * straight-through estimator against its surrogate (rounding residual and zero frozen).
 */
#ifndef APIQ_TRAINING_H
#define APIQ_TRAINING_H

/* ---- ops: dense matrices ----------------------------------------------------------------------- */

/* How a product takes its factors. */
enum {
  APIQ_COMPUTE_F32 = 0, /* as they are */
  APIQ_COMPUTE_BF16 = 1 /* rounded to bfloat16; sums stay float32 */
};

/* c = alpha op(a) op(b) + beta c, with op(a) [m, k] and op(b) [k, n]. transpose_a 1: a is stored [k, m]; transpose_b 1: b is
 * stored [n, k]. Leading dimensions are elements between stored rows. c overlaps neither a nor b; beta 0 does not read c.
 * The sum over k runs in one order that depends on k alone.
 *
 * APIQ_COMPUTE_BF16 is Intel's VDPBF16PS in every library and on every processor, to the bit (NaN payloads aside). Factors are
 * rounded to the nearest bfloat16, ties to even; subnormal ones become 0 of their sign. For every two neighbours p, p + 1 of k (p
 * even; a missing one is 0) an element's float32 sum takes the product at p + 1, then that at p, each in one fused multiply-add
 * rounded to nearest even; a sum that is then subnormal, or would be if exponents had no bound, becomes 0 of its sign. alpha, beta
 * and c are float32 as ever. Only APIQ_ISA_AVX512_BF16 has the instruction; the others compute the same with float32 ones, at the
 * speed of APIQ_COMPUTE_F32 at best. */
typedef struct apiq_gemm_args {
  apiq_ref a;
  apiq_ref b;
  apiq_ref c;
  uint32_t m;
  uint32_t n;
  uint32_t k;
  uint32_t transpose_a;
  uint32_t transpose_b;
  uint32_t lda;
  uint32_t ldb;
  uint32_t ldc;
  float alpha;
  float beta;
  uint32_t compute; /* APIQ_COMPUTE_* */
  uint32_t reserved;
} apiq_gemm_args;
APIQ_API apiq_status apiq_gemm(uint64_t context, const apiq_gemm_args* args);

/* y[r, c] = x[r, c] * scale[c]. y may be x. */
typedef struct apiq_scale_columns_args {
  apiq_ref x;     /* [rows, cols] */
  apiq_ref scale; /* [cols] */
  apiq_ref y;     /* [rows, cols] */
  uint32_t rows;
  uint32_t cols;
} apiq_scale_columns_args;
APIQ_API apiq_status apiq_scale_columns(uint64_t context, const apiq_scale_columns_args* args);

/* y[c] = sum over r of a[r, c] * b[r, c]; b absent: of a[r, c] (the gradient of a bias). */
typedef struct apiq_dot_columns_args {
  apiq_ref a; /* [rows, cols] */
  apiq_ref b; /* [rows, cols] or absent */
  apiq_ref y; /* [cols] */
  uint32_t rows;
  uint32_t cols;
  uint32_t accumulate; /* 1: y is added to */
  uint32_t reserved;
} apiq_dot_columns_args;
APIQ_API apiq_status apiq_dot_columns(uint64_t context, const apiq_dot_columns_args* args);

/* y[r, c] = x[r, c] * scale[r]: with a group of weights as a row, dequantization by float32 scales. y may be x. */
typedef struct apiq_scale_rows_args {
  apiq_ref x;     /* [rows, cols] */
  apiq_ref scale; /* [rows] */
  apiq_ref y;     /* [rows, cols] */
  uint32_t rows;
  uint32_t cols;
} apiq_scale_rows_args;
APIQ_API apiq_status apiq_scale_rows(uint64_t context, const apiq_scale_rows_args* args);

/* y[r] = sum over c of a[r, c] * b[r, c], in double precision: of the gradient of scaled rows and of the rows before they were
 * scaled, the gradient of the scales. */
typedef struct apiq_dot_rows_args {
  apiq_ref a; /* [rows, cols] */
  apiq_ref b; /* [rows, cols] */
  apiq_ref y; /* [rows] */
  uint32_t rows;
  uint32_t cols;
  uint32_t accumulate; /* 1: y is added to */
  uint32_t reserved;
} apiq_dot_rows_args;
APIQ_API apiq_status apiq_dot_rows(uint64_t context, const apiq_dot_rows_args* args);

/* y[r] = sqrt(sum over c of x[r, c]^2): the weight norm of DoRA (arXiv 2402.09353). */
typedef struct apiq_row_norms_args {
  apiq_ref x; /* [rows, cols] */
  apiq_ref y; /* [rows] */
  uint32_t rows;
  uint32_t cols;
} apiq_row_norms_args;
APIQ_API apiq_status apiq_row_norms(uint64_t context, const apiq_row_norms_args* args);

/* ---- ops: backward of the decoder block -------------------------------------------------------- */

/* dx of apiq_rms_norm: with s = 1 / sqrt(mean(x^2) + eps) and g = dy * weight, dx = s g - x s^3 mean(g x). */
typedef struct apiq_rms_norm_backward_args {
  apiq_ref x;      /* [rows, cols] */
  apiq_ref weight; /* [cols] */
  apiq_ref dy;     /* [rows, cols] */
  apiq_ref dx;     /* [rows, cols]; may be dy unless it accumulates */
  uint32_t rows;
  uint32_t cols;
  float eps;
  uint32_t accumulate; /* 1: dx is added to */
} apiq_rms_norm_backward_args;
APIQ_API apiq_status apiq_rms_norm_backward(uint64_t context, const apiq_rms_norm_backward_args* args);

/* dweight[c] = sum over r of dy[r, c] x[r, c] s[r], with s as above, in double precision: for norms that train. */
typedef struct apiq_rms_norm_weight_backward_args {
  apiq_ref x;       /* [rows, cols] */
  apiq_ref dy;      /* [rows, cols] */
  apiq_ref dweight; /* [cols] */
  uint32_t rows;
  uint32_t cols;
  float eps;
  uint32_t accumulate; /* 1: dweight is added to */
} apiq_rms_norm_weight_backward_args;
APIQ_API apiq_status apiq_rms_norm_weight_backward(uint64_t context, const apiq_rms_norm_weight_backward_args* args);

/* dgate and dup of y = silu(gate) * up. dgate may be gate or dy, dup may be up. */
typedef struct apiq_silu_mul_backward_args {
  apiq_ref gate;
  apiq_ref up;
  apiq_ref dy;
  apiq_ref dgate;
  apiq_ref dup;
  uint64_t count;
} apiq_silu_mul_backward_args;
APIQ_API apiq_status apiq_silu_mul_backward(uint64_t context, const apiq_silu_mul_backward_args* args);

/* y = keep * x / (1 - probability), the dropout of LoRA's input (peft). Element i is kept where its number of 16 bits is at least
 * probability * 2^16, rounded to nearest. Numbers are halves of the words of Philox4x32-10 (Salmon et al. 2011) with key = seed and
 * counter = (i / 128 * 16 + i % 16, stream): the low half of word i / 32 % 4 for even i / 16, else the high one. So no mask is ever
 * stored, and the backward pass makes it again. y may be x unless it accumulates. */
typedef struct apiq_dropout_args {
  apiq_ref x; /* [count] */
  apiq_ref y; /* [count] */
  uint64_t count;
  uint64_t seed;
  uint64_t stream;
  float probability; /* at least 0, less than 1 */
  uint32_t accumulate; /* 1: y is added to */
} apiq_dropout_args;
APIQ_API apiq_status apiq_dropout(uint64_t context, const apiq_dropout_args* args);

/* Attention of whole sequences, keys and values unpaged: rows are [n_seqs, seq_len]. Row t of a sequence sees positions
 * max(row_start[row], t - window + 1) .. t of the same sequence. lse[row, head] = log sum exp of its scaled scores, which the
 * backward pass needs (FlashAttention, arXiv 2205.14135). */
typedef struct apiq_causal_attention_args {
  apiq_ref q;         /* [n_seqs * seq_len, n_heads, head_dim] */
  apiq_ref k;         /* [n_seqs * seq_len, n_kv_heads, head_dim] */
  apiq_ref v;         /* [n_seqs * seq_len, n_kv_heads, head_dim] */
  apiq_ref row_start; /* int32 [n_seqs * seq_len], first position in the sequence that a row sees, 0 .. t; absent: 0 */
  apiq_ref y;         /* [n_seqs * seq_len, n_heads, head_dim] */
  apiq_ref lse;       /* [n_seqs * seq_len, n_heads] */
  uint32_t n_seqs;
  uint32_t seq_len;
  uint32_t n_heads;
  uint32_t n_kv_heads;
  uint32_t head_dim; /* a multiple of 8, at most 256 */
  uint32_t window;   /* 0: none */
  float scale;
  uint32_t reserved;
} apiq_causal_attention_args;
APIQ_API apiq_status apiq_causal_attention(uint64_t context, const apiq_causal_attention_args* args);

/* dq, dk, dv of apiq_causal_attention; all three are overwritten. */
typedef struct apiq_causal_attention_backward_args {
  apiq_ref q;
  apiq_ref k;
  apiq_ref v;
  apiq_ref row_start;
  apiq_ref y;
  apiq_ref lse;
  apiq_ref dy;
  apiq_ref dq;
  apiq_ref dk;
  apiq_ref dv;
  uint32_t n_seqs;
  uint32_t seq_len;
  uint32_t n_heads;
  uint32_t n_kv_heads;
  uint32_t head_dim;
  uint32_t window;
  float scale;
  uint32_t reserved;
} apiq_causal_attention_backward_args;
APIQ_API apiq_status apiq_causal_attention_backward(uint64_t context, const apiq_causal_attention_backward_args* args);

/* ---- ops: losses and optimizer ----------------------------------------------------------------- */

/* loss[0] += scale * mean((prediction - target)^2); grad = 2 scale / count * (prediction - target). Squares are summed in double
 * precision. */
typedef struct apiq_mse_loss_args {
  apiq_ref prediction; /* [count] */
  apiq_ref target;     /* [count] */
  apiq_ref grad;       /* [count] or absent */
  apiq_ref loss;       /* float64 [1] */
  uint64_t count;
  float scale;
  uint32_t accumulate; /* 1: grad is added to */
} apiq_mse_loss_args;
APIQ_API apiq_status apiq_mse_loss(uint64_t context, const apiq_mse_loss_args* args);

/* Gradient of scale * sum(nll) (see apiq_token_nll): grad[r] = scale * (softmax(logits[r]) - onehot(targets[r])); rows with a
 * negative target get zeros. grad may be logits. */
typedef struct apiq_token_nll_backward_args {
  apiq_ref logits;  /* [rows, vocab] */
  apiq_ref targets; /* int32 [rows] */
  apiq_ref grad;    /* [rows, vocab] */
  uint32_t rows;
  uint32_t vocab;
  float scale;
  uint32_t reserved;
} apiq_token_nll_backward_args;
APIQ_API apiq_status apiq_token_nll_backward(uint64_t context, const apiq_token_nll_backward_args* args);

/* The k most likely tokens of each row, in order of (logit descending, id ascending), and their log-probabilities at a temperature:
 * log_probs[r, i] = logit / temperature - log sum exp(logits[r] / temperature): what a teacher gives a student. A row with a NaN
 * or +infinity, or of -infinity alone: INVALID_ARGUMENT at launch. */
typedef struct apiq_top_log_probs_args {
  apiq_ref logits;    /* [rows, vocab] */
  apiq_ref ids;       /* int32 [rows, k] */
  apiq_ref log_probs; /* [rows, k] */
  uint32_t rows;
  uint32_t vocab;
  uint32_t k;        /* 1 .. vocab */
  float temperature; /* above 0 */
} apiq_top_log_probs_args;
APIQ_API apiq_status apiq_top_log_probs(uint64_t context, const apiq_top_log_probs_args* args);

/* How far a student is from a teacher of which the k most likely tokens are known (knowledge distillation, arXiv 1503.02531; all
 * other tokens count as one):
 *   kl[r] = sum over i < k of p_i log(p_i / q_i) + p_rest log(p_rest / q_rest)
 * with p_i = exp(log_probs[r, i]), q = softmax(logits[r] / temperature), and p_rest and q_rest what is left of 1. Where the p_i
 * sum to more than 1 they are divided by their sum; with k = vocab always, and there is no rest. A row with a negative target gets
 * 0 and its tokens are not read. Tokens of a row are distinct; one outside the vocabulary or named twice is OUT_OF_RANGE at
 * launch. */
typedef struct apiq_teacher_kl_args {
  apiq_ref logits;    /* [rows, vocab], the student's */
  apiq_ref targets;   /* int32 [rows] */
  apiq_ref ids;       /* int32 [rows, k] */
  apiq_ref log_probs; /* [rows, k] */
  apiq_ref kl;        /* [rows] */
  uint32_t rows;
  uint32_t vocab;
  uint32_t k;        /* 1 .. vocab */
  float temperature; /* above 0 */
} apiq_teacher_kl_args;
APIQ_API apiq_status apiq_teacher_kl(uint64_t context, const apiq_teacher_kl_args* args);

/* Gradient of kl_scale * sum(kl) + nll_scale * sum(nll) (see apiq_token_nll). Of kl alone it is (q_j - p_j) / temperature for the
 * teacher's tokens and q_j (1 - p_rest / q_rest) / temperature for the others. Rows with a negative target get zeros. grad may be
 * logits. */
typedef struct apiq_teacher_kl_backward_args {
  apiq_ref logits;
  apiq_ref targets;
  apiq_ref ids;
  apiq_ref log_probs;
  apiq_ref grad; /* [rows, vocab] */
  uint32_t rows;
  uint32_t vocab;
  uint32_t k;
  float temperature;
  float kl_scale;
  float nll_scale;
} apiq_teacher_kl_backward_args;
APIQ_API apiq_status apiq_teacher_kl_backward(uint64_t context, const apiq_teacher_kl_backward_args* args);

/* sum[0] += sum of x^2, in double precision: gradient norms, and a cheap test for NaN. */
typedef struct apiq_sum_squares_args {
  apiq_ref x;   /* [count] */
  apiq_ref sum; /* float64 [1] */
  uint64_t count;
} apiq_sum_squares_args;
APIQ_API apiq_status apiq_sum_squares(uint64_t context, const apiq_sum_squares_args* args);

/* One step of AdamW (arXiv 1711.05101), in the order of operations of torch.optim.AdamW:
 *   p -= lr weight_decay p;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
 *   p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)      with g = grad * grad_scale */
typedef struct apiq_adamw_args {
  apiq_ref parameter; /* [count] */
  apiq_ref grad;      /* [count] */
  apiq_ref m;         /* [count] */
  apiq_ref v;         /* [count] */
  uint64_t count;
  float lr;
  float beta1;
  float beta2;
  float eps;
  float weight_decay;
  float grad_scale;
  uint32_t step; /* 1 for the first */
  uint32_t reserved;
} apiq_adamw_args;
APIQ_API apiq_status apiq_adamw(uint64_t context, const apiq_adamw_args* args);

/* The same step with moments of 8 bits, in blocks of 256 elements (block-wise dynamic quantization, Dettmers et al., arXiv
 * 2110.02861): m = m_scale * signed value of m's code, v = v_scale * unsigned value of v's code, a scale being its block's largest
 * magnitude. Values are 0, 1 and, for each decade 10^-e with e = 0 .. 6, the centres of 2^(6 - e) equal parts of [0.1, 1] 10^-e
 * with both signs, or of 2^(7 - e) parts without; codes number them in ascending order. New moments take the nearest value (of two
 * equally near the one nearer to 0), but a v above 0 never value 0, by which nothing could be divided. Zero-filled scales are zero
 * moments. */
typedef struct apiq_adamw_8bit_args {
  apiq_ref parameter; /* [count] */
  apiq_ref grad;      /* [count] */
  apiq_ref m;         /* uint8 [count] */
  apiq_ref v;         /* uint8 [count] */
  apiq_ref m_scale;   /* [ceil(count / 256)] */
  apiq_ref v_scale;   /* [ceil(count / 256)] */
  uint64_t count;
  float lr;
  float beta1;
  float beta2;
  float eps;
  float weight_decay;
  float grad_scale;
  uint32_t step; /* 1 for the first */
  uint32_t reserved;
} apiq_adamw_8bit_args;
APIQ_API apiq_status apiq_adamw_8bit(uint64_t context, const apiq_adamw_8bit_args* args);

/* ---- ops: quantization ------------------------------------------------------------------------- */

/* Smallest and largest weight of each group of `group` columns. Groups are [out_features, in_features / group], row-major, here
 * and below. include_zero 1: the range is extended to 0, so that every zero point fits its bits. */
typedef struct apiq_group_range_args {
  apiq_ref w;    /* [out_features, in_features] */
  apiq_ref low;  /* groups */
  apiq_ref high; /* groups */
  uint32_t out_features;
  uint32_t in_features;
  uint32_t group; /* a multiple of 8, a divisor of in_features */
  uint32_t include_zero;
} apiq_group_range_args;
APIQ_API apiq_status apiq_group_range(uint64_t context, const apiq_group_range_args* args);

/* Asymmetric min-max parameters under learned clipping (OmniQuant, arXiv 2308.13137; ApiQ, arXiv 2402.05147):
 *   h = sigmoid(high_factor) high, l = sigmoid(low_factor) low      factors absent: h = high, l = low
 *   scale = clamp((h - l) / (2^bits - 1), 1e-5, 1e4)                round_scale 1: then rounded to float16, as it is stored
 *   zero = round(clamp(-l / scale, -1e4, 1e4))                      to nearest even */
typedef struct apiq_clip_range_args {
  apiq_ref low;         /* groups */
  apiq_ref high;        /* groups */
  apiq_ref low_factor;  /* groups, or both absent */
  apiq_ref high_factor; /* groups */
  apiq_ref scale;       /* groups */
  apiq_ref zero;        /* groups, whole numbers */
  uint64_t count;       /* number of groups */
  uint32_t bits;
  uint32_t round_scale;
} apiq_clip_range_args;
APIQ_API apiq_status apiq_clip_range(uint64_t context, const apiq_clip_range_args* args);

/* Gradients of the factors, given that of the scale. Rounding of the scale passes gradients through, its clamp stops them, and
 * the rounded zero has none. */
typedef struct apiq_clip_range_backward_args {
  apiq_ref low;
  apiq_ref high;
  apiq_ref low_factor;
  apiq_ref high_factor;
  apiq_ref dscale;       /* groups */
  apiq_ref dlow_factor;  /* groups, overwritten */
  apiq_ref dhigh_factor; /* groups, overwritten */
  uint64_t count;
  uint32_t bits;
  uint32_t reserved;
} apiq_clip_range_backward_args;
APIQ_API apiq_status apiq_clip_range_backward(uint64_t context, const apiq_clip_range_backward_args* args);

/* q = clamp(round(w / scale) + z, 0, 2^bits - 1) and y = scale * (q - z), with z = round(zero); a true division, rounding to
 * nearest even. With clamp_zero 1, z is also clamped to 0 .. 2^bits - 1 (trained zeros, EfficientQAT, arXiv 2407.11062). */
typedef struct apiq_fake_quantize_args {
  apiq_ref w;     /* [out_features, in_features] */
  apiq_ref scale; /* groups, positive */
  apiq_ref zero;  /* groups */
  apiq_ref y;     /* [out_features, in_features], may be w; or absent */
  apiq_ref q;     /* uint8 [out_features, in_features]; or absent. Needs 0 <= z < 2^bits */
  uint32_t out_features;
  uint32_t in_features;
  uint32_t group;
  uint32_t bits;
  uint32_t clamp_zero;
  uint32_t reserved;
} apiq_fake_quantize_args;
APIQ_API apiq_status apiq_fake_quantize(uint64_t context, const apiq_fake_quantize_args* args);

/* The straight-through estimator: round has derivative 1. With n = round(w / scale) + z before clamping:
 *   inside 0 .. 2^bits - 1:  dw = dy,  dscale gets dy (q - z - w / scale)
 *   outside:                 dw = 0,   dscale gets dy (q - z),  dzero gets -dy scale   (0 where clamp_zero stopped the zero)
 * At n = 0 and n = 2^bits - 1 the clamp has two slopes: edges_inside 0 takes them for outside, as the ApiQ authors' code does;
 * 1 for inside, as torch.clamp does, which trained weights need. Outputs are overwritten. */
typedef struct apiq_fake_quantize_backward_args {
  apiq_ref w;
  apiq_ref scale;
  apiq_ref zero;
  apiq_ref dy;     /* [out_features, in_features] */
  apiq_ref dw;     /* [out_features, in_features], may be dy; or absent */
  apiq_ref dscale; /* groups */
  apiq_ref dzero;  /* groups, or absent */
  uint32_t out_features;
  uint32_t in_features;
  uint32_t group;
  uint32_t bits;
  uint32_t clamp_zero;
  uint32_t edges_inside;
} apiq_fake_quantize_backward_args;
APIQ_API apiq_status apiq_fake_quantize_backward(uint64_t context, const apiq_fake_quantize_backward_args* args);

/* a = L L^T, in place: L in the lower triangle, zeros above. Sums in double precision. A pivot that is not positive makes
 * failed_pivot[0] its index (else -1) and leaves the rest undefined. */
typedef struct apiq_cholesky_args {
  apiq_ref a;            /* [n, n], symmetric; only the lower triangle is read */
  apiq_ref failed_pivot; /* int32 [1] */
  uint32_t n;
  uint32_t reserved;
} apiq_cholesky_args;
APIQ_API apiq_status apiq_cholesky(uint64_t context, const apiq_cholesky_args* args);

/* y = L^-1 of a lower triangular matrix; zeros above the diagonal. */
typedef struct apiq_triangular_inverse_args {
  apiq_ref l; /* [n, n] */
  apiq_ref y; /* [n, n], apart from l */
  uint32_t n;
  uint32_t reserved;
} apiq_triangular_inverse_args;
APIQ_API apiq_status apiq_triangular_inverse(uint64_t context, const apiq_triangular_inverse_args* args);

/* OPTQ (GPTQ, arXiv 2210.17323), column by column with updates deferred in blocks of 128. A group's scale and zero are the
 * min-max (extended to 0) of its columns as updated so far, the scale rounded to float16. w becomes the dequantised matrix. */
typedef struct apiq_gptq_quantize_args {
  apiq_ref w;               /* [out_features, in_features], overwritten */
  apiq_ref inverse_factor;  /* [in_features, in_features], upper triangular U with U^T U = H^-1 */
  apiq_ref scale;           /* groups, out */
  apiq_ref zero;            /* groups, out */
  apiq_ref q;               /* uint8 [out_features, in_features], out */
  uint32_t out_features;
  uint32_t in_features;
  uint32_t group; /* a multiple of 8 that divides in_features */
  uint32_t bits;
} apiq_gptq_quantize_args;
APIQ_API apiq_status apiq_gptq_quantize(uint64_t context, const apiq_gptq_quantize_args* args);

#endif
