import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { type GroupSettings, type MomentBits, ParameterGroup, parameterBytes } from "./parameters.ts";

const SIZES = [300, 17, 1000];

/** A group whose gradients are set by hand. */
class Group implements Disposable {
  readonly group: ParameterGroup;
  readonly #tensors: readonly ReturnType<ParameterGroup["place"]>[];

  constructor(context: Context, settings: GroupSettings) {
    this.group = new ParameterGroup(context, SIZES, settings);
    this.#tensors = SIZES.map((size) => this.group.place(new Float32Array(size).fill(0.5)));
  }

  step(seed: number): void {
    for (const [tensor, { gradient }] of this.#tensors.entries()) {
      const values = Float32Array.from({ length: SIZES[tensor]! }, (_, i) => Math.sin(seed + 7 * i + tensor));
      gradient.buffer.upload(values, gradient.offset);
    }
    this.group.step();
  }

  get values(): readonly Float32Array[] {
    return this.#tensors.map(({ value }, tensor) =>
      value.buffer.download(new Float32Array(SIZES[tensor]!), value.offset),
    );
  }

  [Symbol.dispose](): void {
    this.group[Symbol.dispose]();
  }
}

describe("ParameterGroup", () => {
  for (const momentBits of [32, 8] as const satisfies readonly MomentBits[]) {
    it(`continues from another group's state with moments of ${momentBits} bits`, () => {
      using context = Context.open({ threads: 1 });
      const settings = { learningRate: 0.1, weightDecay: 0.01, momentBits };
      using one = new Group(context, settings);
      using other = new Group(context, settings);
      for (const seed of [1, 2, 3]) one.step(seed);
      const target = other.group.state;
      for (const [i, { ref, count, dtype }] of one.group.state.entries()) {
        const bytes = new Uint8Array(count * (dtype === "F32" ? 4 : 1));
        target[i]!.ref.buffer.upload(ref.buffer.download(bytes, ref.offset), target[i]!.ref.offset);
      }
      other.group.continueFrom(3);
      for (const group of [one, other]) group.step(4);
      assertEquals(other.values, one.values);
      assert(one.values.flatMap((values) => [...values]).every((value) => Number.isFinite(value) && value !== 0.5));
    });
  }

  it("takes about 16 bytes an element, or 10 with moments of 8 bits", () => {
    assertEquals(parameterBytes([1 << 20]), 16 << 20);
    const small = parameterBytes([1 << 20], 8);
    assert(small > 10 << 20 && small < 10.1 * 2 ** 20, `${small}`);
  });
});
