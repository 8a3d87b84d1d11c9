/** The keys that do something, and the list of them. */
import { answerAgain, openNewConversation } from "../chat/commands.ts";
import { focusComposer } from "../chat/composer_text.ts";
import { liveAnswers, stopAnswer } from "../state/answers.ts";
import { current } from "../state/conversations.ts";
import { route } from "../state/route.ts";
import { Dialog } from "./dialog.tsx";
import { closePanel, panel } from "./panels.ts";

const LIST: readonly (readonly [keys: string, what: string])[] = [
  ["Enter", "send the message"],
  ["Shift Enter", "begin a line"],
  ["Esc", "stop the answer, or close what is open"],
  ["↑", "in an empty field: edit the last message"],
  ["Alt R", "answer again"],
  ["Alt N", "new conversation"],
  ["Alt M", "to the message field"],
  ["Alt S", "settings"],
  ["Ctrl /", "this list"],
];

/** By the key's place, since Alt makes other letters on some keyboards. */
const WITH_ALT: Readonly<Record<string, () => void>> = {
  KeyN: openNewConversation,
  KeyM: focusComposer,
  KeyS: () => {
    panel.value = "settings";
  },
  KeyR: () => {
    const { id } = current.peek();
    if (!liveAnswers.peek().has(id)) answerAgain(id);
  },
};

export function listenForShortcuts(): void {
  window.addEventListener("keydown", (event) => {
    const { key, code, altKey, ctrlKey, metaKey, shiftKey } = event;
    if (key === "/" && (ctrlKey || metaKey)) {
      event.preventDefault();
      panel.value = "shortcuts";
      return;
    }
    // A dialog has its own keys; the server's page has no conversation.
    if (panel.peek() !== undefined || route.peek().view !== "chat") return;
    if (key === "Escape") stopAnswer(current.peek().id);
    const action = altKey && !ctrlKey && !metaKey && !shiftKey ? WITH_ALT[code] : undefined;
    if (!action) return;
    event.preventDefault();
    action();
  });
}

export function ShortcutsDialog() {
  return (
    <Dialog title="Keyboard shortcuts" onClose={closePanel}>
      <dl class="shortcuts">
        {LIST.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
