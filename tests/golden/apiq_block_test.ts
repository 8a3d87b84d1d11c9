/**
 * The training loop against a whole run of the ApiQ authors' code, in float32 as they computed it: every step, and where it ends.
 */

import { assert } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { Context, type DeviceBuffer, type Ref } from "../../ffi/mod.ts";
import { decoderBlock, decoderLogits } from "../../runtime/models/decoder.ts";
import { blockLinears, type DecoderWeights, type Linear } from "../../runtime/models/weights.ts";
import { copyTensor, type TrainableLinear, TrainingOps, trainingArenaBytes } from "../../runtime/ops/training.ts";
import { dequantizeAffine } from "../../runtime/quantize/affine.ts";
import type {
  AffineWeights,
  CalibrationStream,
  MethodSettings,
  QuantizedLinear,
} from "../../runtime/quantize/method.ts";
import { PAPER } from "../../runtime/quantize/settings.ts";
import { openStream } from "../../runtime/quantize/streams.ts";
import { UNROUNDED_CLIPPING } from "../../runtime/quantize/training/clipping_recipe.ts";
import type { LearnedClipping } from "../../runtime/quantize/training/learned_clipping.ts";
import type { Recipe, TrainingView } from "../../runtime/quantize/training/recipe.ts";
import { trainBlock } from "../../runtime/quantize/training/train_block.ts";
import { Arena } from "../../runtime/tensor.ts";
import { itShared, sharedPath } from "../shared.ts";
import { type ApiqRun, loadRun, openRun } from "./apiq_run.ts";
import { largestDifference, readIds } from "./load.ts";

const PREFIX = "base_model.model.";

function settingsOf({ metadata }: ApiqRun): MethodSettings {
  return {
    ...PAPER,
    bits: Number(metadata.bits) as 2,
    group: Number(metadata.group_size) as 64,
    rank: Number(metadata.r),
    alpha: Number(metadata.lora_alpha),
    epochs: Number(metadata.epochs),
    loraLearningRate: Number(metadata.lora_lr),
    clippingLearningRate: Number(metadata.lwc_lr),
    weightDecay: Number(metadata.weight_decay),
    augLoss: metadata.aug_loss === "true",
  };
}

/** |a - b| / |b| */
function relative(a: Float32Array, b: Float32Array): number {
  assert(a.length === b.length, `received ${a.length} values, expected ${b.length}`);
  let difference = 0;
  let size = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(size === 0 ? difference : difference / size);
}

function assertRelative(a: Float32Array, b: Float32Array, bound: number, what: string): void {
  const error = relative(a, b);
  assert(error < bound, `${what} differs by ${error}, expected less than ${bound}`);
}

interface Stream extends CalibrationStream {
  readonly buffer: DeviceBuffer;
}

function stream(context: Context, samples: number, length: number, hidden: number): Stream {
  const buffer = context.alloc(samples * length * hidden * 4);
  return { samples, length, hidden, buffer, read: (index) => buffer.at(index * length * hidden * 4) };
}

/** What the test follows and the run recorded. */
interface Observed {
  readonly losses: number[][];
  readonly results: Map<string, QuantizedLinear>;
  readonly factors: Map<string, { low: Float32Array; high: Float32Array }>;
  readonly logits: Float32Array;
}

/** All blocks in order, as the reference advances: one stream through the full-precision blocks, one through the trained ones. */
async function quantize(context: Context, run: ApiqRun, weights: DecoderWeights, ids: number[]): Promise<Observed> {
  const { config } = run;
  const settings = settingsOf(run);
  const samples = Number(run.metadata.nsamples);
  const length = Number(run.metadata.seqlen);
  const hidden = config.hiddenSize;
  const { inverseFrequencies } = weights;
  const tokens = context.alloc(ids.length * 4);
  tokens.upload(Int32Array.from(ids));
  const [inputs, references, targets] = [0, 1, 2].map(() => stream(context, samples, length, hidden));
  for (const { buffer } of [inputs, references]) {
    context.embedding({ table: weights.embedding, ids: tokens.at(0), y: buffer.at(0), rows: ids.length });
  }
  const scratch = (name: string, hidden: number) => openStream(context, { samples, length, hidden }, null, name);
  const arena = new Arena(
    context.alloc(2 * trainingArenaBytes(config, samples, length, false, { rank: settings.rank })),
  );
  const put = (values: Float32Array): Ref => {
    const buffer = context.alloc(values.byteLength);
    buffer.upload(values);
    return buffer.at(0);
  };
  const advance = (layer: number, from: Stream, to: Stream, trainable?: Map<Linear, TrainableLinear>): void => {
    const options = { context, config, arena, sequences: samples, length, inverseFrequencies, trainable };
    using ops = new TrainingOps(options);
    ops.begin(false);
    const y = decoderBlock(ops, config, weights.blocks[layer], layer, ops.input(from.buffer.at(0)));
    copyTensor(context, y.ref, to.buffer.at(0), samples * length * hidden);
    context.synchronize();
  };
  const observed = { losses: [] as number[][], results: new Map<string, QuantizedLinear>(), factors: new Map() };
  for (const [layer, block] of weights.blocks.entries()) {
    advance(layer, references, targets);
    const losses: number[] = [];
    const recipe: Recipe = {
      ...UNROUNDED_CLIPPING,
      lora: true,
      initialLora: ({ name, weight }) => ({
        a: run.tensor(`lora_A_init.${PREFIX}${name}.lora_A.default.weight`),
        b: new Float32Array(weight.outFeatures * settings.rank),
        magnitude: null,
      }),
      onStep: (step, loss, view) => {
        losses.push(loss);
        if (layer === 0 && step === 0) checkGradients(run, view, settings.rank);
      },
      onEnd: (view) => {
        for (const [{ name }, quantizer] of view.quantizers) {
          observed.factors.set(name, (quantizer as LearnedClipping).factors());
        }
      },
    };
    const results = await trainBlock(
      {
        context,
        config,
        layer,
        block,
        inverseFrequencies,
        settings,
        kept: new Set(),
        init: null,
        calibration: { inputs, referenceInputs: references, targets, scratch },
        report: async () => {},
      },
      recipe,
    );
    for (const [name, result] of results) observed.results.set(name, result);
    observed.losses.push(losses);
    const trained = new Map(
      blockLinears(block).map((linear): [Linear, TrainableLinear] => {
        const { weights: quantized, lora } = results.get(linear.name) as QuantizedLinear;
        const { a, b, rank, alpha } = lora as NonNullable<typeof lora>;
        const stored = { a: put(a), b: put(b), da: null, db: null, rank, scale: alpha / rank, dora: null };
        return [linear, { weight: put(dequantizeAffine(quantized as AffineWeights)), dweight: null, lora: stored }];
      }),
    );
    advance(layer, inputs, inputs, trained);
    references.buffer.upload(targets.buffer.download(new Float32Array(samples * length * hidden)));
  }
  arena.reset(0);
  using ops = new TrainingOps({ context, config, arena, sequences: samples, length, inverseFrequencies });
  ops.begin(false);
  const logits = decoderLogits(ops, weights, ops.input(inputs.buffer.at(0)));
  const values = logits.ref.buffer.download(new Float32Array(ids.length * config.vocabSize), logits.ref.offset);
  return { ...observed, logits: values };
}

function checkGradients(run: ApiqRun, view: TrainingView, rank: number): void {
  for (const [linear, quantizer] of view.quantizers) {
    const part = linear.name.split(".").slice(3).join(".");
    const { dlow, dhigh } = (quantizer as LearnedClipping).factors();
    const clipping = `grad0.${part}.base_layer.weight_quantizer`;
    assertRelative(dlow, run.tensor(`${clipping}.lowbound_factor`), 1e-4, `${clipping}.lowbound_factor`);
    assertRelative(dhigh, run.tensor(`${clipping}.upbound_factor`), 1e-4, `${clipping}.upbound_factor`);
    const { da, db } = (view.loras.get(linear) as NonNullable<ReturnType<typeof view.loras.get>>).trainable;
    const read = (ref: Ref | null, count: number): Float32Array =>
      (ref as Ref).buffer.download(new Float32Array(count), (ref as Ref).offset);
    const { inFeatures, outFeatures } = linear.weight;
    const names = { a: `grad0.${part}.lora_A.default.weight`, b: `grad0.${part}.lora_B.default.weight` };
    assertRelative(read(da, rank * inFeatures), run.tensor(names.a), 1e-4, names.a);
    assertRelative(read(db, rank * outFeatures), run.tensor(names.b), 1e-4, names.b);
  }
}

describe("block-wise ApiQ against the authors' code in float32", () => {
  for (const name of ["block", "block_aug"]) {
    itShared(`${name}: every loss, the first gradients, the final tensors and the logits agree`, async () => {
      const folder = sharedPath(`golden/apiq/${name}`);
      const run = openRun(folder);
      using context = Context.open({ device: "cpu", threads: 2 });
      const weights = loadRun(context, run);
      const ids = readIds(`${folder}/run.safetensors`, "input_ids").values;
      const { losses, results, factors, logits } = await quantize(context, run, weights, ids);

      const expected = run.tensor("losses");
      const perLayer = run.shape("losses")[1];
      for (const [layer, values] of losses.entries()) {
        for (const [step, loss] of values.entries()) {
          const want = expected[layer * perLayer + step];
          assert(Math.abs(loss - want) < 1e-4 * want, `layer ${layer} step ${step}: loss ${loss}, expected ${want}`);
        }
      }

      let integers = 0;
      let unequal = 0;
      for (const [linear, { weights, lora }] of results) {
        const at = `final.${PREFIX}${linear}`;
        const { low, high } = factors.get(linear) as { low: Float32Array; high: Float32Array };
        const { a, b } = lora as NonNullable<typeof lora>;
        assertRelative(a, run.tensor(`${at}.lora_A.default.weight`), 1e-3, `A of ${linear}`);
        assertRelative(b, run.tensor(`${at}.lora_B.default.weight`), 1e-3, `B of ${linear}`);
        const clipping = `${at}.base_layer.weight_quantizer`;
        assertRelative(low, run.tensor(`${clipping}.lowbound_factor`), 1e-3, `low factor of ${linear}`);
        assertRelative(high, run.tensor(`${clipping}.upbound_factor`), 1e-3, `high factor of ${linear}`);

        const { q, group } = weights as AffineWeights;
        const dequantized = run.tensor(`${at}.base_layer.dequantized`);
        const scales = run.tensor(`${at}.base_layer.scales`);
        const zeros = run.tensor(`${at}.base_layer.zeros`);
        for (let i = 0; i < q.length; i++) {
          const g = Math.floor(i / group);
          const want = Math.round(dequantized[i] / scales[g]) + zeros[g];
          integers++;
          if (q[i] === want) continue;
          unequal++;
          assert(Math.abs(q[i] - want) === 1, `integer ${i} of ${linear} is ${q[i]}, expected ${want}`);
        }
      }
      assert(unequal <= 0.001 * integers, `${unequal} of ${integers} integers differ`);

      const difference = largestDifference(logits, run.tensor("logits"));
      assert(difference < 1e-4, `logits differ by ${difference}`);
    });
  }
});
