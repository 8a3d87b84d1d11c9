/** A device with its memory and its stream of ops: everything that runs, runs in a context. */

import { decodeCounters, encode } from "./codec.ts";
import { ISA_AUTO, ISA_AVX2, ISA_AVX512, ISA_AVX512_BF16, ISA_SCALAR } from "./constants.ts";
import { ContextHandle } from "./context_handle.ts";
import { DeviceBuffer, handleOf } from "./device_buffer.ts";
import { Graph } from "./graph.ts";
import { structBytes } from "./layout.ts";
import { type Device, libraryPath, loadLibrary } from "./library.ts";
import { readText } from "./status.ts";
import type * as args from "./types.ts";

const ISAS = {
  auto: ISA_AUTO,
  scalar: ISA_SCALAR,
  avx2: ISA_AVX2,
  avx512: ISA_AVX512,
  avx512bf16: ISA_AVX512_BF16,
} as const;
export type Isa = keyof typeof ISAS;

export interface ContextOptions {
  /** "cpu" unless said otherwise. */
  device?: Device;
  /** CUDA: which device. */
  deviceIndex?: number;
  /** CPU: worker threads including the caller's; 0, the default, takes as many as the process may use. */
  threads?: number;
  /** CPU: the instruction set; "auto", the default, is the best there is, or what the variable APIQ_ISA says. */
  isa?: Isa;
  /** The library itself, where it is neither in the build folder nor named by APIQ_LIBRARY. */
  libraryPath?: string;
}

export interface ContextDescription {
  /** "cpu" or "cuda". */
  backend: string;
  /** The processor's or the card's name. */
  device: string;
  /** The instruction set in use. */
  isa: Exclude<Isa, "auto">;
  availableIsas: Exclude<Isa, "auto">[];
  threads: number;
}

export interface MemoryInfo {
  /** Held by buffers now; mapped files are not in it. */
  allocatedBytes: number;
  peakBytes: number;
  /** Address space of mapped files. */
  mappedBytes: number;
  /** The library's own working memory. */
  scratchBytes: number;
}

/**
 * Ops are asynchronous, in order; `synchronize` and downloads wait. All of a context's use is from one thread. apiq.h says
 * for each op what it computes, its shapes, and what of its arguments may be null.
 *
 * ```ts
 * using context = Context.open();
 * const buffer = context.alloc(4 * 3);
 * buffer.upload(new Float32Array([1, 2, 3]));
 * context.add({ a: buffer.at(0), b: buffer.at(0), y: buffer.at(0), count: 3 });
 * buffer.download(new Float32Array(3)); // 2, 4, 6
 * ```
 */
export class Context implements Disposable {
  readonly #handle: ContextHandle;

  private constructor(handle: ContextHandle) {
    this.#handle = handle;
  }

  /** Opens a context; throws where the library is missing or the device cannot be used. */
  static open(options: ContextOptions = {}): Context {
    const native = loadLibrary(options.libraryPath ?? libraryPath(options.device ?? "cpu"));
    return new Context(
      ContextHandle.create(native, {
        device: options.deviceIndex ?? 0,
        threads: options.threads ?? 0,
        isa: ISAS[options.isa ?? "auto"],
      }),
    );
  }

  /** Memory of `bytes` bytes, zero-filled, aligned to at least 64. */
  alloc(bytes: number): DeviceBuffer {
    checkBytes("allocate a buffer", "bytes", bytes);
    const handle = this.#handle.create("allocate a buffer", (native, context, out) =>
      native.apiq_buffer_alloc(context, bytes, out),
    );
    return new DeviceBuffer(this.#handle, handle, bytes);
  }

  /** Maps `bytes` bytes of a file from `offset` on, read-only; 0 bytes means to its end. */
  mapFile(path: string, offset = 0, bytes = 0): DeviceBuffer {
    const phrase = `map ${path}`;
    checkBytes(phrase, "offset", offset);
    checkBytes(phrase, "bytes", bytes);
    const utf8 = new TextEncoder().encode(path);
    const handle = this.#handle.create(phrase, (native, context, out) =>
      native.apiq_buffer_map_file(context, utf8, utf8.length, offset, bytes, out),
    );
    const length = this.#handle.create(phrase, (native, context, out) =>
      native.apiq_buffer_bytes(context, handle, out),
    );
    return new DeviceBuffer(this.#handle, handle, length);
  }

  /** Waits for all ops so far; throws the first failure that an op met while it ran. */
  synchronize(): void {
    this.#handle.call("finish pending ops", (native, context) => native.apiq_context_synchronize(context));
  }

  describe(): ContextDescription {
    let json = "";
    this.#handle.call("describe the context", (native, context) => {
      const text = readText((utf8, capacity, bytes) => native.apiq_context_describe(context, utf8, capacity, bytes));
      json = text.value;
      return text.status;
    });
    const { available_isas: availableIsas, ...rest } = JSON.parse(json);
    return { ...rest, availableIsas };
  }

  memory(): MemoryInfo {
    const bytes = new Uint8Array(structBytes("apiq_memory_info"));
    this.#handle.call("read memory use", (native, context) => native.apiq_context_memory(context, bytes));
    return decodeCounters("apiq_memory_info", bytes);
  }

  /** Reads `buffer` once over with `threads` threads (0: all) and gives bytes per second. */
  measureBandwidth(buffer: DeviceBuffer, threads = 0): number {
    const out = new Float64Array(1);
    const handle = handleOf(buffer)!;
    this.#handle.call("measure bandwidth", (native, context) =>
      native.apiq_measure_bandwidth(context, handle, threads, new Uint8Array(out.buffer)),
    );
    return out[0]!;
  }

  /** Records the ops that `body` calls, without running them. Where `body` throws, the recording is dropped. */
  record(body: () => void): Graph {
    this.#handle.call("begin a graph", (native, context) => native.apiq_graph_begin(context));
    try {
      if ((body() as unknown) instanceof Promise) {
        throw new TypeError(
          "Cannot record a graph: received an async function, expected one that calls its ops at once",
        );
      }
      const phrase = "end the graph";
      return new Graph(
        this.#handle,
        this.#handle.create(phrase, (native, context, out) => native.apiq_graph_end(context, out)),
      );
    } catch (error) {
      if (this.#handle.isOpen()) {
        this.#handle.call("abort the graph", (native, context) => native.apiq_graph_abort(context));
      }
      throw error;
    }
  }

  /** Bytes that the packed form of a weight takes in this context. */
  packedBytes(weight: args.WeightShape): number {
    const phrase = "size a packed weight";
    const bytes = encode("apiq_weight", { ...weight, data: null }, phrase);
    return this.#handle.create(phrase, (native, context, out) => native.apiq_weight_packed_bytes(context, bytes, out));
  }

  weightRepack(args: args.WeightRepackArgs): void {
    this.#handle.run("apiq_weight_repack", args);
  }

  weightDequantize(args: args.WeightDequantizeArgs): void {
    this.#handle.run("apiq_weight_dequantize", args);
  }

  embedding(args: args.EmbeddingArgs): void {
    this.#handle.run("apiq_embedding", args);
  }

  rmsNorm(args: args.RmsNormArgs): void {
    this.#handle.run("apiq_rms_norm", args);
  }

  ropeTable(args: args.RopeTableArgs): void {
    this.#handle.run("apiq_rope_table", args);
  }

  rotary(args: args.RotaryArgs): void {
    this.#handle.run("apiq_rotary", args);
  }

  linear(args: args.LinearArgs): void {
    this.#handle.run("apiq_linear", args);
  }

  lora(args: args.LoraArgs): void {
    this.#handle.run("apiq_lora", args);
  }

  kvStore(args: args.KvStoreArgs): void {
    this.#handle.run("apiq_kv_store", args);
  }

  attention(args: args.AttentionArgs): void {
    this.#handle.run("apiq_attention", args);
  }

  siluMul(args: args.SiluMulArgs): void {
    this.#handle.run("apiq_silu_mul", args);
  }

  add(args: args.AddArgs): void {
    this.#handle.run("apiq_add", args);
  }

  tokenNll(args: args.TokenNllArgs): void {
    this.#handle.run("apiq_token_nll", args);
  }

  sample(args: args.SampleArgs): void {
    this.#handle.run("apiq_sample", args);
  }

  gemm(args: args.GemmArgs): void {
    this.#handle.run("apiq_gemm", args);
  }

  scaleColumns(args: args.ScaleColumnsArgs): void {
    this.#handle.run("apiq_scale_columns", args);
  }

  dotColumns(args: args.DotColumnsArgs): void {
    this.#handle.run("apiq_dot_columns", args);
  }

  scaleRows(args: args.ScaleRowsArgs): void {
    this.#handle.run("apiq_scale_rows", args);
  }

  dotRows(args: args.DotRowsArgs): void {
    this.#handle.run("apiq_dot_rows", args);
  }

  rowNorms(args: args.RowNormsArgs): void {
    this.#handle.run("apiq_row_norms", args);
  }

  rmsNormBackward(args: args.RmsNormBackwardArgs): void {
    this.#handle.run("apiq_rms_norm_backward", args);
  }

  rmsNormWeightBackward(args: args.RmsNormWeightBackwardArgs): void {
    this.#handle.run("apiq_rms_norm_weight_backward", args);
  }

  siluMulBackward(args: args.SiluMulBackwardArgs): void {
    this.#handle.run("apiq_silu_mul_backward", args);
  }

  dropout(args: args.DropoutArgs): void {
    this.#handle.run("apiq_dropout", args);
  }

  causalAttention(args: args.CausalAttentionArgs): void {
    this.#handle.run("apiq_causal_attention", args);
  }

  causalAttentionBackward(args: args.CausalAttentionBackwardArgs): void {
    this.#handle.run("apiq_causal_attention_backward", args);
  }

  mseLoss(args: args.MseLossArgs): void {
    this.#handle.run("apiq_mse_loss", args);
  }

  tokenNllBackward(args: args.TokenNllBackwardArgs): void {
    this.#handle.run("apiq_token_nll_backward", args);
  }

  topLogProbs(args: args.TopLogProbsArgs): void {
    this.#handle.run("apiq_top_log_probs", args);
  }

  teacherKl(args: args.TeacherKlArgs): void {
    this.#handle.run("apiq_teacher_kl", args);
  }

  teacherKlBackward(args: args.TeacherKlBackwardArgs): void {
    this.#handle.run("apiq_teacher_kl_backward", args);
  }

  sumSquares(args: args.SumSquaresArgs): void {
    this.#handle.run("apiq_sum_squares", args);
  }

  adamw(args: args.AdamwArgs): void {
    this.#handle.run("apiq_adamw", args);
  }

  adamw8bit(args: args.Adamw8bitArgs): void {
    this.#handle.run("apiq_adamw_8bit", args);
  }

  groupRange(args: args.GroupRangeArgs): void {
    this.#handle.run("apiq_group_range", args);
  }

  clipRange(args: args.ClipRangeArgs): void {
    this.#handle.run("apiq_clip_range", args);
  }

  clipRangeBackward(args: args.ClipRangeBackwardArgs): void {
    this.#handle.run("apiq_clip_range_backward", args);
  }

  fakeQuantize(args: args.FakeQuantizeArgs): void {
    this.#handle.run("apiq_fake_quantize", args);
  }

  fakeQuantizeBackward(args: args.FakeQuantizeBackwardArgs): void {
    this.#handle.run("apiq_fake_quantize_backward", args);
  }

  cholesky(args: args.CholeskyArgs): void {
    this.#handle.run("apiq_cholesky", args);
  }

  triangularInverse(args: args.TriangularInverseArgs): void {
    this.#handle.run("apiq_triangular_inverse", args);
  }

  gptqQuantize(args: args.GptqQuantizeArgs): void {
    this.#handle.run("apiq_gptq_quantize", args);
  }

  /** Frees the context with all its buffers and graphs. Does nothing the second time. */
  [Symbol.dispose](): void {
    this.#handle.destroy();
  }
}

function checkBytes(phrase: string, name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`Cannot ${phrase}: bad ${name}, received ${value}, expected an integer from 0 to 2^53 - 1`);
  }
}
