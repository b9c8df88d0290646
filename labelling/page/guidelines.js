const INLINE = /\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|`([^`]+)`/g;
const TAGS = ["strong", "em", "code"];

function element(name, text) {
  const made = document.createElement(name);
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const kind = match.slice(1).findIndex((part) => part !== undefined);
    const inner = document.createElement(TAGS[kind]);
    inner.textContent = match[kind + 1];
    made.append(text.slice(end, match.index), inner);
    end = match.index + match[0].length;
  }
  made.append(text.slice(end));
  return made;
}

/** Return elements for a small part of Markdown: headings, lists, paragraphs, bold, italic and code. The rest is text. */
export function render(markdown) {
  const blocks = [];
  let open = null;
  for (const line of markdown.split(/\r?\n/)) {
    const heading = line.match(/^(#{1,6})\s+(.*)$/);
    const item = line.match(/^\s*(?:[-*+]|(\d+)[.)])\s+(.*)$/);
    if (heading) {
      blocks.push({ name: heading[1].length > 2 ? "h4" : "h3", text: heading[2] });
      open = null;
    } else if (item) {
      const name = item[1] ? "ol" : "ul";
      if (open?.name !== name) blocks.push((open = { name, items: [] }));
      open.items.push(item[2]);
    } else if (!line.trim()) {
      open = null;
    } else if (open?.items) {
      open.items.push(`${open.items.pop()} ${line.trim()}`);
    } else if (open) {
      open.text += ` ${line.trim()}`;
    } else {
      blocks.push((open = { name: "p", text: line.trim() }));
    }
  }
  return blocks.map(({ name, text, items }) => {
    if (!items) return element(name, text);
    const list = document.createElement(name);
    list.append(...items.map((one) => element("li", one)));
    return list;
  });
}
