/** The page: a side bar, one of the two views, and what lies above both. */
import type { FunctionComponent } from "preact";
import { ChatView } from "./chat/chat_view.tsx";
import { SettingsDialog } from "./chat/settings_dialog.tsx";
import { ServerView } from "./server/server_view.tsx";
import { current } from "./state/conversations.ts";
import { route } from "./state/route.ts";
import { Announcer } from "./ui/announcer.tsx";
import { DeleteAllDialog } from "./ui/delete_all_dialog.tsx";
import { Dialog } from "./ui/dialog.tsx";
import { KeyDialog } from "./ui/key_dialog.tsx";
import { closePanel, type Panel, panel } from "./ui/panels.ts";
import { ShortcutsDialog } from "./ui/shortcuts.tsx";
import { Sidebar } from "./ui/sidebar.tsx";
import { Toast } from "./ui/toast.tsx";

const PANELS: Readonly<Record<Panel, FunctionComponent>> = {
  settings: SettingsDialog,
  shortcuts: ShortcutsDialog,
  key: KeyDialog,
  conversations: Drawer,
  delete_all: DeleteAllDialog,
};

export function App() {
  const { view } = route.value;
  const Open = panel.value && PANELS[panel.value];
  document.title = view === "server" ? "Server · apiq" : `${current.value.title || "New conversation"} · apiq`;
  return (
    <>
      <aside aria-label="Navigation">
        <Sidebar />
      </aside>
      <main>{view === "server" ? <ServerView /> : <ChatView />}</main>
      <Toast />
      <Announcer />
      {Open && <Open key={panel.value} />}
    </>
  );
}

/** The side bar on a narrow screen. */
function Drawer() {
  return (
    <Dialog title="Menu" shape="drawer" onClose={closePanel}>
      <Sidebar />
    </Dialog>
  );
}
