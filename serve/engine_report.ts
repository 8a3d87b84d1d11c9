/** What people are told of the engine process: a progress bar while it loads, a line in the log when it dies or is back. */
import type { Output } from "../runtime/cli/output.ts";
import type { EngineState } from "../runtime/engine/client.ts";
import type { Log } from "./logging/log.ts";

export function reportEngine(out: Output, log: Log): (state: EngineState) => void {
  let progress = out.progress("loading", 0, "bytes");
  return (state) => {
    if (state.status === "loading") {
      progress.update(state.done, { label: state.stage, total: state.total });
      return;
    }
    progress.end();
    progress = out.progress("loading", 0, "bytes");
    if (state.status === "ready") log.info({ loadSeconds: state.model.loadSeconds }, "engine ready");
    if (state.status === "restarting") {
      log.error({ reason: state.error, crashes: state.crashes }, "engine died; it is started again");
    }
    if (state.status === "failed") log.error({ reason: state.error }, "engine cannot be started");
  };
}
