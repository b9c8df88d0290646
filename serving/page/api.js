/** The address of the route that scores pairs: relative, so that the page also works behind a proxy's path. */
export const ENDPOINT = new URL("v1/similarity", document.baseURI).href;

const ENVELOPE_BYTES = 100; // of a request's body beside its pairs
const BYTES_PER_TOKEN = 2; // of the pairs for each token that a request may have, so that it does not have more

/** The server refused the request; `pair` and `side` (0 or 1) say which text it is about, if it is about one. */
export class RequestError extends Error {
  constructor(message, { status, pair, side } = {}) {
    super(message);
    Object.assign(this, { status, pair, side });
  }
}

/** Return the message with a capital letter and a full stop; those of the server have neither. */
export const sentence = (message) => `${message[0].toUpperCase()}${message.slice(1)}${message.endsWith(".") ? "" : "."}`;

/** Return the error that a response reports; `content` is its body, or null if that is not JSON. */
function refusal({ status, headers }, content) {
  const { message, param } = content?.error ?? {};
  const seconds = headers.get("retry-after") ?? "";
  const again = `Try again in ${/^\d+$/.test(seconds) ? `${seconds} s` : "a moment"}.`;
  if (status === 401) return new RequestError("This service needs one of its API keys.", { status });
  if (status === 429) return new RequestError(`The server is busy. ${again}`, { status });
  if (status === 503) return new RequestError(`The server is not ready${message ? `: ${message}` : ""}. ${again}`, { status });
  if (!message) return new RequestError(`The response (status ${status}) is not from a Simile server.`, { status });
  const place = /^pairs\[(\d+)\](?:\.text_([ab])|\[([01])\])?/.exec(param ?? "");
  if (!place) return new RequestError(param ? `${param}: ${message}` : sentence(message), { status });
  const [, pair, letter, index] = place;
  return new RequestError(message, { status, pair: Number(pair), side: letter === "b" || index === "1" ? 1 : 0 });
}

/** Return the response to a GET request, or to a POST request if there is a body. */
export async function ask(address, key, body) {
  // A header cannot hold other characters, and no key has them.
  if (/[^\x21-\x7e]/.test(key)) throw new RequestError("The API key has a character that is not allowed in keys.", { status: 401 });
  const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
  const posted = body && { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(address, { headers, ...posted }).catch(() => {
    throw new RequestError("The server did not respond.");
  });
  const content = await response.json().catch(() => null);
  if (response.ok && content) return content;
  throw refusal(response, content);
}

/** Return the pairs in as few parts as the limits of a request allow. */
export function split(pairs, limits) {
  const maxBytes = Math.min(limits.max_body_bytes - ENVELOPE_BYTES, BYTES_PER_TOKEN * (limits.max_tokens ?? Infinity));
  const parts = [];
  let freeBytes = 0;
  for (const pair of pairs) {
    const bytes = new Blob([JSON.stringify(pair)]).size + 1;
    if (bytes > freeBytes || parts.at(-1).length === limits.max_pairs) {
      parts.push([]);
      freeBytes = maxBytes;
    }
    parts.at(-1).push(pair);
    freeBytes -= bytes;
  }
  return parts;
}

/** Return the responses to the requests, sent one after the other; an error counts pairs over all of them. */
export async function scoreAll(requests, key) {
  const answers = [];
  let numScored = 0;
  for (const request of requests) {
    try {
      answers.push(await ask(ENDPOINT, key, request));
    } catch (error) {
      if (error.pair !== undefined) error.pair += numScored;
      throw error;
    }
    numScored += request.pairs.length;
  }
  return answers;
}

/** Return the answers as one. */
export function joined(answers) {
  const sum = (count) => answers.reduce((total, { usage }) => total + usage[count], 0);
  return {
    ...answers[0],
    scores: answers.flatMap(({ scores }) => scores),
    probabilities: answers[0].probabilities && answers.flatMap(({ probabilities }) => probabilities),
    usage: { truncated: sum("truncated"), unknown_tokens: sum("unknown_tokens") },
  };
}
