/** The messages of a conversation. The list follows the answer as it grows, unless its reader has scrolled up. */
import { useComputed } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { liveAnswers } from "../state/answers.ts";
import type { Conversation } from "../state/conversation.ts";
import { IconButton } from "../ui/icon_button.tsx";
import { AssistantMessage, LiveMessage } from "./assistant_message.tsx";
import { UserMessage } from "./user_message.tsx";

/** Within so many pixels of its end the list counts as read to its end. */
const NEAR_END = 48;

export function MessageList({ conversation }: { conversation: Conversation }) {
  const { id, messages } = conversation;
  const live = useComputed(() => liveAnswers.value.get(id)).value;
  const { scroller, content, isAtEnd, toEnd } = useFollowing(
    `${id} ${messages.filter((one) => one.role === "user").length}`,
  );
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls has to be reachable by keyboard
    <section class="messages" ref={scroller} aria-label="Conversation" tabIndex={0}>
      <ol class="column" ref={content}>
        {messages.map((message, index) =>
          message.role === "user" ? (
            <UserMessage key={message.id} conversationId={id} message={message} />
          ) : (
            <AssistantMessage
              key={message.id}
              conversationId={id}
              message={message}
              isLast={!live && index === messages.length - 1}
            />
          ),
        )}
        {live && !messages.some((message) => message.id === live.id) && <LiveMessage key={live.id} live={live} />}
      </ol>
      {!isAtEnd && <IconButton icon="down" label="To the latest message" class="to-end" onClick={toEnd} />}
    </section>
  );
}

/** Keeps the end in view while the content grows; `turn` changes with every message that is sent, which goes to the end. */
function useFollowing(turn: string) {
  const scroller = useRef<HTMLElement>(null);
  const content = useRef<HTMLOListElement>(null);
  const follows = useRef(true);
  const [isAtEnd, setAtEnd] = useState(true);
  const toEnd = () => {
    follows.current = true;
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  };
  useEffect(() => {
    const area = scroller.current;
    if (!area || !content.current) return;
    let before = area.scrollTop;
    const onScroll = () => {
      const isNear = area.scrollHeight - area.scrollTop - area.clientHeight < NEAR_END;
      // Growing content leaves the end behind as well; only a reader goes up.
      if (isNear || area.scrollTop < before) follows.current = isNear;
      before = area.scrollTop;
      setAtEnd(follows.current);
    };
    const observer = new ResizeObserver(() => {
      if (follows.current) area.scrollTop = area.scrollHeight;
    });
    area.addEventListener("scroll", onScroll, { passive: true });
    observer.observe(content.current);
    observer.observe(area);
    return () => {
      area.removeEventListener("scroll", onScroll);
      observer.disconnect();
    };
  }, []);
  useEffect(toEnd, [turn]);
  return { scroller, content, isAtEnd, toEnd };
}
