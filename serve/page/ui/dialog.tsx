/** A modal dialog on the browser's own: focus stays inside, Escape closes it, and focus returns to where it was. */
import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { IconButton } from "./icon_button.tsx";

export interface DialogProps {
  readonly title: string;
  /** "box" in the middle, "sheet" along the right side, "drawer" along the left. */
  readonly shape?: "box" | "sheet" | "drawer";
  onClose(): void;
  readonly children: ComponentChildren;
}

/** Open as long as it is rendered. */
export function Dialog({ title, shape = "box", onClose, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  // A press that begins inside, to select text, may end outside and is no wish to leave.
  const pressedOutside = useRef(false);
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    // While it is open nothing else can have the focus; closing gives it back.
    return () => dialog?.close();
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape does for the keyboard what a click outside does for the mouse
    <dialog
      ref={element}
      class={`dialog ${shape}`}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onPointerDown={(event) => {
        pressedOutside.current = event.target === element.current;
      }}
      onClick={(event) => {
        if (pressedOutside.current && event.target === element.current) onClose();
      }}
    >
      <div class="dialog-content">
        <header>
          <h2 id={heading}>{title}</h2>
          <IconButton icon="close" label="Close" onClick={onClose} />
        </header>
        {children}
      </div>
    </dialog>
  );
}
