/** Where a link in a model's text may lead. */

const ALLOWED = new Set(["http:", "https:", "mailto:"]);

/** The address if it is a whole one of an allowed kind; undefined for javascript:, data:, relative ones and nonsense. */
export function safeHref(href: string): string | undefined {
  try {
    const url = new URL(href);
    return ALLOWED.has(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}
