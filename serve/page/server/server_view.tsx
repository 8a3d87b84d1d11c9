/** The server: what it runs, what it does now and did in the last minutes, and its adapters. */
import { health } from "../state/server.ts";
import { formatBytes, formatNumber } from "../ui/format.ts";
import { IconButton } from "../ui/icon_button.tsx";
import { Notice } from "../ui/notice.tsx";
import { panel } from "../ui/panels.ts";
import { ServerNotice } from "../ui/server_notice.tsx";
import { AdapterPanel } from "./adapter_panel.tsx";
import { Charts } from "./charts.tsx";

export function ServerView() {
  const state = health.value;
  return (
    <div class="server">
      <header class="bar">
        <IconButton icon="menu" label="Menu" class="phone-only" onClick={() => (panel.value = "conversations")} />
        <h1>Server</h1>
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls has to be reachable by keyboard */}
      <section class="board" aria-label="Server" tabIndex={0}>
        <ServerNotice />
        {state?.status === "no_model" && (
          <Notice tone="info" icon="display" title="No model is loaded" detail={state.message} />
        )}
        <Facts />
        <Charts />
        {state?.status === "ready" && <AdapterPanel />}
      </section>
    </div>
  );
}

const MEMORY_NAMES: Readonly<Record<string, string>> = {
  weights: "Weights",
  lora: "Calibrated LoRA",
  adapters: "Adapters",
  kv_cache: "KV cache",
  scratch: "Working memory",
};

function Facts() {
  const state = health.value;
  if (state?.status !== "ready") return null;
  const { engine, bytes, model, version } = state;
  const threads = engine.threads === 1 ? "1 thread" : `${engine.threads} threads`;
  const parts = Object.entries(bytes).filter(([, size]) => size > 0);
  return (
    <dl class="facts">
      <Fact name="Model" value={model} />
      <Fact name="Runs on" value={`${engine.device}, ${engine.isa}, ${threads}`} />
      <Fact name="Context" value={`${formatNumber(engine.context_length)} tokens`} />
      {parts.map(([name, size]) => (
        <Fact key={name} name={MEMORY_NAMES[name] ?? name.replaceAll("_", " ")} value={formatBytes(size)} />
      ))}
      <Fact name="apiq" value={version} />
    </dl>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
