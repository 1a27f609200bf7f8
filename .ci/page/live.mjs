/* Opens the page of `logcore serve` in a real browser, and asserts that what comes is on the screen.

   node .ci/page/live.mjs LOGCORE BROWSER PACKAGES OUT: as for check.mjs. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { FORBIDDEN, writeEmpty, writeEvent, writeMedia, writeRank, writeRuns, writeSpikes } from "./runs.mjs";

const [program, executablePath, packages, out] = process.argv.slice(2).map((path) => resolve(path));
const require = createRequire(join(packages, "package.json"));
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const puppeteer = require("puppeteer-core");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const runs = join(out, "runs");
mkdirSync(runs);
const spikes = writeSpikes(runs);
writeRuns(runs);

async function serve(folder, { port = 0, env = {} } = {}) {
  const child = spawn(program, ["serve", folder, "--port", String(port)], { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } });
  const url = await new Promise((done) => createInterface({ input: child.stdout }).once("line", done));
  return { child, url };
}

const servers = [];

const browser = await puppeteer.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

async function open(url, viewport = { width: 1400, height: 1000 }) {
  const page = await browser.newPage();
  page.setDefaultTimeout(15_000);
  page.problems = [];
  page.on("console", (message) => ["error", "warn", "assert"].includes(message.type()) && !FORBIDDEN.test(message.text()) && page.problems.push(message.text()));
  page.on("pageerror", (error) => page.problems.push(String(error)));
  /* What the policy of the page forbids fails without a cause. */
  for (const end of ["requestfinished", "requestfailed"]) page.on(end, (request) => {
    if (end === "requestfailed" && !request.failure()) return;
    if (new URL(request.url()).origin !== new URL(url).origin && !request.url().startsWith("data:")) page.problems.push(request.url());
  });
  await page.setViewport(viewport);
  await page.goto(url);
  assert.ok(!page.url().includes("token="), "the address that stays has no token");
  await page.waitForFunction(() => document.querySelector(".live").textContent === "live");
  return page;
}

const waitForChart = (page) => page.waitForFunction(() => live.size > 0 && [...live].some((chart) => chart.plot));

function describe(folder, name, state, metrics) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "run.json"), JSON.stringify({ id: name, name, started: 1_790_000_000, ended: 1_790_000_100, state, attempts: [{}] }));
  writeFileSync(join(folder, "summary.json"), JSON.stringify({ trainer: { metrics } }));
}

async function showOnly(page, name) {
  await page.evaluate((name) => select(new Set([runs.find((run) => run.name === name).index])), name);
  await page.waitForFunction((name) => [...live].some((chart) => chart.plot && chart.series.every(({ curve }) => curve.run.name === name)), {}, name);
}

async function checkNews({ url }) {
  const page = await open(url);
  await waitForChart(page);
  await showOnly(page, "spikes");
  const readers = await page.evaluate(() => {
    const chart = [...live].find((chart) => chart.name === "metrics/loss");
    chart.element.querySelector("button").click();
    const region = chart.element.querySelector(".scroll");
    region.scrollTop = 300;
    region.focus({ preventScroll: true });
    return [region.scrollTop, region.ariaLabel];
  });
  for (const [step, value] of [[100_000, 5], [100_001, 6], [100_002, null]]) {
    const before = performance.now();
    const rest = value === null ? `"metrics/loss":null,"nonfinite":"{\\"metrics/loss\\":\\"NaN\\"}"` : `"metrics/loss":${value}`;
    appendFileSync(join(spikes, "metrics.jsonl"), `{"step":${step},"time":${1_790_003_600 + step / 1000},"logger":"trainer",${rest}}\n`);
    const wanted = `${value === null ? "NaN" : `${value}`} @ ${step.toLocaleString("en")}`;
    await page.waitForFunction((wanted) => [...document.querySelectorAll(".legend .value")].some((value) => value.textContent === wanted), { polling: 20 }, wanted);
    const took = performance.now() - before;
    assert.ok(took < 1000, `a row is on the screen after ${took.toFixed(0)} ms`);
    console.log(`a row is on the screen after ${took.toFixed(0)} ms`);
  }
  const stays = await page.evaluate(() => [document.activeElement.scrollTop, document.activeElement.ariaLabel]);
  assert.deepEqual(stays, readers, "a reader of a table reads on");
  appendFileSync(join(spikes, "training.log"), "2026-11-29 12:00:00.000 | WARN  | trainer | a line that has come <b>late</b>\n");
  await page.waitForFunction(() => document.getElementById("log-lines").textContent.includes("a line that has come <b>late</b>"));
  await page.screenshot({ path: join(out, "news.png") });
  assert.deepEqual(page.problems, []);
  await page.close();
}

async function checkZoom({ url }) {
  const page = await open(url);
  await waitForChart(page);
  await showOnly(page, "spikes");
  const widths = () => page.evaluate(() => [...live].flatMap((chart) => chart.series.map(({ curve }) => (curve.detail || curve).width)));
  assert.ok((await widths()).every((width) => width > 1), "the whole curve is thinned");
  await page.evaluate(() => setZoom([50_000, 50_999]));
  await page.waitForFunction(() => [...live].filter((chart) => chart.plot).every((chart) => chart.series.every(({ curve }) => curve.detail?.width === 1)));
  const spike = await page.evaluate(() => {
    const { steps, values } = [...live].find((chart) => chart.name === "metrics/spike").series[0].curve.read();
    return steps[values.findIndex((value) => value === 9)];
  });
  assert.equal(spike, 50_500, "the zoom has every value");
  await page.screenshot({ path: join(out, "zoom.png") });
  await page.evaluate(() => setZoom(null));
  assert.ok((await widths()).every((width) => width > 1), "the whole curve is back");
  assert.deepEqual(page.problems, []);
  await page.close();
}

/* A link with a token keeps what was chosen, although the metrics come after the page. */
async function checkAddress({ url }) {
  const hash = "#run=k3v9q2ab&x==metrics/tokens&y=log&from=102400000&to=104447000&at=k3v9q2ab&step=50500&time=1790001818";
  const page = await open(url + hash);
  await page.waitForFunction(() => [...live].filter((chart) => chart.plot).length > 2 && [...live].every((chart) => !chart.plot || chart.series.every(({ curve }) => curve.detail?.width === 1)));
  const seen = () => page.evaluate(() => {
    const [list, line] = [document.getElementById("log-lines"), document.querySelector("#log-lines [aria-selected=true]")].map((element) => element.getBoundingClientRect());
    return [location.hash, view.x, document.getElementById("x-axis").value, ...view.zoom, view.moment.step, [...view.selected].map((at) => runs[at].name).join(), line.top >= list.top && line.bottom <= list.bottom];
  });
  const wanted = [hash, "=metrics/tokens", "=metrics/tokens", 102_400_000, 104_447_000, 50_500, "spikes", true];
  assert.deepEqual(await seen(), wanted);
  await page.screenshot({ path: join(out, "address.png") });
  await page.evaluate(() => setZoom([102_400_000, 104_000_000]));
  await page.waitForFunction(() => location.hash.includes("&to=104000000&"));
  await page.reload();
  await page.waitForFunction(() => [...live].some((chart) => chart.plot?.scales.x.max === 104_000_000));
  assert.deepEqual((await seen()).slice(1, 4), wanted.slice(1, 4), "a reload shows the same");
  assert.deepEqual(page.problems, []);
  await page.close();
  const unknown = await open(url + "#run=k3v9q2ab&run=none&x==metrics/<b>none&from=1&to=2");
  await unknown.waitForFunction(() => view.x === "step" && [...live].some((chart) => chart.plot));
  assert.deepEqual(await unknown.evaluate(() => [view.zoom, view.selected.size, document.getElementById("x-axis").value, document.body.textContent.includes("<b>none")]), [null, 1, "step", false], "a metric that no run has is no axis");
  assert.deepEqual(unknown.problems, []);
  await unknown.close();
}

/* Events and the states of ranks come while the page is open. */
async function checkHealth({ url }) {
  const folder = join(runs, "ranks");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "run.json"), JSON.stringify({ id: "ranks", name: "ranks", started: 1_790_000_000, state: "finished", world_size: 2, attempts: [{}] }));
  appendFileSync(join(folder, "metrics.jsonl"), `{"step":1,"time":1790000001,"logger":"trainer","metrics/loss":3}\n{"step":9,"time":1790000009,"logger":"trainer","metrics/loss":2}\n`);
  const page = await open(url);
  await page.waitForFunction(() => runs.some((run) => run.name === "ranks"));
  await showOnly(page, "ranks");
  const wait = (selector, text) => page.waitForFunction((selector, text) => document.querySelector(selector)?.textContent.includes(text), {}, selector, text);
  writeRank(folder, 0, 5);
  writeRank(folder, 1, 4);
  await wait('[aria-label="Ranks"] tbody tr:last-child', "14");
  writeRank(folder, 1, 7);
  await wait('[aria-label="Ranks"] tbody tr:last-child', "17");
  writeEvent(folder, 5, 5, { metric: "loss", text: "loss is <b>NaN</b> at step 5" });
  await wait(".events", "loss is <b>NaN</b> at step 5");
  writeEvent(folder, 6, 6, { kind: "skew", rank: 1, text: "rank 1 is slow" });
  await wait(".events li:first-child", "rank 1 is slow");
  assert.equal(await page.evaluate(() => [...live][0].marks.length), 2, "both are marks");
  await page.screenshot({ path: join(out, "health.png"), fullPage: true });
  rmSync(folder, { recursive: true });
  assert.deepEqual(page.problems, []);
  await page.close();
}

/* Media come from the server, and what is new is shown. */
async function checkMedia({ url }) {
  const page = await open(url);
  await waitForChart(page);
  await showOnly(page, "spikes");
  const strip = (title) => `.strip:has([title="${title}"])`;
  const wait = (title, text) => page.waitForFunction((selector, text) => document.querySelector(selector)?.textContent.includes(text), {}, strip(title), text);
  await wait("answer", "Once upon a time, 3 times");
  await wait("errors", "cat");
  await page.waitForFunction((selector) => document.querySelector(selector)?.naturalWidth === 16, {}, strip("val/sample") + " img");
  const frame = await (await page.waitForSelector("iframe")).contentFrame();
  assert.equal(await frame.$eval("h1", (head) => head.textContent), "Attention");
  const answers = await page.evaluate(async (selector) => {
    const link = document.querySelector(selector);
    const look = async (address) => {
      const { status, headers } = await fetch(address);
      return [status, ...["content-type", "content-disposition", "content-security-policy", "x-content-type-options"].map((name) => headers.get(name))];
    };
    const key = new URL(link.href).searchParams.get("key");
    const media = (path) => look("media?" + new URLSearchParams({ key, path }));
    return [await look(link.href), await media("media/html/attention_3000.html"), await media("media/../run.json"), await media("run.json"), await media("media/none")];
  }, strip("notes.bin") + " a");
  assert.deepEqual(answers[0], [200, "application/octet-stream", "attachment", "sandbox; default-src 'none'", "nosniff"]);
  assert.deepEqual(answers[1], [200, "text/html; charset=utf-8", "inline", "sandbox; default-src 'none'", "nosniff"]);
  assert.deepEqual(answers.slice(2).map(([status]) => status), [404, 404, 404]);
  writeMedia(spikes, 4000, "answer", "text", { file: "media/text/answer_4000.txt", content: "a text that has come" });
  await wait("answer", "a text that has come");
  await page.$eval(".strip", (first) => first.scrollIntoView());
  await page.screenshot({ path: join(out, "media.png") });
  assert.deepEqual(page.problems, []);
  await page.close();
}

async function checkRuns({ url }) {
  rmSync(writeEmpty(runs), { recursive: true });
  const page = await open(url);
  const count = await page.evaluate(() => runs.length);
  const empty = writeEmpty(runs);
  await page.waitForFunction((count) => runs.length === count + 1 && document.getElementById("runs-count").textContent.includes(`of ${count + 1} runs`), {}, count);
  rmSync(empty, { recursive: true });
  await page.waitForFunction(() => [...document.querySelectorAll("#runs-table tbody tr")].some((row) => row.textContent.includes("deleted")));
  const gone = await page.evaluate(() => {
    const { index } = runs.find((run) => run.state === "deleted");
    select(new Set([index]));
    return index;
  });
  await page.waitForFunction(() => document.getElementById("groups").textContent.startsWith("There are no metrics"));
  assert.equal(await page.evaluate((index) => [...view.selected][0] === index && document.querySelector(".live").textContent, gone), "live", "what is gone is not loaded");
  assert.deepEqual(page.problems, []);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { iframes: false }));
  assert.deepEqual(violations.map(({ id }) => id), [], "no violation of axe");
  await page.screenshot({ path: join(out, "runs.png") });
  await page.close();
}

/* A folder that is empty at first, and a run whose summary comes with its end. */
async function checkFirstRun() {
  const folder = join(out, "first");
  mkdirSync(folder);
  const { child, url } = await serve(folder);
  servers.push(child);
  const page = await open(url);
  describe(join(folder, "one"), "one", "unknown", []);
  appendFileSync(join(folder, "one", "metrics.jsonl"), `{"step":1,"time":1790000001,"logger":"trainer","metrics/loss":3}\n`);
  await waitForChart(page);
  await page.focus(".group summary");
  appendFileSync(join(folder, "one", "metrics.jsonl"), `{"step":2,"time":1790000002,"logger":"trainer","metrics/more":3}\n`);
  await page.waitForFunction(() => document.querySelectorAll(".chart").length === 2);
  assert.match(await page.evaluate(() => document.activeElement.textContent), /^metrics/, "the focus stays where a chart comes");
  describe(join(folder, "one"), "one", "finished", [{ name: "loss", last: 3, best: { value: 2, step: 1 } }]);
  await page.waitForFunction(() => document.getElementById("overview").textContent.includes("Best loss"));
  rmSync(join(folder, "one"), { recursive: true });
  await page.waitForFunction(() => runs[0].state === "deleted");
  describe(join(folder, "one"), "one", "finished", []);
  appendFileSync(join(folder, "one", "metrics.jsonl"), `{"step":7,"time":1790000001,"logger":"trainer","metrics/loss":8}\n`);
  await page.waitForFunction(() => [...document.querySelectorAll(".legend .value")].some((value) => value.textContent === "8 @ 7"));
  assert.deepEqual(page.problems, []);
  await page.close();
}

/* The table has the last value of a run that goes on, and the best one of its summary at the end. */
async function checkResults() {
  const folder = join(out, "results");
  for (const name of ["one", "two"]) describe(join(folder, name), name, "unknown", []);
  const { child, url } = await serve(folder);
  servers.push(child);
  const page = await open(url);
  const waitFor = (wanted) => page.waitForFunction((wanted) => {
    const place = [...document.querySelectorAll("#runs-table thead th")].findIndex((head) => head.textContent.trim() === "loss");
    return [...document.querySelectorAll("#runs-table tbody tr")].some((row) => row.textContent.includes("one") && row.children[place]?.textContent === wanted);
  }, {}, wanted);
  const append = (step, rest) => appendFileSync(join(folder, "one", "metrics.jsonl"), `{"step":${step},"time":${1790000000 + step},"logger":"trainer",${rest}}\n`);
  append(1, `"metrics/loss":3`);
  await waitFor("3");
  append(2, `"metrics/loss":null,"nonfinite":"{\\"metrics/loss\\":\\"NaN\\"}"`);
  await waitFor("NaN");
  describe(join(folder, "one"), "one", "finished", [{ name: "loss", last: 3, best: { value: 2, step: 1 } }]);
  await waitFor("2");
  assert.deepEqual(page.problems, []);
  await page.close();
}

/* A server that is started again: the page catches up, or says what to do. The address has to be free for that. */
async function checkRestart() {
  const folder = join(out, "restart");
  describe(join(folder, "one"), "one", "finished", []);
  const env = { LOGCORE_TOKEN: "0123456789abcdef0123456789abcdef" };
  const first = await serve(folder, { env });
  servers.push(first.child);
  const { port } = new URL(first.url);
  const page = await open(first.url);
  const restart = async (before, env) => {
    before.kill();
    await new Promise((done) => before.once("exit", done));
    describe(join(folder, "one"), "one", "failed", []);
    describe(join(folder, "two"), "two", "finished", []);
    const { child } = await serve(folder, { port, env });
    servers.push(child);
    return child;
  };
  const second = await restart(first.child, env);
  await page.waitForFunction(() => runs.length === 2 && runs[0].state === "failed" && document.querySelector(".live").textContent === "live");
  assert.deepEqual(page.problems.filter((problem) => !problem.includes("ERR_")), []);
  await restart(second, { LOGCORE_TOKEN: "another-token-0123456789" });
  await page.waitForFunction(() => document.querySelector(".live").textContent.includes("another token"));
  await page.close();
}

/* The page says that the server is gone, and keeps what it shows. */
async function checkEnd({ child, url }) {
  const page = await open(url, { width: 390, height: 844 });
  await waitForChart(page);
  child.kill();
  await page.waitForFunction(() => document.querySelector(".live").textContent.startsWith("connection lost"));
  assert.ok(await page.evaluate(() => [...live].some((chart) => chart.plot)));
  await page.screenshot({ path: join(out, "end.png") });
  await page.close();
}

try {
  const server = await serve(runs);
  servers.push(server.child);
  for (const check of [checkNews, checkZoom, checkAddress, checkHealth, checkMedia, checkRuns, checkFirstRun, checkResults, checkRestart, checkEnd]) {
    const start = performance.now();
    await check(server);
    console.log(`live ${check.name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
} finally {
  servers.forEach((server) => server.kill());
  await browser.close();
}
