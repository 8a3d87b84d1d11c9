/** The API key that requests carry: until the page is left, or kept in this browser if its owner says so. Empty: none. */
import { signal } from "@preact/signals";
import { read, remove, write } from "./storage.ts";

const NAME = "apiq.key";

export const apiKey = signal(read(NAME) ?? "");

export function setApiKey(key: string, remember: boolean): void {
  apiKey.value = key;
  if (remember) write(NAME, key);
  else remove(NAME);
}

export function forgetApiKey(): void {
  setApiKey("", false);
}
