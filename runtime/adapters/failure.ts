/** Why adapters cannot be loaded, unloaded or found. */

export type AdapterRefusal =
  /** The name cannot be one. */
  | "bad_name"
  /** The name has an adapter already, and nobody said that it may be replaced. */
  | "exists"
  | "unknown_name"
  /** The name's generation is not the one that was expected. */
  | "conflict"
  /** Another adapter is being loaded. */
  | "busy"
  /** Loading from folders was not allowed. */
  | "no_roots"
  /** The folder is in none of those from which loading was allowed. */
  | "outside"
  | "no_folder";

export class AdapterError extends Error {
  override readonly name = "AdapterError";
  readonly reason: AdapterRefusal;

  constructor(reason: AdapterRefusal, message: string) {
    super(message);
    this.reason = reason;
  }
}
