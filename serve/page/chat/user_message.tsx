/** One's own message, and the field it becomes while it is edited. */
import { useState } from "preact/hooks";
import type { UserMessage as Message } from "../state/conversation.ts";
import { CopyButton } from "../ui/copy_button.tsx";
import { IconButton } from "../ui/icon_button.tsx";
import { resend } from "./commands.ts";
import { focusComposer } from "./composer_text.ts";
import { beginEditing, editing, endEditing } from "./editing.ts";
import { GrowingField } from "./growing_field.tsx";

export interface UserMessageProps {
  readonly conversationId: string;
  readonly message: Message;
}

export function UserMessage({ conversationId, message }: UserMessageProps) {
  const isEdited = editing.value === message.id;
  return (
    <li class={`message user ${isEdited ? "edited" : ""}`}>
      <h2 class="visually-hidden">You said</h2>
      {isEdited ? (
        <Editor conversationId={conversationId} message={message} />
      ) : (
        <>
          <div class="bubble">{message.content}</div>
          <div class="actions">
            <CopyButton text={message.content} label="Copy message" />
            <IconButton icon="edit" label="Edit message" onClick={() => beginEditing(message.id)} />
          </div>
        </>
      )}
    </li>
  );
}

function Editor({ conversationId, message }: UserMessageProps) {
  const [text, setText] = useState(message.content);
  const cancel = () => {
    endEditing();
    focusComposer();
  };
  const save = () => {
    if (text.trim() === "") return;
    resend(conversationId, message.id, text);
    cancel();
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    cancel();
  };
  return (
    <form
      class="editor"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <GrowingField label="Edit message" text={text} onText={setText} onEnter={save} onKey={onKey} focused />
      <div class="buttons">
        <span class="hint">What follows this message is answered anew.</span>
        <button type="button" onClick={cancel}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={text.trim() === ""}>
          Send
        </button>
      </div>
    </form>
  );
}
