/** What is typed and not yet sent, per conversation, and the field it is typed in. */
import { signal } from "@preact/signals";

export const typed = signal<Readonly<Record<string, string>>>({});

export const COMPOSER = "composer";

export function setTyped(id: string, text: string): void {
  typed.value = { ...typed.peek(), [id]: text };
}

export function focusComposer(): void {
  // After the view that holds the field has been drawn.
  setTimeout(() => document.getElementById(COMPOSER)?.focus());
}
