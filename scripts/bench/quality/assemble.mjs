/** Puts the table of quality into the README: flags in ../assemble.mjs. */
import { assemble } from "../assemble.mjs";
import { renderTable } from "./table.mjs";

assemble("quality", import.meta.dirname, renderTable);
