/** Memory of this process as the system counts it. */
import { memoryUsage } from "node:process";

/** Resident bytes, shared and mapped pages included. */
export function residentBytes(): number {
  return memoryUsage.rss();
}
