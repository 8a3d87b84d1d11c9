/** The way to the other view, to other conversations, and what concerns the page as a whole. */
import { useComputed } from "@preact/signals";
import { openNewConversation, removeConversation } from "../chat/commands.ts";
import { liveAnswers } from "../state/answers.ts";
import type { Conversation } from "../state/conversation.ts";
import { conversations, current } from "../state/conversations.ts";
import { go, hrefOf, type Route, route } from "../state/route.ts";
import { health } from "../state/server.ts";
import { formatTime } from "./format.ts";
import { Icon, type IconName } from "./icon.tsx";
import { IconButton } from "./icon_button.tsx";
import { closePanel, panel } from "./panels.ts";
import { THEMES, type Theme, theme } from "./theme.ts";

export function Sidebar() {
  return (
    <div class="sidebar">
      <p class="brand">
        <img src={document.querySelector<HTMLLinkElement>("link[rel=icon]")?.href} alt="" width={24} height={24} />
        apiq
        <StatusDot />
      </p>
      <nav aria-label="Views">
        <ViewLink to={{ view: "chat" }} icon="chat" label="Chat" isCurrent={route.value.view === "chat"} />
        <ViewLink to={{ view: "server" }} icon="gauge" label="Server" isCurrent={route.value.view === "server"} />
      </nav>
      <button type="button" class="new" onClick={openNewConversation} aria-keyshortcuts="Alt+N" title="Alt+N">
        <Icon name="plus" /> New conversation
      </button>
      <nav class="conversations" aria-label="Conversations">
        {conversations.value.length === 0 ? (
          <p class="hint">What you talk about is kept here, in this browser.</p>
        ) : (
          <ul>
            {conversations.value.map((conversation) => (
              <Entry key={conversation.id} conversation={conversation} />
            ))}
          </ul>
        )}
      </nav>
      <footer>
        <ThemeChoice />
        <IconButton
          icon="keyboard"
          label="Keyboard shortcuts"
          shortcut="Ctrl+/"
          onClick={() => (panel.value = "shortcuts")}
        />
        <a class="icon-button" href="/docs" aria-label="API reference" title="API reference">
          <Icon name="book" />
        </a>
      </footer>
    </div>
  );
}

const STATUS_WORDS: Readonly<Record<string, string>> = {
  ready: "Ready",
  loading: "Loading",
  restarting: "Restarting",
  failed: "Failed",
  closed: "Stopping",
  no_model: "No model",
  away: "Away",
};

function StatusDot() {
  const status = health.value?.status;
  if (!status) return null;
  return <span class={`status ${status}`}>{STATUS_WORDS[status] ?? status}</span>;
}

interface ViewLinkProps {
  readonly to: Route;
  readonly icon: IconName;
  readonly label: string;
  readonly isCurrent: boolean;
}

function ViewLink({ to, icon, label, isCurrent }: ViewLinkProps) {
  return (
    <a href={hrefOf(to)} aria-current={isCurrent ? "page" : undefined} onClick={(event) => follow(event, to)}>
      <Icon name={icon} /> {label}
    </a>
  );
}

function Entry({ conversation }: { conversation: Conversation }) {
  const { id, title, updated } = conversation;
  const isAnswering = useComputed(() => liveAnswers.value.has(id)).value;
  const isCurrent = route.value.view === "chat" && current.value.id === id;
  return (
    <li>
      <a
        href={hrefOf({ view: "chat", id })}
        aria-current={isCurrent ? "page" : undefined}
        title={`${title} (${formatTime(updated)})`}
        onClick={(event) => follow(event, { view: "chat", id })}
      >
        {isAnswering && <span class="busy breathing" role="img" aria-label="Answering" />}
        <span class="title">{title || "Conversation"}</span>
      </a>
      <IconButton
        icon="trash"
        label={`Delete conversation: ${title}`}
        onClick={() => removeConversation(conversation)}
      />
    </li>
  );
}

/** A link of the page's own; with Ctrl and the like it opens a tab, as links do. */
function follow(event: MouseEvent, to: Route): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(to);
  closePanel();
}

const THEME_ICONS: Readonly<Record<Theme, IconName>> = { system: "display", light: "sun", dark: "moon" };

function ThemeChoice() {
  return (
    <fieldset class="themes">
      <legend class="visually-hidden">Colours</legend>
      {THEMES.map((one) => (
        <label key={one} title={`Colours: ${one}`}>
          <input type="radio" name="theme" checked={theme.value === one} onChange={() => (theme.value = one)} />
          <Icon name={THEME_ICONS[one]} />
          <span class="visually-hidden">{one}</span>
        </label>
      ))}
    </fieldset>
  );
}
