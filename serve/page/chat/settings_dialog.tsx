/** The system prompt and the sampling settings of a conversation, and what else can be done with it. */
import { useState } from "preact/hooks";
import { apiKey } from "../state/api_key.ts";
import type { Conversation } from "../state/conversation.ts";
import { change, conversations, current } from "../state/conversations.ts";
import { SETTINGS, type SettingSpec, settingProblem } from "../state/sampling.ts";
import { Dialog } from "../ui/dialog.tsx";
import { Icon } from "../ui/icon.tsx";
import { closePanel, panel } from "../ui/panels.ts";
import { removeConversation } from "./commands.ts";
import { exportAll, exportJson, exportMarkdown } from "./export.ts";

export function SettingsDialog() {
  const conversation = current.value;
  const { id, system, sampling } = conversation;
  // Fields begin anew with what is there when all of it is taken back.
  const [round, setRound] = useState(0);
  const reset = () => {
    change(id, { sampling: {} });
    setRound(round + 1);
  };
  return (
    <Dialog title="Settings" shape="sheet" onClose={closePanel}>
      <p class="hint">They are this conversation's; a new one begins with the same.</p>
      <section aria-labelledby="system-title">
        <h3 id="system-title">System prompt</h3>
        <textarea
          class="field"
          rows={4}
          aria-labelledby="system-title"
          placeholder="Who the model is to be and how it is to answer"
          value={system}
          onInput={(event) => change(id, { system: event.currentTarget.value })}
        />
      </section>
      <section aria-labelledby="sampling-title">
        <h3 id="sampling-title">Sampling</h3>
        <p class="hint">What is left empty is the model's own choice.</p>
        <div class="settings" key={round}>
          {SETTINGS.map((spec) => (
            <Setting key={spec.field} spec={spec} conversation={conversation} />
          ))}
        </div>
        <button type="button" disabled={Object.keys(sampling).length === 0} onClick={reset}>
          Leave all to the model
        </button>
      </section>
      <ThisConversation conversation={conversation} />
      <AllConversations />
    </Dialog>
  );
}

/** What is typed stays as it is; only what can be used is taken over. */
function Setting({ spec, conversation }: { spec: SettingSpec; conversation: Conversation }) {
  const { field, label, about, min, max, step, unset = "model's" } = spec;
  const [text, setText] = useState(`${conversation.sampling[field] ?? ""}`);
  const problem = settingProblem(spec, text);
  const onInput = (now: string) => {
    setText(now);
    if (settingProblem(spec, now) !== undefined) return;
    const { [field]: _, ...others } = conversation.sampling;
    change(conversation.id, { sampling: now.trim() === "" ? others : { ...others, [field]: Number(now) } });
  };
  return (
    <div class="setting">
      <label for={`setting-${field}`}>{label}</label>
      <input
        id={`setting-${field}`}
        class="field"
        type="number"
        inputMode={spec.integer ? "numeric" : "decimal"}
        {...{ min, max, step }}
        value={text}
        placeholder={unset}
        aria-invalid={problem !== undefined}
        aria-describedby={`setting-${field}-about`}
        onInput={(event) => onInput(event.currentTarget.validity.badInput ? "?" : event.currentTarget.value)}
      />
      <span id={`setting-${field}-about`} class={problem ? "problem" : "hint"}>
        {problem ?? about}
      </span>
    </div>
  );
}

function ThisConversation({ conversation }: { conversation: Conversation }) {
  if (conversation.messages.length === 0) return null;
  const remove = () => {
    closePanel();
    removeConversation(conversation);
  };
  return (
    <section aria-labelledby="this-title">
      <h3 id="this-title">This conversation</h3>
      <div class="buttons">
        <button type="button" onClick={() => exportMarkdown(conversation)}>
          <Icon name="download" /> Markdown
        </button>
        <button type="button" onClick={() => exportJson(conversation)}>
          <Icon name="download" /> JSON
        </button>
        <button type="button" class="danger" onClick={remove}>
          <Icon name="trash" /> Delete
        </button>
      </div>
    </section>
  );
}

function AllConversations() {
  const count = conversations.value.length;
  return (
    <section aria-labelledby="all-title">
      <h3 id="all-title">This browser</h3>
      <div class="buttons">
        <button type="button" disabled={count === 0} onClick={() => exportAll(conversations.peek())}>
          <Icon name="download" /> {`Export all (${count})`}
        </button>
        <button type="button" class="danger" disabled={count === 0} onClick={() => (panel.value = "delete_all")}>
          <Icon name="trash" /> Delete all
        </button>
        <button type="button" onClick={() => (panel.value = "key")}>
          <Icon name="key" /> {apiKey.value === "" ? "API key" : "Change API key"}
        </button>
      </div>
    </section>
  );
}
