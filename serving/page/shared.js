const SVG = "http://www.w3.org/2000/svg";

/** Return a new element; text children are never parsed as markup. */
export function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.map((child) => (typeof child === "object" ? child : String(child))));
  return made;
}

/** Return the text quoted as one word of a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** Return the curl command that posts the body, or sends a GET request if there is none. */
export function curl(address, body, hasKey) {
  const key = hasKey ? ` -H "Authorization: Bearer $SIMILE_API_KEY"` : "";
  const data = body === undefined ? "" : ` -H 'content-type: application/json' -d ${quoted(JSON.stringify(body))}`;
  return `curl -s ${quoted(address)}${key}${data}`;
}
