/** The adapters: a table of what is loaded, and a form to load another. */
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { type Adapter, type AdapterToLoad, getAdapters, loadAdapter, unloadAdapter } from "../api/adapters.ts";
import { RequestError } from "../api/request.ts";
import type { Trouble } from "../api/trouble.ts";
import { announce } from "../state/announcer.ts";
import { refreshModels } from "../state/server.ts";
import { formatBytes } from "../ui/format.ts";
import { Icon } from "../ui/icon.tsx";
import { Notice } from "../ui/notice.tsx";
import { panel } from "../ui/panels.ts";
import { LoadForm } from "./load_form.tsx";

const EVERY_MS = 5000;

const adapters = signal<readonly Adapter[] | undefined>(undefined);

export function AdapterPanel() {
  const [trouble, setTrouble] = useState<Trouble>();
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    const read = () => void readAdapters().then((failed) => failed && setTrouble(failed));
    read();
    const timer = setInterval(read, EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  /** Resolves to whether it was done. */
  const act = async (work: () => Promise<unknown>, done: string): Promise<boolean> => {
    setBusy(true);
    const failed = await troubleIn(work);
    setTrouble(failed);
    announce(failed ? `${failed.title}. ${failed.detail ?? failed.advice}` : done);
    await Promise.all([readAdapters(), refreshModels()]);
    setBusy(false);
    return failed === undefined;
  };
  const load = (adapter: AdapterToLoad) => act(() => loadAdapter(adapter), `The adapter ${adapter.name} is loaded.`);
  const unload = (adapter: Adapter) =>
    act(() => unloadAdapter(adapter), `The adapter ${adapter.lora_name} is unloaded.`);
  return (
    <section class="adapters" aria-labelledby="adapters-title">
      <h2 id="adapters-title">Adapters</h2>
      {trouble && (
        <Notice tone="danger" title={trouble.title} detail={trouble.detail}>
          <p>{trouble.advice}</p>
          {trouble.kind === "key" && (
            <p class="buttons">
              <button type="button" onClick={() => (panel.value = "key")}>
                <Icon name="key" /> Enter a key
              </button>
            </p>
          )}
        </Notice>
      )}
      <AdapterTable busy={busy} onUnload={(adapter) => void unload(adapter)} />
      <LoadForm busy={busy} adapters={adapters.value ?? []} onLoad={load} />
    </section>
  );
}

function AdapterTable({ busy, onUnload }: { busy: boolean; onUnload(adapter: Adapter): void }) {
  const list = adapters.value;
  if (!list) return <p class="hint">Asking the server…</p>;
  if (list.length === 0) return <p class="hint">None is loaded: all requests go to the base model.</p>;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls has to be reachable by keyboard
    <section class="table" aria-label="Loaded adapters" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Folder</th>
            <th scope="col">Rank</th>
            <th scope="col">With the model's LoRA</th>
            <th scope="col">Generation</th>
            <th scope="col">Memory</th>
            <th scope="col">
              <span class="visually-hidden">Unload</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {list.map((adapter) => (
            <tr key={adapter.lora_name}>
              <th scope="row">{adapter.lora_name}</th>
              <td class="path" title={adapter.lora_path}>
                {adapter.lora_path}
              </td>
              <td>{adapter.rank}</td>
              <td>{adapter.mode === "replace" ? "in its place" : "on top of it"}</td>
              <td>{adapter.generation}</td>
              <td>{formatBytes(adapter.bytes)}</td>
              <td>
                <button
                  type="button"
                  class="danger"
                  disabled={busy}
                  aria-label={`Unload ${adapter.lora_name}`}
                  onClick={() => onUnload(adapter)}
                >
                  Unload
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** Undefined when it could be had. */
function readAdapters(): Promise<Trouble | undefined> {
  return troubleIn(async () => {
    adapters.value = await getAdapters();
  });
}

async function troubleIn(work: () => Promise<unknown>): Promise<Trouble | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (error instanceof RequestError) return error.trouble;
    throw error;
  }
}
