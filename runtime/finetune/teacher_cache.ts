/**
 * A teacher's tokens on disk: what it predicts for every wanted token of the examples that a run sees. Made once, some examples a
 * file, each of which appears whole or not at all; then the teacher leaves memory and training reads what a step needs.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Context } from "../../ffi/mod.ts";
import { openCheckpoint, readBytes, type StoredTensor } from "../formats/mod.ts";
import { openSafetensors } from "../formats/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors_writer.ts";
import { parseConfig } from "../models/config.ts";
import { loadDecoder } from "../models/load.ts";
import type { Compute } from "../ops/training.ts";
import type { Distillation, TeacherTokens } from "../training/objective.ts";
import { TeacherLogits } from "../training/teacher_logits.ts";
import type { Example } from "./data/mod.ts";
import { type BatchShape, batchesOf, examplesHash, type PackedBatch, predictingTokens } from "./steps.ts";
import type { Pause } from "./training_step.ts";

/** Metadata of a file: which teacher, temperature and examples it is for. */
const KEY = "apiq_teacher";
/** Examples of a file. */
const FILE_EXAMPLES = 64;

export interface TeacherCacheOptions {
  readonly context: Context;
  /** The teacher's folder and fingerprint. */
  readonly teacher: string;
  readonly fingerprint: string;
  /** Where the files are. */
  readonly dir: string;
  /** All that will be asked for, each once, in an order that does not change. */
  readonly examples: readonly Example[];
  readonly shape: BatchShape;
  readonly objective: Distillation;
  readonly compute: Compute;
}

/** Where an example's tokens lie. */
interface Place {
  readonly ids: StoredTensor;
  readonly logProbabilities: StoredTensor;
  /** Row of the tensors, and how many. */
  readonly first: number;
  readonly count: number;
}

export class TeacherCache {
  readonly #topK: number;
  readonly #places: ReadonlyMap<Example, Place>;

  private constructor(topK: number, places: ReadonlyMap<Example, Place>) {
    this.#topK = topK;
    this.#places = places;
  }

  /**
   * Runs the teacher over the examples whose files are not there yet.
   *
   * @param onProgress called behind every file with the examples that are done
   */
  static async make(
    options: TeacherCacheOptions,
    pause: Pause,
    onProgress: (done: number, total: number) => void,
  ): Promise<TeacherCache> {
    const { dir, examples, objective } = options;
    mkdirSync(dir, { recursive: true });
    const files = Array.from({ length: Math.ceil(examples.length / FILE_EXAMPLES) }, (_, i) => {
      const some = examples.slice(i * FILE_EXAMPLES, (i + 1) * FILE_EXAMPLES);
      const path = join(dir, `tokens-${String(i).padStart(5, "0")}.safetensors`);
      return { path, examples: some, key: keyOf(options, some) };
    });
    const missing = files.filter(({ path, key }) => !existsSync(path) || openSafetensors(path).metadata[KEY] !== key);
    if (missing.length > 0) {
      using teacher = new Teacher(options);
      for (const [i, { path, examples: some, key }] of missing.entries()) {
        await teacher.write(path, some, key, pause);
        onProgress(Math.min(examples.length, (files.length - missing.length + i + 1) * FILE_EXAMPLES), examples.length);
      }
    }
    const places = new Map(files.flatMap(({ path, examples }) => [...placesIn(path, examples)]));
    return new TeacherCache(objective.topK, places);
  }

  /** The batch with its teacher's tokens. */
  attach(batch: PackedBatch): PackedBatch {
    const topK = this.#topK;
    const rows = batch.ids.length;
    const teacher = { ids: new Int32Array(rows * topK), logProbabilities: new Float32Array(rows * topK) };
    for (const place of batch.places) {
      const { ids, logProbabilities } = this.#read(place.example);
      for (const [n, row] of predictingTokens(place).entries()) {
        teacher.ids.set(ids.subarray(n * topK, (n + 1) * topK), row * topK);
        teacher.logProbabilities.set(logProbabilities.subarray(n * topK, (n + 1) * topK), row * topK);
      }
    }
    return { ...batch, teacher };
  }

  /** [wanted tokens, topK] */
  #read(example: Example): TeacherTokens {
    const { ids, logProbabilities, first, count } = this.#places.get(example) as Place;
    const rowBytes = this.#topK * 4;
    const bytes = (tensor: StoredTensor) => readBytes(tensor, first * rowBytes, count * rowBytes).buffer;
    return { ids: new Int32Array(bytes(ids)), logProbabilities: new Float32Array(bytes(logProbabilities)) };
  }
}

/** On disk. */
export function teacherBytes(examples: readonly Example[], { topK }: Distillation): number {
  return examples.reduce((sum, example) => sum + wantedCount(example), 0) * topK * 8;
}

function wantedCount({ wanted }: Example): number {
  return wanted.reduce((sum, value, i) => (i > 0 ? sum + value : sum), 0);
}

/** Row lengths do not count: packing changes nothing but the last bits. */
function keyOf({ fingerprint, objective, compute }: TeacherCacheOptions, examples: readonly Example[]): string {
  const { temperature, topK } = objective;
  const about = JSON.stringify({ fingerprint, temperature, topK, compute });
  return createHash("sha256").update(about).update(examplesHash(examples)).digest("hex");
}

function placesIn(path: string, examples: readonly Example[]): Map<Example, Place> {
  const { tensors } = openSafetensors(path);
  const [ids, logProbabilities] = [tensors.get("ids"), tensors.get("log_probs")];
  let first = 0;
  return new Map(
    examples.map((example) => {
      const count = wantedCount(example);
      const place = { ids: ids!, logProbabilities: logProbabilities!, first, count };
      first += count;
      return [example, place];
    }),
  );
}

/** The teacher in memory. */
class Teacher implements Disposable {
  readonly #options: TeacherCacheOptions;
  readonly #logits: TeacherLogits;
  readonly #owned: readonly Disposable[];

  constructor(options: TeacherCacheOptions) {
    const { context, teacher, shape, objective, compute } = options;
    const checkpoint = openCheckpoint(teacher);
    const model = loadDecoder(context, checkpoint, parseConfig(checkpoint.config, `${teacher}/config.json`));
    this.#options = options;
    this.#logits = new TeacherLogits({ context, weights: model.weights, ...shape, objective, compute });
    this.#owned = [this.#logits, model];
  }

  async write(path: string, examples: readonly Example[], key: string, pause: Pause): Promise<void> {
    const { shape, objective } = this.#options;
    const { topK } = objective;
    const starts = new Map<Example, number>();
    let total = 0;
    for (const example of examples) {
      starts.set(example, total);
      total += wantedCount(example);
    }
    const ids = new Int32Array(total * topK);
    const logProbabilities = new Float32Array(total * topK);
    for (const batch of batchesOf(examples, shape)) {
      const found = this.#logits.read(batch);
      for (const place of batch.places) {
        const first = starts.get(place.example)!;
        for (const [n, row] of predictingTokens(place).entries()) {
          ids.set(found.ids.subarray(row * topK, (row + 1) * topK), (first + n) * topK);
          const values = found.logProbabilities.subarray(row * topK, (row + 1) * topK);
          logProbabilities.set(values, (first + n) * topK);
        }
      }
      await pause();
    }
    const shapeOf = [total, topK];
    const tensors: TensorToWrite[] = [
      { name: "ids", dtype: "I32", shape: shapeOf, data: new Uint8Array(ids.buffer) },
      { name: "log_probs", dtype: "F32", shape: shapeOf, data: new Uint8Array(logProbabilities.buffer) },
    ];
    await writeSafetensors(path, tensors, { [KEY]: key });
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned) owned[Symbol.dispose]();
  }
}
