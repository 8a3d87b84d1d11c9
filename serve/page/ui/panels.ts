/** Which dialog is open; one at a time. */
import { signal } from "@preact/signals";

export type Panel = "settings" | "shortcuts" | "key" | "conversations" | "delete_all";

export const panel = signal<Panel | undefined>(undefined);

export function closePanel(): void {
  panel.value = undefined;
}
