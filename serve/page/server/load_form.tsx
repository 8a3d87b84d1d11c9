/** A name and a folder: an adapter to be loaded, or one to be replaced by its next generation. */
import { useState } from "preact/hooks";
import type { Adapter, AdapterToLoad } from "../api/adapters.ts";

export interface LoadFormProps {
  readonly busy: boolean;
  readonly adapters: readonly Adapter[];
  /** Resolves to whether it was loaded. */
  onLoad(adapter: AdapterToLoad): Promise<boolean>;
}

const MODES = [
  { value: "", label: "as the adapter says" },
  { value: "replace", label: "in place of the model's LoRA" },
  { value: "stack", label: "on top of the model's LoRA" },
] as const;

export function LoadForm({ busy, adapters, onLoad }: LoadFormProps) {
  const [name, setName] = useState("");
  const [path, setPath] = useState("");
  const [mode, setMode] = useState<(typeof MODES)[number]["value"]>("");
  const replaced = adapters.find(({ lora_name }) => lora_name === name.trim());
  const isComplete = name.trim() !== "" && path.trim() !== "";
  const load = async () => {
    const replaces = replaced && { replaces: replaced.generation };
    const done = await onLoad({ name: name.trim(), path: path.trim(), ...(mode && { mode }), ...replaces });
    if (!done) return;
    setName("");
    setPath("");
  };
  return (
    <form
      class="load"
      onSubmit={(event) => {
        event.preventDefault();
        void load();
      }}
    >
      <label class="stacked">
        Name
        <input class="field" value={name} onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      <label class="stacked wide">
        Folder on the server
        <input class="field" value={path} onInput={(event) => setPath(event.currentTarget.value)} />
      </label>
      <label class="stacked">
        Applied
        <select class="field" value={mode} onChange={(event) => setMode(event.currentTarget.value as typeof mode)}>
          {MODES.map(({ value, label }) => (
            <option key={value} value={value}>
              {label}
            </option>
          ))}
        </select>
      </label>
      <button type="submit" class="primary" disabled={busy || !isComplete}>
        {busy ? "Working…" : replaced ? "Replace" : "Load"}
      </button>
    </form>
  );
}
