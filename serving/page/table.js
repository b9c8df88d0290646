import { bar, explanation, figure, percent } from "./results.js";
import { element } from "./shared.js";

const { compare } = new Intl.Collator();
const ofTexts = (one, other) => compare(one, other);
const ofNumbers = (one, other) => one - other;

// `name` is the column's name in the CSV file; `descends` says that its first sort begins with the highest value.
const LINE = { name: "line", title: "Line", order: ofNumbers, cell: (line) => [line], isFigure: true };
const SCORE = { name: "score", title: "Score", order: ofNumbers, cell: (score) => [figure(score), bar(score)], isFigure: true, descends: true };
const PROBABILITY = { name: "probability", title: "Probability", order: ofNumbers, cell: (probability) => [percent(probability)], isFigure: true, descends: true };
const TEXT_A = { name: "text_a", title: "First text", order: ofTexts, cell: (text) => [text] };
const TEXT_B = { name: "text_b", title: "Second text", order: ofTexts, cell: (text) => [text] };

const classOf = ({ isFigure }) => (isFigure ? { class: "figure" } : {});

/** Return a value as a field of a CSV file (RFC 4180). A spreadsheet would run a text that begins like a formula, so an apostrophe precedes it. */
function csvField(value) {
  const text = typeof value === "string" && /^[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Save the rows as a file; spreadsheets read it as UTF-8 because of the byte order mark. */
function saveCsv(columns, rows) {
  const lines = [columns.map(({ name }) => name), ...rows.map((row) => columns.map(({ name }) => row[name]))];
  const text = lines.map((fields) => `${fields.map(csvField).join(",")}\r\n`).join("");
  const href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  element("a", { href, download: "scores.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

/** Return the result of a list of pairs: a table that each column sorts, and its rows as a file. */
export function showTable(answer, bundle, entries) {
  const columns = [LINE, SCORE, ...(answer.probabilities ? [PROBABILITY] : []), TEXT_A, TEXT_B];
  const rows = entries.map(({ line, pair: [text_a, text_b] }, i) => {
    const row = { line, score: answer.scores[i], probability: answer.probabilities?.[i], text_a, text_b };
    const cells = columns.map((column) => element("td", classOf(column), ...column.cell(row[column.name])));
    return { ...row, element: element("tr", {}, ...cells) };
  });
  const body = element("tbody", {}, ...rows.map((row) => row.element));
  let sorted = rows;

  const heads = columns.map((column) => {
    const button = element("button", { type: "button" }, column.title);
    const head = element("th", { scope: "col", ...classOf(column) }, button);
    button.addEventListener("click", () => {
      const current = head.getAttribute("aria-sort");
      const isAscending = current ? current !== "ascending" : !column.descends;
      const order = (one, other) => column.order(one[column.name], other[column.name]);
      // Sorting the lines as they were entered leaves ties in their order, in both directions.
      sorted = [...rows].sort(isAscending ? order : (one, other) => order(other, one));
      body.append(...sorted.map((row) => row.element));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
    });
    return head;
  });
  heads[0].setAttribute("aria-sort", "ascending");

  const save = element("button", { type: "button", class: "quiet", "aria-describedby": "csv-note" }, "Download CSV");
  save.addEventListener("click", () => saveCsv(columns, sorted));
  const note = element("span", { class: "note", id: "csv-note" }, "Texts that begin with =, +, - or @ get an apostrophe in front, so that no spreadsheet runs them as formulas.");
  return [
    element("div", { class: "scroll" }, element("table", { class: "pairs" }, element("thead", {}, element("tr", {}, ...heads)), body)),
    element("div", { class: "actions" }, save, note),
    ...explanation(answer, bundle),
  ];
}
