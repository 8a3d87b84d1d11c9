/** A text field as high as its text, up to what the style sheet allows; Enter sends, Shift+Enter begins a line. */
import { useLayoutEffect, useRef } from "preact/hooks";

export interface GrowingFieldProps {
  readonly id?: string;
  readonly label: string;
  readonly text: string;
  readonly placeholder?: string;
  onText(text: string): void;
  onEnter(): void;
  /** For keys beside Enter; those handled are to be kept from doing what they usually do. */
  onKey?(event: KeyboardEvent): void;
  readonly focused?: boolean;
}

/** Where text is typed with a thumb there is no Shift+Enter: Enter begins a line and the button sends. */
const isTouched = () => matchMedia("(pointer: coarse)").matches;

export function GrowingField({ id, label, text, placeholder, focused, ...on }: GrowingFieldProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    const area = field.current;
    if (!area) return;
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight}px`;
  }, [text]);
  useLayoutEffect(() => {
    if (!focused) return;
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  const onKeyDown = (event: KeyboardEvent) => {
    // An input method's Enter takes its suggestion.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !isTouched()) {
      event.preventDefault();
      on.onEnter();
    } else on.onKey?.(event);
  };
  return (
    <textarea
      ref={field}
      id={id}
      rows={1}
      value={text}
      placeholder={placeholder}
      aria-label={label}
      onInput={(event) => on.onText(event.currentTarget.value)}
      onKeyDown={onKeyDown}
    />
  );
}
