// The server's API. Every failure is an Error whose message says what to do.

import { apiKey, askForKey } from "./key.js";

/** Something the server said no to, or did not answer. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** A request with the key of this tab; asks for one when the server wants it. Answers the response, whatever its status. */
export async function request(path, options = {}) {
  for (;;) {
    const key = apiKey();
    const headers = { accept: "application/json", ...options.headers };
    // This header and no other is left out when the answer is a redirect to the object store.
    if (key) headers.authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The server does not answer. Is it running, and are you still connected?", 0);
    }
    if (response.status !== 401) return response;
    await askForKey(key);
  }
}

async function json(path, options) {
  const response = await request(path, options);
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  throw failure(response, body);
}

/** The server's own words about a failure. */
export function failure(response, body) {
  const said = body?.error?.message ?? `The server answered ${response.status}`;
  const then = [429, 503].includes(response.status) ? `${said.endsWith(".") ? "" : "."} Try again in a moment.` : "";
  return new ApiError(said.charAt(0).toUpperCase() + said.slice(1) + then, response.status);
}

function post(path, body, { method = "POST", signal } = {}) {
  return json(path, { method, signal, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

const of = (id) => `/sessions/${encodeURIComponent(id)}`;

export const api = {
  /** Live sessions of all nodes. */
  sessions: async () => (await json("/sessions")).data.sessions,
  /** What a live session is. */
  session: async (id) => (await json(of(id))).data,
  /** Ends a live session. */
  end: (id) => json(of(id), { method: "DELETE" }),
  /** Archived calls of a day. */
  archived: async (day, cursor) => {
    const query = new URLSearchParams({ day, limit: "200" });
    if (cursor) query.set("cursor", cursor);
    return (await json(`/archive/sessions?${query}`)).data;
  },
  /** What was said in a call. */
  transcript: async (id) => (await json(`${of(id)}/transcript`)).data,
  /** Where the sound of a call is. */
  recording: (id) => `${of(id)}/recording`,
  /** Media nodes. */
  nodes: async () => (await json("/nodes")).data.nodes,
  /** Makes a session. */
  start: (body) => post("/start", body),
  /** Offers WebRTC for a session, at first or again. */
  offer: (id, body, signal) => post(`${of(id)}/api/offer`, body, { signal }),
  /** More ways to reach this browser. */
  candidates: (id, body) => post(`${of(id)}/api/offer`, body, { method: "PATCH" }),
};
