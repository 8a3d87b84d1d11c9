/** How the server is and what models it has, asked again and again while the page is looked at. */
import { computed, signal } from "@preact/signals";
import { getHealth, type Health } from "../api/health.ts";
import { getModels, type Model } from "../api/models.ts";
import { RequestError } from "../api/request.ts";

const CALM_MS = 5000;
/** While something is about to change. */
const TENSE_MS = 1000;

/** Undefined until it was asked for the first time. */
export const health = signal<Health | { readonly status: "away" } | undefined>(undefined);

/** The base first; empty until they are known. */
export const models = signal<readonly Model[]>([]);

export const baseModel = computed(() => models.value.find(({ parent }) => !parent));

/** Tokens that a conversation may have; undefined until it is known. */
export const contextLength = computed(() => baseModel.value?.max_model_len);

let timer: ReturnType<typeof setTimeout> | undefined;

export async function checkServer(): Promise<void> {
  clearTimeout(timer);
  const before = health.peek()?.status;
  try {
    health.value = await getHealth();
  } catch {
    health.value = { status: "away" };
  }
  const { status } = health.peek() ?? {};
  if (status === "ready" && (before !== "ready" || models.peek().length === 0)) await refreshModels();
  if (document.visibilityState === "visible") {
    timer = setTimeout(checkServer, status === "ready" || status === "no_model" ? CALM_MS : TENSE_MS);
  }
}

/** Leaves the models as they are when they cannot be had; the server's health says why. */
export async function refreshModels(): Promise<void> {
  try {
    models.value = await getModels();
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
  }
}

export function watchServer(): void {
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") void checkServer().then(refreshModels);
  });
  void checkServer();
}
