import { explanation, figure, hasSides, percent } from "./results.js";
import { element } from "./shared.js";

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] };

/** Return the row and the column of each pair to score: both orders only if these differ, and no text with itself. */
export function placesOf(count, inBothOrders) {
  const numbers = [...Array(count).keys()];
  return numbers.flatMap((row) => numbers.filter((column) => (inBothOrders ? column !== row : column > row)).map((column) => [row, column]));
}

/** Return the table of scores, with its cells by row and column. */
function grid(texts, scoreAt, colourOf) {
  const heads = texts.map((text, i) => element("th", { scope: "col", "aria-label": `${i + 1}, ${text}` }, i + 1));
  const cells = texts.map((_row, row) =>
    texts.map((_column, column) => {
      const score = scoreAt(row, column);
      if (score === undefined) return element("td", { class: "same", tabindex: "-1", "aria-label": "same text" });
      const cell = element("td", { tabindex: "-1" }, figure(score, 2));
      cell.style.setProperty("--tone", colourOf(score));
      return cell;
    }),
  );
  const rows = texts.map((text, i) => element("tr", {}, element("th", { scope: "row" }, `${i + 1} `, element("span", {}, text)), ...cells[i]));
  const table = element(
    "table",
    { class: "heat", role: "grid", "aria-label": "Score of each text with each other; the arrow keys move between cells" },
    element("thead", {}, element("tr", {}, element("td"), ...heads)),
    element("tbody", {}, ...rows),
  );
  return [table, cells];
}

/** Return the result of texts with each other: a heat map, and the two texts of the cell under the pointer or focus. */
export function showHeatmap(answer, bundle, texts, places) {
  const index = new Map(places.map((place, i) => [String(place), i]));
  const pairAt = (row, column) => index.get(String([row, column])) ?? index.get(String([column, row]));
  const [lowest, highest] = [Math.min(...answer.scores), Math.max(...answer.scores)];
  const colourOf = (score) => `${(65 * (score - lowest)) / (highest - lowest || 1)}%`;
  const [table, cells] = grid(texts, (row, column) => answer.scores[pairAt(row, column)], colourOf);
  const detail = element("div", { class: "detail" });
  const place = new Map(cells.flatMap((inRow, row) => inRow.map((cell, column) => [cell, [row, column]])));
  let current;

  const tell = (cell) => {
    const [row, column] = place.get(cell);
    const pair = pairAt(row, column);
    const chance = answer.probabilities && pair !== undefined ? `, probability ${percent(answer.probabilities[pair])}` : "";
    const heading = pair === undefined ? "The same text" : `Score ${figure(answer.scores[pair])}${chance}`;
    const shown = row === column ? [row] : [row, column];
    detail.replaceChildren(element("p", {}, element("strong", {}, heading)), ...shown.map((i) => element("p", {}, `${i + 1} ${texts[i]}`)));
  };
  const choose = (cell) => {
    if (current) current.tabIndex = -1;
    current = cell;
    cell.tabIndex = 0;
    tell(cell);
  };
  const cellOf = (event) => event.target.closest("tbody td");
  const within = (i) => Math.min(texts.length - 1, Math.max(0, i));
  table.addEventListener("focusin", (event) => choose(cellOf(event)));
  table.addEventListener("mouseover", (event) => cellOf(event) && tell(cellOf(event)));
  table.addEventListener("mouseleave", () => tell(current));
  table.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const [row, column] = place.get(current);
    cells[within(row + step[0])][within(column + step[1])].focus();
  });
  const [row, column] = places[answer.scores.indexOf(highest)];
  choose(cells[row][column]);

  const legend = element("p", { class: "facts" }, `Lowest score ${figure(lowest, 2)} `, element("span", { class: "scale", "aria-hidden": "true" }), ` highest\u00a0${figure(highest, 2)}`);
  if (hasSides(bundle)) legend.append(". A row has a first text, and a column a second text.");
  return [element("div", { class: "scroll" }, table), detail, legend, ...explanation(answer, bundle)];
}
