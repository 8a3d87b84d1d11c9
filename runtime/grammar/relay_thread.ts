/** Main module of the relay thread; see relay.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { GrammarRelay } from "./relay.ts";
import { type RelayData, SharedMasks, type ToRelay } from "./relay_protocol.ts";

const port = parentPort!;
const data = workerData as RelayData;
const shared = new SharedMasks(data.rows, data.process.vocabSize, data.shared);
const relay = new GrammarRelay(data, shared, (message) => port.postMessage(message));

port.on("message", (message: ToRelay | { type: "close" }) => {
  if (message.type === "close") {
    relay.close();
    port.close();
  } else {
    relay.handle(message);
  }
});
