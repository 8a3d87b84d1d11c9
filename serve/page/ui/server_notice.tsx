/** Why the server would not answer now, above the field where one types. Nothing while it would. */

import { keyIsWanted } from "../api/request.ts";
import { AWAY } from "../api/trouble.ts";
import { health } from "../state/server.ts";
import { formatPercent } from "./format.ts";
import { Notice } from "./notice.tsx";
import { panel } from "./panels.ts";

export function ServerNotice() {
  const state = health.value;
  if (keyIsWanted.value) {
    return (
      <Notice tone="info" icon="key" title="This server wants an API key">
        <p class="buttons">
          <button type="button" class="primary" onClick={() => (panel.value = "key")}>
            Enter a key
          </button>
        </p>
      </Notice>
    );
  }
  switch (state?.status) {
    case "away":
      return (
        <Notice tone="danger" title={AWAY.title}>
          <p>{AWAY.advice}</p>
        </Notice>
      );
    case "loading": {
      const share = state.total > 0 ? state.done / state.total : 0;
      return (
        <Notice tone="info" icon="gauge" title={`The model is being loaded (${state.stage})`}>
          <p class="progress">
            <progress value={share} max={1} aria-label="Loading the model" />
            <span>{formatPercent(share)}</span>
          </p>
        </Notice>
      );
    }
    case "restarting":
      return (
        <Notice tone="warning" title="The engine is being started again" detail={state.error}>
          <p>It answers again when this note has gone.</p>
        </Notice>
      );
    case "failed":
      return (
        <Notice tone="danger" title="The engine cannot run this model" detail={state.error}>
          <p>The server's log says why. Start it again when that is mended.</p>
        </Notice>
      );
    case "closed":
      return <Notice tone="warning" title="The server is stopping" />;
    default:
      return null;
  }
}
