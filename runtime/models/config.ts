/** A decoder's shape, read from a Hugging Face config.json. Everything the block needs, nothing about files. */
import { FAMILIES, type Family } from "./families.ts";

/** How positions become rotation angles. */
export interface RopeSettings {
  theta: number;
  /** "llama3" stretches low frequencies for a longer context (Llama 3.1); "linear" divides all positions by factor. */
  scaling:
    | { type: "default" }
    | { type: "linear"; factor: number }
    | { type: "llama3"; factor: number; lowFreqFactor: number; highFreqFactor: number; originalMaxPositions: number };
}

export interface DecoderConfig {
  family: Family;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabSize: number;
  /** The longest sequence the model was made for. */
  maxPositions: number;
  rmsNormEps: number;
  rope: RopeSettings;
  /** The head is the embedding. */
  tiedEmbeddings: boolean;
  /** Per layer: how many positions back attention reaches, 0 for all. */
  windows: readonly number[];
  /** Whether q, k, v have a bias. */
  qkvBias: boolean;
  /** Whether o and the MLP have one (Llama's attention_bias, mlp_bias). */
  outputBias: boolean;
  mlpBias: boolean;
  /** Whether queries and keys are normalised per head (Qwen3). */
  qkNorm: boolean;
  eosTokenIds: readonly number[];
}

/** Reads one field at a time and names it when it is wrong. */
export class ConfigReader {
  readonly #fields: Record<string, unknown>;
  readonly #where: string;

  constructor(fields: Record<string, unknown>, where: string) {
    this.#fields = fields;
    this.#where = where;
  }

  fail(name: string, expected: string): never {
    const received = JSON.stringify(this.#fields[name]);
    throw new Error(`Cannot use ${this.#where}: ${name} received ${received ?? "nothing"}, expected ${expected}`);
  }

  /** A positive integer. */
  count(name: string, fallback?: number): number {
    const value = this.#fields[name] ?? fallback;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value <= 0 || value > 2 ** 31) {
      this.fail(name, "a positive integer");
    }
    return value;
  }

  /** A positive finite number. */
  positive(name: string, fallback?: number): number {
    const value = this.#fields[name] ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) this.fail(name, "a positive number");
    return value;
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.#fields[name] ?? fallback;
    if (typeof value !== "boolean") this.fail(name, "true or false");
    return value;
  }

  text(name: string, fallback?: string): string {
    const value = this.#fields[name] ?? fallback;
    if (typeof value !== "string") this.fail(name, "a string");
    return value;
  }

  object(name: string): ConfigReader | undefined {
    const value = this.#fields[name];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "object" || Array.isArray(value)) this.fail(name, "an object");
    return new ConfigReader(value as Record<string, unknown>, `${this.#where}, ${name}`);
  }

  /** One id or several, as eos_token_id may be. */
  ids(name: string): number[] {
    const value = this.#fields[name];
    if (value === undefined || value === null) return [];
    const list = Array.isArray(value) ? value : [value];
    if (!list.every((id) => Number.isSafeInteger(id) && id >= 0)) this.fail(name, "a token id or a list of them");
    return list as number[];
  }

  has(name: string): boolean {
    return this.#fields[name] !== undefined && this.#fields[name] !== null;
  }
}

function readRope(config: ConfigReader): RopeSettings {
  // transformers 5 writes rope_parameters, which holds theta as well; older files have rope_theta beside rope_scaling.
  const settings = config.object("rope_parameters") ?? config.object("rope_scaling");
  const theta = settings?.has("rope_theta") ? settings.positive("rope_theta") : config.positive("rope_theta", 10000);
  if (!settings) return { theta, scaling: { type: "default" } };
  const type = settings.has("rope_type") ? settings.text("rope_type") : settings.text("type", "default");
  switch (type) {
    case "default":
      return { theta, scaling: { type } };
    case "linear":
      return { theta, scaling: { type, factor: settings.positive("factor") } };
    case "llama3":
      return {
        theta,
        scaling: {
          type,
          factor: settings.positive("factor"),
          lowFreqFactor: settings.positive("low_freq_factor"),
          highFreqFactor: settings.positive("high_freq_factor"),
          originalMaxPositions: settings.count("original_max_position_embeddings"),
        },
      };
    default:
      return settings.fail(settings.has("rope_type") ? "rope_type" : "type", "default, linear or llama3");
  }
}

function readWindows(config: ConfigReader, family: Family, layers: number): number[] {
  const window = config.has("sliding_window") ? config.count("sliding_window") : 0;
  if (window === 0 || family.slidingWindow === "never") return new Array(layers).fill(0);
  if (family.slidingWindow === "always") return new Array(layers).fill(window);
  if (!config.flag("use_sliding_window", false)) return new Array(layers).fill(0);
  const first = config.has("max_window_layers") ? config.count("max_window_layers") : layers;
  return Array.from({ length: layers }, (_, layer) => (layer >= first ? window : 0));
}

/**
 * Reads a config.json.
 * @param json its content
 * @param where its path, for messages
 */
export function parseConfig(json: Record<string, unknown>, where: string): DecoderConfig {
  const config: ConfigReader = new ConfigReader(json, where);
  const type = config.text("model_type");
  const family = FAMILIES.get(type);
  if (!family) config.fail("model_type", `one of ${[...FAMILIES.keys()].join(", ")}`);
  const activation = config.text("hidden_act", "silu");
  if (activation !== "silu") config.fail("hidden_act", '"silu"');

  const hiddenSize = config.count("hidden_size");
  const heads = config.count("num_attention_heads");
  const kvHeads = config.count("num_key_value_heads", heads);
  const layers = config.count("num_hidden_layers");
  const headDim = config.count("head_dim", hiddenSize / heads);
  if (heads % kvHeads !== 0) config.fail("num_key_value_heads", `a divisor of num_attention_heads (${heads})`);
  if (headDim % 16 !== 0 || headDim > 256) config.fail("head_dim", "a multiple of 16, at most 256");
  const attentionBias = config.flag("attention_bias", false);
  return {
    family,
    hiddenSize,
    intermediateSize: config.count("intermediate_size"),
    layers,
    heads,
    kvHeads,
    headDim,
    vocabSize: config.count("vocab_size"),
    maxPositions: config.count("max_position_embeddings"),
    rmsNormEps: config.positive("rms_norm_eps", 1e-6),
    rope: readRope(config),
    tiedEmbeddings: config.flag("tie_word_embeddings", family.tiedByDefault),
    windows: readWindows(config, family, layers),
    qkvBias: family.qkvBias || attentionBias,
    outputBias: attentionBias,
    mlpBias: config.flag("mlp_bias", false),
    qkNorm: family.qkNorm,
    eosTokenIds: config.ids("eos_token_id"),
  };
}
