/** The settings of how answers are drawn: one table for the form, the check and the request. */

export interface SettingSpec {
  /** The request's field. */
  readonly field: string;
  readonly label: string;
  readonly about: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly integer?: boolean;
  /** What an empty field means, where it is not the model's own choice. */
  readonly unset?: string;
}

/** Bounds as docs/API.md has them. */
export const SETTINGS: readonly SettingSpec[] = [
  { field: "temperature", label: "Temperature", about: "0 is always the likeliest token", min: 0, max: 2, step: 0.05 },
  {
    field: "max_completion_tokens",
    label: "Longest answer",
    about: "in tokens",
    unset: "all that fits",
    min: 1,
    max: 1_000_000,
    step: 1,
    integer: true,
  },
  { field: "top_p", label: "Top p", about: "the likeliest tokens up to this sum", min: 0, max: 1, step: 0.01 },
  {
    field: "top_k",
    label: "Top k",
    about: "so many of the likeliest; 0 is all",
    min: 0,
    max: 1_000_000,
    step: 1,
    integer: true,
  },
  { field: "min_p", label: "Min p", about: "at least this part of the likeliest", min: 0, max: 1, step: 0.01 },
  { field: "repetition_penalty", label: "Repetition penalty", about: "1 is none", min: 0.05, max: 10, step: 0.05 },
  { field: "presence_penalty", label: "Presence penalty", about: "0 is none", min: -2, max: 2, step: 0.1 },
  { field: "frequency_penalty", label: "Frequency penalty", about: "0 is none", min: -2, max: 2, step: 0.1 },
  {
    field: "seed",
    label: "Seed",
    about: "the same seed, the same answer",
    unset: "another each time",
    min: -(2 ** 53 - 1),
    max: 2 ** 53 - 1,
    step: 1,
    integer: true,
  },
];

/** By field; what is absent is the server's choice. */
export type Sampling = Readonly<Record<string, number>>;

/** What is wrong with a value as it was typed; undefined if nothing is, as with nothing typed. */
export function settingProblem({ min, max, integer }: SettingSpec, typed: string): string | undefined {
  if (typed.trim() === "") return undefined;
  const value = Number(typed);
  const isOne = integer ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (isOne && value >= min && value <= max) return undefined;
  const kind = integer ? "a whole number" : "a number";
  return Math.abs(min) > 1000 ? `Expected ${kind}` : `Expected ${kind} from ${min} to ${max}`;
}
