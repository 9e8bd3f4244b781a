// The finished calls of a day, page by page as the archive has them: the oldest first.

/** So many pages are fetched without being asked for: two thousand calls. */
const AT_ONCE = 10;

/** Pages that are there stay; those that may have changed are asked for again. */
export class Day {
  /** `ask(cursor)` answers the page behind a cursor: `sessions`, and the `nextCursor` if there are more. */
  constructor(ask) {
    this.ask = ask;
    this.pages = [];
  }

  /** All calls that are known, newest first. One that was erased moves those behind it: two pages may have the same. */
  get calls() {
    const calls = this.pages.flatMap(({ sessions }) => sessions);
    return [...new Map(calls.map((call) => [call.sessionId, call])).values()].reverse();
  }

  /** Whether there are later ones. */
  get more() {
    return this.pages.length === 0 || Boolean(this.pages.at(-1).nextCursor);
  }

  /** Fetches what is new, and the pages again whose calls were not over. */
  async refresh() {
    const last = this.pages.length - 1;
    const toTheEnd = last < 0 || !this.more;
    for (const [index, page] of this.pages.entries()) {
      const settled = index < last && page.sessions.every((call) => call.endedAt);
      if (!settled) this.pages[index] = await this.page(page.cursor);
    }
    if (toTheEnd) await this.later();
  }

  /** Fetches later ones. */
  async later() {
    for (let pages = 0; this.more && pages < AT_ONCE; pages++) this.pages.push(await this.page(this.pages.at(-1)?.nextCursor));
  }

  async page(cursor) {
    const { sessions, nextCursor } = await this.ask(cursor);
    return { cursor, sessions, nextCursor };
  }
}
