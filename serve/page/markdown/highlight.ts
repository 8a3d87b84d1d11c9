/**
 * Colours for code by what nearly all languages share: comments, strings, numbers, words that languages keep for themselves. A
 * few expressions instead of a grammar per language; what they get wrong is a colour.
 */

export type SpanKind = "comment" | "string" | "number" | "keyword" | "call";

export interface Span {
  readonly text: string;
  /** Undefined: plain. */
  readonly kind?: SpanKind;
}

const KEYWORDS = new Set(
  (
    "abstract and as assert async await begin bool boolean break by case catch char class const constexpr continue create def " +
    "default defer del delete do double elif else end enum except export extends extern false False final finally float fn for " +
    "foreach from func function global go goto group if impl implements import in inline insert instanceof int interface into is " +
    "join lambda let limit local long loop match mod module mut namespace new nil none None nonlocal not null nullptr of on or " +
    "order package pass private protected public raise readonly ref return select self set short signed sizeof static string " +
    "struct super switch table template then this throw throws trait true True try type typedef typename typeof union unsigned " +
    "update use using values var void volatile when where while with yield"
  ).split(" "),
);

/** Languages whose comments begin with # (or, in SQL and its kin, with --); elsewhere those are operators. */
const HASH =
  /^(py|python|sh|bash|zsh|shell|console|rb|ruby|pl|perl|r|yaml|yml|toml|ini|dockerfile|make|makefile|cmake|julia|elixir)$/;
const DASHES = /^(sql|lua|haskell|hs|ada|elm)$/;
/** Not code: left plain. */
const PLAIN = /^(text|txt|plain|plaintext|markdown|md|output|log|)$/;

const STRING =
  String.raw`"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|` +
  "`(?:\\\\.|[^`\\\\])*`?";
const NUMBER = String.raw`\b(?:0[xX][\da-fA-F_]+|0[bB][01_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\w*`;
const WORD = String.raw`[A-Za-z_$][\w$]*`;

/** The pieces of `code`, which joined are `code` again. `language`: the word after the fence, in lower case. */
export function highlight(code: string, language: string): readonly Span[] {
  if (PLAIN.test(language)) return [{ text: code }];
  const spans: Span[] = [];
  let end = 0;
  const add = (text: string, kind?: SpanKind) => {
    if (text !== "") spans.push(kind ? { text, kind } : { text });
  };
  for (const match of code.matchAll(expression(language))) {
    const [text] = match;
    const kind = kindOf(match.groups ?? {}, code[match.index + text.length]);
    if (!kind) continue;
    add(code.slice(end, match.index));
    add(text, kind);
    end = match.index + text.length;
  }
  add(code.slice(end));
  return spans;
}

function expression(language: string): RegExp {
  const line = HASH.test(language) ? "#.*" : DASHES.test(language) ? "--.*" : String.raw`\/\/.*|<!--[\s\S]*?(?:-->|$)`;
  const comment = String.raw`\/\*[\s\S]*?(?:\*\/|$)|${line}`;
  return new RegExp(`(?<comment>${comment})|(?<string>${STRING})|(?<number>${NUMBER})|(?<word>${WORD})`, "g");
}

function kindOf(groups: Readonly<Record<string, string | undefined>>, next: string | undefined): SpanKind | undefined {
  if (groups.comment !== undefined) return "comment";
  if (groups.string !== undefined) return "string";
  if (groups.number !== undefined) return "number";
  const word = groups.word ?? "";
  if (KEYWORDS.has(word) || (word === word.toUpperCase() && KEYWORDS.has(word.toLowerCase()))) return "keyword";
  return next === "(" ? "call" : undefined;
}
