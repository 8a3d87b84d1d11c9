/** What is typed and not yet sent, per conversation, and the field it is typed in. */
import { signal } from "@preact/signals";

export const typed = signal<Readonly<Record<string, string>>>({});

export const COMPOSER = "composer";

export function setTyped(id: string, text: string): void {
  typed.value = { ...typed.peek(), [id]: text };
}

export function focusComposer(): void {
  const focus = () => document.getElementById(COMPOSER)?.focus();
  // At once, so that no key is lost, and again after a view that is only now to hold the field has been drawn.
  focus();
  setTimeout(focus);
}
