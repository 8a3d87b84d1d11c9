/** A short note at the foot of the page about what was just done, with a way to take it back. */
import { signal } from "@preact/signals";
import { announce } from "../state/announcer.ts";

interface Note {
  readonly text: string;
  readonly undo?: () => void;
}

const SHOWN_MS = 8000;

const note = signal<Note | undefined>(undefined);
let timer: ReturnType<typeof setTimeout> | undefined;

export function showNote(text: string, undo?: () => void): void {
  clearTimeout(timer);
  note.value = { text, ...(undo && { undo }) };
  announce(undo ? `${text} A button at the end of the page takes it back.` : text);
  timer = setTimeout(hide, SHOWN_MS);
}

function hide(): void {
  note.value = undefined;
}

export function Toast() {
  if (!note.value) return null;
  const { text, undo } = note.value;
  return (
    <div class="toast">
      <span>{text}</span>
      {undo && (
        <button
          type="button"
          onClick={() => {
            undo();
            hide();
          }}
        >
          Undo
        </button>
      )}
    </div>
  );
}
