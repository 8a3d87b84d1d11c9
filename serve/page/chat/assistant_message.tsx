/** An answer: complete, or still being written. */
import { mayPass, type Trouble } from "../api/trouble.ts";
import { Markdown } from "../markdown/markdown.tsx";
import type { LiveAnswer } from "../state/answers.ts";
import type { AssistantMessage as Message } from "../state/conversation.ts";
import { CopyButton } from "../ui/copy_button.tsx";
import { Icon } from "../ui/icon.tsx";
import { IconButton } from "../ui/icon_button.tsx";
import { Notice } from "../ui/notice.tsx";
import { panel } from "../ui/panels.ts";
import { answerAgain } from "./commands.ts";
import { Stats } from "./stats.tsx";

const ENDINGS: Readonly<Partial<Record<Message["end"], string>>> = {
  length: "Ended at the token limit",
  stopped: "Stopped",
};

export interface AssistantMessageProps {
  readonly conversationId: string;
  readonly message: Message;
  /** Only the last answer can be made anew. */
  readonly isLast: boolean;
}

export function AssistantMessage({ conversationId, message, isLast }: AssistantMessageProps) {
  const { model, content, stats, trouble, end } = message;
  return (
    <li class={`message assistant ${isLast ? "last" : ""}`}>
      <Heading model={model} />
      {content !== "" && <Markdown text={content} />}
      {content === "" && !trouble && <p class="hint">The model ended without a word.</p>}
      {trouble && <Failure trouble={trouble} retry={isLast ? () => answerAgain(conversationId) : undefined} />}
      <div class="actions">
        {stats && !(trouble && content === "") && <Stats stats={stats} ending={ENDINGS[end]} />}
        {content !== "" && <CopyButton text={content} label="Copy answer" />}
        {isLast && !trouble && (
          <IconButton icon="again" label="Answer again" shortcut="Alt+R" onClick={() => answerAgain(conversationId)} />
        )}
      </div>
    </li>
  );
}

export function LiveMessage({ live }: { live: LiveAnswer }) {
  const text = live.text.value;
  return (
    <li class="message assistant live" aria-busy="true">
      <Heading model={live.model} />
      {text === "" ? (
        <p class="thinking">
          <span class="visually-hidden">The model is reading</span>
          <i class="breathing" />
          <i class="breathing" />
          <i class="breathing" />
        </p>
      ) : (
        <Markdown text={text} />
      )}
      <div class="actions">{text !== "" && <Stats stats={live.stats.value} />}</div>
    </li>
  );
}

function Heading({ model }: { model: string }) {
  return (
    <h2 class="speaker">
      <span class="visually-hidden">Answer of </span>
      {model || "the model"}
    </h2>
  );
}

function Failure({ trouble, retry }: { trouble: Trouble; retry: (() => void) | undefined }) {
  return (
    <Notice tone={trouble.kind === "busy" || trouble.kind === "starting" ? "warning" : "danger"} {...trouble}>
      <p>{trouble.advice}</p>
      <p class="buttons">
        {trouble.kind === "key" && (
          <button type="button" onClick={() => (panel.value = "key")}>
            <Icon name="key" /> Enter a key
          </button>
        )}
        {retry && (
          <button type="button" class={mayPass(trouble) ? "primary" : ""} onClick={retry}>
            <Icon name="again" /> Try again
          </button>
        )}
      </p>
    </Notice>
  );
}
