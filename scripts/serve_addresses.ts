/**
 * What `apiq serve` with these arguments needs the network for, as a list that goes on after another entry: ",127.0.0.1:8000". The
 * wrapper script grants Deno these addresses and no other. Prints nothing for settings that cannot be used.
 */
import process from "node:process";
import { parseArguments } from "../runtime/cli/flags.ts";
import { netPermissions } from "../serve/config/permissions.ts";
import { SERVE_FLAGS } from "../serve/config/serve_flags.ts";
import { resolveSettings } from "../serve/config/settings.ts";

try {
  const parsed = parseArguments({ flags: SERVE_FLAGS }, process.argv.slice(3));
  const { settings } = resolveSettings(parsed, process.env, "");
  const addresses = await netPermissions(settings);
  process.stdout.write(addresses.map((address) => `,${address}`).join(""));
} catch {
  // The server reads the same settings and reports the error.
}
