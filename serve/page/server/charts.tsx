/** Live charts from GET /metrics, read as long as they are looked at. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { parseMetrics } from "../api/metrics.ts";
import { RequestError, request } from "../api/request.ts";
import { formatMs, formatNumber, formatPercent } from "../ui/format.ts";
import { Chart } from "./chart.tsx";
import { ServerHistory, type ServerSample } from "./history.ts";

const EVERY_MS = 2000;
/** Five minutes. */
const LENGTH = 151;

/** Outlives the view, so that coming back finds what was drawn. */
const history = new ServerHistory(LENGTH);
const samples = signal<readonly ServerSample[]>([]);

export function Charts() {
  useEffect(() => {
    const read = () => {
      if (document.visibilityState === "visible") void readMetrics();
    };
    read();
    const timer = setInterval(read, EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  const column = (name: keyof ServerSample) => samples.value.map((sample) => sample[name]);
  const perSecond = (value: number) => `${formatNumber(value)}/s`;
  const seconds = (value: number) => formatMs(value * 1000);
  return (
    <section class="charts" aria-label="The last five minutes">
      <Chart
        title="Requests"
        values={column("running")}
        name="running"
        second={{ name: "waiting", values: column("waiting") }}
        width={LENGTH}
        least={4}
      />
      <Chart title="KV cache" values={column("kvCache")} name="used" width={LENGTH} least={1} format={formatPercent} />
      <Chart
        title="Generated tokens"
        values={column("generatedPerSecond")}
        width={LENGTH}
        least={10}
        format={perSecond}
      />
      <Chart title="Prompt tokens" values={column("promptPerSecond")} width={LENGTH} least={10} format={perSecond} />
      <Chart
        title="Time to first token"
        values={column("firstToken50")}
        name="median"
        second={{ name: "p95", values: column("firstToken95") }}
        width={LENGTH}
        least={0.1}
        format={seconds}
      />
      <Chart
        title="Prefix cache"
        values={column("prefixHits")}
        name="of prompt tokens found"
        width={LENGTH}
        least={1}
        format={formatPercent}
      />
    </section>
  );
}

let isReading = false;

/** One at a time. A reading that fails leaves the charts as they are; the server's health says why. */
async function readMetrics(): Promise<void> {
  if (isReading) return;
  isReading = true;
  try {
    const text = await (await request("/metrics")).text();
    history.add(parseMetrics(text), performance.now());
    samples.value = history.samples;
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
  } finally {
    isReading = false;
  }
}
