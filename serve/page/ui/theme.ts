/** Light, dark, or what the system says; kept in this browser. */
import { effect, signal } from "@preact/signals";
import { read, remove, write } from "../state/storage.ts";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const NAME = "apiq.theme";

export const theme = signal<Theme>(THEMES.find((one) => one === read(NAME)) ?? "system");

/** Puts the choice on the document, now and whenever it changes. */
export function applyTheme(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    if (theme.value === "system") remove(NAME);
    else write(NAME, theme.value);
  });
}
