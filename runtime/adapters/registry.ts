/**
 * The adapters of a server, by name. It lives in the process that outlives the engine, and so an engine that takes the place of a
 * dead one gets the same adapters again.
 *
 * Every load makes a generation, which never changes. A request takes a lease on the newest and keeps it to its end; a generation
 * that was replaced or unloaded is given up when its last lease ends.
 */
import type { EngineClient, KnownAdapter } from "../engine/client.ts";
import type { AdapterMode } from "../formats/mod.ts";
import { AdapterError } from "./failure.ts";

/** What a name can be: requests write it as their model, metrics as a label. */
const NAME = /^[\p{L}\p{N}_][\p{L}\p{N}_.:@+/-]{0,127}$/u;

export interface LoadedAdapter {
  readonly name: string;
  readonly dir: string;
  /** Counts all loads of the server, so that no two generations of any name are the same. */
  readonly generation: number;
  /** By which the engine knows this generation. */
  readonly key: string;
  /** Whether it takes the place of the model's calibrated LoRA or comes on top of it. */
  readonly mode: AdapterMode;
  /** The highest of its linears. */
  readonly rank: number;
  readonly targets: number;
  /** On the device. */
  readonly bytes: number;
  readonly sha256: string;
  /** Unix time in seconds. */
  readonly loaded: number;
}

export interface AdapterLoad {
  readonly name: string;
  readonly dir: string;
  readonly mode?: AdapterMode | undefined;
  /** The name may have an adapter already, which is then replaced. */
  readonly inPlace?: boolean;
  /** The generation that the name must have, 0 for none; undefined: any. */
  readonly expected?: number | undefined;
}

/** A request's hold on one generation. */
export interface AdapterLease {
  readonly adapter: LoadedAdapter;
  /** Does nothing the second time. */
  release(): void;
}

interface Entry {
  readonly adapter: LoadedAdapter;
  readonly known: KnownAdapter;
  leases: number;
  /** Its name has a newer generation, or none. */
  retired: boolean;
}

export class AdapterRegistry {
  readonly #base: string;
  readonly #engine: Pick<EngineClient, "loadAdapter" | "freeAdapter">;
  readonly #current = new Map<string, Entry>();
  /** Those that are current or leased. */
  readonly #entries = new Set<Entry>();
  #generations = 0;
  #loading: string | undefined;

  /** @param base the base model's name, which no adapter can have */
  constructor(base: string, engine: Pick<EngineClient, "loadAdapter" | "freeAdapter">) {
    this.#base = base;
    this.#engine = engine;
  }

  /** The newest generation of each name, in the order in which the names came. */
  list(): readonly LoadedAdapter[] {
    return [...this.#current.values()].map(({ adapter }) => adapter);
  }

  get(name: string): LoadedAdapter | undefined {
    return this.#current.get(name)?.adapter;
  }

  /** What an engine has to know that begins now. */
  known(): readonly KnownAdapter[] {
    return [...this.#entries].map(({ known }) => known);
  }

  /** Has the engine load it and lets the name stand for it. Throws an AdapterError, or what the engine client throws. */
  async load({ name, dir, mode, inPlace = false, expected }: AdapterLoad): Promise<LoadedAdapter> {
    if (!NAME.test(name) || name === this.#base) {
      const why =
        name === this.#base ? "another name than the model's" : "letters, digits and _ . : @ + / -, at most 128";
      throw new AdapterError(
        "bad_name",
        `Cannot load adapter: its name received ${JSON.stringify(name)}, expected ${why}`,
      );
    }
    this.#checkExpected(name, expected);
    const before = this.#current.get(name);
    if (before && !inPlace) {
      const message = `Cannot load adapter ${name}: it is loaded already; to replace it set load_inplace to true`;
      throw new AdapterError("exists", message);
    }
    if (this.#loading !== undefined) {
      throw new AdapterError("busy", `Cannot load adapter ${name}: ${this.#loading} is being loaded; try again later`);
    }
    this.#loading = name;
    try {
      const generation = ++this.#generations;
      const key = `${name}@${generation}`;
      const found = await this.#engine.loadAdapter({ key, dir, ...(mode && { mode }) });
      if (this.#current.get(name) !== before) {
        this.#engine.freeAdapter(key);
        throw this.#conflict(name, before?.adapter.generation ?? 0);
      }
      const { replaces, ...rest } = found;
      const bound: AdapterMode = replaces ? "replace" : "stack";
      const adapter = { name, dir, generation, key, mode: bound, ...rest, loaded: Math.floor(Date.now() / 1000) };
      this.#replace(name, { adapter, known: { key, dir, mode: bound, found }, leases: 0, retired: false });
      return adapter;
    } finally {
      this.#loading = undefined;
    }
  }

  /** The name stands for nothing any more. Throws an AdapterError. */
  unload(name: string, expected?: number): LoadedAdapter {
    const entry = this.#current.get(name);
    if (!entry) {
      const known = [...this.#current.keys()].join(", ") || "none";
      throw new AdapterError("unknown_name", `Cannot unload adapter ${name}: it is not loaded; loaded are ${known}`);
    }
    this.#checkExpected(name, expected);
    this.#replace(name, undefined);
    return entry.adapter;
  }

  /** A hold on the newest generation; undefined where the name has none. */
  lease(name: string): AdapterLease | undefined {
    const entry = this.#current.get(name);
    if (!entry) return undefined;
    entry.leases++;
    let isHeld = true;
    return {
      adapter: entry.adapter,
      release: () => {
        if (!isHeld) return;
        isHeld = false;
        entry.leases--;
        this.#giveUp(entry);
      },
    };
  }

  #checkExpected(name: string, expected: number | undefined): void {
    const generation = this.#current.get(name)?.adapter.generation ?? 0;
    if (expected !== undefined && expected !== generation) throw this.#conflict(name, expected);
  }

  #conflict(name: string, expected: number): AdapterError {
    const generation = this.#current.get(name)?.adapter.generation ?? 0;
    const has = generation === 0 ? "it is not loaded (generation 0)" : `it is at generation ${generation}`;
    return new AdapterError("conflict", `Cannot change adapter ${name}: generation ${expected} was expected, ${has}`);
  }

  #replace(name: string, entry: Entry | undefined): void {
    const before = this.#current.get(name);
    if (entry) {
      this.#entries.add(entry);
      this.#current.set(name, entry);
    } else this.#current.delete(name);
    if (!before) return;
    before.retired = true;
    this.#giveUp(before);
  }

  #giveUp(entry: Entry): void {
    if (!entry.retired || entry.leases > 0) return;
    this.#entries.delete(entry);
    this.#engine.freeAdapter(entry.adapter.key);
  }
}
