// Numbers and words for people. Nothing in here touches the page but `problem`.

import { h } from "./dom.js";

/** `4.2 s`, `1:07`, `1:02:07`. */
export function duration(seconds) {
  if (seconds === undefined || seconds === null || !Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return clock(seconds);
}

/** `0:07`, `1:02:07`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** Time of day, as this person writes it. */
export function time(iso) {
  if (!iso) return "–";
  return new Date(iso).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/** Day and time of day. */
export function moment(iso) {
  if (!iso) return "–";
  return new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** `712 ms`, `1.24 s`. */
export function millis(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** The value below which this share of all lies. */
export function percentile(values, share) {
  if (values.length === 0) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * share) - 1))];
}

/** `caller hung up` of `caller_hung_up`. */
export function words(name) {
  return (name ?? "").replaceAll("_", " ");
}

/** `Telephony · twilio`. */
export function way(session) {
  const names = { telephony: "Phone", websocket: "WebSocket", webrtc: "WebRTC" };
  const name = names[session.transport] ?? session.transport ?? "";
  return session.provider ? `${name} · ${session.provider}` : name;
}

/** `2026-03-04` of a date, in UTC: the archive's days are. */
export function day(date) {
  return date.toISOString().slice(0, 10);
}

/** What went wrong, as a paragraph. */
export function problem(error) {
  return h("p", { class: "notice bad", role: "alert" }, error?.message ?? String(error));
}
