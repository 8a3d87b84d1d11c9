/** What a reader can do with conversations, by button or by key. */
import { discardAnswer, startAnswer } from "../state/answers.ts";
import type { Conversation } from "../state/conversation.ts";
import { beginAnother, change, current, discard, find, restore } from "../state/conversations.ts";
import { newId } from "../state/id.ts";
import { go, route } from "../state/route.ts";
import { closePanel } from "../ui/panels.ts";
import { showNote } from "../ui/toast.tsx";
import { focusComposer } from "./composer_text.ts";

/** Adds a message and has it answered. */
export function send(id: string, text: string): void {
  const conversation = find(id);
  if (!conversation || text.trim() === "") return;
  say(conversation, conversation.messages.length, text);
}

/** Puts other words in place of one's message; what followed it is gone. */
export function resend(id: string, messageId: string, text: string): void {
  const conversation = find(id);
  const index = conversation?.messages.findIndex((message) => message.id === messageId) ?? -1;
  if (!conversation || index < 0 || text.trim() === "") return;
  discardAnswer(id);
  say(conversation, index, text);
}

/** Has the last of one's messages answered once more, in place of the answer that is there. */
export function answerAgain(id: string): void {
  const conversation = find(id);
  const last = conversation?.messages.findLastIndex(({ role }) => role === "user") ?? -1;
  if (!conversation || last < 0) return;
  change(id, { messages: conversation.messages.slice(0, last + 1) });
  void startAnswer(id);
}

function say({ id, messages }: Conversation, index: number, text: string): void {
  const message = { id: newId(), role: "user" as const, content: text };
  change(id, { messages: [...messages.slice(0, index), message], updated: Date.now() });
  if (route.peek().id !== id) go({ view: "chat", id }, { replace: true });
  void startAnswer(id);
}

export function openNewConversation(): void {
  beginAnother();
  go({ view: "chat" });
  closePanel();
  focusComposer();
}

export function removeConversation(conversation: Conversation): void {
  discardAnswer(conversation.id);
  const wasShown = current.peek().id === conversation.id;
  discard(conversation.id);
  if (wasShown) go({ view: "chat" });
  showNote("Conversation deleted.", () => {
    restore(conversation);
    if (wasShown) go({ view: "chat", id: conversation.id });
  });
}
