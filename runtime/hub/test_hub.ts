/** A hub that the tests talk to: the routes of huggingface.co that a pull uses, and a storage host that large files lie on. */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

export const COMMIT = "a".repeat(40);

export interface SeenRequest {
  readonly server: "hub" | "storage";
  /** Path without the query. */
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
}

/** Answers a request in place of the usual way and returns true, or leaves it and returns false. */
export type Intercept = (request: SeenRequest, response: ServerResponse) => boolean;

export class TestHub {
  readonly files = new Map<string, Uint8Array>();
  /** Names of revisions, to commits. All commits have the same files; a test that cares changes `files`. */
  readonly revisions = new Map([["main", COMMIT]]);
  /** Larger files lie on the storage host. */
  largeFrom = 1000;
  readonly seen: SeenRequest[] = [];
  intercept: Intercept = () => false;
  /** Changes what the listing says of a file. */
  listed: (entry: Record<string, unknown>) => Record<string, unknown> = (entry) => entry;
  /** Entries of one page of the listing. */
  pageLength = 3;
  readonly #hub = createServer((request, response) => this.#answer("hub", request, response));
  readonly #storage = createServer((request, response) => this.#answer("storage", request, response));

  static async start(files: Readonly<Record<string, Uint8Array | string>> = {}): Promise<TestHub> {
    const hub = new TestHub();
    for (const [path, content] of Object.entries(files)) hub.files.set(path, toBytes(content));
    await Promise.all([listen(hub.#hub), listen(hub.#storage)]);
    return hub;
  }

  get endpoint(): string {
    return address(this.#hub);
  }

  /** Requests for files' contents, by the host that answered with them. */
  downloads(server: SeenRequest["server"]): SeenRequest[] {
    return this.seen.filter((request) => request.server === server && !request.path.startsWith("/api/"));
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#storage]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  #answer(server: SeenRequest["server"], request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", "http://localhost");
    const seen = { server, path: url.pathname, headers: request.headers };
    this.seen.push(seen);
    if (this.intercept(seen, response)) return;
    const [, revision] = /^\/api\/models\/o\/m\/revision\/(.+)$/.exec(url.pathname) ?? [];
    const [, treeOf] = /^\/api\/models\/o\/m\/tree\/(.+)$/.exec(url.pathname) ?? [];
    const [, commit, path] = /^\/(?:o\/m\/resolve|storage)\/([0-9a-f]{40})\/(.+)$/.exec(url.pathname) ?? [];
    if (revision !== undefined) this.#sendRevision(decodeURIComponent(revision), response);
    else if (treeOf !== undefined) this.#sendPage(treeOf, url, response);
    else if (commit !== undefined && path !== undefined)
      this.#sendFile(seen, commit, decodeURIComponent(path), response);
    else sendError(response, 404, "RepoNotFound");
  }

  #sendRevision(revision: string, response: ServerResponse): void {
    const known = [...this.revisions.values()].includes(revision) ? revision : this.revisions.get(revision);
    if (known === undefined) sendError(response, 404, "RevisionNotFound");
    else sendJson(response, { _id: "1", id: "o/m", private: false, gated: false, sha: known });
  }

  #sendPage(commit: string, url: URL, response: ServerResponse): void {
    const from = Number(url.searchParams.get("cursor") ?? 0);
    const entries = [...this.files].map(([path, content]) => this.listed(this.#entry(path, content)));
    if (from + this.pageLength < entries.length) {
      const next = `${this.endpoint}/api/models/o/m/tree/${commit}?recursive=true&cursor=${from + this.pageLength}`;
      response.setHeader("link", `<${next}>; rel="next"`);
    }
    sendJson(response, entries.slice(from, from + this.pageLength));
  }

  #entry(path: string, content: Uint8Array): Record<string, unknown> {
    const size = content.length;
    const oid = createHash("sha1").update(`blob ${size}\0`).update(content).digest("hex");
    if (size < this.largeFrom) return { type: "file", path, size, oid };
    const lfs = { oid: createHash("sha256").update(content).digest("hex"), size, pointerSize: 130 };
    return { type: "file", path, size, oid, lfs };
  }

  #sendFile({ server, headers }: SeenRequest, commit: string, path: string, response: ServerResponse): void {
    const content = this.files.get(path);
    if (content === undefined) {
      sendError(response, 404, "EntryNotFound");
      return;
    }
    if (server === "hub" && content.length >= this.largeFrom) {
      response.writeHead(302, { location: `${address(this.#storage)}/storage/${commit}/${path}` }).end();
      return;
    }
    sendContent(response, content, headers);
  }
}

/** Answers with content as a server that knows Range and If-Range does; only the bytes before `cutAt` arrive. */
export function sendContent(
  response: ServerResponse,
  content: Uint8Array,
  headers: IncomingMessage["headers"],
  cutAt = content.length,
): void {
  const etag = `"${createHash("md5").update(content).digest("hex")}"`;
  const [, start] = /^bytes=(\d+)-$/.exec(headers.range ?? "") ?? [];
  const from = start !== undefined && (headers["if-range"] ?? etag) === etag ? Number(start) : 0;
  response.statusCode = from > 0 ? 206 : 200;
  if (from > 0) response.setHeader("content-range", `bytes ${from}-${content.length - 1}/${content.length}`);
  response.setHeader("etag", etag);
  response.setHeader("content-length", content.length - from);
  if (cutAt >= content.length) {
    response.end(content.subarray(from));
    return;
  }
  // The connection ends once the client has had time to take what was sent.
  response.write(content.subarray(from, cutAt), () => setTimeout(() => response.destroy(), 50));
}

export function sendError(response: ServerResponse, status: number, code?: string): void {
  if (code !== undefined) response.setHeader("x-error-code", code);
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ error: "refused" }));
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function toBytes(content: Uint8Array | string): Uint8Array {
  return typeof content === "string" ? Buffer.from(content) : content;
}

async function listen(server: Server): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
}

function address(server: Server): string {
  const at = server.address();
  if (at === null || typeof at === "string") throw new Error("Cannot tell the test hub's address: it does not listen");
  return `http://127.0.0.1:${at.port}`;
}
