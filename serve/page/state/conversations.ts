/** The conversations of this browser, each an entry of its storage, and the one that is begun but not yet kept. */
import { computed, signal } from "@preact/signals";
import { type Conversation, titleOf } from "./conversation.ts";
import { newId } from "./id.ts";
import { route } from "./route.ts";
import { keys, read, remove, write } from "./storage.ts";

const PREFIX = "apiq.conversation.";

/** Latest first. */
export const conversations = signal<readonly Conversation[]>(readAll());

const draft = signal<Conversation>(begin(conversations.peek()[0]));

/** The one on the page: what the address names, or else the one to be begun. */
export const current = computed(() => {
  const { view, id } = route.value;
  return (view === "chat" && conversations.value.find((one) => one.id === id)) || draft.value;
});

export function find(id: string): Conversation | undefined {
  return conversations.peek().find((one) => one.id === id) ?? (draft.peek().id === id ? draft.peek() : undefined);
}

/** Changes one; the first message makes of the draft a conversation that is kept. */
export function change(id: string, changes: Partial<Omit<Conversation, "id">>): void {
  const before = find(id);
  if (!before) return;
  const after = { ...before, ...changes };
  if (after.messages.length === 0 && draft.peek().id === id) {
    draft.value = after;
    return;
  }
  const titled = { ...after, title: titleOf(after.messages) || before.title };
  write(PREFIX + id, JSON.stringify(titled));
  conversations.value = sorted([...conversations.peek().filter((one) => one.id !== id), titled]);
  if (draft.peek().id === id) draft.value = begin(titled);
}

/** An empty draft with the model and the settings of the conversation on the page. */
export function beginAnother(): void {
  draft.value = begin(current.peek());
}

export function discard(id: string): void {
  remove(PREFIX + id);
  conversations.value = conversations.peek().filter((one) => one.id !== id);
}

/** Puts back what was discarded. */
export function restore(conversation: Conversation): void {
  write(PREFIX + conversation.id, JSON.stringify(conversation));
  conversations.value = sorted([...conversations.peek().filter(({ id }) => id !== conversation.id), conversation]);
}

/** Follows what other tabs of this browser do. */
export function followOtherTabs(): void {
  window.addEventListener("storage", ({ key }) => {
    if (key === null || key.startsWith(PREFIX)) conversations.value = readAll();
  });
}

function begin(like?: Conversation): Conversation {
  const now = Date.now();
  return {
    id: newId(),
    title: "",
    created: now,
    updated: now,
    model: like?.model ?? "",
    system: like?.system ?? "",
    sampling: like?.sampling ?? {},
    messages: [],
  };
}

function readAll(): readonly Conversation[] {
  return sorted(keys(PREFIX).flatMap((key) => parse(read(key)) ?? []));
}

/** Undefined for what no version of this page wrote. */
function parse(text: string | undefined): Conversation | undefined {
  try {
    const value = JSON.parse(text ?? "null") as Partial<Conversation> | null;
    const isWhole = typeof value?.id === "string" && Array.isArray(value.messages) && typeof value.updated === "number";
    return isWhole ? { ...begin(), ...value } : undefined;
  } catch {
    return undefined;
  }
}

function sorted(list: readonly Conversation[]): readonly Conversation[] {
  return [...list].sort((a, b) => b.updated - a.updated);
}
