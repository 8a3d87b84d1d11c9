/** The choice between the base and its adapters. */
import type { Conversation } from "../state/conversation.ts";
import { change } from "../state/conversations.ts";
import { baseModel, models, refreshModels } from "../state/server.ts";

export function ModelSelect({ conversation }: { conversation: Conversation }) {
  const base = baseModel.value;
  const adapters = models.value.filter(({ parent }) => parent);
  const chosen = conversation.model;
  const isKnown = chosen === "" || adapters.some(({ id }) => id === chosen);
  return (
    <label class="select">
      <span class="visually-hidden">Model or adapter</span>
      <select
        value={chosen}
        onFocus={() => void refreshModels()}
        onChange={(event) => change(conversation.id, { model: event.currentTarget.value })}
      >
        <option value="">{base ? base.id : "No model"}</option>
        {adapters.length > 0 && (
          <optgroup label="Adapters">
            {adapters.map(({ id }) => (
              <option key={id} value={id}>
                {id}
              </option>
            ))}
          </optgroup>
        )}
        {!isKnown && <option value={chosen}>{`${chosen} (not loaded)`}</option>}
      </select>
    </label>
  );
}
