/** Settings that are fine by themselves but not for what they are meant, or not together. */
import { UsageError } from "../../runtime/cli/command.ts";
import { kebabCase } from "../../runtime/cli/flags.ts";
import type { Resolved } from "./settings.ts";

/** @throws UsageError that says where the setting comes from */
export function checkSettings({ settings, sources }: Resolved): void {
  const { host, apiKeyFile, adminKeyFile, otlpEndpoint, corsOrigin } = settings;
  const refuse = (name: string, value: string, expected: string): never => {
    const source = sources[name] ?? "";
    const where = source.startsWith("--") || source.startsWith("APIQ_") ? source : `${source}: ${kebabCase(name)}`;
    throw new UsageError(`Cannot use ${where}: received "${value}", expected ${expected}`);
  };
  if (!isLoopback(host) && apiKeyFile === undefined && adminKeyFile === undefined) {
    refuse("host", host, "127.0.0.1, or api-key-file set as well: anyone who reaches the address could use the server");
  }
  if (otlpEndpoint !== undefined && !isWebAddress(otlpEndpoint)) {
    refuse("otlpEndpoint", otlpEndpoint, "an address such as http://127.0.0.1:4318");
  }
  for (const origin of corsOrigin) {
    if (!isWebAddress(origin) || new URL(origin).origin !== origin) {
      refuse("corsOrigin", origin, "scheme, host and port of a page, such as https://chat.example.org");
    }
  }
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

function isWebAddress(text: string): boolean {
  return /^https?:\/\//.test(text) && URL.canParse(text);
}
