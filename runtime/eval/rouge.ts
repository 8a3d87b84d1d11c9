/**
 * ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013) as Google's rouge_score computes them without its
 * stemmer: texts in lower case, words are runs of a to z and 0 to 9 (so texts in other scripts have none), ROUGE-L over the whole
 * text as one sequence.
 */

export interface RougeScores {
  rouge1: number;
  rouge2: number;
  rougeL: number;
}

/** F1 of each; 0 where one of the texts has no n-gram of that length. */
export function rouge(reference: string, candidate: string): RougeScores {
  const a = words(reference);
  const b = words(candidate);
  return {
    rouge1: ngramF1(a, b, 1),
    rouge2: ngramF1(a, b, 2),
    rougeL: f1(longestCommonSubsequence(a, b), a.length, b.length),
  };
}

function words(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
}

/** Precision and recall share the number of matches: 2 matches / (reference + candidate). */
function f1(matches: number, reference: number, candidate: number): number {
  return matches === 0 ? 0 : (2 * matches) / (reference + candidate);
}

/** An n-gram matches as often as it is in both. */
function ngramF1(a: readonly string[], b: readonly string[], n: number): number {
  const counts = new Map<string, number>();
  const grams = (list: readonly string[]) => list.slice(n - 1).map((_, i) => list.slice(i, i + n).join(" "));
  const inA = grams(a);
  const inB = grams(b);
  for (const gram of inA) counts.set(gram, (counts.get(gram) ?? 0) + 1);
  let matches = 0;
  for (const gram of inB) {
    const left = counts.get(gram) ?? 0;
    if (left > 0) matches++;
    counts.set(gram, left - 1);
  }
  return f1(matches, inA.length, inB.length);
}

function longestCommonSubsequence(a: readonly string[], b: readonly string[]): number {
  let above = new Uint32Array(b.length + 1);
  for (const word of a) {
    const row = new Uint32Array(b.length + 1);
    for (let j = 0; j < b.length; j++) row[j + 1] = word === b[j] ? above[j] + 1 : Math.max(above[j + 1], row[j]);
    above = row;
  }
  return above[b.length];
}
