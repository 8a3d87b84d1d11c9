/** Where one types, with the button that sends, or stops the answer. */
import { useComputed } from "@preact/signals";
import { liveAnswers, stopAnswer } from "../state/answers.ts";
import type { Conversation } from "../state/conversation.ts";
import { Icon } from "../ui/icon.tsx";
import { send } from "./commands.ts";
import { COMPOSER, setTyped, typed } from "./composer_text.ts";
import { beginEditing } from "./editing.ts";
import { GrowingField } from "./growing_field.tsx";

export function Composer({ conversation }: { conversation: Conversation }) {
  const { id, messages } = conversation;
  const text = typed.value[id] ?? "";
  const isAnswering = useComputed(() => liveAnswers.value.has(id)).value;
  const submit = () => {
    if (isAnswering || text.trim() === "") return;
    setTyped(id, "");
    send(id, text);
  };
  const onKey = (event: KeyboardEvent) => {
    const last = messages.findLast(({ role }) => role === "user");
    if (event.key !== "ArrowUp" || text !== "" || !last) return;
    event.preventDefault();
    beginEditing(last.id);
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <GrowingField
        id={COMPOSER}
        label="Message"
        placeholder="Write a message"
        text={text}
        onText={(now) => setTyped(id, now)}
        onEnter={submit}
        onKey={onKey}
      />
      {isAnswering ? (
        <button
          type="button"
          class="send"
          aria-label="Stop the answer"
          title="Stop (Esc)"
          onClick={() => stopAnswer(id)}
        >
          <Icon name="stop" />
        </button>
      ) : (
        <button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={text.trim() === ""}>
          <Icon name="send" />
        </button>
      )}
    </form>
  );
}
