/** Where the page begins. */
import { render } from "preact";
import { App } from "./app.tsx";
import { keepAnswersOnLeaving } from "./state/answers.ts";
import { followOtherTabs } from "./state/conversations.ts";
import { followAddress } from "./state/route.ts";
import { watchServer } from "./state/server.ts";
import { listenForShortcuts } from "./ui/shortcuts.tsx";
import { applyTheme } from "./ui/theme.ts";

applyTheme();
followAddress();
followOtherTabs();
keepAnswersOnLeaving();
listenForShortcuts();
watchServer();
render(<App />, document.getElementById("app")!);
