/** What the page shows, as the address' fragment says it, so that reload and the browser's back button work. */
import { signal } from "@preact/signals";

export type Route =
  | { readonly view: "chat" /** Undefined: a conversation to be begun. */; readonly id?: string | undefined }
  | { readonly view: "server"; readonly id?: undefined };

export const route = signal<Route>(parse(location.hash));

export function hrefOf(to: Route): string {
  if (to.view === "server") return "#/server";
  return to.id === undefined ? "#/" : `#/chat/${to.id}`;
}

/** `replace`: the back button shall not lead to where one is now. */
export function go(to: Route, { replace = false } = {}): void {
  if (replace) history.replaceState(null, "", hrefOf(to));
  else history.pushState(null, "", hrefOf(to));
  route.value = to;
}

export function followAddress(): void {
  window.addEventListener("popstate", () => {
    route.value = parse(location.hash);
  });
}

function parse(hash: string): Route {
  if (hash === "#/server") return { view: "server" };
  return { view: "chat", id: /^#\/chat\/([\w-]+)$/.exec(hash)?.[1] };
}
