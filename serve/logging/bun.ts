/** Standard error under Bun. */
import { write } from "node:fs";
import type { WriteSome } from "./standard_error.ts";

const STANDARD_ERROR = 2;
/** How soon a pipe that takes nothing just now is tried again. */
const RETRY_MS = 20;

export const writeSome: WriteSome = (bytes) =>
  new Promise((resolve, reject) => {
    write(STANDARD_ERROR, bytes, (error, count) => {
      if (error?.code === "EAGAIN") setTimeout(() => resolve(0), RETRY_MS);
      else if (error) reject(error);
      else resolve(count);
    });
  });
