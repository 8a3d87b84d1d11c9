/** The browser's storage for this page, or memory where the browser does not give it any. */
import { signal } from "@preact/signals";

/** What was to be kept did not fit. */
export const storageIsFull = signal(false);

const memory = new Map<string, string>();

export function read(key: string): string | undefined {
  try {
    return localStorage.getItem(key) ?? memory.get(key);
  } catch {
    return memory.get(key);
  }
}

export function write(key: string, value: string): void {
  memory.set(key, value);
  try {
    localStorage.setItem(key, value);
    storageIsFull.value = false;
  } catch (error) {
    storageIsFull.value = error instanceof DOMException && error.name === "QuotaExceededError";
  }
}

export function remove(key: string): void {
  memory.delete(key);
  try {
    localStorage.removeItem(key);
    storageIsFull.value = false;
  } catch {}
}

export function keys(prefix: string): readonly string[] {
  const known = new Set(memory.keys());
  try {
    for (const key of Object.keys(localStorage)) known.add(key);
  } catch {}
  return [...known].filter((key) => key.startsWith(prefix));
}
