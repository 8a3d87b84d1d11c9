/** Messages as clients send them, and as chat templates want them. */
import { z } from "zod";
import type { ChatMessage } from "../../runtime/tokenizer/mod.ts";
import { functionName } from "./tools.ts";

const textPart = z.strictObject({ type: z.literal("text"), text: z.string() });

/** Parts are joined by a line feed, as other servers of open models do. */
const content = z.union([
  z.string(),
  z
    .array(textPart)
    .min(1)
    .transform((parts) => parts.map(({ text }) => text).join("\n")),
]);

/** Arguments stay JSON text here; what a template wants is the tool format's business. */
const toolCall = z.strictObject({
  id: z.string(),
  type: z.literal("function"),
  function: z.strictObject({ name: functionName, arguments: z.string() }),
});

const spoken = z
  .strictObject({ role: z.enum(["system", "developer", "user"]), content })
  // `developer` is what OpenAI calls the system role for newer models; chat templates know `system`.
  .transform(({ role, content }): ChatMessage => ({ role: role === "developer" ? "system" : role, content }));

const answered = z
  .strictObject({ role: z.literal("assistant"), content: content.optional(), tool_calls: z.array(toolCall).optional() })
  .refine(({ content, tool_calls }) => content !== undefined || tool_calls?.length, {
    path: ["content"],
    message: "expected a text or tool_calls",
  })
  .transform(
    ({ content = "", tool_calls = [] }): ChatMessage => ({
      role: "assistant",
      content,
      ...(tool_calls.length > 0 && { tool_calls }),
    }),
  );

const toolResult = z
  .strictObject({ role: z.literal("tool"), content, tool_call_id: z.string() })
  .transform((message): ChatMessage => message);

const ROLES = "expected system, developer, user, assistant or tool";

export const message = z.discriminatedUnion("role", [spoken, answered, toolResult], { error: ROLES });
