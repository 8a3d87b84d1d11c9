/** The conversation on the page, or the beginning of one. */

import { liveAnswers } from "../state/answers.ts";
import type { Conversation } from "../state/conversation.ts";
import { current } from "../state/conversations.ts";
import { contextLength } from "../state/server.ts";
import { storageIsFull } from "../state/storage.ts";
import { formatNumber } from "../ui/format.ts";
import { IconButton } from "../ui/icon_button.tsx";
import { Notice } from "../ui/notice.tsx";
import { panel } from "../ui/panels.ts";
import { ServerNotice } from "../ui/server_notice.tsx";
import { openNewConversation } from "./commands.ts";
import { Composer } from "./composer.tsx";
import { EmptyConversation } from "./empty_conversation.tsx";
import { MessageList } from "./message_list.tsx";
import { ModelSelect } from "./model_select.tsx";

export function ChatView() {
  const conversation = current.value;
  const isEmpty = conversation.messages.length === 0 && !liveAnswers.value.has(conversation.id);
  return (
    <div class="chat">
      <header class="bar">
        <IconButton
          icon="menu"
          label="Conversations"
          class="phone-only"
          onClick={() => (panel.value = "conversations")}
        />
        <h1 class="visually-hidden">{conversation.title || "New conversation"}</h1>
        <ModelSelect conversation={conversation} />
        <ContextUse conversation={conversation} />
        <IconButton icon="plus" label="New conversation" class="phone-only" onClick={openNewConversation} />
        <IconButton icon="sliders" label="Settings" shortcut="Alt+S" onClick={() => (panel.value = "settings")} />
      </header>
      {isEmpty ? (
        <EmptyConversation id={conversation.id} />
      ) : (
        <MessageList key={conversation.id} conversation={conversation} />
      )}
      <div class="foot">
        <div class="column">
          <ServerNotice />
          {storageIsFull.value && (
            <Notice tone="warning" title="This browser keeps no more for this page">
              <p>
                What is said from here on is lost with the page. Export conversations and delete some, under Settings.
              </p>
            </Notice>
          )}
          <Composer key={conversation.id} conversation={conversation} />
          <p class="fine">Models make mistakes; check what matters.</p>
        </div>
      </div>
    </div>
  );
}

/** How much of what the model can read the conversation takes by now. */
function ContextUse({ conversation }: { conversation: Conversation }) {
  const last = conversation.messages.findLast((message) => message.role === "assistant");
  const limit = contextLength.value;
  const stats = last?.role === "assistant" ? last.stats : undefined;
  if (stats?.promptTokens === undefined || limit === undefined) return <span class="context" />;
  const used = stats.promptTokens + stats.tokens;
  return (
    <span class="context" title="Tokens of this conversation, of those that the model can read">
      {`${formatNumber(used)} / ${formatNumber(limit)} tokens`}
    </span>
  );
}
