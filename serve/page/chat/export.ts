/** Conversations as files. */
import type { Conversation } from "../state/conversation.ts";
import { download } from "../ui/download.ts";

export function exportJson(conversation: Conversation): void {
  download(`${fileName(conversation)}.json`, "application/json", `${JSON.stringify(conversation, null, 2)}\n`);
}

export function exportMarkdown(conversation: Conversation): void {
  download(`${fileName(conversation)}.md`, "text/markdown", toMarkdown(conversation));
}

export function exportAll(conversations: readonly Conversation[]): void {
  download("apiq-conversations.json", "application/json", `${JSON.stringify(conversations, null, 2)}\n`);
}

export function toMarkdown({ title, system, messages }: Conversation): string {
  const parts = messages.map((message) =>
    message.role === "user" ? `## You\n\n${message.content}` : `## ${message.model}\n\n${message.content}`,
  );
  const prompt = system.trim() === "" ? [] : [`> ${system.trim().replaceAll("\n", "\n> ")}`];
  return `${[`# ${title}`, ...prompt, ...parts].join("\n\n")}\n`;
}

function fileName({ title, created }: Conversation): string {
  const words = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
  const day = new Date(created).toISOString().slice(0, 10);
  return `${day}-${words.slice(0, 40).replace(/^-|-$/g, "") || "conversation"}`;
}
