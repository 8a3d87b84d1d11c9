/** Puts the table of real runs into the README: flags in ../assemble.mjs. */
import { assemble } from "../assemble.mjs";
import { renderTable } from "./table.mjs";

assemble("runs", import.meta.dirname, renderTable);
