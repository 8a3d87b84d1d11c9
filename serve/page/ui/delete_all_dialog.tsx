/** Asks before all conversations go, since that cannot be taken back. */
import { discardAnswer } from "../state/answers.ts";
import { conversations, discard } from "../state/conversations.ts";
import { go } from "../state/route.ts";
import { Dialog } from "./dialog.tsx";
import { closePanel } from "./panels.ts";
import { showNote } from "./toast.tsx";

export function DeleteAllDialog() {
  const count = conversations.value.length;
  const remove = () => {
    for (const { id } of conversations.peek()) {
      discardAnswer(id);
      discard(id);
    }
    closePanel();
    go({ view: "chat" });
    showNote("All conversations deleted.");
  };
  return (
    <Dialog title="Delete all conversations?" onClose={closePanel}>
      <p>{`${count} ${count === 1 ? "conversation is" : "conversations are"} deleted from this browser for good.`}</p>
      <p class="buttons end">
        <button type="button" onClick={closePanel}>
          Cancel
        </button>
        <button type="button" class="danger solid" onClick={remove}>
          Delete all
        </button>
      </p>
    </Dialog>
  );
}
