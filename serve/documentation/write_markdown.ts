/** Writes docs/API.md. */
import { writeFileSync } from "node:fs";
import { apiMarkdown } from "./markdown.ts";

writeFileSync(new URL("../../docs/API.md", import.meta.url), apiMarkdown());
