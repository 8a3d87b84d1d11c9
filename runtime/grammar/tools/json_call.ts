/** Reads one tool call, a JSON object with a name and arguments, character by character. */

/** What the characters so far made known. */
export interface CallProgress {
  /** The function's name, once, as soon as it is complete. */
  name?: string;
  /** JSON text of the arguments that is new since the last time. Comes only after the name. */
  arguments: string;
  /** "done" with the brace that closes the call, "broken" when it cannot be a call any more. */
  state: "open" | "done" | "broken";
}

const ARGUMENT_KEYS = new Set(["arguments", "parameters"]);

/**
 * Tolerant of key order, further keys and whitespace, and of arguments given as a JSON string that holds JSON. Values are
 * not checked: what is wrong inside the arguments is passed on, as OpenAI's API does.
 */
export class JsonCallReader {
  /** Brackets that are open, the call's own included. */
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** Where in the call's own object this is. */
  #expects: "key" | "colon" | "value" | "comma" = "key";
  #key = "";
  /** Text of the key or value being read. */
  #token = "";
  #name: string | undefined;
  /** Arguments that came before the name. */
  #held = "";
  #isNameReported = false;
  #state: CallProgress["state"] = "open";

  /** Takes the next character; not to be called after "done" or "broken". */
  push(char: string): CallProgress {
    const fresh = this.#step(char);
    if (this.#name === undefined) {
      this.#held += fresh;
      if (this.#state === "done") this.#state = "broken";
      return { arguments: "", state: this.#state };
    }
    if (this.#isNameReported) return { arguments: fresh, state: this.#state };
    this.#isNameReported = true;
    return { name: this.#name, arguments: this.#held + fresh, state: this.#state };
  }

  /** Returns what the character adds to the arguments. */
  #step(char: string): string {
    if (this.#inString || this.#depth > 1) return this.#inside(char);
    if (this.#depth === 0) {
      if (char === "{") this.#depth = 1;
      else this.#state = "broken";
      return "";
    }
    if (char === "}" || char === ",") {
      // Ends what has no end of its own, such as a number.
      this.#token = "";
      if (char === "}") this.#state = "done";
      else this.#expects = "key";
      return "";
    }
    return /\s/.test(char) ? "" : this.#between(char);
  }

  /** A character of the call's own object that begins something, outside of strings and inner brackets. */
  #between(char: string): string {
    if (this.#expects === "colon") {
      if (char === ":") this.#expects = "value";
      else this.#state = "broken";
      return "";
    }
    const isString = char === '"';
    if (this.#expects === "comma" || (this.#expects === "key" && !isString)) {
      this.#state = "broken";
      return "";
    }
    this.#token += char;
    this.#inString = isString;
    if (char === "{" || char === "[") this.#depth++;
    return this.#isStreaming() ? char : "";
  }

  /** A character inside a string or inner brackets. */
  #inside(char: string): string {
    this.#token += char;
    if (this.#inString) {
      const isEnd = char === '"' && !this.#escaped;
      this.#escaped = char === "\\" && !this.#escaped;
      if (isEnd) this.#inString = false;
    } else if (char === '"') this.#inString = true;
    else if (char === "{" || char === "[") this.#depth++;
    else if (char === "}" || char === "]") this.#depth--;
    const streamed = this.#isStreaming() ? char : "";
    if (this.#depth > 1 || this.#inString) return streamed;
    return streamed + this.#endToken();
  }

  /** Arguments are passed on as they come, unless they are a string, whose content is then the arguments. */
  #isStreaming(): boolean {
    return this.#expects === "value" && ARGUMENT_KEYS.has(this.#key) && !this.#token.startsWith('"');
  }

  /** A string or bracketed value of the call's own object is complete. */
  #endToken(): string {
    const text = this.#token;
    this.#token = "";
    if (this.#expects === "key") {
      this.#key = parseString(text) ?? "";
      this.#expects = "colon";
      return "";
    }
    this.#expects = "comma";
    if (this.#key === "name") this.#name = parseString(text);
    if (ARGUMENT_KEYS.has(this.#key) && text.startsWith('"')) return parseString(text) ?? "";
    return "";
  }
}

/** The text of a JSON string; undefined when it is none. */
function parseString(json: string): string | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}
