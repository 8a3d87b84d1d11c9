/** Sizes and durations as people write and read them. */

const UNITS = ["B", "KB", "MB", "GB", "TB"] as const;
const SIZE = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?b)?|b)?$/i;
const EXPONENT: Readonly<Record<string, number>> = { k: 1, m: 2, g: 3, t: 4 };

/**
 * Reads "4096", "512M", "2G", "1.5GB", "2GiB" as bytes. A bare letter and the `iB` form are powers of 1024, as memory is
 * counted; `KB`, `MB`, `GB`, `TB` are powers of 1000, as in `formatBytes`. Undefined if the text is none of these.
 */
export function parseBytes(text: string): number | undefined {
  const match = SIZE.exec(text.trim());
  if (!match) return undefined;
  const [, amount, letter, suffix] = match;
  if (letter === undefined) return Math.round(Number(amount));
  const base = suffix?.toLowerCase() === "b" ? 1000 : 1024;
  return Math.round(Number(amount) * base ** (EXPONENT[letter.toLowerCase()] ?? 0));
}

/** 1234567 -> "1.23 MB" (powers of 1000, three significant digits). */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${UNITS[unit]}`;
}

/** Seconds as "850 ms", "12 s", "3 min 20 s", "2 h 5 min". */
export function formatDuration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** At least three significant digits, all of a whole number's: 0.0123, 1.23, 12.3, 6073; powers of ten only far from 1. */
export function formatNumber(value: number, digits = 3): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(digits - 1);
  return size >= 10 ** (digits - 1) ? value.toFixed(0) : value.toPrecision(digits);
}
