/**
 * The adapters that requests of this engine can name. Each is immutable and stays where it is on the device while a request runs
 * with it; when room is needed, those that nothing uses leave in the order of their last use, and are read again when a request
 * names them.
 *
 *     read (a thread)  ->  place: slot and bytes, others may have to leave  ->  upload, a piece after each step  ->  resident
 *
 * One adapter at a time takes this way. While it waits for room, no other request is let past it to adapters that hold the room.
 */
import type { Context } from "../../ffi/mod.ts";
import type { AdapterHost } from "../adapters/open.ts";
import type { LoraTable } from "../models/lora.ts";
import type { ImageTarget } from "../models/lora_image.ts";
import { LoraUpload } from "../models/lora_upload.ts";
import { AdapterReader, type ReadAdapter } from "./adapter_reader.ts";
import type { AdapterFinding, AdapterSpec, AdapterStats } from "./protocol.ts";

/** The longest that uploading may hold up a step. */
const UPLOAD_MS = 1;

/** Where an adapter is on the device. */
interface Place {
  readonly slot: number;
  readonly base: number;
  readonly bytes: number;
  readonly targets: readonly ImageTarget[];
}

interface Adapter {
  readonly spec: AdapterSpec;
  found: AdapterFinding | undefined;
  /** Once all of it is there. */
  place: Place | undefined;
  /** Requests that run with it. */
  users: number;
  /** Larger for those used later. */
  lastUse: number;
  /** Its key is given up: it goes with its last request. */
  freed: boolean;
}

/** An adapter on its way to the device. */
interface Arrival {
  readonly adapter: Adapter;
  /** Whether it may make others leave, and whether it may wait until they can. */
  readonly room: "free" | "evict" | "wait";
  /** undefined while it is being read */
  read?: ReadAdapter;
  /** There was no room, and no request has ended since. */
  stuck?: boolean;
  /** undefined until there is room */
  copying?: { readonly place: Place; readonly upload: LoraUpload };
  readonly loaded?: PromiseWithResolvers<AdapterFinding>;
}

/** Gets a slot when its adapter is there, or an error. `T` is whatever stands for a request. */
export interface Admitted<T> {
  readonly user: T;
  readonly slot: number;
  readonly error?: string;
}

export class AdapterStore<T> implements Disposable {
  readonly #context: Context;
  readonly #table: LoraTable | null;
  readonly #reader: AdapterReader | null;
  readonly #adapters = new Map<string, Adapter>();
  readonly #users = new Map<T, Adapter>();
  /** Requests whose adapters are not there, in the order in which they came. */
  readonly #waiting = new Map<T, Adapter>();
  readonly #admitted: Admitted<T>[] = [];
  readonly #queue: Arrival[] = [];
  #current: Arrival | undefined;
  #wake = () => {};
  #uses = 0;
  /** What cannot leave: the calibrated LoRA and the adapters that were loaded with the model. */
  readonly #fixedBytes: number;
  readonly #fixedSlots: number;

  /** @param atStart slots of adapters that were loaded with the model */
  constructor(context: Context, table: LoraTable | null, host: AdapterHost, atStart: ReadonlyMap<string, number>) {
    this.#context = context;
    this.#table = table;
    this.#fixedBytes = table?.space.used ?? 0;
    this.#reader = table && new AdapterReader(host, table.dtype, table.space.total - this.#fixedBytes);
    this.#fixedSlots = 1 + atStart.size;
    for (const [key, slot] of atStart) {
      // One user that never leaves.
      const place = { slot, base: 0, bytes: 0, targets: [] };
      this.#adapters.set(key, { spec: { key, dir: "" }, found: undefined, place, users: 1, lastUse: 0, freed: false });
    }
  }

  /** Reads, checks and uploads an adapter; without room for it, it is only read and checked. Rejects with an Error for the user. */
  async load(spec: AdapterSpec): Promise<AdapterFinding> {
    if (this.#adapters.has(spec.key)) throw new Error(`Cannot load adapter ${spec.key}: the key is in use`);
    const loaded = Promise.withResolvers<AdapterFinding>();
    this.#enqueue({ adapter: this.#add(spec), room: "evict", loaded });
    return await loaded.promise;
  }

  /** Adapters that were loaded in an engine before this one. */
  know(specs: readonly AdapterSpec[]): void {
    for (const spec of specs) {
      if (!this.#adapters.has(spec.key)) this.#enqueue({ adapter: this.#add(spec), room: "free" });
    }
  }

  /** The key is not named any more. The adapter goes when its last request does. */
  free(key: string): void {
    const adapter = this.#adapters.get(key);
    if (!adapter) return;
    adapter.freed = true;
    this.#dropUnused(adapter);
  }

  /**
   * Gives a request the slot of its adapter, or undefined where it has to wait for it: `takeAdmitted` gives it later.
   *
   * @throws Error where there is no such adapter
   */
  use(key: string, user: T): number | undefined {
    const adapter = this.#adapters.get(key);
    if (!adapter || adapter.freed) throw new Error(`no adapter ${key}`);
    if (adapter.place && !this.#isBlocked()) return this.#pin(adapter, adapter.place, user);
    this.#waiting.set(user, adapter);
    this.#admitWaiting();
    return undefined;
  }

  /** The request has ended, whether it got its slot or not. */
  release(user: T): void {
    const adapter = this.#users.get(user) ?? this.#waiting.get(user);
    if (!adapter) return;
    if (this.#users.delete(user)) adapter.users--;
    this.#waiting.delete(user);
    if (this.#current) this.#current.stuck = false;
    this.#dropUnused(adapter);
  }

  /** Requests that waited and have their slots now, or an error. */
  takeAdmitted(): Admitted<T>[] {
    return this.#admitted.splice(0);
  }

  get isBusy(): boolean {
    return this.#current !== undefined || this.#queue.length > 0 || this.#admitted.length > 0;
  }

  /** Whether `advance` can do nothing until a request ends. */
  get isStuck(): boolean {
    return this.#current?.stuck === true && this.#admitted.length === 0;
  }

  /** Settles when `advance` can do something; undefined where it can now, or nothing is to be done. */
  progress(): Promise<void> | undefined {
    const isReading = this.#current !== undefined && this.#current.read === undefined;
    if (!isReading || this.#admitted.length > 0) return undefined;
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Goes on with what is to be done between two steps: at most a millisecond of it. */
  advance(): void {
    const current = this.#current;
    if (!current) this.#startNext();
    else if (current.copying) this.#uploadMore(current, current.copying.upload);
    else if (current.read) this.#tryPlace(current, current.read);
  }

  stats(): AdapterStats {
    const table = this.#table;
    const placed = [...this.#adapters.values()].filter(({ place }) => place !== undefined);
    const keys = (adapters: Iterable<Adapter>) => [...new Set([...adapters].map(({ spec }) => spec.key))];
    return {
      bytes: table ? table.space.used - this.#fixedBytes : 0,
      capacityBytes: table ? table.space.total - this.#fixedBytes : 0,
      resident: placed.length - (this.#fixedSlots - 1),
      most: table ? table.slots - this.#fixedSlots : 0,
      running: keys(this.#users.values()),
      waiting: keys(this.#waiting.values()),
    };
  }

  #add(spec: AdapterSpec): Adapter {
    const adapter = { spec, found: spec.found, place: undefined, users: 0, lastUse: 0, freed: false };
    this.#adapters.set(spec.key, adapter);
    return adapter;
  }

  #pin(adapter: Adapter, { slot }: Place, user: T): number {
    adapter.users++;
    adapter.lastUse = ++this.#uses;
    this.#users.set(user, adapter);
    return slot;
  }

  /** An adapter that a request waits for finds no room, because of adapters that others run with. */
  #isBlocked(): boolean {
    return this.#current?.room === "wait" && this.#current.read !== undefined && !this.#current.copying;
  }

  /** Lets waiting requests in whose adapters are there, and has the adapters of the others brought. */
  #admitWaiting(): void {
    if (this.#isBlocked()) return;
    for (const [user, adapter] of this.#waiting) {
      if (adapter.place) {
        this.#waiting.delete(user);
        this.#admitted.push({ user, slot: this.#pin(adapter, adapter.place, user) });
      } else if (!this.#isComing(adapter)) this.#enqueue({ adapter, room: "wait" });
    }
  }

  /** Whether the adapter is on a way that ends on the device, or with an error for those who wait. */
  #isComing(adapter: Adapter): boolean {
    return [this.#current, ...this.#queue].some((one) => one?.adapter === adapter && one.room === "wait");
  }

  /** Those that requests wait for go first. */
  #enqueue(arrival: Arrival): void {
    const others = this.#queue.findIndex(({ room }) => room !== "wait");
    const at = arrival.room === "wait" && others >= 0 ? others : this.#queue.length;
    this.#queue.splice(at, 0, arrival);
    this.#startNext();
  }

  #startNext(): void {
    if (this.#current) return;
    const next = this.#queue.shift();
    if (!next) return;
    if (next.adapter.place || next.adapter.freed) {
      this.#admitWaiting();
      this.#startNext();
      return;
    }
    this.#current = next;
    const { spec, found } = next.adapter;
    this.#read(spec, found).then(
      (read) => {
        next.adapter.found ??= read.found;
        next.read = read;
        this.#wake();
      },
      (error: Error) => {
        this.#end(next, error);
        this.#wake();
      },
    );
  }

  async #read(spec: AdapterSpec, found: AdapterFinding | undefined): Promise<ReadAdapter> {
    if (!this.#reader) throw new Error("Cannot load adapters: the engine was started without room for any");
    return await this.#reader.read(found ? { ...spec, found, mode: found.replaces ? "replace" : "stack" } : spec);
  }

  /** Finds a slot and bytes, if need be by letting others leave. */
  #tryPlace(arrival: Arrival, { image, found }: ReadAdapter): void {
    const table = this.#table!;
    const bytes = image.data.length;
    const { adapter, room } = arrival;
    const isWanted = room === "wait" ? [...this.#waiting.values()].includes(adapter) : !adapter.freed;
    while (isWanted) {
      const slot = table.freeSlot();
      const base = slot === undefined ? undefined : table.space.take(bytes);
      if (slot !== undefined && base !== undefined) {
        table.occupy(slot, found.replaces);
        const upload = new LoraUpload(this.#context, table, slot, base, image);
        arrival.copying = { place: { slot, base, bytes, targets: image.targets }, upload };
        return;
      }
      const leaving = room === "free" ? undefined : this.#leastRecentlyUsed();
      if (leaving) this.#remove(leaving);
      else if (room === "wait") {
        arrival.stuck = true;
        return;
      } else break;
    }
    this.#end(arrival);
  }

  #leastRecentlyUsed(): Adapter | undefined {
    const unused = [...this.#adapters.values()].filter(({ place, users }) => place && users === 0);
    return unused.sort((a, b) => a.lastUse - b.lastUse)[0];
  }

  #remove(adapter: Adapter): void {
    if (adapter.place) this.#vacate(adapter.place);
    adapter.place = undefined;
  }

  #vacate({ slot, base, bytes, targets }: Place): void {
    this.#table!.clear(slot, targets);
    this.#table!.space.give(base, bytes);
  }

  #uploadMore(arrival: Arrival, upload: LoraUpload): void {
    try {
      if (upload.advance(UPLOAD_MS)) this.#end(arrival);
    } catch (error) {
      this.#end(arrival, error as Error);
    }
  }

  /** The arrival is over: the adapter is there, or known to be good, or refused. */
  #end(arrival: Arrival, error?: Error): void {
    const { adapter, loaded, copying } = arrival;
    this.#current = undefined;
    copying?.upload[Symbol.dispose]();
    if (copying && error) this.#vacate(copying.place);
    else adapter.place = copying?.place;
    adapter.lastUse = ++this.#uses;
    if (error) {
      this.#refuse(adapter, error.message);
      if (loaded) this.#adapters.delete(adapter.spec.key);
      loaded?.reject(error);
    } else loaded?.resolve(adapter.found!);
    this.#dropUnused(adapter);
    this.#admitWaiting();
    this.#startNext();
  }

  /** Who waits for it gets the reason; the next request that names it has it read again. */
  #refuse(adapter: Adapter, error: string): void {
    for (const [user, wanted] of this.#waiting) {
      if (wanted !== adapter) continue;
      this.#waiting.delete(user);
      this.#admitted.push({ user, slot: -1, error });
    }
  }

  #dropUnused(adapter: Adapter): void {
    if (!adapter.freed || adapter.users > 0 || this.#current?.adapter === adapter) return;
    if ([...this.#waiting.values()].includes(adapter)) return;
    this.#remove(adapter);
    this.#adapters.delete(adapter.spec.key);
  }

  [Symbol.dispose](): void {
    this.#current?.copying?.upload[Symbol.dispose]();
    this.#reader?.[Symbol.dispose]();
  }
}
