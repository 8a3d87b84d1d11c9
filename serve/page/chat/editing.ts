/** Which of one's messages is being edited. */
import { signal } from "@preact/signals";

export const editing = signal<string | undefined>(undefined);

export function beginEditing(messageId: string): void {
  editing.value = messageId;
}

export function endEditing(): void {
  editing.value = undefined;
}
