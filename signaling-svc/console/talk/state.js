// What is going on in a conversation, from what the server says. Pure: `take(state, message)` answers the next state.

/** Before anything has happened. */
export function quiet() {
  return { activity: "listening", caller: false, agent: false, tool: "", turns: [], error: "" };
}

/** The state after one RTVI message. */
export function take(state, { type, data = {} }) {
  switch (type) {
    case "user-started-speaking":
      return { ...state, caller: true, activity: state.agent ? state.activity : "hearing" };
    case "user-stopped-speaking":
      return { ...state, caller: false, activity: state.agent ? "speaking" : saysSomething(state) ? "thinking" : "listening" };
    case "user-transcription":
      return heard(state, data);
    case "user-llm-text":
      return asked(state);
    case "bot-llm-started":
      return { ...state, activity: state.agent ? "speaking" : "thinking" };
    case "llm-function-call-started":
    case "llm-function-call-in-progress":
      return { ...state, activity: "tool", tool: data.function_name ?? state.tool };
    case "llm-function-call-stopped":
      return { ...state, activity: state.agent ? "speaking" : "thinking", tool: "" };
    case "bot-started-speaking":
      return { ...state, agent: true, activity: "speaking" };
    case "bot-stopped-speaking":
      return { ...close(state, "agent"), agent: false, activity: state.caller ? "hearing" : "listening" };
    case "bot-output":
      return said(state, data);
    case "bot-interrupted":
      return interrupted(state);
    case "metrics":
      return measured(state, data);
    case "error":
      return { ...state, error: data.error ?? "The server reports an error." };
    default:
      return state;
  }
}

/** What the person typed, or pressed. */
export function typed(state, text) {
  const turns = [...close(state, "caller").turns, { role: "caller", text, interim: "", open: false, typed: true }];
  return { ...state, turns, activity: state.agent ? state.activity : "thinking" };
}

/** A telephone key that was pressed; those pressed one after the other are one turn. */
export function pressed(state, key) {
  const last = state.turns.at(-1);
  if (last?.keys) return { ...state, turns: state.turns.with(-1, { ...last, text: `${last.text} ${key}` }) };
  const { turns } = close(state, "caller");
  return { ...state, turns: [...turns, { role: "caller", text: key, interim: "", open: false, keys: true }] };
}

/** Whether there are words to think about: a cough has none, and nothing follows it. */
function saysSomething({ turns }) {
  return turns.some((turn) => isOpen(turn, "caller") && (turn.text || turn.interim));
}

function isOpen(turn, role) {
  return turn.role === role && turn.open;
}

function heard(before, { text = "", final }) {
  const thinks = final && !before.agent && !before.caller;
  const state = thinks ? { ...before, activity: "thinking" } : before;
  const open = state.turns.findLastIndex((turn) => isOpen(turn, "caller"));
  const turn = open < 0 ? { role: "caller", text: "", interim: "", open: true } : state.turns[open];
  const next = final
    ? { ...turn, text: [turn.text, text].filter(Boolean).join(" "), interim: "", open: true }
    : { ...turn, interim: text };
  if (open < 0) return { ...state, turns: [...state.turns, next] };
  return { ...state, turns: state.turns.with(open, next) };
}

/** The model gets what was understood, and no more of it is to come; an answer that is still open was given up. */
function asked(state) {
  const settled = state.turns.map((turn) => (turn.interim ? { ...turn, interim: "" } : turn));
  const turns = settled.filter((turn) => turn.role !== "caller" || turn.text);
  return state.agent ? { ...state, turns } : interrupted({ ...state, turns });
}

function said(state, output) {
  const id = output.segment_id;
  const piece = { id, text: output.text ?? "", status: output.spoken_status, progress: output.spoken_progress?.accumulated_text ?? "" };
  const known = state.turns.findLastIndex((turn) => turn.pieces?.some((other) => other.id === id));
  if (known >= 0) {
    const turn = state.turns[known];
    const pieces = turn.pieces.map((other) => (other.id === id ? piece : other));
    return { ...state, turns: state.turns.with(known, { ...turn, pieces }) };
  }
  // An answer closes the question before it, and not what is being said meanwhile.
  const turns = state.turns.map((turn) => (isOpen(turn, "caller") && !turn.interim ? { ...turn, open: false } : turn));
  const open = turns.findLastIndex((turn) => isOpen(turn, "agent"));
  if (open < 0) return { ...state, turns: [...turns, { role: "agent", pieces: [piece], open: true }] };
  return { ...state, turns: turns.with(open, { ...turns[open], pieces: [...turns[open].pieces, piece] }) };
}

function interrupted(state) {
  const turns = state.turns.map((turn) => {
    if (!isOpen(turn, "agent")) return turn;
    // What nobody has heard a word of was not said.
    const pieces = turn.pieces.filter((piece) => piece.status !== "new");
    return { ...turn, pieces, open: false, cut: true };
  });
  return { ...state, turns: turns.filter((turn) => turn.role !== "agent" || turn.pieces.length > 0) };
}

function close(state, role) {
  return { ...state, turns: state.turns.map((turn) => (isOpen(turn, role) ? { ...turn, open: false } : turn)) };
}

function measured(state, { processing = [] }) {
  const turn = processing.find((one) => one.processor === "turn");
  const last = state.turns.findLastIndex((one) => one.role === "agent");
  if (!turn || last < 0) return state;
  return { ...state, turns: state.turns.with(last, { ...state.turns[last], answeredMs: Math.round(turn.value * 1000) }) };
}
