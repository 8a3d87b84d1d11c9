/** Asks for the API key. */
import { useRef, useState } from "preact/hooks";
import { keyIsWanted } from "../api/request.ts";
import { apiKey, forgetApiKey, setApiKey } from "../state/api_key.ts";
import { checkServer, refreshModels } from "../state/server.ts";
import { Dialog } from "./dialog.tsx";
import { closePanel } from "./panels.ts";

export function KeyDialog() {
  const [key, setKey] = useState(apiKey.peek());
  const [problem, setProblem] = useState("");
  const remember = useRef<HTMLInputElement>(null);
  /** The key is tried at once, so that a wrong one is noticed here. */
  const save = async () => {
    setApiKey(key.trim(), remember.current?.checked === true);
    keyIsWanted.value = false;
    await Promise.all([checkServer(), refreshModels()]);
    if (keyIsWanted.peek()) setProblem("The server does not know this key.");
    else closePanel();
  };
  const forget = () => {
    forgetApiKey();
    closePanel();
  };
  return (
    <Dialog title="API key" onClose={closePanel}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <label class="stacked">
          Key
          <input
            class="field"
            type="password"
            autoFocus
            autoComplete="off"
            spellcheck={false}
            value={key}
            aria-invalid={problem !== ""}
            aria-describedby="key-about"
            onInput={(event) => {
              setKey(event.currentTarget.value);
              setProblem("");
            }}
          />
        </label>
        <p id="key-about" class={problem ? "problem" : "hint"}>
          {problem || "One of the keys in the file that the server was started with (--api-key-file)."}
        </p>
        <label class="check">
          <input ref={remember} type="checkbox" /> Keep it in this browser
        </label>
        <p class="buttons end">
          {apiKey.value !== "" && (
            <button type="button" onClick={forget}>
              Forget the key
            </button>
          )}
          <button type="submit" class="primary" disabled={key.trim() === ""}>
            Use this key
          </button>
        </p>
      </form>
    </Dialog>
  );
}
