// A consumer in Node 18 or later: no dependencies, no access to Redis.
//
//     headrace serve &
//     node examples/consumer.mjs &
//     headrace produce add 1 2
//
// It runs up to ten jobs at once, waits for more at the server, and keeps their leases. When it is killed,
// its jobs are given to others after their leases. On SIGTERM it claims nothing more, and finishes.

const tasks = {
  async echo(text) { console.log(text); return text; },
  async add(a, b) { return a + b; },
  async sleep(seconds) { await pause(1000 * seconds); },
  async fail(message) { throw new Error(message); },
};

const server = process.env.HEADRACE_SERVER ?? "http://127.0.0.1:8390";
const queues = (process.env.HEADRACE_QUEUE ?? "queue").split(",");
const consumer = `node-${process.pid}`;
const slots = 10;
const lease = 30; // seconds; extended every third of it

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const running = new Map(); // claim token -> { job, stop }
const ended = []; // outcomes that the server has yet to be told of
const leaving = new AbortController();
let told = Promise.resolve();
let wake = () => {};

async function post(path, body, signal) {
  const answer = await fetch(`${server}/api/v1/claims${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

async function run(job) {
  const stop = new AbortController();
  running.set(job.claim, { job, stop });
  const { queue, id, claim } = job;
  try {
    if (!Object.hasOwn(tasks, job.task)) throw new Error(`there is no task ${job.task} here`);
    // A task may look at its signal: the job is lost, or to be cancelled.
    const result = await tasks[job.task].call({ job, signal: stop.signal }, ...job.args, job.kwargs);
    ended.push({ queue, id, claim, end: "ack", result: result ?? null });
  } catch (error) {
    const { name: type, message, stack: traceback } = error;
    const end = stop.signal.reason === "cancelled" ? "cancel" : "retry";
    ended.push({ queue, id, claim, end, error: { type, message, traceback } });
  }
  running.delete(job.claim);
  told = told.then(tell);
  wake();
}

// Outcomes that end while a request is under way travel together in the next one.
async function tell() {
  while (ended.length) {
    const outcomes = ended.slice(0, 1000);
    try {
      const { lost } = await post("/settle", { outcomes });
      for (const { id } of lost) console.error(`job ${id} was not ours any more`);
      ended.splice(0, outcomes.length);
    } catch (error) { // sent again, it changes nothing
      console.error(error.message);
      await pause(1000);
    }
  }
}

async function keep() {
  const jobs = [...running.values()];
  if (!jobs.length) return;
  const claims = jobs.map(({ job: { queue, id, claim } }) => ({ queue, id, claim }));
  const { lost, cancelled } = await post("/extend", { claims, lease });
  for (const { job, stop } of jobs) {
    if (lost.includes(job.id)) stop.abort("lost");
    if (cancelled.includes(job.id)) stop.abort("cancelled");
  }
}

setInterval(() => keep().catch((error) => console.error(error.message)), (1000 * lease) / 3).unref();
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => { leaving.abort(); wake(); });

while (!leaving.signal.aborted) {
  const count = slots - running.size;
  if (count <= 0) {
    await new Promise((resolve) => { wake = resolve; });
    continue;
  }
  try {
    // While it waits a job may end; more are claimed when this one is answered.
    const { claims } = await post("", { consumer, queues, count, wait: 30, lease }, leaving.signal);
    claims.forEach(run);
  } catch (error) {
    if (leaving.signal.aborted) break;
    console.error(error.message); // the server, or its Redis, is away
    await pause(1000);
  }
}
while (running.size) await new Promise((resolve) => { wake = resolve; });
await told;
