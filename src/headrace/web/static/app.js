// Draws what the server's event stream says, as it says it. Text goes in as text, never as markup.

const SILENCE_MS = 12_000; // the server shows every 5 s that it lives
const CHARTS_MS = 10_000; // as often as consumers tell
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const count = (n) => (n < 1e6 ? whole : short).format(n);
// What a terminal or a page would obey: controls, and marks that turn the direction of writing.
const CONTROL = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;
const code = (char) => char.charCodeAt(0).toString(16);
const escaped = (char) => char < "\x20" && { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[char]
  || (char < "\u0100" ? `\\x${code(char).padStart(2, "0")}` : `\\u${code(char).padStart(4, "0")}`);
const visible = (text) => text.replace(CONTROL, escaped);
const find = (id) => document.getElementById(id);
const put = (node, text) => { const shown = visible(text); if (node.textContent !== shown) node.textContent = shown; };

let queue = document.body.dataset.queue;
let source = null;
let again = 0; // the timer of a new try
let redisIsAheadMs = 0; // of this machine's clock
let heardAt = find("queues").children.length ? Date.now() : null; // when the data was last known to be current
let state = "connecting";

function connect() {
  clearTimeout(again);
  source?.close();
  if (document.hidden) return say("paused");
  source = new EventSource(`api/v1/events?queue=${encodeURIComponent(queue)}`);
  source.addEventListener("message", (event) => {
    heardAt = Date.now();
    show(JSON.parse(event.data));
    say("live");
  });
  source.addEventListener("beat", () => { if (state === "live") heardAt = Date.now(); });
  source.addEventListener("away", () => say("Redis does not answer"));
  source.addEventListener("error", lost);
}

function lost() { // The browser tries again by itself, unless the answer was an error.
  say("connection lost");
  if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, 2_000);
}

function say(word) {
  state = word;
  document.body.dataset.state = word;
  put(find("word"), word);
  tick();
}

function tick() {
  const now = Date.now() + redisIsAheadMs;
  for (const node of document.querySelectorAll("time[data-at]")) {
    const { at, before = "", after = "" } = node.dataset;
    put(node, before + span(before === "in " ? at - now : now - at) + after);
  }
  const old = heardAt !== null && !["live", "paused", "connecting"].includes(state);
  put(find("since"), old ? `data is ${Math.round((Date.now() - heardAt) / 1000)} s old` : "");
  if (state === "live" && Date.now() - heardAt > SILENCE_MS) {
    say("connection lost");
    connect();
  }
}

function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 100) return `${s} s`;
  if (s < 6_000) return `${Math.floor(s / 60)} min`;
  return s < 172_800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} d`;
}

function when(node, at, { before = "", after = "", unknown = "–" } = {}) {
  const date = new Date(at ?? NaN);
  if (Number.isNaN(date.getTime())) { // unknown, or an instant that no calendar has
    for (const name of ["data-at", "datetime", "title"]) node.removeAttribute(name);
    return put(node, unknown);
  }
  Object.assign(node.dataset, { at, before, after });
  node.dateTime = date.toISOString();
  node.title = date.toLocaleString();
}

// Makes the children of a node those of a list; what is there already stays, with focus and selection.
function draw(parent, template, items, keyOf, fill) {
  const old = new Map();
  for (const node of [...parent.children]) { // the server tells equal items not apart
    if (old.has(node.dataset.key)) node.remove();
    else old.set(node.dataset.key, node);
  }
  const seen = new Map();
  items.forEach((item, i) => {
    const name = keyOf(item);
    seen.set(name, (seen.get(name) ?? 0) + 1);
    const key = `${name} ${seen.get(name)}`;
    const node = old.get(key) ?? find(template).content.firstElementChild.cloneNode(true);
    old.delete(key);
    node.dataset.key = key;
    const fields = Object.fromEntries([...node.querySelectorAll("[data-field]")].map((field) => [field.dataset.field, field]));
    fill(fields, item);
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
  for (const node of old.values()) node.remove();
}

function show(data) {
  redisIsAheadMs = data.now_ms - Date.now();
  draw(find("queues"), "queue-row", data.queues, (row) => row.queue, showQueue);
  const here = data.queues.find((row) => row.queue === data.queue);
  showLife(here, data.sum);
  const others = data.others?.queues ?? 0;
  find("others").hidden = !others;
  put(find("others"), `and ${count(others)} more queues`);
  for (const list of data.lists) showList(document.querySelector(`[data-place=${list.place}]`), list, here[list.place]);
}

function showLife(row, sum) {
  const path = `queues/${encodeURIComponent(row.queue)}`;
  for (const node of document.querySelectorAll("[data-life]")) put(node, count(row[node.dataset.life] ?? row.counters[node.dataset.life] ?? 0));
  for (const node of document.querySelectorAll("[data-place-link]")) node.setAttribute("href", `${path}?place=${node.dataset.placeLink}`);
  document.querySelector("[data-field=queue-link]").setAttribute("href", path);
  put(document.querySelector("[data-field=queue]"), row.queue);
  put(document.querySelector("[data-field=sum]"), sum);
}

function showQueue({ link, at, ...fields }, row) {
  put(link, row.queue);
  link.dataset.queue = row.queue;
  link.setAttribute("href", `?queue=${encodeURIComponent(row.queue)}`);
  link.ariaCurrent = row.queue === queue ? "true" : null;
  const counts = { ...row, done: row.counters.done ?? 0 };
  for (const place of ["pending", "priority", "delayed", "processing", "dead", "done"]) {
    put(fields[place], count(counts[place]));
    fields[place].classList.toggle("none", counts[place] === 0);
  }
  when(at, row.oldest_at_ms);
  put(fields.paused, row.paused ? "yes" : "–");
  fields.paused.classList.toggle("alert", row.paused);
}

function showList(section, list, total) {
  put(section.querySelector("h2 code"), list.key);
  put(section.querySelector("[data-field=count]"), count(total));
  draw(section.querySelector("ol"), "job-item", list.jobs, (job) => job.id ?? job.arguments,
    (fields, job) => showJob(fields, job, list.place));
  const rest = section.querySelector(".rest");
  rest.hidden = total <= list.jobs.length;
  put(rest, `and ${count(total - list.jobs.length)} more`);
  section.querySelector(".empty").hidden = total > 0;
}

function showJob(fields, job, place) {
  put(fields.task, job.task ?? "not a job");
  if (job.id) fields.job.setAttribute("href", `jobs/${encodeURIComponent(job.id)}?queue=${encodeURIComponent(queue)}`);
  else fields.job.removeAttribute("href");
  if (place === "dead") when(fields.at, job.error?.failed_at_ms, { after: " ago" });
  else if (place === "delayed") when(fields.at, job.due_at_ms, { before: "in " });
  else if (place === "processing") when(fields.at, job.seen_at_ms, { before: "for over " });
  else when(fields.at, job.made_at_ms, { before: "waits " });
  put(fields.owner, job.consumer ? `by ${job.consumer}` : "");
  put(fields.progress, job.progress?.says ?? "");
  put(fields.call, job.arguments);
  put(fields.reason, job.error?.reason ?? "");
  put(fields.error, job.error ? [job.error.type, job.error.message].filter(Boolean).join(": ") : "");
  put(fields.id, job.id ?? "no id yet");
  const tries = [job.attempt && `${job.attempt} failed`, job.crashes && `${job.crashes} crashed`];
  put(fields.tries, tries.filter(Boolean).join(", "));
}

// Takes the charts from the page as the server writes it now: unfolded stays unfolded, and what has the focus stays.
function redraw() {
  const old = find("recent");
  if (state !== "live" || old.matches(":focus-within, :hover")) return;
  const asked = new XMLHttpRequest();
  asked.open("GET", `?queue=${encodeURIComponent(queue)}&minutes=${find("lately")?.dataset.minutes ?? 60}`);
  asked.setRequestHeader("Accept", "text/html");
  asked.responseType = "document";
  asked.addEventListener("load", () => {
    const fresh = asked.status === 200 && asked.response?.getElementById("recent");
    if (!fresh?.children.length || old.matches(":focus-within, :hover")) return;
    for (const node of fresh.querySelectorAll("details")) node.open = find(node.id)?.open ?? node.open;
    old.replaceWith(document.adoptNode(fresh));
  });
  asked.send();
}

function choose(name) {
  queue = name;
  document.title = `${visible(name)} · Headrace`;
  connect();
}

find("queues").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  choose(link.dataset.queue);
});
addEventListener("popstate", () => choose(new URLSearchParams(location.search).get("queue") ?? document.body.dataset.queue));
document.addEventListener("visibilitychange", connect);
setInterval(tick, 1_000);
setInterval(redraw, CHARTS_MS);
connect();
