/** What was entered is faulty: `field` holds it, in `line` if it is a list. */
export class EntryError extends Error {
  constructor(message, field, line) {
    super(message);
    Object.assign(this, { field, line });
  }
}

/** Return the lines that are not blank, with their numbers. */
const linesOf = (field) =>
  field.value
    .split("\n")
    .map((content, i) => ({ content, line: i + 1 }))
    .filter(({ content }) => content.trim());

/** Return the two texts of a line. */
function pairOf({ content, line }, field) {
  const texts = content.split(content.includes("\t") ? "\t" : "|").map((text) => text.trim());
  const fault = (message) => new EntryError(`Line ${line} ${message}`, field, line);
  if (texts.length > 2) throw fault(`has ${texts.length} texts: put one tab or one | between two texts.`);
  if (!texts[0]) throw fault("has no first text.");
  if (!texts[1]) throw fault("has no second text: put a tab or | between the two texts.");
  return texts;
}

/** Return the pairs of a list, each with its line. */
export function readPairs(field) {
  const lines = linesOf(field);
  if (!lines.length) throw new EntryError("Enter at least one line with two texts.", field);
  return lines.map((line) => ({ pair: pairOf(line, field), line: line.line }));
}

/** Return the texts of a list, each with its line. */
export function readTexts(field, max) {
  const lines = linesOf(field);
  if (lines.length < 2 || lines.length > max) {
    const got = `${lines.length} ${lines.length === 1 ? "text" : "texts"}`;
    throw new EntryError(`Got ${got}, need 2 to ${max}, one per line.`, field, lines[max]?.line);
  }
  return lines.map(({ content, line }) => ({ text: content.trim(), line }));
}

/** Select the line of a text area and scroll to it. */
export function selectLine(area, line) {
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((length, { length: more }) => length + more + 1, 0);
  // A browser scrolls to the caret when the field gets the focus, and not when the selection changes.
  area.blur();
  area.setSelectionRange(start, start);
  area.focus();
  area.setSelectionRange(start, start + lines[line - 1].length);
}
