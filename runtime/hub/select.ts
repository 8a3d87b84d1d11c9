/** Which of a repository's files are downloaded. */
import { formatBytes } from "../cli/format.ts";
import { HubError } from "./failure.ts";
import type { RemoteFile } from "./repository.ts";

/** Read by the runtime or by the tools a model's folder is passed on to; small. */
const BESIDE_WEIGHTS = new Set([
  "config.json",
  "generation_config.json",
  "quantize_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
]);
const LICENCE = /^(licen[cs]e|notice|copying|use_policy)([.-].*)?$/i;
const ADAPTER = ["adapter_config.json", "adapter_model.safetensors"] as const;
/** The calibrated adapter that is part of a packed model. */
const INIT_ADAPTER = ADAPTER.map((name) => `apiq_init/${name}`);
const SHARD = /^model-\d{5}-of-\d{5}\.safetensors$/;
const INDEX = "model.safetensors.index.json";
const OTHER_WEIGHTS = /\.(safetensors|bin|pth|pt|onnx|h5|msgpack|ckpt)$/;

/**
 * With globs, the files that match any of them. Without, what a model or adapter needs: its configuration, tokenizer, chat
 * template and licence, and the weights, which are model.safetensors, or its shards and their index, or an adapter's
 * safetensors, or else the repository's only GGUF.
 *
 * @throws {HubError} when nothing matches, there are no weights, or there are several GGUF files to choose from.
 */
export function selectFiles(
  repository: string,
  files: readonly RemoteFile[],
  globs: readonly string[],
): readonly RemoteFile[] {
  if (globs.length > 0) {
    const patterns = globs.map(globPattern);
    const chosen = files.filter(({ path }) => patterns.some((pattern) => pattern.test(path)));
    if (chosen.length > 0) return chosen;
    throw new HubError(
      `Cannot pull ${repository}: --include ${globs.join(" ")} matches none of its ${files.length} files`,
    );
  }
  const weights = new Set(selectWeights(repository, files));
  return files.filter(({ path }) => weights.has(path) || BESIDE_WEIGHTS.has(path) || LICENCE.test(path));
}

function selectWeights(repository: string, files: readonly RemoteFile[]): readonly string[] {
  const paths = new Set(files.map(({ path }) => path));
  const initAdapter = INIT_ADAPTER.filter((path) => paths.has(path));
  if (paths.has("model.safetensors")) return ["model.safetensors", ...initAdapter];
  if (paths.has(INDEX)) return [INDEX, ...[...paths].filter((path) => SHARD.test(path)), ...initAdapter];
  if (ADAPTER.every((path) => paths.has(path))) return ADAPTER;
  const ggufs = files.filter(({ path }) => path.endsWith(".gguf"));
  if (ggufs.length === 1) return [ggufs[0]!.path];
  const fail = (reason: string) => new HubError(`Cannot pull ${repository}: ${reason}`);
  if (ggufs.length > 1) {
    const names = ggufs.map(({ path, bytes }) => `${path} (${formatBytes(bytes)})`);
    throw fail(`it has several GGUF files, choose with --include NAME: ${names.join(", ")}`);
  }
  const others = [...paths].filter((path) => OTHER_WEIGHTS.test(path));
  const found = others.length > 0 ? `, only ${others.slice(0, 5).join(", ")}${others.length > 5 ? ", ..." : ""}` : "";
  throw fail(`it has no model.safetensors, adapter_model.safetensors or GGUF${found} (--include GLOB takes any file)`);
}

/**
 * `*` and `?` stay within a folder, `**` does not; a glob without "/" is matched against the file's name in any folder. All
 * other characters stand for themselves.
 */
export function globPattern(glob: string): RegExp {
  const body = glob.replace(/\*\*\/?|[*?]|[^\w\s/*?]/gu, (token) => {
    if (token === "**/") return "(?:.*/)?";
    if (token === "**") return ".*";
    if (token === "*") return "[^/]*";
    return token === "?" ? "[^/]" : escapeCharacter(token);
  });
  return new RegExp(`^${glob.includes("/") ? "" : "(?:.*/)?"}${body}$`, "su");
}

/** In a `u` pattern only the special characters may be escaped. */
function escapeCharacter(char: string): string {
  return /[\\^$.|+()[\]{}]/.test(char) ? `\\${char}` : char;
}
