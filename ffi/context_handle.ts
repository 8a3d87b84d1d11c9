/** The native context that a Context and its buffers and graphs share. Not exported from mod.ts. */

import { camelCase, encode } from "./codec.ts";
import { STATUS } from "./constants.ts";
import { unwrap } from "./status.ts";
import { FUNCTIONS, type FunctionName, STRUCTS, type StructName } from "./symbols.ts";
import type { NativeFunctions, StructOf } from "./types.ts";

/** A function that takes a context and its own argument struct, apiq_<op> with apiq_<op>_args. */
export type OpName = { [Name in FunctionName]: `${Name}_args` extends StructName ? Name : never }[FunctionName];

export type ArgsOf<Name extends OpName> = StructOf<`${Name}_args`>;

/** How each op is called in errors. */
const PHRASES = Object.fromEntries(
  Object.keys(FUNCTIONS)
    .filter((name) => `${name}_args` in STRUCTS)
    .map((name) => [name, `run ${camelCase(name.replace("apiq_", ""))}`]),
) as Record<OpName, string>;

export class ContextHandle {
  readonly #native: NativeFunctions;
  #handle: number;

  private constructor(native: NativeFunctions, handle: number) {
    this.#native = native;
    this.#handle = handle;
  }

  /** @param options - the device's ordinal and the number of threads, as in apiq_context_options */
  static create(native: NativeFunctions, options: StructOf<"apiq_context_options">): ContextHandle {
    const phrase = "open the context";
    const out = new BigUint64Array(1);
    const bytes = encode("apiq_context_options", options, phrase);
    unwrap(native, native.apiq_context_create(bytes, new Uint8Array(out.buffer)), phrase, 0);
    return new ContextHandle(native, Number(out[0]));
  }

  isOpen(): boolean {
    return this.#handle !== 0;
  }

  /** Calls a function of the library and throws what it reports. `phrase` says what was wanted: "upload to the buffer". */
  call(phrase: string, body: (native: NativeFunctions, context: number) => number): void {
    const context = this.#live(phrase);
    unwrap(this.#native, body(this.#native, context), phrase, context);
  }

  /** Like `call`, for functions that write one uint64_t: a handle or a number of bytes. */
  create(phrase: string, body: (native: NativeFunctions, context: number, out: Uint8Array) => number): number {
    const out = new BigUint64Array(1);
    this.call(phrase, (native, context) => body(native, context, new Uint8Array(out.buffer)));
    return Number(out[0]);
  }

  run<Name extends OpName>(name: Name, args: ArgsOf<Name>): void {
    const context = this.#live(PHRASES[name]);
    const bytes = encode<StructName>(`${name}_args`, args as StructOf<StructName>, PHRASES[name]);
    const op: (context: number, args: Uint8Array) => number = this.#native[name as OpName];
    const status = op(context, bytes);
    if (status !== STATUS.OK) unwrap(this.#native, status, PHRASES[name], context);
  }

  /** Frees the context and everything in it. Does nothing the second time. */
  destroy(): void {
    if (this.#handle === 0) return;
    this.call("close the context", (native, context) => native.apiq_context_destroy(context));
    this.#handle = 0;
  }

  #live(phrase: string): number {
    if (this.#handle === 0) throw new Error(`Cannot ${phrase}: the context is disposed`);
    return this.#handle;
  }
}
