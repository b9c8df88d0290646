import { curl, element } from "./shared.js";

const EXAMPLES = [
  ["no signal since this morning", "My phone shows no bars at all today."],
  ["My card has not arrived yet.", "Somebody took my card out of my bag."],
  ["How do I send these shoes back?", "what's the procedure for a return"],
  ["The water was cold.", "A cold drink of water."],
];
// The address is relative, so that the page also works behind a proxy's path.
const ENDPOINT = new URL("v1/similarity", document.baseURI).href;

const $ = (id) => document.getElementById(id);
let bundle = null;

const share = (score) => Math.min(1, Math.max(0, score));
const figure = (score) => score.toFixed(3).replace("-", "−");
const percent = (probability) => `${(100 * probability).toFixed(probability > 0.005 && probability < 0.995 ? 0 : 1)} %`;
const threshold = () => (bundle && bundle.thresholds ? bundle.thresholds.best_f1 : null);

function bar(score) {
  const inner = element("i");
  inner.style.width = `${100 * share(score)}%`;
  return element("div", { class: "bar", "aria-hidden": "true" }, inner);
}

/** Return a semicircular gauge from 0 to 1, filled up to the score, with a mark at the threshold. */
function gauge(score) {
  const arc = "M 20 100 A 80 80 0 0 1 180 100";
  const made = element("svg:svg", { class: "gauge", viewBox: "0 0 200 116", role: "img", "aria-label": `Score ${figure(score)}` });
  const stroke = { d: arc, fill: "none", "stroke-width": 16, pathLength: 100 };
  made.append(element("svg:path", { ...stroke, class: "track" }));
  made.append(element("svg:path", { ...stroke, class: "value", "stroke-dasharray": `${100 * share(score)} 200` }));
  if (threshold() !== null) {
    const angle = Math.PI * (1 - share(threshold()));
    const at = (radius) => [100 + radius * Math.cos(angle), 100 - radius * Math.sin(angle)];
    const [[x1, y1], [x2, y2]] = [at(69), at(93)];
    made.append(element("svg:line", { class: "mark", x1, y1, x2, y2 }));
  }
  made.append(element("svg:text", { class: "number", x: 100, y: 96 }, figure(score)));
  made.append(element("svg:text", { class: "small", x: 20, y: 114 }, "0"), element("svg:text", { class: "small", x: 180, y: 114 }, "1"));
  return made;
}

function showOne(answer) {
  const [score] = answer.scores;
  const told = element("div");
  if (threshold() !== null) {
    told.append(element("p", { class: "verdict" }, score >= threshold() ? "Similar" : "Not similar"));
  }
  const facts = [];
  if (answer.probabilities) facts.push(`Probability ${percent(answer.probabilities[0])}`);
  if (threshold() !== null) facts.push(`threshold ${figure(threshold())} (best F1 on the bundle's dev pairs)`);
  if (facts.length) told.append(element("p", { class: "facts" }, facts.join(", ")));
  const members = Object.entries(answer.members || {});
  if (members.length) {
    const bars = element("div", { class: "bars" });
    for (const [name, [own]] of members) {
      bars.append(element("span", {}, name), bar(own), element("span", { class: "figure" }, figure(own)));
    }
    told.append(bars);
  }
  if (answer.usage.truncated) told.append(element("p", { class: "facts" }, "A text is longer than the model reads, so its end was ignored."));
  if (answer.usage.unknown_tokens) told.append(element("p", { class: "facts" }, "The model does not know some of the characters, so texts that differ in these only look equal."));
  return element("div", { class: "one" }, gauge(score), told);
}

function showList(answer, pairs) {
  const head = element("tr", {}, element("th", { scope: "col", class: "figure" }, "Score"), element("td", { class: "bar-cell" }));
  if (answer.probabilities) head.append(element("th", { scope: "col", class: "figure" }, "Probability"));
  head.append(element("th", { scope: "col" }, "First text"), element("th", { scope: "col" }, "Second text"));
  const rows = pairs.map(([a, b], i) => {
    const row = element("tr", {}, element("td", { class: "figure" }, figure(answer.scores[i])), element("td", { class: "bar-cell" }, bar(answer.scores[i])));
    if (answer.probabilities) row.append(element("td", { class: "figure" }, percent(answer.probabilities[i])));
    row.append(element("td", {}, a), element("td", {}, b));
    return row;
  });
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

function show(id, isShown) {
  $(id).hidden = !isShown;
}

function fail(message) {
  $("error").textContent = message;
  show("error", true);
  show("result", false);
  show("call", false);
}

async function ask(path, options = {}) {
  const headers = { "content-type": "application/json" };
  if (/[^\x21-\x7e]/.test($("key").value)) throw new Error("The API key has a character that is not allowed in keys.");
  if ($("key").value) headers.authorization = `Bearer ${$("key").value}`;
  const answer = await fetch(path, { ...options, headers });
  const body = await answer.json();
  if (answer.ok) return body;
  if (answer.status === 401) {
    show("key-field", true);
    $("key").focus();
  }
  const { message, param } = body.error;
  throw new Error(param ? `${param}: ${message}` : message);
}

/** Return the pairs that were entered. */
function enteredPairs() {
  if (!isList()) return [[$("text-a").value, $("text-b").value]];
  const lines = $("lines").value.split("\n").map((line, i) => [line, i + 1]).filter(([line]) => line.trim());
  if (!lines.length) throw new Error("Enter at least one line with two texts.");
  return lines.map(([line, number]) => {
    const texts = line.split(line.includes("\t") ? "\t" : "|").map((text) => text.trim());
    if (texts.length !== 2) throw new Error(`Line ${number}: got ${texts.length} text(s), need two with a tab or | between them.`);
    return texts;
  });
}

const isList = () => document.querySelector("input[name=mode]:checked").value === "list";

async function compare(event) {
  event?.preventDefault();
  // One request at a time, so that a response never appears under another request.
  if ($("compare").disabled) return;
  $("compare").disabled = true;
  try {
    const asList = isList();
    const pairs = enteredPairs();
    const body = asList ? { pairs } : { pairs, members: true };
    const answer = await ask(ENDPOINT, { method: "POST", body: JSON.stringify(body) });
    // The bundle may have been replaced, or describing it may have needed a key.
    if (!bundle || !answer.bundle.endsWith(bundle.digest)) await describe();
    $("result").replaceChildren(asList ? showList(answer, pairs) : showOne(answer));
    $("curl").textContent = curl(ENDPOINT, body, $("key").value);
    show("error", false);
    show("result", true);
    show("call", true);
  } catch (error) {
    fail(error instanceof TypeError ? "The server did not respond." : error.message);
  } finally {
    $("compare").disabled = false;
  }
}

async function describe() {
  try {
    bundle = await ask("v1/bundle");
    const runtime = `${bundle.provider.replace("ExecutionProvider", "")} ${bundle.precision}`;
    $("served").textContent = `${bundle.name} · ${bundle.digest.slice(0, 12)} · ${runtime}`;
  } catch (error) {
    bundle = null;
    $("served").textContent = error.message;
  }
}

function choose() {
  show("pair", !isList());
  show("list", isList());
  if (isList() && !$("lines").value) $("lines").value = EXAMPLES.map((pair) => pair.join(" | ")).join("\n");
  show("examples", !isList());
}

for (const [a, b] of EXAMPLES) {
  const button = element("button", { type: "button" }, `${a} / ${b}`);
  button.addEventListener("click", () => {
    [$("text-a").value, $("text-b").value] = [a, b];
    compare();
  });
  $("examples").append(button);
}
for (const mode of document.querySelectorAll("input[name=mode]")) mode.addEventListener("change", choose);
$("form").addEventListener("submit", compare);
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
describe();
