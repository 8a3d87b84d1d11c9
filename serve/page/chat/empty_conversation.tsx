/** What is shown before the first message: something to begin with, or how to get a model. */
import { health, models } from "../state/server.ts";
import { CopyButton } from "../ui/copy_button.tsx";
import { focusComposer, setTyped } from "./composer_text.ts";

const SUGGESTIONS = [
  "Explain in three sentences why a model with two bits per weight still works.",
  "Write a function that tells whether a year is a leap year, with two tests.",
  "Plan a rainy Sunday for two people who like maps and soup.",
];

export function EmptyConversation({ id }: { id: string }) {
  if (health.value?.status === "no_model") return <NoModel />;
  const suggest = (text: string) => {
    setTyped(id, text);
    focusComposer();
  };
  return (
    <section class="empty" aria-labelledby="greeting">
      <h2 id="greeting">What shall we talk about?</h2>
      <p>{facts()}</p>
      <ul class="suggestions">
        {SUGGESTIONS.map((text) => (
          <li key={text}>
            <button type="button" onClick={() => suggest(text)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function facts(): string {
  if (health.value?.status !== "ready") return "A model on your own machine.";
  const { engine, model } = health.value;
  const adapters = models.value.length - 1;
  const more = adapters > 0 ? ` with ${adapters} ${adapters === 1 ? "adapter" : "adapters"}` : "";
  return `${model}${more}, on this server's ${engine.device === "cuda" ? "GPU" : "own processor"}. Nothing leaves it.`;
}

const COMMANDS = ["scripts/apiq import MODEL.gguf --out DIR", "npm start -- --model DIR"];

function NoModel() {
  return (
    <section class="empty" aria-labelledby="greeting">
      <h2 id="greeting">No model is loaded</h2>
      <p>
        The server runs, but it was started without a model. Make one from a GGUF file, then start the server with it:
      </p>
      <ul class="commands">
        {COMMANDS.map((command) => (
          <li key={command}>
            <code>{command}</code>
            <CopyButton text={command} label="Copy command" />
          </li>
        ))}
      </ul>
      <p>This page goes on by itself once the server is back.</p>
    </section>
  );
}
