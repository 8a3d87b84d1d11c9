/** What a screen reader is to say: whole sentences about what happened, never the tokens of an answer one by one. */
import { signal } from "@preact/signals";

export const announcement = signal("");

/** A longer answer is for its reader to go to. */
const LONGEST = 1000;

export function announce(text: string): void {
  // The same words twice would be no change, and not be said again.
  announcement.value = announcement.peek() === text ? `${text} ` : text;
}

export function announceAnswer(text: string, ending: string): void {
  const words = text.trim().split(/\s+/).length;
  announce(text.length <= LONGEST ? `${text} ${ending}` : `The answer of ${words} words is there. ${ending}`);
}
