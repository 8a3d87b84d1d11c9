/**
 * The load: a process of its own that streams completions over several connections at once and times their tokens. Takes one
 * argument, a JSON `ClientTask`, and prints one JSON `ClientReport`.
 */
import process from "node:process";
import { childrenOf, processorSeconds } from "./serve_process.ts";

export interface ClientTask {
  url: string;
  model: string;
  clients: number;
  promptTokens: number;
  /** Tokens of each answer. */
  tokens: number;
  vocabSize: number;
  /** The server's HTTP process. */
  serverPid: number;
}

export interface ClientReport {
  /** From request to first token with nothing in the prefix cache and all clients starting at once, sorted. */
  firstTokenMs: number[];
  /** From the moment all clients have their third token until the first one has all of its tokens. */
  window: { seconds: number; tokens: number };
  /** Between a client's tokens in the window, over all clients, sorted. */
  interTokenMs: number[];
  /** Above 1 if the server put several tokens into one event. */
  tokensPerEvent: number;
  /** Processor seconds in the window. */
  cpu: { client: number; http: number; engine: number };
}

interface Answer {
  sentAt: number;
  /** When each event with text came. */
  eventsAt: number[];
  tokens: number;
}

interface Chunk {
  choices: { text: string; finish_reason: string | null }[];
  usage?: { completion_tokens: number };
  error?: { message: string };
}

/** Streams one answer; `onEvent` is called for each event with text, and told whether it is the last one. */
async function stream(
  { url, model }: ClientTask,
  prompt: readonly number[],
  maxTokens: number,
  onEvent: (last: boolean) => void,
): Promise<Answer> {
  const answer: Answer = { sentAt: performance.now(), eventsAt: [], tokens: 0 };
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      ...{ model, prompt, max_tokens: maxTokens, temperature: 0, ignore_eos: true },
      ...{ stream: true, stream_options: { include_usage: true } },
    }),
  });
  if (!response.ok || !response.body) {
    throw new Error(`Cannot stream: received status ${response.status}, ${await response.text()}`);
  }
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body) {
    const events = (rest + decoder.decode(bytes, { stream: true })).split("\n\n");
    rest = events.pop() as string;
    for (const event of events) {
      if (!event.startsWith("data: {")) continue;
      const { choices, usage, error } = JSON.parse(event.slice("data: ".length)) as Chunk;
      if (error) throw new Error(`Cannot stream: the server says ${error.message}`);
      if (usage) answer.tokens = usage.completion_tokens;
      if (choices.length === 0) continue;
      answer.eventsAt.push(performance.now());
      onEvent(choices[0].finish_reason !== null);
    }
  }
  if (answer.tokens !== maxTokens) {
    throw new Error(`Cannot stream: received ${answer.tokens} tokens, expected ${maxTokens}`);
  }
  return answer;
}

/** Token ids that no two clients begin with, so that nothing is shared between them. */
function promptOf(client: number, { promptTokens, vocabSize }: ClientTask): number[] {
  const first = 300;
  return Array.from({ length: promptTokens }, (_, i) => first + ((i * 7919 + client * 104729) % (vocabSize - first)));
}

/** Events of every client before the window: a batch's first steps record its graph, and apiq bench skips them as well. */
const WARM_UP_EVENTS = 3;

const task = JSON.parse(process.argv[2]) as ClientTask;
const enginePids = childrenOf(task.serverPid);

function snapshot() {
  const { user, system } = process.cpuUsage();
  return {
    at: performance.now(),
    client: (user + system) / 1e6,
    http: processorSeconds(task.serverPid),
    engine: enginePids.reduce((sum, pid) => sum + processorSeconds(pid), 0),
  };
}

const prompts = Array.from({ length: task.clients }, (_, client) => promptOf(client, task));

// Fills the prefix cache, so that the prompts hardly delay each other's answers in what follows.
const first = await Promise.all(prompts.map((prompt) => stream(task, prompt, 1, () => {})));

let begin: ReturnType<typeof snapshot> | undefined;
let end: ReturnType<typeof snapshot> | undefined;
let warm = 0;
const answers = await Promise.all(
  prompts.map((prompt) => {
    let events = 0;
    return stream(task, prompt, task.tokens, (last) => {
      events++;
      if (events === WARM_UP_EVENTS) warm++;
      if (warm === task.clients) begin ??= snapshot();
      if (last) end ??= snapshot();
    });
  }),
);
if (!begin || !end || begin.at >= end.at) {
  throw new Error("Cannot measure: a client had ended before all were warm, expected answers of more tokens");
}

const [from, to] = [begin, end];
const inWindow = (at: number) => at > from.at && at <= to.at;
const gaps = answers.flatMap(({ eventsAt }) =>
  eventsAt.flatMap((at, i) => (i > 0 && inWindow(at) ? [at - (eventsAt[i - 1] as number)] : [])),
);
const events = answers.reduce((sum, { eventsAt }) => sum + eventsAt.length, 0);
const report: ClientReport = {
  firstTokenMs: sorted(first.map(({ sentAt, eventsAt }) => (eventsAt[0] as number) - sentAt)),
  window: {
    seconds: (to.at - from.at) / 1000,
    tokens: answers.reduce(
      (sum, { eventsAt, tokens }) => sum + eventsAt.filter(inWindow).length * (tokens / eventsAt.length),
      0,
    ),
  },
  interTokenMs: sorted(gaps),
  tokensPerEvent: (task.tokens * task.clients) / events,
  cpu: { client: to.client - from.client, http: to.http - from.http, engine: to.engine - from.engine },
};
console.log(JSON.stringify(report));

function sorted(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}
