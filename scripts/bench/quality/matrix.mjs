/**
 * Every row of the quality table: a method at some bits with some settings, quantized and evaluated by run.mjs. Rows of one
 * `variant` differ in the seed only and become one line of the table.
 *
 * @typedef {object} Row
 * @property {string} name of the row and of its result, results/NAME.json
 * @property {string} variant
 * @property {string} label how the table calls it
 * @property {string | null} method of `apiq quantize`; null: the full-precision model itself
 * @property {number | null} bits
 * @property {number | null} group
 * @property {number} seed
 * @property {boolean} calibrated whether the method reads calibration data
 * @property {number} samples of calibration, of `length` tokens each
 * @property {number} length
 * @property {number | null} epochs null where the method has none
 * @property {readonly string[]} flags further ones of `apiq quantize`
 */

/** Of all rows that say nothing else: what the reference figures of the authors' method were measured with. */
const BUDGET = { samples: 64, length: 512, epochs: 8 };
/** Twice as many samples. */
const LARGE = { samples: 128 };
/** A quarter of the steps, where two bits are not at stake and less does. */
const SHORT = { samples: 32, epochs: 4 };

const SEEDS = [0, 1, 2];

function row(method, bits, { variant = method, label = variant, group = 64, seeds = [0], flags = [], ...rest } = {}) {
  const settings = { calibrated: true, ...BUDGET, ...rest };
  const name = `${variant}-${bits}bit-g${group}`;
  return seeds.map((seed) => ({
    ...{ name: seeds.length === 1 ? name : `${name}-seed${seed}`, variant: name, label },
    ...{ method, bits, group, seed, flags, ...settings, epochs: settings.calibrated ? settings.epochs : null },
  }));
}

/** Closed form: calibration data, no epochs. */
const closed = { epochs: null };
const dataFree = { calibrated: false };

function ofBits(bits) {
  return [
    ...row("rtn", bits, dataFree),
    ...row(`nf${bits}`, bits, { ...dataFree, flags: ["--double-quantization"] }),
    ...(bits === 4 ? row("fine", bits, dataFree) : []),
    ...row("gptq", bits, closed),
    ...row("loftq", bits, dataFree),
    ...row("loftq", bits, { ...dataFree, variant: "loftq-nf", label: "loftq over nf", flags: ["--base", "nf"] }),
    ...row("cloq", bits, closed),
    ...(bits === 2 ? trainedInTwoBits() : trainedShortly(bits)),
  ];
}

function trainedInTwoBits() {
  return [
    ...row("omniquant", 2),
    ...row("apiq-lw", 2),
    ...row("block-ap", 2, { flags: ["--rank", "0"] }),
    ...row("block-ap", 2, { variant: "block-ap-lora", label: "block-ap with LoRA", flags: ["--rank", "64"] }),
    ...row("apiq-bw", 2, { seeds: SEEDS }),
    ...row("apiq-bw", 2, {
      ...{ variant: "apiq-bw-paper", label: "apiq-bw, the paper's settings" },
      flags: ["--preset", "paper", "--aug-loss"],
    }),
    ...row("apiq-bw", 2, { ...LARGE, variant: "apiq-bw-large", label: `apiq-bw, ${LARGE.samples} samples` }),
  ];
}

function trainedShortly(bits) {
  const shortly = (method, flags) => {
    const label = `${method}, ${SHORT.samples} samples, ${SHORT.epochs} epochs`;
    return row(method, bits, { ...SHORT, label, flags });
  };
  return [
    ...shortly("omniquant"),
    ...shortly("apiq-lw"),
    ...shortly("block-ap", ["--rank", "0"]),
    ...shortly("apiq-bw"),
  ];
}

/** The model itself. */
const FULL_PRECISION = {
  ...row(null, null, { ...dataFree, variant: "fp16", label: "full precision", group: null })[0],
  name: "fp16",
};

/** @type {readonly Row[]} */
export const ROWS = [
  FULL_PRECISION,
  // Plain 4 bits in the bytes that 2 bits and a LoRA take: smaller groups fill up what is left. 128 does not divide 576.
  ...row("rtn", 4, { ...dataFree, group: 32 }),
  ...row("gptq", 4, { ...closed, group: 32 }),
  ...[2, 3, 4].flatMap(ofBits),
];
