import { render } from "./guidelines.js";

const KEYS = { s: "same", 1: "same", d: "different", 2: "different", u: "unsure", 3: "unsure", " ": "skip", 4: "skip" };
const PARTS = { random: "Random part", disagreement: "Where bundle and baseline disagree", threshold: "Around the threshold", audit: "Audit" };
const PATIENCE_MS = 10000;
const MAX_PAUSE_MS = 4000;

const $ = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-answer]")];
let state = null;
let shownAt = 0;
// The click that is not acknowledged. No other one is taken before it is.
let isSaving = false;

function show(id, isShown) {
  $(id).hidden = !isShown;
}

function trouble(text) {
  $("trouble").textContent = text;
  show("trouble", Boolean(text));
}

const count = (number) => number.toLocaleString("en");

function time(seconds) {
  if (seconds < 60) return "less than a minute left";
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `about ${minutes} min left` : `about ${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
}

function fill(target, segments) {
  target.replaceChildren(
    ...segments.map(([text, isDifferent]) => {
      if (!isDifferent) return document.createTextNode(text);
      const mark = document.createElement("mark");
      mark.textContent = text;
      return mark;
    }),
  );
}

function showProgress({ part, part_done, part_total, done, total, seconds_left }) {
  const inPart = `${count(part_done)} of ${count(part_total)}`;
  $("bar").firstElementChild.style.width = `${(100 * part_done) / part_total}%`;
  $("bar").setAttribute("aria-valuemax", part_total);
  $("bar").setAttribute("aria-valuenow", part_done);
  const left = seconds_left === null || part_done === part_total ? "" : ` · ${time(seconds_left)}`;
  $("part").textContent = `${PARTS[part]}: ${inPart}${left}`;
  $("left").textContent = total > part_total ? `${count(done)} of ${count(total)} in all` : "";
  document.title = `${inPart} · Simile labels`;
}

function showState(next) {
  state = next;
  const { pair, progress, counts, last } = state;
  showProgress(progress);
  show("pair", pair);
  show("end", !pair);
  show("answers", pair);
  show("add-note", pair);
  show("present", pair?.label);
  if (pair) {
    fill($("first"), pair.first);
    fill($("second"), pair.second);
    $("label").textContent = pair.label;
    $("reason").textContent = pair.reason;
  } else {
    $("counts").textContent = Object.entries(counts).map(([answer, number]) => `${count(number)} ${answer}`).join(", ");
  }
  $("note").value = pair?.note ?? "";
  show("note-field", pair?.note);
  $("last").textContent = last ? `: ${last}` : "";
  shownAt = performance.now();
  update();
}

function update(chosen) {
  for (const button of buttons) {
    button.classList.toggle("chosen", button.dataset.answer === chosen);
    button.setAttribute("aria-disabled", String(isSaving));
  }
  $("undo").setAttribute("aria-disabled", String(isSaving || !state?.last));
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Return the server's answer, however long it takes to come; the server knows a request that it has had before. */
async function ask(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  for (let wait = 250; ; wait = Math.min(2 * wait, MAX_PAUSE_MS)) {
    let problem = "the server does not answer";
    try {
      const response = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) });
      const content = await response.json();
      if (response.ok) return content;
      problem = content.error;
      if (response.status < 500 && response.status !== 408) throw Object.assign(new Error(problem), { status: response.status });
    } catch (error) {
      if (error.status) throw error;
    }
    trouble(`${body ? "Not saved yet" : "Not loaded yet"}: ${problem}. Trying again…`);
    await pause(wait);
  }
}

async function save(path, body, chosen) {
  isSaving = true;
  update(chosen);
  try {
    const next = await ask(path, body);
    isSaving = false;
    trouble("");
    showState(next);
    $("status").textContent = chosen ? `Saved: ${chosen}.` : "The last answer is taken back.";
  } catch (error) {
    const next = await ask("api/state");
    isSaving = false;
    showState(next);
    trouble(error.status === 409 ? "Another window has answered meanwhile. This is the next pair." : `Not saved: ${error.message}.`);
  }
  scrollTo(0, 0);
}

function answer(choice) {
  if (isSaving || !state?.pair) return;
  const seconds = Math.min((performance.now() - shownAt) / 1000, 86400);
  save("api/answer", { sequence: state.sequence, pair: state.pair.key, answer: choice, seconds, note: $("note").value.trim() }, choice);
}

function undo() {
  if (!isSaving && state?.last) save("api/undo", { sequence: state.sequence });
}

function openNote() {
  if (isSaving || !state?.pair) return;
  show("note-field", true);
  $("note").focus();
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === $("note")) {
    if ((event.key === "Enter" && !event.isComposing) || event.key === "Escape") {
      event.preventDefault();
      $("note").blur();
    }
    return;
  }
  // The space bar presses the button that has the focus.
  if (event.key === " " && event.target.closest("button, summary")) return;
  const key = event.key.toLowerCase();
  const action = KEYS[key] ? () => answer(KEYS[key]) : { z: undo, backspace: undo, n: openNote }[key];
  if (!action) return;
  event.preventDefault();
  // A key that is held down is one answer.
  if (!event.repeat) action();
}

/** Act on the click; the mouse must not leave the focus on a button, where the space bar would press it again. */
function onClick(button, action) {
  button.addEventListener("click", (event) => {
    if (event.detail) button.blur();
    action();
  });
}

for (const button of buttons) onClick(button, () => answer(button.dataset.answer));
onClick($("undo"), undo);
onClick($("add-note"), openNote);
document.addEventListener("keydown", press);
addEventListener("beforeunload", (event) => isSaving && event.preventDefault());

const about = await ask("api/about");
$("about").textContent = `${about.annotator} · ${about.out}`;
if (about.guidelines) {
  $("guide").append(...render(about.guidelines));
  document.body.classList.add("guided");
  // On a narrow screen the guidelines would push the answers away.
  document.querySelector("details").open = matchMedia("(min-width: 64rem)").matches;
  show("guidelines", true);
}
showState(await ask("api/state"));
trouble("");
