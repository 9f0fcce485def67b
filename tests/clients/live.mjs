// Usage: node live.mjs <base url> <access token> <bet id> <event id>
// Follows a bet and an event's prices as a browser would, connecting again by itself, until its input ends. Prints one
// JSON array per line: what happened, and what was said.
import { io } from "socket.io-client";

const [baseUrl, token, betId, eventId] = process.argv.slice(2);
const say = (...what) => console.log(JSON.stringify(what));

const stranger = io(baseUrl, { auth: { token: "nonsense" }, forceNew: true, reconnection: false });
stranger.on("connect_error", (error) => {
  say("connect_error", error.data?.code);
  stranger.disconnect();
});

const socket = io(baseUrl, { auth: { token }, reconnectionDelay: 100, reconnectionDelayMax: 300 });
let after; // the place of the last message about the bet

async function subscribe() {
  say("connected", socket.io.engine.transport.name);
  for (;;) {
    const bet = await socket.emitWithAck("subscribe:bet", { betId, after });
    const odds = await socket.emitWithAck("subscribe:odds", { eventId });
    if (bet.ok && odds.ok) {
      break;
    }
    await new Promise((done) => setTimeout(done, 100));
  }
  say("subscribed");
}

socket.io.on("open", () => socket.io.engine.once("upgrade", (transport) => say("upgraded", transport.name)));
socket.on("connect", subscribe);
socket.on("disconnect", (reason) => say("disconnect", reason));
for (const name of ["odds:update", "closing", "error"]) {
  socket.on(name, (data) => say(name, data));
}
for (const name of ["bet:placed", "bet:settled"]) {
  socket.on(name, (data) => {
    after = { shard: data.shard, sequence: data.sequence };
    say(name, data);
  });
}
process.stdin.on("end", () => process.exit(0)).resume();
