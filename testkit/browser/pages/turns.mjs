// Whose turn it is, by what a client has noted.

/** Whether the agent has spoken since the caller last did, and both are quiet. */
export function quiet(events) {
  const last = (type) => events.findLastIndex((event) => event.type === type);
  const callerStopped = last("onUserStoppedSpeaking");
  const agentStopped = last("onBotStoppedSpeaking");
  return (
    last("onUserStartedSpeaking") <= callerStopped &&
    last("onBotStartedSpeaking") <= agentStopped &&
    callerStopped < agentStopped
  );
}
