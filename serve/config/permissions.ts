/** Which addresses a server with these settings uses. */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { Settings } from "./serve_flags.ts";

/** As Deno's --allow-net takes them. Names are looked up: Deno asks for the name and for what it stands for. */
export async function netPermissions({
  host,
  port,
  otlpEndpoint,
}: Pick<Settings, "host" | "port" | "otlpEndpoint">): Promise<string[]> {
  const own = await permissions(host, `${port}`);
  if (otlpEndpoint === undefined) return own;
  const collector = new URL(otlpEndpoint);
  const defaultPort = collector.protocol === "https:" ? "443" : "80";
  return [...own, ...(await permissions(collector.hostname.replace(/^\[|\]$/g, ""), collector.port || defaultPort))];
}

async function permissions(host: string, port: string): Promise<string[]> {
  switch (isIP(host)) {
    case 4:
      return [`${host}:${port}`];
    case 6:
      return [`[${host}]:${port}`];
  }
  // A name that stands for nothing is for whoever uses it to report.
  const addresses = await lookup(host, { all: true }).catch(() => []);
  return [host, ...(await Promise.all(addresses.map(({ address }) => permissions(address, port)))).flat()];
}
