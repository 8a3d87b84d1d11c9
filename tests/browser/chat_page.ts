/** What a person does on the page, by what it shows and says: roles and names, never the names of classes. */
import type { Locator, Page } from "playwright-core";

export class ChatPage {
  readonly page: Page;

  constructor(page: Page) {
    this.page = page;
  }

  get field(): Locator {
    return this.page.getByRole("textbox", { name: "Message", exact: true });
  }

  /** All messages, one's own and the model's, oldest first. */
  get messages(): Locator {
    return this.page.getByRole("region", { name: "Conversation" }).locator("ol.column > li");
  }

  get last(): Locator {
    return this.messages.last();
  }

  async text(of: Locator = this.last): Promise<string> {
    return (await of.textContent()) ?? "";
  }

  get dialog(): Locator {
    return this.page.getByRole("dialog");
  }

  button(name: string | RegExp): Locator {
    return this.page.getByRole("button", { name });
  }

  link(name: string): Locator {
    return this.page.getByRole("link", { name });
  }

  async send(text: string): Promise<void> {
    await this.field.fill(text);
    await this.field.press("Enter");
  }

  /** Sends and waits for the whole answer. */
  async ask(text: string): Promise<void> {
    await this.send(text);
    await this.whole();
  }

  /** Waits until nothing is being written. */
  async whole(): Promise<void> {
    await this.button("Answer again").waitFor();
  }

  /** The bodies of the chat requests from here on, as they are sent. */
  requests(): { readonly [field: string]: unknown }[] {
    const bodies: { [field: string]: unknown }[] = [];
    this.page.on("request", (request) => {
      if (request.url().endsWith("/v1/chat/completions")) bodies.push(request.postDataJSON());
    });
    return bodies;
  }
}
