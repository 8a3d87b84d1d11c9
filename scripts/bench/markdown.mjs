/** Tables as the README has them, and how they get there. */

/**
 * Cells padded to the width of their column.
 *
 * @param {readonly (readonly string[])[]} rows the header first
 * @returns {string[]} lines
 */
export function markdownTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(3, ...rows.map((row) => row[column].length)));
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  const [header, ...rest] = rows;
  return [line(header), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rest.map(line)];
}

/** 21.38, 92.5, 568,377: as many digits as say something. */
export function perplexity(value) {
  if (!Number.isFinite(value)) return "none";
  return value < 1000 ? value.toFixed(2) : Math.round(value).toLocaleString("en-US");
}

/** The one value that all results share. @throws where they do not, for such rows cannot stand in one table */
export function same(results, what, read) {
  const values = [...new Set(results.map((result) => JSON.stringify(read(result))))];
  if (values.length > 1) {
    throw new Error(`Cannot put the results into one table: ${what} is ${values.join(" in some, ")} in others`);
  }
  return read(results[0]);
}

/** The machines that results were made on, in a sentence. */
export function machinesOf(results) {
  const machines = [...new Set(results.map(({ machine: m }) => `${m.cpu}, ${m.threads} threads, ${m.isa}`))].sort();
  return `${machines.length === 1 ? "Machine" : "Machines"}: ${machines.join("; ")}.`;
}

/**
 * The document with what stands between `<!-- NAME -->` and `<!-- /NAME -->` replaced.
 *
 * @param {string} document
 * @param {string} name
 * @param {string} text
 */
export function replaceMarked(document, name, text) {
  const [opening, closing] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const begin = document.indexOf(opening);
  const end = document.indexOf(closing);
  if (begin < 0 || end < begin) {
    throw new Error(`Cannot place the table: expected ${opening} and, behind it, ${closing} in the document`);
  }
  return `${document.slice(0, begin + opening.length)}\n${text}\n${document.slice(end)}`;
}
