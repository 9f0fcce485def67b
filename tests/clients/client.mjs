// Usage: node client.mjs <base url> <access token>
// Makes the same calls over each protocol and prints one JSON object per line: what came back.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { BetService } from "./gen/betting/v1/bet_pb.js";
import { EventService } from "./gen/betting/v1/event_pb.js";
import { OddsService } from "./gen/betting/v1/odds_pb.js";

const [baseUrl, token] = process.argv.slice(2);

const transports = {
  "connect-json": createConnectTransport({ baseUrl, useBinaryFormat: false }),
  "connect-proto": createConnectTransport({ baseUrl, useBinaryFormat: true }),
  "grpc-web": createGrpcWebTransport({ baseUrl, useBinaryFormat: true }),
};

function uuid7() {
  const milliseconds = Date.now().toString(16).padStart(12, "0");
  const noise = crypto.randomUUID().replaceAll("-", "");
  const digits = `${milliseconds}7${noise.slice(0, 3)}8${noise.slice(4, 19)}`;
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

async function failure(call) {
  try {
    await call();
  } catch (error) {
    const known = ConnectError.from(error);
    return { code: Code[known.code], message: known.rawMessage, details: known.details.map((detail) => detail.type) };
  }
  return { code: "none" };
}

async function exercise(name, transport) {
  const headers = { Authorization: `Bearer ${token}` };
  const events = createClient(EventService, transport);
  const odds = createClient(OddsService, transport);
  const bets = createClient(BetService, transport);
  const sports = await events.listSports({});
  const leg = { marketId: 7n, selectionId: 1, price: { numerator: 91, denominator: 100 } };
  const bet = { requestKey: uuid7(), currency: "GBP", stakeMinor: 9007199254740993n, legs: [leg] };
  const placed = await bets.placeBet(bet, { headers });
  const repeated = await bets.placeBet(bet, { headers });
  const refused = await bets.placeBet({ ...bet, requestKey: uuid7(), stakeMinor: 13n }, { headers });
  const sequences = [];
  for await (const update of odds.watchPrices({})) {
    sequences.push(Number(update.sequence));
  }
  const beforeTheBreak = [];
  const broken = await failure(async () => {
    for await (const update of odds.watchPrices({ eventIds: [1n] })) {
      beforeTheBreak.push(Number(update.sequence));
    }
  });
  return {
    protocol: name,
    sports: sports.sports.map((sport) => sport.name),
    placed: placed.outcome.case,
    stake: placed.outcome.value.stakeMinor.toString(),
    repeated: repeated.repeated,
    refusal: refused.outcome.value.code,
    sequences,
    beforeTheBreak,
    broken,
    missing: await failure(() => events.getEvent({ eventId: 99n })),
    unauthenticated: await failure(() => bets.placeBet(bet)),
    malformed: await failure(() => bets.placeBet({ ...bet, stakeMinor: 0n }, { headers })),
    late: await failure(() => events.getEvent({ eventId: 2n }, { timeoutMs: 150 })),
  };
}

for (const [name, transport] of Object.entries(transports)) {
  console.log(JSON.stringify(await exercise(name, transport)));
}
