/** A block of code with its language and a button that copies it. */
import { useMemo } from "preact/hooks";
import { CopyButton } from "../ui/copy_button.tsx";
import { highlight } from "./highlight.ts";

export function CodeBlock({ text, language }: { text: string; language: string }) {
  const name = language.split(/\s/)[0]?.toLowerCase() ?? "";
  const spans = useMemo(() => highlight(text, name), [text, name]);
  return (
    <figure class="code">
      <figcaption>
        <span>{name || "text"}</span>
        <CopyButton text={text} label="Copy code" />
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls has to be reachable by keyboard */}
      <pre tabIndex={0}>
        <code>
          {spans.map(({ text, kind }, index) =>
            kind ? (
              <span key={index} class={kind}>
                {text}
              </span>
            ) : (
              text
            ),
          )}
        </code>
      </pre>
    </figure>
  );
}
