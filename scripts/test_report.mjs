/** Reads the JUnit reports that `bun test` and `deno test` write. */

/**
 * The test cases of a report. Deno reports a `describe` as a case as well, with its tests named "group > test": only the
 * tests themselves are kept.
 */
export function testCases(xml) {
  const cases = [];
  for (const [, attributes, body = ""] of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const name = attribute(attributes, "name");
    const outcome = /<(failure|error)\b/.test(body) ? "failed" : body.includes("<skipped") ? "skipped" : "passed";
    cases.push({ name, outcome });
  }
  return cases.filter(({ name }) => !cases.some((other) => other.name.startsWith(`${name} > `)));
}

/** Counts by outcome. A run that failed without a failed case (a file that does not load, a crash) counts as one failure. */
export function tally(cases, status) {
  const count = (outcome) => cases.filter((test) => test.outcome === outcome).length;
  const failed = count("failed");
  return { passed: count("passed"), failed: status !== 0 && failed === 0 ? 1 : failed, skipped: count("skipped") };
}

const ENTITIES = { "&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&apos;": "'" };

function attribute(attributes, name) {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
  return value.replace(/&(?:lt|gt|amp|quot|apos);/g, (entity) => ENTITIES[entity]);
}
