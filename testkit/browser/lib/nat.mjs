// A 1:1 NAT before the UDP port of a media node, which can be cut.
import { createSocket } from "node:dgram";
import { once } from "node:events";

/** Where clients send media to (`media.nat_ips`), and where the node is. */
export const OUTSIDE = "127.0.0.2";
const INSIDE = "127.0.0.1";

/**
 * Passes on what comes to this port of `OUTSIDE` to the same port of the node, and back. Answers `{ cut, mend, passed }`;
 * while it is cut nothing comes through in either direction.
 */
export async function nat(port) {
  const clients = new Map();
  let open = true;
  let passed = 0;
  const outside = await bound(OUTSIDE, port);
  outside.on("message", async (packet, { address, port: from }) => {
    if (!open) return;
    const name = `${address}:${from}`;
    if (!clients.has(name)) clients.set(name, lane(address, from));
    (await clients.get(name)).send(packet, port, INSIDE);
    passed++;
  });

  /** A client's port inside. */
  async function lane(address, from) {
    const inside = await bound(INSIDE, 0);
    inside.on("message", (packet) => open && outside.send(packet, from, address));
    return inside;
  }

  return { cut: () => (open = false), mend: () => (open = true), passed: () => passed };
}

async function bound(address, port) {
  const socket = createSocket("udp4");
  socket.bind(port, address);
  await once(socket, "listening");
  return socket;
}

/**
 * Has a browser's offers say nothing of where it is, as offers with names under `.local` do: it is found by its own
 * checks, which take the way through the NAT.
 */
export function hideAddresses(context) {
  return context.route("**/api/offer", async (route) => {
    const body = route.request().postDataJSON();
    if (body.sdp) body.sdp = body.sdp.replaceAll(/^a=candidate:.*\r\n/gm, "");
    if (body.candidates) body.candidates = [];
    await route.continue({ postData: JSON.stringify(body) });
  });
}
