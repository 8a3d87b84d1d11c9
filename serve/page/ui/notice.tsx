/** A trouble or another thing to know, with what to do about it. */
import type { ComponentChildren } from "preact";
import { Icon, type IconName } from "./icon.tsx";

export interface NoticeProps {
  readonly tone: "info" | "warning" | "danger";
  readonly title: string;
  readonly detail?: string | undefined;
  readonly icon?: IconName;
  readonly children?: ComponentChildren;
}

export function Notice({ tone, title, detail, icon = "warning", children }: NoticeProps) {
  return (
    <div class={`notice ${tone}`}>
      <Icon name={icon} />
      <div>
        <strong>{title}</strong>
        {children}
        {detail && <p class="detail">{detail}</p>}
      </div>
    </div>
  );
}
