/**
 * What keeps bad conversations out: each function gives the reason to leave one out, or null. The rules are rough on purpose; they
 * are to keep small models' commonest failures away, and see English only.
 */

/** Characters of a user's message. */
const USER_LENGTH = { least: 8, most: 400 };
const ANSWER_LENGTH = { least: 2, most: 4000 };
/** Of the characters that are no white space: so many at least are ASCII, and letters of it. */
const ASCII_SHARE = 0.95;
const LETTER_SHARE = 0.4;
/** Words in a row that count as a phrase, and which part of all phrases may have been there before: loops have more than lists. */
const PHRASE = 4;
const REPEATED_SHARE = 0.25;
/** A line of at least so many words may not stand in an answer so often. */
const LINE = { words: 3, times: 3 };
/** A sentence of so many words is not said twice. */
const SENTENCE_WORDS = 8;

/** Lower-case words without marks: two texts that differ in nothing else are taken for the same. */
export function normalized(text: string): string {
  return (
    text
      .normalize("NFKC")
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu)
      ?.join(" ") ?? ""
  );
}

const QUESTION_WORDS =
  "what|who|whom|whose|when|where|why|which|how|is|are|was|were|am|do|does|did|can|could|will|would|should|shall|may|might|" +
  "have|has";
const REQUEST_WORDS =
  "add|analyze|answer|arrange|brainstorm|build|calculate|change|check|choose|classify|combine|compare|complete|compose|" +
  "compute|construct|convert|correct|count|create|define|demonstrate|describe|design|develop|discuss|draft|draw|edit|" +
  "estimate|evaluate|explain|explore|find|fix|generate|give|help|identify|imagine|implement|improve|invent|let|list|make|" +
  "name|offer|outline|plan|please|predict|prepare|present|propose|prove|provide|rank|recommend|rephrase|rewrite|say|" +
  "select|share|show|simplify|solve|sort|state|suggest|summarize|tell|translate|turn|use|verify|write";
/** How a message begins that asks for something. */
const ASKS = new RegExp(
  `^(?:(?:hi|hello|hey|ok|okay|so|and|now|then|also|but),? )*(?:${QUESTION_WORDS}|${REQUEST_WORDS})\\b`,
  "i",
);
/** What a user says who asks for something in other words. */
const WANTS =
  /\b(?:please|can you|could you|would you|help me|i need|i want|i would like|i'd like|i am looking|i'm looking)\b/i;
/** How an assistant speaks, and no user. */
const ANSWERS =
  /^(?:sure|certainly|of course|absolutely|here(?: is| are|'s)|as an ai|i(?:'m| am) (?:sorry|here)|thank you for|great question)\b/i;
/** How a small model declines what it could very well do, and speaks of itself instead. */
const DECLINES = new RegExp(
  [
    "\\bany (?:misunderstanding|confusion)\\b",
    "\\bas an? (?:ai|artificial|chatbot|digital|language model|text|virtual)\\b",
    "\\bi(?:'m| am) (?:just |only |currently )?(?:unable|designed|programmed|an? (?:ai|chatbot|digital|language model|text|virtual))\\b",
    "\\bi(?:'m| am) not (?:able|capable|designed|equipped|programmed|an? (?:human|fitness|medical|financial|legal))\\b",
    "\\bi (?:don't|do not|can't|cannot) (?:have (?:the ability|the capability|access|personal)|provide|assist|access)\\b",
  ].join("|"),
  "i",
);
/** Marks of templates, and of conversations written out. */
const MARKS = /<\||\|>|\[\/?INST\]|^(?:user|assistant|system|human|ai)\s*:/im;
/** A text that is spoken of, and is not there. */
const ABSENT =
  /\b(?:following|given|above|below|provided)\b[^.?!]*\b(?:text|passage|sentences?|paragraph|article|code|data|table|list)\b/i;
/** So long a message can hold the text that it speaks of. */
const HOLDS_TEXT = 160;

/** @param earlier the user's messages before this one */
export function userProblem(text: string, earlier: readonly string[] = []): string | null {
  if (text.length < USER_LENGTH.least) return "message too short";
  if (text.length > USER_LENGTH.most) return "message too long";
  const problem = textProblem(text);
  if (problem !== null) return `message ${problem}`;
  if (ANSWERS.test(text)) return "message is an answer";
  if (!(text.trimEnd().endsWith("?") || ASKS.test(text) || WANTS.test(text))) return "message asks for nothing";
  if (text.endsWith(":") || (text.length < HOLDS_TEXT && ABSENT.test(text)))
    return "message speaks of a text that is absent";
  if (text.includes("\n\n")) return "message has paragraphs";
  if (earlier.some((other) => normalized(other) === normalized(text))) return "message repeats an earlier one";
  return null;
}

/**
 * @param ended whether the model ended the answer itself
 * @param earlier the answers before this one
 */
export function answerProblem(text: string, ended: boolean, earlier: readonly string[] = []): string | null {
  if (!ended) return "answer does not end";
  if (text.length < ANSWER_LENGTH.least) return "answer too short";
  if (text.length > ANSWER_LENGTH.most) return "answer too long";
  const problem = textProblem(text);
  if (problem !== null) return `answer ${problem}`;
  if (DECLINES.test(text)) return "answer declines";
  if (earlier.some((other) => normalized(other) === normalized(text))) return "answer repeats an earlier one";
  return null;
}

function textProblem(text: string): string | null {
  if (text !== text.trim()) return "begins or ends in white space";
  if (text.includes("\uFFFD")) return "is no text";
  if (MARKS.test(text)) return "holds marks of a conversation";
  const visible = text.replaceAll(/\s/g, "");
  const count = (pattern: RegExp): number => visible.match(pattern)?.length ?? 0;
  if (count(/[\x21-\x7e]/g) < ASCII_SHARE * visible.length) return "is not in English letters";
  if (count(/[A-Za-z]/g) < LETTER_SHARE * visible.length) return "has few letters";
  return isRepetitive(text) ? "repeats itself" : null;
}

/** Why a text that is still being said will not be kept, or null. */
export function hopelessProblem(text: string): string | null {
  if (DECLINES.test(text)) return "declines";
  return isRepetitive(text) ? "repeats itself" : null;
}

/** Whether a text says the same again and again: phrases, sentences or whole lines. */
export function isRepetitive(text: string): boolean {
  const lines = new Map<string, number>();
  for (const line of text.split("\n").map(normalized)) {
    const times = (lines.get(line) ?? 0) + 1;
    if (times >= LINE.times && line.split(" ").length >= LINE.words) return true;
    lines.set(line, times);
  }
  const sentences = text
    .split(/[.?!\n]+/)
    .map(normalized)
    .filter((sentence) => sentence.split(" ").length >= SENTENCE_WORDS);
  if (new Set(sentences).size < sentences.length) return true;
  const words = normalized(text).split(" ");
  const phrases = words.slice(PHRASE - 1).map((_, i) => words.slice(i, i + PHRASE).join(" "));
  const repeated = phrases.length - new Set(phrases).size;
  // One phrase of a short text may well come twice.
  return repeated > 2 && repeated > REPEATED_SHARE * phrases.length;
}
