/**
 * Markdown as elements. A model's text is parsed into tokens and every token becomes an element of our choosing, so no HTML is
 * ever made of it: tags in the text are shown as the text they are.
 */
import { Lexer, type Token, type Tokens } from "marked";
import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { CodeBlock } from "./code_block.tsx";
import { decodeEntities } from "./entities.ts";
import { safeHref } from "./links.ts";

/** Deeper than people nest; what lies deeper is shown as it was written, since every level takes some of the stack. */
const DEEPEST = 16;

export function Markdown({ text }: { text: string }) {
  const tokens = useMemo(() => parse(text), [text]);
  return (
    <div class="markdown">
      {tokens.map((token, index) => (
        <Block key={index} token={token as Part} />
      ))}
    </div>
  );
}

/** A part of an answer that is already complete stays as it is while the answer grows. */
function Block({ token }: { token: Part }) {
  const depth = token.type === "heading" ? token.depth : 0;
  return useMemo(() => <Part token={token} level={0} />, [token.raw, depth]);
}

/** Models begin with headings of any level; the highest of a text becomes the first. */
function parse(text: string): readonly Token[] {
  const tokens = lex(text);
  const headings = tokens.filter((token): token is Tokens.Heading => token.type === "heading");
  const top = Math.min(...headings.map(({ depth }) => depth));
  return tokens.map((token) => (token.type === "heading" ? { ...token, depth: token.depth - top + 1 } : token));
}

/** A text that is too much for the lexer, as thousands of nested quotes are, is left as it is. */
function lex(text: string): readonly Token[] {
  try {
    return new Lexer({ gfm: true, breaks: true }).lex(text);
  } catch {
    return [{ type: "html", raw: text, text, pre: false, block: true }];
  }
}

/** The kinds that the lexer makes; `Token` itself also admits those of extensions, of which there are none here. */
type Part =
  | Tokens.Blockquote
  | Tokens.Br
  | Tokens.Checkbox
  | Tokens.Code
  | Tokens.Codespan
  | Tokens.Def
  | Tokens.Del
  | Tokens.Em
  | Tokens.Escape
  | Tokens.Heading
  | Tokens.Hr
  | Tokens.HTML
  | Tokens.Image
  | Tokens.Link
  | Tokens.List
  | Tokens.ListItem
  | Tokens.Paragraph
  | Tokens.Space
  | Tokens.Strong
  | Tokens.Table
  | Tokens.Text;

/** Draws what lies inside a part. */
type Render = (tokens: readonly Token[] | undefined) => ComponentChildren;

function Part({ token, level }: { token: Part; level: number }) {
  if (level > DEEPEST) return <>{token.raw}</>;
  const render: Render = (tokens) =>
    tokens?.map((inner, index) => <Part key={index} token={inner as Part} level={level + 1} />);
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "paragraph":
      return <p>{render(token.tokens)}</p>;
    case "heading":
      return <Heading depth={token.depth}>{render(token.tokens)}</Heading>;
    case "code":
      return <CodeBlock text={token.text} language={token.lang ?? ""} />;
    case "blockquote":
      return <blockquote>{render(token.tokens)}</blockquote>;
    case "hr":
      return <hr />;
    case "list":
      return <List list={token} render={render} />;
    case "table":
      return <Table table={token} render={render} />;
    case "strong":
      return <strong>{render(token.tokens)}</strong>;
    case "em":
      return <em>{render(token.tokens)}</em>;
    case "del":
      return <del>{render(token.tokens)}</del>;
    case "codespan":
      return <code>{token.text}</code>;
    case "br":
      return <br />;
    case "checkbox":
      return <input type="checkbox" checked={token.checked} disabled aria-label={token.checked ? "done" : "to do"} />;
    case "link":
      return <Link href={token.href}>{render(token.tokens)}</Link>;
    // An image would be loaded from another host; its address is shown instead.
    case "image":
      return <Link href={token.href}>{token.text || token.href}</Link>;
    case "text":
      return <>{token.tokens ? render(token.tokens) : decodeEntities(token.text)}</>;
    default:
      return <>{token.type === "escape" ? token.text : token.raw}</>;
  }
}

/** Below the headings of the page and of the message. */
function Heading({ depth, children }: { depth: number; children: ComponentChildren }) {
  if (depth === 1) return <h3>{children}</h3>;
  return depth === 2 ? <h4>{children}</h4> : <h5>{children}</h5>;
}

function Link({ href, children }: { href: string; children: ComponentChildren }) {
  const safe = safeHref(href);
  if (safe === undefined) return <>{children}</>;
  return (
    <a href={safe} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}

function List({ list, render }: { list: Tokens.List; render: Render }) {
  const items = list.items.map((item, index) => (
    <li key={index} class={item.task ? "task" : undefined}>
      {render(item.tokens)}
    </li>
  ));
  return list.ordered ? <ol start={list.start || 1}>{items}</ol> : <ul>{items}</ul>;
}

function Table({ table, render }: { table: Tokens.Table; render: Render }) {
  const cell = (one: Tokens.TableCell) => ({ class: one.align ? `align-${one.align}` : undefined });
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls has to be reachable by keyboard
    <section class="table" aria-label="Table" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {table.header.map((one, column) => (
              <th key={column} {...cell(one)}>
                {render(one.tokens)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, index) => (
            <tr key={index}>
              {row.map((one, column) => (
                <td key={column} {...cell(one)}>
                  {render(one.tokens)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
