import { basename, join } from "node:path";
import { readJsonObject } from "../formats/json.ts";
import { printable } from "./failure.ts";
import type { RemoteFile } from "./repository.ts";

/** The command line that uses a pulled folder; undefined when its files make neither a model, an adapter nor a GGUF. */
export function nextCommand(dir: string, files: readonly RemoteFile[]): string | undefined {
  const paths = files.map(({ path }) => path);
  const model = shellWord(dir);
  if (paths.includes("config.json") && paths.some((path) => /^model.*\.safetensors$/.test(path)))
    return `apiq serve --model ${model}`;
  if (paths.includes("adapter_config.json"))
    return `apiq serve --model ${baseModel(dir)} --adapter ${shellWord(`${basename(dir)}=${dir}`)}`;
  const gguf = paths.find((path) => path.endsWith(".gguf"));
  return gguf && `apiq import ${shellWord(join(dir, gguf))} --out ${shellWord(`${dir}-imported`)}`;
}

/** The folder that the adapter's model would be pulled into, as far as the adapter tells. */
function baseModel(dir: string): string {
  try {
    const { base_model_name_or_path: name } = readJsonObject(join(dir, "adapter_config.json"));
    if (typeof name === "string" && name !== "") return shellWord(printable(basename(name)));
  } catch {
    // A configuration that cannot be read is reported by the command that needs it.
  }
  return "BASE";
}

function shellWord(text: string): string {
  return /^[\w./=@:+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
