import { element } from "./shared.js";

const share = (score) => Math.min(1, Math.max(0, score));
/** Return the score in decimal digits; one that is rounded to 0 has no sign. */
export const figure = (score, digits = 3) => score.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
export const percent = (probability) => `${(100 * probability).toFixed(probability > 0.005 && probability < 0.995 ? 0 : 1)} %`;
const thresholdOf = (bundle) => bundle.thresholds?.best_f1 ?? null;

/** Return whether first and second texts have prompts of their own, so that the order of a pair matters. */
export const hasSides = (bundle) =>
  bundle.members.some(({ prompt, prompt_a = prompt, prompt_b = prompt }) => prompt_a !== prompt_b);

export function bar(score) {
  const inner = element("i");
  inner.style.width = `${100 * share(score)}%`;
  return element("div", { class: "bar", "aria-hidden": "true" }, inner);
}

/** Return a semicircular gauge from 0 to 1, filled up to the score, with a mark at the threshold. */
function gauge(score, threshold) {
  const arc = "M 20 100 A 80 80 0 0 1 180 100";
  const made = element("svg:svg", { class: "gauge", viewBox: "0 0 200 116", role: "img", "aria-label": `Score ${figure(score)}` });
  const stroke = { d: arc, fill: "none", "stroke-width": 16, pathLength: 100 };
  made.append(element("svg:path", { ...stroke, class: "track" }));
  made.append(element("svg:path", { ...stroke, class: "value", "stroke-dasharray": `${100 * share(score)} 200` }));
  if (threshold !== null) {
    const angle = Math.PI * (1 - share(threshold));
    const at = (radius) => [100 + radius * Math.cos(angle), 100 - radius * Math.sin(angle)];
    const [[x1, y1], [x2, y2]] = [at(69), at(93)];
    made.append(element("svg:line", { class: "mark", x1, y1, x2, y2 }));
  }
  made.append(element("svg:text", { class: "number", x: 100, y: 96 }, figure(score)));
  made.append(element("svg:text", { class: "small", x: 20, y: 114 }, "0"), element("svg:text", { class: "small", x: 180, y: 114 }, "1"));
  return made;
}

/** Return what the score and the probability mean, with their values if there is one pair. */
function meanings(answer, bundle) {
  const threshold = thresholdOf(bundle);
  const sentences = [
    `${bundle.members.length > 1 ? "The weighted mean of the members' cosine similarities" : "The cosine similarity"}, from −1 to 1.`,
    "It ranks pairs: the higher, the more similar. The value alone says little, because each bundle has its own range.",
  ];
  if (threshold !== null) sentences.push(`Texts count as similar from the bundle's threshold of ${figure(threshold)} (best F1 on its dev pairs).`);
  if (hasSides(bundle)) sentences.push("This bundle treats first and second texts differently, so swapping them changes the score.");
  const valued = (name, value) => element("dt", {}, name, ...(answer.scores.length === 1 ? [" ", element("strong", {}, value)] : []));
  const list = element("dl", { class: "meanings" }, valued("Score", figure(answer.scores[0])), element("dd", {}, sentences.join(" ")));
  if (answer.probabilities) {
    const chance = `The calibrated chance that people would say that the two texts mean the same, if ${percent(bundle.prior)} of all pairs do.`;
    list.append(valued("Probability", percent(answer.probabilities[0])), element("dd", {}, chance));
  }
  return list;
}

/** Return what a reader of these scores should know: their meaning, and what the model did not read. */
export function explanation(answer, bundle) {
  const facts = [];
  if (!answer.probabilities) facts.push("This bundle is not calibrated, so it gives no probability.");
  if (answer.usage.truncated) facts.push("A text is longer than the model reads, so its end was ignored.");
  if (answer.usage.unknown_tokens) facts.push("The model does not know some of the characters, so texts that differ in these only look equal.");
  return [meanings(answer, bundle), ...facts.map((fact) => element("p", { class: "facts" }, fact))];
}

/** Return the result of one pair. */
export function showPair(answer, bundle) {
  const [score] = answer.scores;
  const threshold = thresholdOf(bundle);
  const told = element("div");
  if (threshold !== null) told.append(element("p", { class: "verdict" }, score >= threshold ? "Similar" : "Not similar"));
  told.append(...explanation(answer, bundle));
  const members = Object.entries(answer.members ?? {});
  if (members.length > 1) {
    const bars = element("div", { class: "bars" });
    for (const [name, [own]] of members) {
      bars.append(element("span", {}, name), bar(own), element("span", { class: "figure" }, figure(own)));
    }
    told.append(bars);
  }
  return [element("div", { class: "one" }, gauge(score, threshold), told)];
}
