import { ask, ENDPOINT, joined, RequestError, scoreAll, sentence, split } from "./api.js";
import { EntryError, readPairs, readTexts, selectLine } from "./entries.js";
import { placesOf, showHeatmap } from "./heatmap.js";
import { figure, hasSides, percent, showPair } from "./results.js";
import { curl, element } from "./shared.js";
import { showTable } from "./table.js";

const EXAMPLES = [
  ["no signal since this morning", "My phone shows no bars at all today."],
  ["My card has not arrived yet.", "Somebody took my card out of my bag."],
  ["How do I send these shoes back?", "what's the procedure for a return"],
  ["The water was cold.", "A cold drink of water."],
];
const MAX_TEXTS = 30;
const SIDES = ["first text", "second text"];

const $ = (id) => document.getElementById(id);
const key = () => $("key").value;
const mode = () => document.querySelector("input[name=mode]:checked").value;
let bundle = null;
let isBusy = false;

// Each mode reads what was entered. It returns the pairs to score with a bundle, the place of a text of a pair that the
// server refuses, and how to show the answer.
const MODES = {
  pair: () => ({
    pairs: () => [[$("text-a").value, $("text-b").value]],
    place: (_pair, side) => ({ field: [$("text-a"), $("text-b")][side] }),
    show: showPair,
    withMembers: true,
  }),
  list: () => {
    const entries = readPairs($("lines"));
    return {
      pairs: () => entries.map(({ pair }) => pair),
      place: (pair, side) => ({ field: $("lines"), line: entries[pair].line, name: SIDES[side] }),
      show: (answer) => showTable(answer, bundle, entries),
    };
  },
  texts: () => {
    const entries = readTexts($("each"), MAX_TEXTS);
    const texts = entries.map(({ text }) => text);
    const places = () => placesOf(texts.length, hasSides(bundle));
    return {
      pairs: () => places().map(([row, column]) => [texts[row], texts[column]]),
      place: (pair, side) => ({ field: $("each"), line: entries[places()[pair][side]].line }),
      show: (answer) => showHeatmap(answer, bundle, texts, places()),
    };
  },
};

function show(id, isShown) {
  $(id).hidden = !isShown;
}

/** Return the error as one of the field that it is about, if it is about one. */
function placed(error, entry) {
  if (error.status === 401) return new EntryError(error.message, $("key"));
  if (error.pair === undefined) return error;
  const { field, line, name } = entry.place(error.pair, error.side);
  const where = [...(line ? [`line ${line}`] : []), ...(name ? [name] : [])].join(", ");
  return new EntryError(sentence(`${where}${where && ": "}${error.message}`), field, line);
}

function clearError() {
  show("error", false);
  for (const field of document.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}

/** Show the error at its field, or below the form if it has none. */
function showError({ message, field, line }) {
  show("result", false);
  show("call", false);
  $("status").textContent = "";
  $("error").textContent = message;
  if (field) field.after($("error"));
  else $("form").after($("error"));
  show("error", true);
  if (!field) return;
  if (field === $("key")) show("key-field", true);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", "error");
  if (line) selectLine(field, line);
  else field.focus();
}

async function describe() {
  bundle = await ask("v1/bundle", key());
  const runtime = `${bundle.provider.replace("ExecutionProvider", "")} ${bundle.precision}`;
  $("served").textContent = `${bundle.name} · ${bundle.digest.slice(0, 12)} · ${runtime}`;
}

/** Return the requests that score the entry, and their answers. */
async function score(entry) {
  for (let attempts = 2; attempts; attempts--) {
    if (!bundle) await describe();
    const requests = split(entry.pairs(), bundle.limits).map((pairs) => (entry.withMembers ? { pairs, members: true } : { pairs }));
    const answers = await scoreAll(requests, key());
    if (answers.every((answer) => answer.bundle.endsWith(bundle.digest))) return [requests, answers];
    // The bundle was replaced, and its limits and sides with it.
    bundle = null;
  }
  throw new RequestError("The bundle was replaced meanwhile. Compare again.");
}

async function compare(event) {
  event?.preventDefault();
  // One request at a time, so that a response never appears under another request. A disabled button would lose the focus.
  if (isBusy) return;
  isBusy = true;
  $("compare").setAttribute("aria-disabled", "true");
  clearError();
  let entry;
  try {
    entry = MODES[mode()]();
    const [requests, answers] = await score(entry);
    const answer = joined(answers);
    $("result").replaceChildren(...entry.show(answer, bundle));
    $("call-title").textContent = requests.length > 1 ? `The first of the ${requests.length} requests from a terminal` : "The same request from a terminal";
    $("curl").textContent = curl(ENDPOINT, requests[0], key());
    show("result", true);
    show("call", true);
    const { scores, probabilities } = answer;
    const chance = probabilities ? `, probability ${percent(probabilities[0])}` : "";
    $("status").textContent = scores.length > 1 ? `${scores.length} pairs scored.` : `Score ${figure(scores[0])}${chance}.`;
  } catch (error) {
    showError(placed(error, entry));
  } finally {
    isBusy = false;
    $("compare").removeAttribute("aria-disabled");
  }
}

function choose() {
  for (const id of Object.keys(MODES)) show(id, id === mode());
  show("examples", mode() === "pair");
  if (mode() === "list" && !$("lines").value) $("lines").value = EXAMPLES.map((pair) => pair.join(" | ")).join("\n");
  if (mode() === "texts" && !$("each").value) $("each").value = EXAMPLES.flat().join("\n");
}

for (const [a, b] of EXAMPLES) {
  const button = element("button", { type: "button" }, `${a} / ${b}`);
  button.addEventListener("click", () => {
    [$("text-a").value, $("text-b").value] = [a, b];
    compare();
  });
  $("examples").append(button);
}
for (const option of document.querySelectorAll("input[name=mode]")) option.addEventListener("change", choose);
$("form").addEventListener("submit", compare);
$("form").addEventListener("input", clearError);
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) compare(event);
});
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("curl"));
  }
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
});
// A browser restores what was entered and the mode when the page is loaded again.
choose();
describe().catch((error) => {
  $("served").textContent = error.message;
  if (error.status === 401) {
    show("key-field", true);
    $("key").focus();
  }
});
