/**
 * The models that are compared: Llama-family shapes whose weights are random.
 *
 * @typedef {object} Shape
 * @property {number} layers
 * @property {number} hidden
 * @property {number} intermediate
 * @property {number} heads
 * @property {number} kvHeads
 * @property {number} vocabulary
 * @property {number} context longest sequence
 * @property {number} ropeBase
 * @property {number} epsilon of the RMS norms
 */

/** @type {Readonly<Record<string, Shape>>} */
export const SHAPES = {
  "tinyllama-1.1b": {
    layers: 22,
    hidden: 2048,
    intermediate: 5632,
    heads: 32,
    kvHeads: 4,
    vocabulary: 32000,
    context: 2048,
    ropeBase: 10000,
    epsilon: 1e-5,
  },
  "llama-2-7b": {
    layers: 32,
    hidden: 4096,
    intermediate: 11008,
    heads: 32,
    kvHeads: 32,
    vocabulary: 32000,
    context: 4096,
    ropeBase: 10000,
    epsilon: 1e-5,
  },
};
