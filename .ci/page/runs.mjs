/* Folders of runs that a page must show well: long and hostile names, many metrics, spikes, ranks, nothing at all. */

import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { crc32, deflateSync } from "node:zlib";

export const SPIKES = 100;
export const HOSTILE = `<script>alert(1)</script><img src=x onerror="alert(2)"> "quoted" 'name' & </title>`;

/* The browser says what it forbids the hostile media to do, and that some are not there. */
export const FORBIDDEN = /^Blocked script execution in 'about:srcdoc'|^Not allowed to load local resource|violates the following Content Security Policy directive|status of 404/;

const START = 1_790_000_000;

/* Noise that is the same in every execution. */
function createNoise(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
}

function writeRows(folder, name, steps, pace, metrics) {
  const rows = [];
  for (let step = 0; step < steps; step++) {
    rows.push(JSON.stringify({ step, time: START + step * pace, logger: "trainer", ...metrics(step) }));
  }
  writeFileSync(join(folder, name), rows.join("\n") + "\n");
}

function formatLine(seconds, level, text) {
  const time = new Date((START + seconds) * 1000);
  const pad = (number, length = 2) => String(number).padStart(length, "0");
  const date = `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())}`;
  const clock = `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}.${pad(time.getMilliseconds(), 3)}`;
  return `${date} ${clock} | ${level.padEnd(5)} | trainer | ${text}`;
}

/* A line each minute, and one warning. */
function writeLines(folder, name, seconds) {
  const lines = [formatLine(0, "INFO", "Starting training | device=cuda:0 batch_size=256")];
  for (let at = 60; at < seconds; at += 60) {
    lines.push(formatLine(at, "INFO", `epoch ${at / 60} | loss=${(4 / (1 + at / 300)).toFixed(4)} lr=0.0003`));
    if (at === 540) lines.push(formatLine(at + 3, "WARN", "the loss jumped to 9.0 at one step"));
  }
  lines.push(formatLine(seconds, "INFO", "Training finished"));
  writeFileSync(join(folder, name), lines.join("\n") + "\n");
}

function writeRun(root, dir, manifest, documents = {}) {
  const folder = join(root, dir);
  mkdirSync(folder, { recursive: true });
  const { seconds, ...own } = { seconds: 3600, ...manifest };
  const attempt = { started: START, ended: START + seconds, state: own.state, first_step: {}, last_step: own.last_step ?? null, ledger: own.ledger ?? {} };
  const whole = {
    id: dir.slice(-8), name: dir, loggers: ["trainer"], started: START, ended: START + seconds, exit_code: 0, rank: 0,
    attempts: [attempt], host: "gpu-node-17", user: "ada", pid: 4711, argv: ["train", "--lr", "3e-4"], os: "Linux 6.8", ...own,
  };
  writeFileSync(join(folder, "run.json"), JSON.stringify(whole, null, 2));
  for (const [name, value] of Object.entries(documents)) writeFileSync(join(folder, name), JSON.stringify(value));
  return folder;
}

function summarize(metrics, rest = {}) {
  return { trainer: { state: "finished", exit_code: 0, duration: 3600, steps_per_sec: 27.8, samples_per_sec: 7111, metrics, ...rest } };
}

const metric = (name, last, best) => ({ name, count: 1000, nan_count: 0, infinite_count: 0, last, min: 0.21, max: 4.1, mean: 0.94, best });

const LEDGER = { step: 2300, data: 430, eval: 290, checkpoint: 110, startup: 40, idle: 150, stall: 250, other: 30 };

/* A square PNG with a slope of color. */
function createPng(size, blue) {
  const chunk = (kind, content) => {
    const body = Buffer.concat([Buffer.from(kind), content]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(content.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(size, 0);
  head.writeUInt32BE(size, 4);
  head.set([8, 2], 8);
  const rows = Array.from({ length: size }, (_, y) => [0, ...Array.from({ length: size }, (_, x) => [(x * 255) / size, (y * 255) / size, blue].map(Math.floor)).flat()]);
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", head), chunk("IDAT", deflateSync(Buffer.from(rows.flat()))), chunk("IEND", Buffer.alloc(0))]);
}

/* Adds a value to the index of a run's media, with its file. */
export function writeMedia(folder, step, key, kind, { file, content, ...facts } = {}) {
  if (file) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), content);
    Object.assign(facts, { path: file, size: content.length, sha256: "" });
  }
  appendFileSync(join(folder, "media.jsonl"), JSON.stringify({ time: START + step, logger: "trainer", key, step, ...facts, kind }) + "\n");
}

/* Each kind of media, at several steps. */
function writeAllMedia(folder) {
  for (const at of [0, 1, 2, 3]) {
    const step = at * 1000;
    writeMedia(folder, step, "val/sample", "image", { format: "png", width: 16, height: 16, caption: `epoch ${at}`, file: `media/images/val/sample_${step}.png`, content: createPng(16, at * 80) });
    const counts = Array.from({ length: 24 }, (_, bar) => Math.round(1000 * Math.exp(-(((bar - 8 - at * 2) / 4) ** 2))));
    writeMedia(folder, step, "weights/layer 1", "histogram", { counts, edges: Array.from({ length: 25 }, (_, bar) => (bar - 12) / 10) });
    writeMedia(folder, step, "answer", "text", { file: `media/text/answer_${step}.txt`, content: `Once upon a time, ${at} times.\nThe end.` });
  }
  const table = { columns: ["label", "count", "row"], data: Array.from({ length: 40 }, (_, row) => [["cat", "dog", null][row % 3], row / 3, { row }]) };
  writeMedia(folder, 3000, "errors", "table", { columns: 3, rows: 40, file: "media/table/errors_3000.table.json", content: JSON.stringify(table) });
  writeMedia(folder, 3000, "attention", "html", { file: "media/html/attention_3000.html", content: "<h1>Attention</h1><p>The page of a <b>program</b>." });
  writeMedia(folder, 3000, "notes.bin", "file", { file: "media/files/notes_3000.bin", content: "\x00bytes" });
}

/* Media whose names and contents are markup, and files that are not there. */
function writeHostileMedia(folder) {
  const page = `<script>parent.alert(4); alert(5)</script><img src="https://example.org/spy.png"><a href="javascript:alert(6)">${HOSTILE}</a>`;
  writeMedia(folder, 1, HOSTILE, "html", { caption: HOSTILE + "\u202e", file: "media/html/page.html", content: page });
  writeMedia(folder, 1, HOSTILE, "text", { file: "media/text/text.txt", content: HOSTILE });
  writeMedia(folder, 1, HOSTILE, "table", { columns: 2, rows: 1, file: "media/table/a.table.json", content: JSON.stringify({ columns: [HOSTILE, "__proto__"], data: [[HOSTILE, HOSTILE]] }) });
  writeMedia(folder, 1, "not a table", "table", { columns: 1, rows: 1, file: "media/table/b.table.json", content: JSON.stringify({ columns: "x", data: 7 }) });
  writeMedia(folder, 1, "elsewhere", "text", { path: "media/../../../../etc/passwd", size: 1, sha256: "" });
  writeMedia(folder, 1, "gone", "image", { format: "png", width: 1, height: 1, path: "media/images/gone.png", size: 1, sha256: "" });
  writeMedia(folder, 1, "flat", "histogram", { counts: [0], edges: [1, 1] });
}

/* Adds an event to what the health of a run had to say. */
export function writeEvent(folder, seconds, step, event) {
  appendFileSync(join(folder, "events.jsonl"), JSON.stringify({ time: START + seconds, step, kind: "rule", level: "warn", rank: 0, attempt: 1, ...event }) + "\n");
}

/* Writes what a rank says of itself, in 64 bytes. */
export function writeRank(folder, rank, step, { seconds = 0.25, share = 0.05, phase = 1 } = {}) {
  const slot = Buffer.alloc(64);
  slot.write("LCS1");
  [rank, 1, 4711 + rank].forEach((number, at) => slot.writeUInt32LE(number, 4 + 4 * at));
  [step, Date.now(), Date.now()].forEach((number, at) => slot.writeBigUInt64LE(BigInt(number), 16 + 8 * at));
  [seconds, share, 1 / seconds].forEach((number, at) => slot.writeFloatLE(number, 40 + 4 * at));
  slot.set([phase, 1], 52);
  const sum = slot.subarray(0, 56).reduce((sum, byte) => BigInt.asUintN(64, (sum ^ BigInt(byte)) * 0x100000001b3n), 0xcbf29ce484222325n);
  slot.writeBigUInt64LE(sum, 56);
  mkdirSync(join(folder, "ranks"), { recursive: true });
  writeFileSync(join(folder, "ranks", String(rank)), slot);
}

/* One run of 10^5 steps, with spikes of one step. */
export function writeSpikes(root) {
  const folder = writeRun(root, "spikes-k3v9q2ab", { name: "spikes", state: "finished", ledger: LEDGER, last_step: 99_999 }, {
    "config.json": { config: { lr: 3e-4, batch_size: 256, optimizer: { name: "adamw", betas: [0.9, 0.95] } } },
    "summary.json": summarize([metric("loss", 0.213, { value: 0.21, step: 90_500 }), metric("spike", 1.0, null)], { ledger: LEDGER }),
  });
  const noise = createNoise(7);
  writeRows(folder, "metrics.jsonl", 100_000, 0.036, (step) => ({
    "metrics/loss": 0.2 + 4 * Math.exp(-step / 15_000) + 0.05 * noise(),
    "metrics/spike": step % 1000 === 500 ? 9 : 1 + 0.1 * noise(),
    "metrics/lr": 3e-4 * Math.min(1, step / 2000) * (1 - step / 120_000),
    "metrics/tokens": step * 2048,
    "throughput/samples_per_sec": 7100 + 300 * noise(),
    "memory/allocated_gb": 21.4 + 0.3 * noise(),
  }));
  writeLines(folder, "training.log", 3600);
  writeAllMedia(folder);
  writeEvent(folder, 738, 20_500, { rule: "spike", metric: "spike", value: 9, usual: 1, incident: "20500-spike.json", text: "spike is 9.0 at step 20,500; usual is 1.0 (64 times the median deviation)" });
  writeEvent(folder, 741, null, { kind: "stall", level: "error", incident: "stall-1790000741.txt", text: "nothing has moved for 10 minutes since step 20,583: thread main waits in futex_wait, in the phase data" });
  writeEvent(folder, 742, 20_600, { level: "info", metric: "spike", text: "spike is as usual again" });
  return folder;
}

/* As many runs as a page draws at once, with one spike each, at steps of their own. */
export function writeFleet(root) {
  return Array.from({ length: SPIKES }, (_, at) => {
    const folder = writeRun(root, `fleet-${String(at).padStart(3, "0")}-gggggggg`, { name: `fleet-${at}`, state: "finished" }, {
      "config.json": { config: { lr: at % 4 ? 3e-4 : 1e-4 } },
    });
    const noise = createNoise(at + 100);
    writeRows(folder, "metrics.jsonl", 2000, 1, (step) => ({ "metrics/spike": step === 10 + at * 20 ? 9 : 1 + (at % 4 ? 0 : 1) + 0.1 * noise() }));
    return folder;
  });
}

/* Runs to compare: some ordinary ones, and one for each way to be odd. */
export function writeRuns(root) {
  const folders = [];
  for (let at = 0; at < 5; at++) {
    const lr = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2][at];
    const best = { value: 0.3 + at * 0.07, step: 900 + at };
    const folder = writeRun(root, `sweep-${at}-aaaaaaa${at}`, { name: `sweep-${at}`, state: at === 3 ? "failed" : "finished", exit_code: at === 3 ? 1 : 0, ledger: LEDGER, last_step: 999 }, {
      "config.json": { config: { lr, batch_size: at % 2 ? 256 : 512, optimizer: { name: "adamw" }, dataset: "wikitext-103" } },
      "summary.json": summarize([metric("loss", best.value + 0.02, best), metric("accuracy", 0.9 - at * 0.03, { value: 0.91 - at * 0.03, step: 950 })], { ledger: LEDGER }),
    });
    const noise = createNoise(at + 1);
    writeRows(folder, "metrics.jsonl", 1000, 3.6, (step) => ({
      "metrics/loss": at === 3 && step > 700 ? null : 0.3 + at * 0.07 + 3.5 * Math.exp(-step / (80 + 60 * at)) + 0.06 * noise(),
      "metrics/accuracy": (0.92 - at * 0.03) * (1 - Math.exp(-step / 150)) + 0.01 * noise(),
      "metrics/lr": lr * Math.min(1, step / 50),
      "throughput/samples_per_sec": 7100 + 300 * noise(),
      ...(at === 3 && step > 700 ? { nonfinite: JSON.stringify({ "metrics/loss": "NaN" }) } : {}),
    }));
    writeLines(folder, "training.log", 3600);
    folders.push(folder);
  }

  const long = writeRun(root, "long-bbbbbbbb", { name: "an-ablation-of-the-learning-rate-schedule-with-cosine-decay-and-" + "a-very-long-suffix-".repeat(5), state: "interrupted" }, {
    "config.json": { config: { ["a_setting_with_a_name_that_goes_on_".repeat(3)]: "and a value that goes on and on ".repeat(12) } },
  });
  writeRows(long, "metrics.jsonl", 50, 60, (step) => ({ ["metrics/" + "a_metric_with_a_very_long_name_".repeat(4)]: step, "metrics/loss": 4 - step / 20 }));
  folders.push(long);

  const wide = writeRun(root, "wide-cccccccc", { name: "300-metrics", state: "finished" });
  writeRows(wide, "metrics.jsonl", 200, 10, (step) => Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`layers/${String(at).padStart(3, "0")}/grad_norm`, Math.abs(Math.sin(step / 20 + at))])));
  folders.push(wide);

  const hostile = writeRun(root, "hostile-dddddddd", { name: HOSTILE, state: "failed", exit_code: 101, argv: ["train", HOSTILE], wandb: [{ logger: "trainer", rank: 0, id: "x", url: "javascript:alert(3)" }] }, {
    "config.json": { config: { [HOSTILE]: HOSTILE, __proto__: 1, constructor: "x", ["turned\u202e"]: "a\u202eb\u001b]0;" } },
    "summary.json": { [HOSTILE]: { state: HOSTILE, metrics: [metric(HOSTILE, HOSTILE, null)] } },
  });
  writeRows(hostile, "metrics.jsonl", 30, 1, (step) => ({ ["metrics/" + HOSTILE]: step, "metrics/loss": 1 / (1 + step) }));
  writeFileSync(join(hostile, "training.log"), formatLine(5, "ERROR", HOSTILE) + "\n");
  writeHostileMedia(hostile);
  writeEvent(hostile, 5, 5, { kind: "stall", level: "error", rank: 7, metric: HOSTILE, incident: "../../etc/passwd", text: HOSTILE.repeat(20) });
  folders.push(hostile);

  const killed = writeRun(root, "killed-eeeeeeee", { name: "killed", state: "killed", exit_code: 137, world_size: 2, seconds: 600 });
  for (const name of ["metrics.jsonl", "metrics.rank1.jsonl"]) {
    writeRows(killed, name, 100, 6, (step) => ({ "metrics/loss": 3 / (1 + step / 30) + (name.includes("rank1") ? 0.2 : 0) }));
  }
  for (const name of ["training.log", "training.rank1.log"]) writeLines(killed, name, 600);
  writeRank(killed, 0, 99);
  writeRank(killed, 1, 98, { seconds: 0.5, share: 0.6, phase: 2 });
  folders.push(killed, writeEmpty(root));
  return folders;
}

/* A run that has logged nothing. */
export function writeEmpty(root) {
  return writeRun(root, "empty-ffffffff", { name: "empty", state: "finished", seconds: 2 });
}
