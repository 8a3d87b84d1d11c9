/** `npm start -- [arguments]`: installs and builds what is missing, then runs `scripts/apiq serve [arguments]`. */

import { spawn } from "node:child_process";
import { ensureNative } from "./build.mjs";
import { ensurePage } from "./build_page.mjs";
import { ensureDependencies, main, root } from "./setup.mjs";

await main(() => {
  ensureDependencies();
  ensureNative();
  ensurePage();
  // Paths among the arguments are relative to where npm was called, not to where package.json lies.
  const cwd = process.env.npm_lifecycle_event === "start" ? (process.env.INIT_CWD ?? root) : process.cwd();
  const server = spawn(`${root}scripts/apiq`, ["serve", ...process.argv.slice(2)], { cwd, stdio: "inherit" });
  // Ctrl-C reaches the whole process group; waiting lets the server finish its requests and say how it ended.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => server.kill("SIGTERM"));
  server.on("error", (error) => {
    console.error(`Cannot start scripts/apiq: ${error.message}`);
    process.exitCode = 1;
  });
  server.on("exit", (code, signal) => {
    process.exitCode = code ?? (signal === "SIGINT" || signal === "SIGTERM" ? 0 : 1);
  });
});
