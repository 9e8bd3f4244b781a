// Debian's Chromium without a window: its microphone is a WAV file, and WebRTC may use loopback addresses.
import { chromium } from "./tools.mjs";

const FLAGS = [
  "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream",
  "--allow-loopback-in-peer-connection",
  "--autoplay-policy=no-user-gesture-required",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
];

/**
 * Starts Chromium. `microphone`: WAV file, played once from when a page opens the microphone; without one it beeps.
 * It ends with this process.
 */
export async function launch({ executable, microphone }) {
  const args = [...FLAGS];
  if (microphone) args.push(`--use-file-for-fake-audio-capture=${microphone}%noloop`);
  return chromium.launch({ executablePath: executable, args, headless: true });
}

/** Opens a page whose console and errors are printed by this process. */
export async function open(browser, url) {
  const page = await browser.newPage();
  page.on("console", (message) => console.log(`page ${message.type()}: ${message.text()} (${message.location().url})`));
  page.on("pageerror", (error) => console.log(`page error: ${error.stack ?? error}`));
  page.on("requestfailed", (request) => console.log(`page request failed: ${request.method()} ${request.url()}`));
  await page.goto(url);
  return page;
}
