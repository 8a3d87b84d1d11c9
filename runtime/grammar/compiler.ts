/** From a GrammarSpec to a compiled grammar over a vocabulary. Runs inside the grammar process. */
import type {
  CompiledGrammar,
  Grammar,
  GrammarMatcher,
  GrammarCompiler as XGrammarCompiler,
} from "@mlc-ai/web-xgrammar";
import { prepareSchema } from "./schema.ts";
import { GrammarError, type GrammarSpec, LIMITS, type TagFormat } from "./spec.ts";
import type { GrammarVocabulary } from "./vocabulary.ts";
import { loadXGrammar, type XGrammarInstance } from "./xgrammar.ts";

/** Compiled grammars kept for later requests: a schema is usually sent many times. */
const CACHED_GRAMMARS = 16;
const ANY_OBJECT = '{"type":"object"}';

export class GrammarCompiler {
  readonly #main: XGrammarInstance;
  readonly #compiler: XGrammarCompiler;
  readonly #cache = new Map<string, CompiledGrammar>();
  /**
   * Turns descriptions into grammars first: that is where bad ones make XGrammar abort, and then only this instance, which
   * holds nothing, has to be made anew.
   */
  #scratch: XGrammarInstance | undefined;

  private constructor(main: XGrammarInstance, compiler: XGrammarCompiler) {
    this.#main = main;
    this.#compiler = compiler;
  }

  static async open(vocabulary: GrammarVocabulary): Promise<GrammarCompiler> {
    const main = loadXGrammar();
    const { TokenizerInfo, GrammarCompiler: Compiler } = main.api;
    const { tokens, kind, stopTokens } = vocabulary;
    const info = await TokenizerInfo.createTokenizerInfo([...tokens], kind, false, tokens.length, [...stopTokens]);
    // XGrammar's own cache is not bounded.
    return new GrammarCompiler(main, await Compiler.createGrammarCompiler(info, false));
  }

  /**
   * A matcher at the beginning of an output.
   *
   * @throws {GrammarError} for a description that is at fault; the compiler stays usable.
   * @throws {Error} when compiling itself failed, such as for lack of memory; the compiler must not be used any more.
   */
  async matcher(spec: GrammarSpec): Promise<GrammarMatcher> {
    const key = JSON.stringify(spec);
    let compiled = this.#cache.get(key);
    if (compiled === undefined) compiled = await this.#compile(spec);
    else this.#cache.delete(key);
    this.#cache.set(key, compiled);
    for (const oldest of [...this.#cache.keys()].slice(0, -CACHED_GRAMMARS)) {
      // Matchers share ownership of what they match.
      this.#cache.get(oldest)?.dispose();
      this.#cache.delete(oldest);
    }
    const grammar = compiled;
    return this.#main.attempt(() => this.#main.api.GrammarMatcher.createGrammarMatcher(grammar));
  }

  /** False once compiling or matching aborted. */
  get usable(): boolean {
    return !this.#main.aborted;
  }

  /** Runs a step of one of this compiler's matchers; an abort in it ends the compiler. */
  attempt<T>(body: () => Promise<T>): Promise<T> {
    return this.#main.attempt(body);
  }

  async #compile(spec: GrammarSpec): Promise<CompiledGrammar> {
    if (this.#scratch === undefined || this.#scratch.aborted) this.#scratch = loadXGrammar();
    const scratch = this.#scratch;
    const makeGrammar = await describeGrammar(spec, scratch);
    (await refusing(scratch, () => makeGrammar(scratch.api))).dispose();
    return this.#main.attempt(async () => {
      const grammar = await makeGrammar(this.#main.api);
      const compiled = await this.#compiler.compileGrammar(grammar);
      grammar.dispose();
      return compiled;
    });
  }
}

type MakeGrammar = (api: XGrammarInstance["api"]) => Promise<Grammar>;

/** @throws {GrammarError} when `spec` is too large or a schema in it is at fault. */
async function describeGrammar(spec: GrammarSpec, scratch: XGrammarInstance): Promise<MakeGrammar> {
  switch (spec.type) {
    case "json_object":
      return (api) => api.Grammar.fromJSONSchema(ANY_OBJECT, true, -1, undefined, false);
    case "json_schema": {
      const schema = JSON.stringify(prepareSchema(spec.schema, spec.strict));
      return (api) => api.Grammar.fromJSONSchema(schema, true, -1, undefined, spec.strict);
    }
    case "ebnf":
      if (spec.grammar.length > LIMITS.characters) {
        throw new GrammarError(
          `Cannot use grammar: received ${spec.grammar.length} characters, expected at most ${LIMITS.characters}`,
        );
      }
      return (api) => api.Grammar.fromEBNF(spec.grammar);
    case "structural_tag": {
      if (JSON.stringify(spec.format).length > LIMITS.characters) {
        throw new GrammarError(`Cannot use tools: their schemas have more than ${LIMITS.characters} characters`);
      }
      const format = await withGrammars(spec.format, scratch);
      return (api) => api.Grammar.fromStructuralTag({ type: "structural_tag", format });
    }
  }
}

/** `format` with its schemas as grammars: a structural tag would compile a schema its own way, always strict. */
async function withGrammars(format: TagFormat, scratch: XGrammarInstance): Promise<Record<string, unknown>> {
  switch (format.type) {
    case "json_schema": {
      const schema = JSON.stringify(prepareSchema(JSON.stringify(format.json_schema), format.strict));
      const grammar = await refusing(scratch, () =>
        scratch.api.Testings._jsonSchemaToEBNF(schema, true, -1, undefined, format.strict),
      );
      return { type: "grammar", grammar };
    }
    case "tag":
      return { ...format, content: await withGrammars(format.content, scratch) };
    case "sequence":
    case "or":
      return { ...format, elements: await allWithGrammars(format.elements, scratch) };
    case "triggered_tags":
    case "tags_with_separator":
      return { ...format, tags: await allWithGrammars(format.tags, scratch) };
    case "any_text":
    case "const_string":
    case "grammar":
      return format;
  }
}

async function allWithGrammars(formats: readonly TagFormat[], scratch: XGrammarInstance): Promise<unknown[]> {
  const done: unknown[] = [];
  for (const format of formats) {
    const made = await withGrammars(format, scratch);
    done.push(format.type === "tags_with_separator" ? await asGrammar(made, scratch) : made);
  }
  return done;
}

/** XGrammar takes a list of tags as a part of something else only if it knows it to end; a grammar it takes always. */
async function asGrammar(format: Record<string, unknown>, scratch: XGrammarInstance): Promise<Record<string, unknown>> {
  const grammar = await refusing(scratch, () =>
    scratch.api.Grammar.fromStructuralTag({ type: "structural_tag", format }),
  );
  const text = grammar.toString();
  grammar.dispose();
  return { type: "grammar", grammar: withRoot(text) };
}

/** XGrammar prints the rule that a grammar starts at last, under any name, but reads one called "root" as that. */
function withRoot(grammar: string): string {
  const [start] = grammar.slice(grammar.trimEnd().lastIndexOf("\n") + 1).split(" ");
  const literalOrName = /"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[A-Za-z_]\w*/g;
  return grammar.replace(literalOrName, (part) => {
    if (part === start) return "root";
    return part === "root" ? "inner_root" : part;
  });
}

/** Runs `body` on the scratch instance. An abort there is the description's fault: it is all the instance has seen. */
async function refusing<T>(scratch: XGrammarInstance, body: () => Promise<T>): Promise<T> {
  try {
    return await scratch.attempt(body);
  } catch (error) {
    throw new GrammarError(`Cannot use grammar: ${error instanceof Error ? error.message : String(error)}`);
  }
}
