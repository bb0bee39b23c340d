/**
 * A client of the stakesim HTTP API that does what a client must do right. Copy it into your project.
 *
 * `schema.d.ts` beside it is generated from the OpenAPI document; ../README.md says how. It needs only what browsers,
 * Node, Deno and Bun have. Amounts are strings: make wei `bigint` with `BigInt(text)`, never `number`.
 */
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type Schemas = components["schemas"];
type Operation = Schemas["Operation"];
export type Problem = Pick<Schemas["Problem"], "type" | "status" | "detail"> & Partial<Schemas["Problem"]>;

const FINAL_STATES: readonly string[] = ["confirmed", "failed", "rejected"];
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 20_000;

/**
 * The service refused a request, and repeating it would not help. `problem.type` tells the kind of problem, and
 * `action` what to do: "change" the request, send it anew with a "new_key", or "ask" the operator.
 */
export class Refused extends Error {
  readonly action: string;

  constructor(readonly problem: Problem) {
    super(problem.detail);
    this.action = actionOf(problem);
  }
}

/**
 * The patience ended before the outcome was known. Repeat the request with the same key later, and only so. `problem`
 * is that of the last answer; undefined if it was none, or a transaction that is not final.
 */
export class Undecided extends Error {
  constructor(readonly problem?: Problem) {
    super(problem?.detail ?? "The outcome is not known yet.");
  }
}

/** Returns what to do about a problem; if it does not say so itself, by its status. */
export function actionOf(problem: Problem): string {
  return problem.action ?? (problem.status >= 500 ? "repeat" : "change");
}

export interface Options {
  /** Address of the service. */
  url: string;
  /** Returns a bearer token. Called for the first request, and when the service does not accept the last token. */
  newToken: () => Promise<string>;
  /** Milliseconds for which one call repeats and waits before it throws `Undecided`. */
  patience?: number;
  /** Whether the service holds its answer back until the transaction is final. If not, it answers 202 at once. */
  waits?: boolean;
  /** Milliseconds to wait for each answer; more than the service lets a request wait. */
  timeout?: number;
}

/** Returns a client with a typed method for each route. Its calls end when their outcome is known, or throw. */
export function connect(options: Options): Client<paths> {
  return createClient<paths>({ baseUrl: options.url, fetch: patientFetch(options) });
}

/** Returns the final answer of a call. `Operation`, the answer 202, is none. */
export async function settled<T>(call: Promise<{ data?: T }>): Promise<Exclude<T, Operation>> {
  return (await call).data as Exclude<T, Operation>;
}

/** Reads a list, page by page. `read` reads the page at a cursor. */
export async function* items<T>(
  read: (cursor?: string) => Promise<{ data?: { items: T[]; next: string | null } }>,
): AsyncGenerator<T> {
  let cursor: string | undefined;
  do {
    const page = (await read(cursor)).data;
    yield* page?.items ?? [];
    cursor = page?.next ?? undefined;
  } while (cursor !== undefined);
}

/** Returns a `fetch` that repeats, waits and renews the token. Give each writing request an Idempotency-Key. */
export function patientFetch({ newToken, patience = 600_000, waits = true, timeout = 150_000 }: Options) {
  let token = "";

  async function untilAnswered(request: Request, deadline: number): Promise<Response> {
    let renewed = false;
    for (let longestPause = FIRST_PAUSE_MS; ; ) {
      token ||= await newToken();
      request.headers.set("Authorization", `Bearer ${token}`);
      const answer = await attempt(request, timeout);
      if (answer?.ok) return answer;
      const problem = answer && (await problemOf(answer)); // none: what became of the request is not known
      if (problem?.status === 401 && !renewed) {
        token = "";
        renewed = true;
        continue;
      }
      if (problem && !["repeat", "wait"].includes(actionOf(problem))) throw new Refused(problem);
      await sleep(retryAfter(answer) + Math.random() * longestPause, deadline, problem);
      longestPause = Math.min(2 * longestPause, LONGEST_PAUSE_MS);
    }
  }

  async function untilFinal(accepted: Response, request: Request, deadline: number): Promise<void> {
    const url = new URL(accepted.headers.get("Location") ?? "", request.url);
    for (let answer = accepted; !FINAL_STATES.includes(((await answer.json()) as Operation).state); ) {
      await sleep(retryAfter(answer), deadline);
      answer = await untilAnswered(new Request(url), deadline);
    }
  }

  return async (request: Request): Promise<Response> => {
    const deadline = Date.now() + patience;
    if (!waits) request.headers.set("Prefer", "respond-async");
    for (;;) {
      const answer = await untilAnswered(request, deadline);
      if (answer.status !== 202) return answer;
      await untilFinal(answer, request, deadline);
    }
  };
}

/** Returns the whole answer; undefined if the connection was lost on the way. */
async function attempt(request: Request, timeout: number): Promise<Response | undefined> {
  try {
    const answer = await fetch(request.clone(), { signal: AbortSignal.timeout(timeout) });
    return new Response(await answer.arrayBuffer(), answer);
  } catch {
    return undefined;
  }
}

/** Returns the problem details; with the status alone if a proxy in between made the answer. */
async function problemOf(answer: Response): Promise<Problem> {
  if (answer.headers.get("Content-Type") === "application/problem+json") return (await answer.json()) as Problem;
  return { type: "about:blank", status: answer.status, detail: `The answer is ${answer.status}.` };
}

/** Returns the milliseconds to wait before the next request; 0 if the answer does not say. */
function retryAfter(answer: Response | undefined): number {
  const value = answer?.headers.get("Retry-After") ?? "";
  return /^\d+$/.test(value) ? Number(value) * 1000 : 0;
}

function sleep(milliseconds: number, deadline: number, problem?: Problem): Promise<void> {
  if (Date.now() + milliseconds > deadline) throw new Undecided(problem);
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
