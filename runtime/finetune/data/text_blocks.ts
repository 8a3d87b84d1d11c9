/** Texts as streams of tokens, cut into blocks. */
import { readLines } from "../../eval/text_file.ts";
import type { Tokenizer } from "../../tokenizer/mod.ts";

/** Characters of a text that are encoded at once, about, unless a caller says otherwise. */
const PIECE = 2 ** 20;
/** Characters on both sides of a cut by which it is judged. */
const CONTEXT = 256;
/** Cuts that are tried before a piece is made longer. */
const TRIES = 64;

/**
 * Yields the tokens of a plain text piece by piece; together they are those of the whole text, so a text may have any size. Lines end
 * in LF, whatever the file has.
 *
 * @throws Error naming file and line of what is not UTF-8
 */
export function* encodeText(
  tokenizer: Tokenizer,
  file: string,
  characters: number = PIECE,
): Generator<number[], void, void> {
  let isFirst = true;
  for (const piece of textPieces(tokenizer, file, characters)) {
    yield tokenizer.encode(piece, { addSpecialTokens: isFirst });
    isFirst = false;
  }
}

/**
 * Cuts a stream of tokens into blocks back to back. The last may be shorter; one token alone is left out, for there is nothing in it
 * to predict.
 */
export function* cutIntoBlocks(pieces: Iterable<readonly number[]>, length: number): Generator<number[], void, void> {
  let block: number[] = [];
  for (const piece of pieces) {
    for (const id of piece) {
      block.push(id);
      if (block.length < length) continue;
      yield block;
      block = [];
    }
  }
  if (block.length > 1) yield block;
}

/** The text in pieces of about `characters`, cut only where no token crosses and none changes. */
function* textPieces(tokenizer: Tokenizer, file: string, characters: number): Generator<string, void, void> {
  let held = "";
  let enough = characters;
  for (const { text, number, ended } of readLines(file)) {
    if (text === null) throw new Error(`Cannot read ${file}:${number}: it is not UTF-8 text`);
    held += ended ? `${text}\n` : text;
    if (held.length < enough) continue;
    const cut = safeCut(tokenizer, held);
    enough = cut > 0 ? characters : 2 * held.length;
    if (cut === 0) continue;
    yield held.slice(0, cut);
    held = held.slice(cut);
  }
  if (held !== "") yield held;
}

/** The last place at which a text can be cut between two lines; 0 where none is found. */
function safeCut(tokenizer: Tokenizer, text: string): number {
  let cut = text.length - CONTEXT;
  for (let tries = 0; tries < TRIES; tries++) {
    cut = text.lastIndexOf("\n", cut - 2) + 1;
    if (cut <= CONTEXT) return 0;
    if (isSafeCut(tokenizer, text.slice(cut - CONTEXT, cut), text.slice(cut, cut + CONTEXT))) return cut;
  }
  return 0;
}

/** White space on one side alone could be part of a longer stretch, which is encoded as one. */
function isSafeCut(tokenizer: Tokenizer, left: string, right: string): boolean {
  if (left.trim() === "" || right.trim() === "") return false;
  const encode = (text: string): number[] => tokenizer.encode(text, { addSpecialTokens: false });
  const apart = [...encode(left), ...encode(right)];
  const together = encode(left + right);
  return apart.length === together.length && apart.every((id, i) => id === together[i]);
}
