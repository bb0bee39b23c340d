/** Lets a test drive the TypeScript client: reads commands as lines of JSON, writes what came of each as a line. */
import { createInterface } from "node:readline";
import { connect, items, Refused, type Schemas, settled, Undecided } from "./client.js";

interface Command {
  call: string;
  key: string;
  on: string;
  body: never;
}

function perform(api: ReturnType<typeof connect>, { call, key, on, body }: Command): Promise<unknown> {
  const header = { "Idempotency-Key": key };
  switch (call) {
    case "create":
      return settled(api.POST("/event-runs", { params: { header }, body }));
    case "quote":
      return settled(api.POST("/bookings/calculate-cost", { params: { header }, body }));
    case "book":
      return settled(api.POST("/bookings/create", { params: { header }, body }));
    case "order":
      return settled(api.POST("/payments/{payment_id}/order", { params: { path: { payment_id: on } } }));
    case "cancel":
      return settled(api.POST("/bookings/{booking_id}/cancel", { params: { header, path: { booking_id: on } } }));
    case "complete":
      return settled(
        api.PATCH("/event-runs/{event_run_id}/status", { params: { header, path: { event_run_id: on } }, body }),
      );
    case "read":
      return settled(api.GET("/event-runs/{event_run_id}", { params: { path: { event_run_id: on } } }));
    case "bookings":
      return all(items((cursor) => api.GET("/bookings", { params: { query: { ...(body as object), cursor } } })));
  }
  throw new Error(call);
}

async function all(bookings: AsyncIterable<Schemas["Booking"]>): Promise<Schemas["Booking"][]> {
  const list = [];
  for await (const each of bookings) list.push(each);
  return list;
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { url, tokens, patience, timeout, waits } = JSON.parse((await lines.next()).value);
let token: string;
const api = connect({
  url,
  newToken: async () => (token = tokens.shift() ?? token),
  ...(patience === undefined ? {} : { patience: patience * 1000 }),
  ...(timeout === undefined ? {} : { timeout: timeout * 1000 }),
  ...(waits === undefined ? {} : { waits }),
});
for await (const line of { [Symbol.asyncIterator]: () => lines }) {
  let said: object;
  try {
    said = { result: await perform(api, JSON.parse(line)) };
  } catch (error) {
    if (error instanceof Refused) said = { refused: { action: error.action, problem: error.problem } };
    else if (error instanceof Undecided) said = { undecided: error.message };
    else throw error;
  }
  console.log(JSON.stringify(said));
}
