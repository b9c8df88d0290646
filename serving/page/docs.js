import { curl, element } from "./shared.js";

let schemas = {};
let bundle = {};

/** Return the schema that a reference points to, or the schema itself. */
const referred = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").pop()] : schema);
/** The same, of the first one where a schema has several forms. */
const resolved = (schema) => referred(schema?.anyOf?.[0] ?? schema);
const jsonOf = (content) => resolved(content?.content?.["application/json"]?.schema);

const paragraphs = (text) => text.split(/\n\s*\n/).map((part) => element("p", {}, part));
const code = (text) => element("pre", { tabindex: "0" }, element("code", {}, text));

/** Return the name and the version of the served bundle; nothing if its description needs a key. */
async function served(api) {
  if (api.paths["/v1/bundle"].get.security) return {};
  const answer = await fetch("v1/bundle");
  if (!answer.ok) return {};
  const { name, digest } = await answer.json();
  return { name, version: digest.slice(0, 12) };
}

/** Return a table of the properties that have a description; nothing if none has one. */
function fields(caption, schema) {
  const rows = Object.entries(schema?.properties ?? {}).filter(([, property]) => property.description);
  if (!rows.length) return [];
  const cells = rows.map(([name, { description }]) =>
    element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, description)),
  );
  const body = element("tbody", {}, ...cells);
  return [element("h3", {}, caption), element("div", { class: "scroll" }, element("table", {}, body))];
}

/** Return the description of an operation, with each example as a command. */
function section(method, path, operation) {
  const filled = path.replace(/{(\w+)}/g, (_, name) => bundle[name] ?? name.toUpperCase());
  // The address is relative, so that the commands also work behind a proxy's path.
  const address = new URL(`.${filled}`, document.baseURI).href;
  const asked = jsonOf(operation.requestBody);
  const examples = operation.requestBody ? (asked?.examples ?? []) : [undefined];
  const answered = jsonOf(operation.responses[200]);
  return element(
    "section",
    { class: "operation" },
    element("h2", {}, element("code", {}, `${method.toUpperCase()} ${path}`)),
    ...paragraphs(operation.description ?? operation.summary),
    ...examples.map((example) => code(curl(address, example, operation.security))),
    ...fields("Request", asked),
    ...(answered?.examples ?? []).flatMap((example) => [element("h3", {}, "Response"), code(JSON.stringify(example, null, 1))]),
    ...fields(answered?.examples ? "" : "Response", answered),
    element("p", { class: "hint" }, "Status codes: ", Object.entries(operation.responses).map(([status, { description }]) => `${status} ${description.replace("Successful Response", "OK")}`).join(", ")),
  );
}

try {
  const api = await (await fetch("openapi.json")).json();
  schemas = api.components.schemas;
  bundle = await served(api);
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      document.getElementById("operations").append(section(method, path, operation));
    }
  }
} catch {
  const error = document.getElementById("error");
  error.textContent = "The server did not respond.";
  error.hidden = false;
}
