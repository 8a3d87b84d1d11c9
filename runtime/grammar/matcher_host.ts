/** The matchers of one grammar process: sequences in, masks out. */
import type { GrammarMatcher } from "@mlc-ai/web-xgrammar";
import { GrammarCompiler } from "./compiler.ts";
import { GrammarError, type GrammarSpec } from "./spec.ts";
import type { GrammarVocabulary } from "./vocabulary.ts";

/**
 * JSON allows any whitespace between its parts, and small models get lost in it. After this many characters of it in a row,
 * tokens of nothing but whitespace are taken from the mask. A bound inside the grammar would cost ten times as much to compile.
 */
const MAX_WHITESPACE = 64;

interface Matching {
  readonly matcher: GrammarMatcher;
  /** Whether MAX_WHITESPACE holds: free text (tools) may have as much as it likes. */
  readonly isJson: boolean;
  whitespace: number;
}

export class MatcherHost {
  readonly #compiler: GrammarCompiler;
  readonly #vocabulary: GrammarVocabulary;
  readonly #matchings = new Map<string, Matching>();
  /** Length of each token that is nothing but whitespace. */
  readonly #blank: ReadonlyMap<number, number>;

  private constructor(compiler: GrammarCompiler, vocabulary: GrammarVocabulary) {
    this.#compiler = compiler;
    this.#vocabulary = vocabulary;
    // A space, tab, line feed or carriage return in any of the three spellings.
    const blank = /^(?:[ \t\n\r\u0120\u0109\u010A\u010D\u2581]|<0x(?:20|09|0A|0D)>)+$/;
    this.#blank = new Map(
      vocabulary.tokens.flatMap((token, id) => (blank.test(token) ? [[id, token.length] as const] : [])),
    );
  }

  static async open(vocabulary: GrammarVocabulary): Promise<MatcherHost> {
    return new MatcherHost(await GrammarCompiler.open(vocabulary), vocabulary);
  }

  /** False when the process has to be replaced. */
  get usable(): boolean {
    return this.#compiler.usable;
  }

  /** @throws {GrammarError} when the description is at fault, any other Error when the process is (see `usable`). */
  async start(sequence: string, spec: GrammarSpec): Promise<void> {
    const matcher = await this.#compiler.matcher(spec);
    const isJson = spec.type === "json_object" || spec.type === "json_schema";
    this.#matchings.set(sequence, { matcher, isJson, whitespace: 0 });
  }

  /**
   * Moves a sequence on by the tokens that were drawn, and tells what may come next.
   *
   * @returns int32 [ceil(vocab/32)], bit t % 32 of word t / 32 (from the low end) allows token t
   * @throws {GrammarError} when a token was not allowed, or none is.
   */
  async mask(sequence: string, accepted: readonly number[]): Promise<Int32Array> {
    const matching = this.#matchings.get(sequence);
    if (!matching) throw new GrammarError("Cannot compute a mask: the sequence has no grammar");
    for (const token of accepted) this.#accept(matching, token);
    const mask = await this.#compiler.attempt(() => matching.matcher.getNextTokenBitmask());
    // XGrammar leaves the bits after the last token set.
    const inLastWord = this.#vocabulary.tokens.length % 32;
    if (inLastWord !== 0) mask[mask.length - 1] &= (1 << inLastWord) - 1;
    if (mask.every((word) => word === 0)) {
      throw new GrammarError(
        "Cannot continue the output: the model's vocabulary has no token that the grammar allows here",
      );
    }
    return matching.whitespace < MAX_WHITESPACE ? mask : this.#withoutBlanks(mask);
  }

  finish(sequence: string): void {
    this.#matchings.get(sequence)?.matcher.dispose();
    this.#matchings.delete(sequence);
  }

  #accept(matching: Matching, token: number): void {
    if (!matching.matcher.acceptToken(token)) {
      const text = JSON.stringify(this.#vocabulary.tokens[token] ?? "");
      throw new GrammarError(`Cannot continue the output: token ${token} (${text}) is not allowed by the grammar`);
    }
    const blank = this.#blank.get(token);
    matching.whitespace = matching.isJson && blank !== undefined ? matching.whitespace + blank : 0;
  }

  #withoutBlanks(mask: Int32Array): Int32Array {
    const rest = mask.slice();
    for (const id of this.#blank.keys()) rest[id >> 5] &= ~(1 << (id & 31));
    return rest.every((word) => word === 0) ? mask : rest;
  }
}
