/** A button that shows an icon alone; its label is what a screen reader says and what hovering shows. */
import { Icon, type IconName } from "./icon.tsx";

export interface IconButtonProps {
  readonly icon: IconName;
  readonly label: string;
  /** As the keyboard's shortcut is written: "Alt+R". */
  readonly shortcut?: string;
  readonly class?: string;
  readonly disabled?: boolean;
  readonly expanded?: boolean;
  onClick(event: MouseEvent): void;
}

export function IconButton({ icon, label, shortcut, disabled, expanded, onClick, ...rest }: IconButtonProps) {
  return (
    <button
      type="button"
      class={`icon-button ${rest.class ?? ""}`}
      aria-label={label}
      aria-keyshortcuts={shortcut}
      aria-expanded={expanded}
      title={shortcut ? `${label} (${shortcut})` : label}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}
