// The microphone, and what to do when there is none.

/** Opens a microphone; the browser asks the person. */
export async function openMicrophone(deviceId) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("Browsers give the microphone only to pages from localhost or over https. Open this page that way, or type instead.");
  }
  const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  if (deviceId) wanted.deviceId = { exact: deviceId };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: wanted });
  } catch (error) {
    throw new Error(reason(error), { cause: error });
  }
}

/** What a person can do whose microphone is gone in the middle of a call. */
export const UNPLUGGED = "The microphone is gone, and nobody hears you. Connect it again or choose another, then hang up and press the button again – or type instead.";

/** What a person can do about it. */
export function reason(error) {
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The browser does not let this page use the microphone. Allow it at the left end of the address bar, then press the button again – or type instead.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No microphone was found. Connect one or choose another, then press the button again – or type instead.";
    case "NotReadableError":
    case "AbortError":
      return "The microphone is in use by another program. Close that one, then press the button again.";
    default:
      return `The microphone cannot be used: ${error?.message || error?.name || "no reason given"}.`;
  }
}

/** The microphones there are; without names until one was allowed. */
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices
    .filter((device) => device.kind === "audioinput" && device.deviceId !== "")
    .map((device, index) => ({ id: device.deviceId, name: device.label || `Microphone ${index + 1}` }));
}
