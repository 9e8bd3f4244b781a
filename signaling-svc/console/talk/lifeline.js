// Brings a lost connection back while the server keeps the call. Nothing in here touches the page: what is to be done,
// and the clock, come from outside.

/** How long the server keeps a call whose connection is lost, milliseconds. */
export const HOLD_MS = 15000;
/** How long one attempt may take, and how long its way is waited for before the next, milliseconds. */
export const ATTEMPT_MS = 3000;

/** What to do when it did not come back. */
export const GONE = "The connection was lost and did not come back within 15 seconds, so the call has ended. Check the network, then press the button again.";
/** The server has nothing any more to come back to. */
export const OVER = "The call is over: its media node has failed, or it was ended while the connection was lost. Press the button to talk again, to another node if need be.";

/**
 * One connection's. `restart(signal)` offers ICE anew; `lost` and `back` are told what is to be seen, `gone` what to do
 * when it was in vain.
 */
export class Lifeline {
  constructor({ restart, lost, back, gone, clock = globalThis }) {
    Object.assign(this, { restart, lost, back, gone, clock });
    this.holding = false;
    this.timers = {};
  }

  /** To be told every `connectionState`. */
  state(state) {
    if (this.over) return;
    if (state === "connected" && this.holding) {
      this.rest();
      this.back();
    } else if ((state === "disconnected" || state === "failed") && !this.holding) {
      this.holding = true;
      this.timers.hold = this.clock.setTimeout(() => this.give(GONE), HOLD_MS);
      this.lost();
      this.attempt();
    }
  }

  /** Nothing happens any more. */
  end() {
    this.over = true;
    this.rest();
  }

  async attempt() {
    const abort = (this.abort = new AbortController());
    this.timers.late = this.clock.setTimeout(() => abort.abort(), ATTEMPT_MS);
    let refused = false;
    try {
      await this.restart(abort.signal);
    } catch (error) {
      // Without an answer, or with one that says "later", there may be one soon.
      refused = error.status >= 400 && error.status < 500 && error.status !== 429;
    }
    this.clock.clearTimeout(this.timers.late);
    if (!this.holding || this.abort !== abort) return;
    if (refused) this.give(OVER);
    else this.timers.next = this.clock.setTimeout(() => this.attempt(), ATTEMPT_MS);
  }

  give(why) {
    this.end();
    this.gone(why);
  }

  rest() {
    this.holding = false;
    for (const timer of Object.values(this.timers)) this.clock.clearTimeout(timer);
    this.timers = {};
  }
}
