/**
 * Names for conversations and messages. crypto.randomUUID would do, but a page that comes over plain HTTP from another machine
 * does not have it.
 */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
