/* Opens reports in a real browser, from their files, and asserts what people do with them.

   node .ci/page/check.mjs LOGCORE BROWSER PACKAGES OUT: the program, Chromium, a folder with puppeteer-core and axe-core in
   its node_modules, and a folder for runs, pages and pictures, which is emptied. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { FORBIDDEN, HOSTILE, SPIKES, writeEmpty, writeFleet, writeRuns, writeSpikes } from "./runs.mjs";

const [program, executablePath, packages, out] = process.argv.slice(2).map((path) => resolve(path));
const require = createRequire(join(packages, "package.json"));
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const puppeteer = require("puppeteer-core");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

function report(name, runs) {
  const page = join(out, `${name}.html`);
  execFileSync(program, ["report", ...runs, "-o", page], { stdio: ["ignore", "ignore", "inherit"] });
  return page;
}

const fleet = writeFleet(out);
const pages = {
  one: report("one", [writeSpikes(out)]),
  many: report("many", writeRuns(out)),
  empty: report("empty", [writeEmpty(out)]),
  fleet: report("fleet", fleet),
  crowd: report("crowd", [...fleet, writeEmpty(out)]),
};
/* Pages whose looks are checked. */
const LOOKS = ["one", "many", "empty"];

const DESK = { width: 1400, height: 1000, deviceScaleFactor: 2 };
const PHONE = { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/* A page may draw for a moment after each change. */
const settle = (page) => page.evaluate(() => new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 250)));

async function open(browser, name, { viewport = DESK, scheme = "light", hash = "" } = {}) {
  const page = await browser.newPage();
  page.setDefaultTimeout(10_000);
  const problems = [];
  const requests = [];
  /* The checks themselves read canvases, which the browser remarks on. */
  page.on("console", (message) => ["error", "warn", "assert"].includes(message.type()) && !message.text().startsWith("Canvas2D:") && !(name === "many" && FORBIDDEN.test(message.text())) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("dialog", (dialog) => problems.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
  page.on("requestfinished", (request) => requests.push(request.url()));
  /* What the policy of the page forbids is no request, and has failed without a cause. */
  page.on("requestfailed", (request) => request.failure() && requests.push(request.url()));
  page.problems = problems;
  await page.setViewport(viewport);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  const url = pathToFileURL(pages[name]).href + hash;
  await page.goto(url);
  await settle(page);
  assert.deepEqual(requests.filter((request) => !request.startsWith("data:")), [url], "the page makes no request");
  return page;
}

async function close(page) {
  assert.deepEqual(page.problems, [], "the console has no error");
  await page.close();
}

async function shoot(page, name) {
  await page.screenshot({ path: join(out, `${name}.png`) });
}

/* A window as high as the page, within reason, so that all charts are in view. */
async function shootWhole(page, name) {
  const before = page.viewport();
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewport({ ...before, height: Math.min(height, 6000), deviceScaleFactor: 1 });
  await settle(page);
  await shoot(page, name);
  await page.setViewport(before);
  await settle(page);
}

async function checkWidth(page, name) {
  const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(width <= room, `${name}: no scrolling aside (${width} of ${room})`);
}

async function checkAccess(page, name) {
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run(document, { iframes: false }));
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`).join("\n")}`);
  assert.deepEqual(found, [], `${name}: no violation of axe`);
  assert.ok(passes.length > 15, `${name}: axe has looked at the page`);
}

async function checkCurves(browser) {
  const page = await open(browser, "one");
  const tops = await page.$$eval(".grid", (grids) => grids.map((grid) => [...grid.querySelectorAll(".chart")].slice(0, 2).map((chart) => chart.querySelector(".plot").offsetTop)));
  for (const [one, other] of tops) assert.ok(other === undefined || one === other, `charts side by side have their plots side by side: ${tops}`);
  const drawn = await page.$$eval(".chart", (charts) => charts.map((chart) => {
    const canvas = chart.querySelector("canvas");
    const pixels = canvas?.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data ?? [];
    return pixels.some((value) => value > 0);
  }));
  assert.ok(drawn.length >= 5 && drawn.every(Boolean), `all charts are drawn: ${drawn}`);
  assert.equal(await countSpikes(page), SPIKES, "each spike of one step is on the canvas");
  await close(page);
}

/* Counts the peaks that reach a value of 6. */
const countSpikes = (page) => page.evaluate(() => {
  const { plot } = [...live].find((chart) => chart.name === "metrics/spike");
  const { ctx, bbox } = plot;
  const row = Math.round(plot.valToPos(6, "y", true));
  const pixels = ctx.getImageData(bbox.left, row, bbox.width, 1).data;
  const isInk = (at) => pixels[at * 4 + 3] > 60 && Math.max(pixels[at * 4], pixels[at * 4 + 1], pixels[at * 4 + 2]) - Math.min(pixels[at * 4], pixels[at * 4 + 1], pixels[at * 4 + 2]) > 60;
  let count = 0;
  for (let at = 1; at < bbox.width; at++) count += isInk(at) && !isInk(at - 1);
  return count;
});

/* A metric that grows takes the place of the step; one that does not makes a cloud of points. */
async function checkAxes(browser) {
  const page = await open(browser, "one");
  const scale = () => page.evaluate(() => {
    const { x } = [...live].find((chart) => chart.name === "metrics/spike").plot.scales;
    return [x.min, x.max];
  });
  const choose = async (name) => {
    await page.select("#x-axis", name);
    await settle(page);
  };
  await choose("=metrics/tokens");
  assert.deepEqual(await scale(), [0, 99_999 * 2048]);
  assert.equal(await countSpikes(page), SPIKES, "spikes stay where x is a metric");
  await page.evaluate(() => setZoom([50_000 * 2048, 51_000 * 2048]));
  await settle(page);
  assert.equal(await countSpikes(page), 1, "the zoom is by x");
  await page.focus(".plot");
  await page.keyboard.press("Enter");
  assert.ok(await page.evaluate(() => view.moment.step >= 50_000 && view.moment.step <= 51_000), "a moment is by x");
  await shootWhole(page, "axis-tokens");
  await choose("=metrics/lr");
  assert.equal((await scale())[0], 0);
  assert.ok((await scale())[1] <= 3e-4);
  await shootWhole(page, "axis-lr");
  await choose("time");
  const ticks = () => page.evaluate(() => [...live][0].plot.axes[0]._values);
  const [first, ...others] = await ticks();
  assert.match(first, /^\d\d:\d\d\n2026-09-2\d$/, "the first tick has the date of all");
  assert.ok(others.length > 2 && others.every((text) => /^\d\d:\d\d(\n2026-09-2\d)?$/.test(text)), others.join());
  await shoot(page, "axis-time");
  const middle = (await scale()).reduce((sum, end) => sum + end / 2, 0);
  for (const [half, form] of [[2, /^\d\d:\d\d:\d\d$/], [0.2, /^\d\d:\d\d:\d\d\.\d{3}$/], [1e6, /^20\d\d-\d\d-\d\d$/], [1e12, /^(–|\d{4,6}-\d\d-\d\d)$/]]) {
    await page.evaluate((ends) => setZoom(ends), [middle - half, middle + half]);
    await settle(page);
    assert.match((await ticks())[1], form, `ticks of ${2 * half} s`);
  }
  await choose("step");
  assert.deepEqual(await scale(), [0, 99_999]);
  assert.equal(await countSpikes(page), SPIKES);
  await close(page);
}

/* Bands over the runs of a group, and as many lines as a page draws. */
async function checkGroups(browser) {
  const page = await open(browser, "fleet");
  await page.click("#runs-all");
  await settle(page);
  const milliseconds = await page.evaluate(() => {
    const start = performance.now();
    [...live].forEach((chart) => chart.remake());
    return performance.now() - start;
  });
  console.log(`${SPIKES} runs are drawn in ${milliseconds.toFixed(0)} ms`);
  assert.ok(milliseconds < 1000);
  assert.equal(await page.evaluate(() => [...live][0].series.length), SPIKES, "all runs are drawn");
  /* Dashes have gaps, so the canvas cannot tell. */
  const spikes = await page.evaluate(() => [...live][0].plot.data.slice(1).map((values) => values.filter((value) => value === 9).length));
  assert.deepEqual(spikes, Array(SPIKES).fill(1), "each run's spike is drawn");
  await shootWhole(page, "fleet-lines");
  const choose = async (group) => {
    await page.select("#group", group);
    await settle(page);
    return page.$$eval(".chart .legend li", (all) => all.map((item) => item.textContent));
  };
  const [all] = await choose("*");
  assert.match(all, /^all · 100 runs1\.\d+ \(0\.9\d* to 2\.0\d*\) @/);
  const both = await choose("lr");
  assert.match(both[0], /^lr = 0\.0001 · 25 runs[12]\.\d+ \(/);
  assert.match(both[1], /^lr = 0\.0003 · 75 runs[01]\.\d+ \(/);
  const greatest = await page.evaluate(() => [...live][0].bands.map((band) => Math.max(...band.high)));
  assert.deepEqual(greatest, [9, 9], "a band reaches to the spikes");
  await shootWhole(page, "fleet-groups");
  await page.click(".chart-head button");
  assert.match(await page.$eval(".chart .values", (table) => table.textContent), /Group.*Mean.*Least.*Greatest.*lr = 0\.0001/s);
  await page.evaluate(() => setZoom([100, 120]));
  await settle(page);
  assert.ok(await page.evaluate(() => [...live][0].bands[0].x.every((x) => x >= 100 && x <= 120)), "a band is made for the zoom");
  await page.evaluate(() => setZoom([-1e9, 1e9]));
  await settle(page);
  const wide = await page.evaluate(() => [...live][0].bands.map((band) => band.high.filter((value) => value !== null)));
  assert.deepEqual(wide, [[9], [9]], "a column takes any number of points");
  await page.evaluate(() => setZoom([100, 120]));
  await checkAccess(page, "groups");
  assert.equal((await choose("")).length, 13, "twelve runs and the number of the others");
  await close(page);
}

/* A long table of runs goes on where the keyboard is, and says so when nothing matches, on a phone too. */
async function checkCrowd(browser) {
  const page = await open(browser, "crowd", { viewport: PHONE });
  const rows = () => page.$$eval("#runs-table tbody tr", (rows) => rows.length);
  assert.equal(await rows(), 100);
  await page.focus("#runs-table .more");
  await page.keyboard.press("Enter");
  assert.equal(await rows(), 101);
  assert.ok(await page.evaluate(() => document.activeElement === [...document.querySelectorAll("#runs-table input")].at(-1)), "the first new row has the focus");
  await page.type("#runs-filter", "no such run");
  await settle(page);
  assert.equal(await rows(), 0);
  const { text, left, right } = await page.$eval("#runs-table .empty", (hint) => {
    const { left, right } = hint.getBoundingClientRect();
    return { text: hint.textContent, left, right };
  });
  assert.match(text, /^No run matches/);
  assert.ok(left >= 0 && right <= PHONE.width, `the hint is in view: ${left} to ${right}`);
  await page.type("#search", "no such metric");
  await settle(page);
  assert.match(await page.$eval("#groups", (groups) => groups.textContent), /^No metric matches/);
  await shoot(page, "crowd-no-match");
  await checkWidth(page, "crowd");
  await checkAccess(page, "crowd");
  await close(page);
}

async function checkZoom(browser) {
  const page = await open(browser, "one");
  const box = await (await page.$(".u-over")).boundingBox();
  const middle = box.y + box.height / 2;
  const isWhole = () => page.evaluate(() => view.zoom === null && document.getElementById("zoom-reset").hidden);
  const drag = async () => {
    await page.mouse.move(box.x + box.width * 0.4, middle);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, middle, { steps: 5 });
    await page.mouse.up();
    await settle(page);
  };
  await drag();
  const zoom = await page.evaluate(() => view.zoom);
  assert.ok(Math.abs(zoom[0] - 40_000) < 2000 && Math.abs(zoom[1] - 60_000) < 2000, `the zoom is what was drawn: ${zoom}`);
  const ranges = await page.evaluate(() => [...live].map(({ plot }) => [plot.scales.x.min, plot.scales.x.max].join()));
  assert.deepEqual([...new Set(ranges)], [zoom.join()], "all charts zoom together");
  assert.equal(await page.evaluate(() => view.moment), null, "a drag is no click");
  await shoot(page, "one-zoomed");
  await page.mouse.click(box.x + box.width / 2, middle, { count: 2 });
  assert.ok(await isWhole(), "a double click shows all again");
  await drag();
  await page.click("#zoom-reset");
  assert.ok(await isWhole(), "the button shows all again");
  await close(page);
}

/* A double click shows all again, and leaves the moment and the lines as they were. */
async function checkDoubleClick(browser) {
  const page = await open(browser, "one");
  const box = await (await page.$(".u-over")).boundingBox();
  const at = (share) => [box.x + box.width * share, box.y + box.height / 2];
  const look = () => page.evaluate(() => ({ step: view.moment?.step ?? null, zoom: view.zoom, active: log.active, top: document.getElementById("log-lines").scrollTop }));
  await page.evaluate(() => setZoom([40_000, 60_000]));
  await page.$eval("#log-lines", (lines) => (lines.scrollTop = 100));
  await page.mouse.click(...at(0.5), { count: 2 });
  await settle(page);
  assert.deepEqual(await look(), { step: null, zoom: null, active: -1, top: 100 }, "a double click chooses no moment");
  await page.mouse.click(...at(0.25));
  await settle(page);
  const before = await look();
  assert.ok(Math.abs(before.step - 25_000) < 1000, `a click chooses at once: ${before.step}`);
  await page.evaluate(() => setZoom([40_000, 60_000]));
  await page.mouse.click(...at(0.75), { count: 2, delay: 60 });
  await settle(page);
  assert.deepEqual(await look(), before, "a double click keeps the moment and the lines");
  await close(page);
}

/* The part of an address behind "#", once the page has written what was chosen. */
async function readHash(page, wanted) {
  await page.waitForFunction((wanted) => location.hash === wanted, { timeout: 3000 }, wanted).catch(async () => assert.equal(await page.evaluate(() => location.hash), wanted, "the address holds what was chosen"));
  return wanted;
}

/* The address has all that a person has chosen: a reload and a link show the same. */
async function checkAddress(browser) {
  const page = await open(browser, "many");
  const look = (page) => page.evaluate(() => ({
    x: view.x, group: view.group, zoom: view.zoom, theme: view.theme, search: String(view.search),
    selected: [...view.selected].map((at) => runs[at].name).sort(),
    logRun: log.run?.name,
    moment: view.moment && { run: view.moment.run.name, step: view.moment.step },
    controls: ["x-axis", "group", "log-y", "smooth", "search", "runs-filter", "log-level", "log-search"].map((id) => document.getElementById(id)).map(({ type, checked, value }) => (type === "checkbox" ? checked : value)),
    smooth: document.getElementById("smooth-value").textContent,
    reset: document.getElementById("zoom-reset").hidden,
    charts: [...document.querySelectorAll(".chart h4")].map((head) => head.title),
    rows: document.querySelectorAll("#runs-table tbody tr").length,
    line: document.querySelector("#log-lines [aria-selected=true]")?.textContent,
    drawn: [...live].map(({ plot }) => plot && [plot.scales.x.min, plot.scales.x.max, plot.scales.y.distr, plot.series.length].join()),
  }));
  const first = await look(page);
  const entries = await page.evaluate(() => history.length);
  const type = (id, text) => page.$eval("#" + id, (input, text) => {
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }, text);
  await page.evaluate(() => select(new Set(["sweep-1", "sweep-3"].map((name) => runs.find((run) => run.name === name).index))));
  await page.select("#x-axis", "relative");
  await page.select("#group", "lr");
  await page.click("#log-y");
  await type("smooth", "0.6");
  await type("search", "metrics/(loss|lr)$");
  await type("runs-filter", "sweep");
  await page.select("#log-level", "2");
  await type("log-search", "epoch");
  await settle(page);
  await page.evaluate(() => setZoom([600, 1800]));
  await page.focus(".plot");
  await page.keyboard.press("Enter");
  const theme = await page.$$("#theme button");
  await theme[1].click();
  await settle(page);
  const chosen = await look(page);
  assert.equal(chosen.moment.run, "sweep-1");
  const hash = await readHash(page, `#run=aaaaaaa1&run=aaaaaaa3&x=relative&group=lr&y=log&smooth=0.6&search=metrics/%28loss%7Clr%29%24&filter=sweep&level=2&lines=epoch&from=600&to=1800&at=aaaaaaa1&step=${chosen.moment.step}&time=1790001198.8&theme=light`);
  assert.equal(await page.evaluate(() => history.length), entries, "a change is no entry of the history");
  await page.reload();
  await settle(page);
  assert.deepEqual(await look(page), chosen, "a reload shows the same");
  await shoot(page, "address-reload");
  await checkAccess(page, "address");
  /* Another run's lines, a metric as x, all runs, none. */
  await page.select("#group", "");
  await page.select("#x-axis", "=metrics/lr");
  await page.select("#log-run", await page.evaluate(() => String(runs.find((run) => run.name === "sweep-3").index)));
  await page.click("#zoom-reset").catch(() => {});
  for (const id of ["search", "runs-filter", "log-search"]) await type(id, "");
  await page.waitForFunction(() => location.hash.includes("x==metrics/lr&y=log&smooth=0.6&level=2&at=aaaaaaa1&") && location.hash.includes("&log=aaaaaaa3&theme=light"));
  await page.reload();
  await settle(page);
  assert.deepEqual(await page.evaluate(() => [view.x, view.zoom, log.run.name, document.getElementById("x-axis").value, document.getElementById("log-run").selectedOptions[0].text]), ["=metrics/lr", null, "sweep-3", "=metrics/lr", "sweep-3"]);
  await page.click("#runs-all");
  await page.waitForFunction(() => location.hash.startsWith("#run=*&x="));
  await page.reload();
  await settle(page);
  assert.ok(await page.evaluate(() => view.selected.size === runs.length), "all runs are chosen again");
  await page.click("#runs-none");
  await page.waitForFunction(() => location.hash.startsWith("#run=&x="));
  await page.reload();
  await settle(page);
  assert.equal(await page.evaluate(() => view.selected.size), 0, "and so are none");
  await close(page);
  const link = await open(browser, "many", { hash });
  assert.deepEqual(await look(link), chosen, "a link shows the same");
  /* As at first, and the address is as it was. */
  const loaded = new Promise((done) => link.once("load", done));
  await link.evaluate(() => void setTimeout(() => (location.hash = "")));
  await loaded;
  await settle(link);
  assert.deepEqual(await look(link), first, "an address without choices shows what comes first");
  await link.click("#log-y");
  await readHash(link, "#y=log");
  await link.click("#log-y");
  await link.waitForFunction(() => !location.href.includes("#"));
  await close(link);
}

/* Anybody may write a link: what a person could not have chosen is not taken from it. */
async function checkHostileAddress(browser) {
  /* One of the runs has a setting with the name that is hostile. */
  const markup = encodeURIComponent(HOSTILE + "!");
  const all = (value) => ["run", "x", "group", "y", "smooth", "ranks", "search", "filter", "level", "lines", "from", "to", "at", "step", "time", "log", "theme", "other"].map((key) => `${key}=${value}`).join("&");
  const look = (page) => page.evaluate(() => {
    const controls = [...document.querySelectorAll("#tools input, #tools select, #runs-filter, #log select, #log input")];
    return { ...view.zoom, x: view.x, group: view.group, moment: view.moment, theme: view.theme, selected: view.selected.size, log: log.run.name, controls: controls.map(({ id, type, checked, value }) => [id, type === "checkbox" ? checked : value]) };
  });
  const plain = await open(browser, "many");
  const first = await look(plain);
  await close(plain);
  const hashes = {
    markup: all(markup),
    scripts: all("javascript:alert(1)"),
    prototypes: all("__proto__") + "&__proto__=1&constructor=2",
    infinite: all("1e999"),
    negative: all("-1e308"),
    words: all("NaN"),
    broken: all("%E0%A4%A%00%"),
    backwards: "from=200&to=100&smooth=-1&at=aaaaaaa1&step=x&time=1",
    narrow: "from=5&to=5",
    beyond: "from=-2e18&to=2e18&smooth=7",
    long: all("a".repeat(5000)),
    huge: "run=aaaaaaa1&y=log&filter=" + "a".repeat(70_000),
    slow: "search=" + encodeURIComponent("(.+)+!"),
    slower: "search=" + encodeURIComponent(".*.*.*!"),
    unfinished: "search=" + encodeURIComponent("loss("),
  };
  const TEXTS = new Set(["markup", "scripts", "prototypes", "infinite", "negative", "words", "broken"]);
  for (const [name, hash] of Object.entries(hashes)) {
    const page = await open(browser, "many", { hash: "#" + hash });
    const seen = await look(page);
    /* A text to look for may be any. */
    for (const [at, [id]] of first.controls.entries()) if (/search|filter/.test(id) && TEXTS.has(name)) seen.controls[at] = first.controls[at];
    assert.deepEqual(seen, first, `${name}: nothing of the address counts`);
    assert.deepEqual(await page.evaluate(() => [document.scripts.length, document.querySelectorAll("img[onerror]").length, document.getElementById("search-error").hidden]), [2, 0, true], name);
    await close(page);
  }
  /* Numbers at the ends of what is allowed are drawn quickly. */
  for (const x of ["step", "time", "relative", "=metrics/lr"]) {
    const start = performance.now();
    const page = await open(browser, "many", { hash: `#x=${x}&from=-9e17&to=9e17` });
    assert.deepEqual(await page.evaluate(() => view.zoom), [-9e17, 9e17]);
    assert.ok(performance.now() - start < 5000, `a wide zoom by ${x} is drawn`);
    await close(page);
  }
}

/* Two fingers zoom, one moves what a zoom shows, a tap chooses, and the page scrolls. */
async function checkTouch(browser) {
  const page = await open(browser, "one", { viewport: PHONE });
  const session = await page.createCDPSession();
  await page.$eval(".u-over", (over) => over.scrollIntoView({ block: "center" }));
  const box = await (await page.$(".u-over")).boundingBox();
  const middle = box.y + box.height / 2;
  const at = (share) => box.x + box.width * share;
  const send = (type, points) => session.send("Input.dispatchTouchEvent", { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
  const move = async (from, to, { count = 8 } = {}) => {
    await send("touchStart", from);
    for (let step = 1; step <= count; step++) {
      await send("touchMove", from.map(([x, y], id) => [x + ((to[id][0] - x) * step) / count, y + ((to[id][1] - y) * step) / count]));
      await page.evaluate(() => new Promise(requestAnimationFrame));
    }
    await send("touchEnd", []);
    await settle(page);
  };
  const zoom = () => page.evaluate(() => view.zoom);
  const ranges = () => page.evaluate(() => [...new Set([...live].filter(({ plot }) => plot).map(({ plot }) => [plot.scales.x.min, plot.scales.x.max].join()))]);
  const isNear = (value, wanted, room, text) => assert.ok(Math.abs(value - wanted) < room, `${text}: ${value}, not ${wanted}`);
  await move([[at(0.6), middle]], [[at(0.3), middle]]);
  assert.equal(await zoom(), null, "one finger moves nothing where all is in view");
  await move([[at(0.4), middle], [at(0.6), middle]], [[at(0.2), middle], [at(0.8), middle]]);
  const pinched = await zoom();
  isNear(pinched[1] - pinched[0], 33_333, 1500, "two fingers that part by a factor of 3 zoom by it");
  isNear(pinched[0], 33_333, 1500, "what is between them stays there");
  assert.deepEqual(await ranges(), [pinched.join()], "all charts zoom");
  assert.equal(await page.evaluate(() => view.moment), null, "a pinch is no tap");
  assert.ok(await page.$eval("#zoom-reset", (button) => !button.hidden));
  await shoot(page, "touch-pinched");
  await move([[at(0.7), middle]], [[at(0.4), middle]]);
  const panned = await zoom();
  isNear(panned[0], pinched[0] + 10_000, 1500, "a finger moves what is in view");
  isNear(panned[1] - panned[0], pinched[1] - pinched[0], 1, "and zooms nothing");
  assert.equal(await page.evaluate(() => view.moment), null, "a drag is no tap");
  await move([[at(0.2), middle]], [[at(0.9), middle]]);
  await move([[at(0.1), middle]], [[at(0.9), middle]]);
  assert.equal((await zoom())[0], 0, "there is nothing before the first step");
  const scrolled = () => page.evaluate(() => scrollY);
  const before = [await scrolled(), await zoom()];
  await move([[at(0.5), middle]], [[at(0.5) + 4, middle - 90]]);
  assert.ok((await scrolled()) > before[0] + 40, "a finger that moves up scrolls the page");
  assert.deepEqual(await zoom(), before[1], "and moves no curve");
  await page.evaluate((top) => scrollTo(0, top), before[0]);
  await settle(page);
  await page.touchscreen.tap(at(0.5), middle);
  await settle(page);
  const [low, high] = await zoom();
  isNear(await page.evaluate(() => view.moment.step), (low + high) / 2, 600, "a tap chooses a moment");
  await shoot(page, "touch-tapped");
  const marked = await page.evaluate(() => view.moment.step);
  for (let taps = 0; taps < 2; taps++) await page.touchscreen.tap(at(0.7), middle);
  await settle(page);
  assert.deepEqual([await zoom(), await page.evaluate(() => view.moment.step)], [null, marked], "two taps show all again, and choose nothing");
  await page.evaluate((ends) => setZoom(ends), [low, high]);
  await settle(page);
  await move([[at(0.1), middle], [at(0.9), middle]], [[at(0.45), middle], [at(0.55), middle]]);
  assert.equal(await zoom(), null, "fingers that close show all again");
  assert.ok(await page.$eval("#zoom-reset", (button) => button.hidden));
  assert.equal(await page.evaluate(() => visualViewport.scale), 1, "the page itself has not zoomed");
  /* Fingers above one another zoom as well. */
  await move([[at(0.5), middle - 20], [at(0.5), middle + 20]], [[at(0.5) - 1, middle - 80], [at(0.5) + 1, middle + 80]]);
  isNear((await zoom())[1] - (await zoom())[0], 25_000, 2500, "the distance of the fingers counts");
  await close(page);
}

async function checkMoments(browser) {
  const page = await open(browser, "one");
  const box = await (await page.$(".u-over")).boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  await settle(page);
  const chosen = await page.evaluate(() => {
    const line = document.querySelector("#log-lines [aria-selected=true]");
    const [list, place] = [document.getElementById("log-lines").getBoundingClientRect(), line.getBoundingClientRect()];
    return { step: view.moment.step, text: line.textContent, isVisible: place.top >= list.top && place.bottom <= list.bottom };
  });
  assert.ok(Math.abs(chosen.step - 50_000) < 1000, `the step below the pointer: ${chosen.step}`);
  assert.match(chosen.text, /epoch (29|30) /, "a click on a step shows the line of that moment");
  assert.ok(chosen.isVisible, "the line is in view");
  await page.$$eval("#log-lines li", (lines) => lines.find((line) => line.textContent.includes("epoch 15 ")).click());
  await settle(page);
  const marked = await page.evaluate(() => {
    const { plot } = [...live].find((chart) => chart.name === "metrics/lr");
    const { ctx, bbox } = plot;
    const left = Math.round(plot.valToPos(view.moment.step, "x", true));
    const column = (at) => {
      const pixels = ctx.getImageData(at, bbox.top, 1, bbox.height).data;
      return pixels.filter((value, place) => place % 4 === 3 && value > 40).length / bbox.height;
    };
    return { step: view.moment.step, ink: Math.max(column(left - 1), column(left), column(left + 1)) };
  });
  assert.ok(Math.abs(marked.step - 25_000) < 100, `a click on a line marks its moment: ${marked.step}`);
  assert.ok(marked.ink > 0.95, `the mark is drawn from top to bottom: ${marked.ink}`);
  await shoot(page, "one-moment");
  await close(page);
}

async function checkSearchAndKeys(browser) {
  const page = await open(browser, "many");
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
  const titles = () => page.$$eval(".chart h4", (heads) => heads.map((head) => head.title));
  await page.keyboard.press("/");
  assert.equal(await focused(), "search", "a slash leads to the search");
  await page.keyboard.type("metrics/(loss|lr)$");
  await settle(page);
  assert.deepEqual(await titles(), ["metrics/loss", "metrics/lr"], "the search is a regular expression");
  await page.keyboard.type("(");
  await settle(page);
  assert.match(await page.$eval("#search-error", (error) => (error.hidden ? "" : error.textContent)), /^cannot search for metrics/);
  assert.equal((await titles()).length, 2, "an incomplete expression changes nothing");
  await page.keyboard.press("Backspace");
  await settle(page);
  assert.ok(await page.$eval("#search-error", (error) => error.hidden));
  for (let presses = 0; (await focused()) !== "plot"; presses++) {
    assert.ok(presses < 20, "the Tab key leads from the search to a chart");
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  assert.ok(await page.evaluate(() => view.moment !== null), "Enter on a chart chooses a moment");
  await page.keyboard.press("+");
  assert.ok(await page.evaluate(() => view.zoom !== null), "plus zooms");
  await page.keyboard.press("Escape");
  assert.ok(await page.evaluate(() => view.zoom === null), "Escape shows all");
  await page.$eval("#search", (search) => (search.value = "") || search.dispatchEvent(new Event("input")));
  await settle(page);
  await page.$$eval(".plot", (plots) => plots[8].scrollIntoView() || plots[8].focus());
  const hidden = [];
  for (let presses = 0; (await focused()) !== "search"; presses++) {
    assert.ok(presses < 40, "Shift and Tab lead back to the search");
    await page.keyboard.down("Shift");
    await page.keyboard.press("Tab");
    await page.keyboard.up("Shift");
    hidden.push(await page.evaluate(() => {
      const { activeElement: control } = document;
      const edge = document.getElementById("tools").getBoundingClientRect().bottom;
      return control.closest(".group") && control.getBoundingClientRect().top < edge && (control.ariaLabel || control.textContent);
    }));
  }
  assert.deepEqual(hidden.filter(Boolean), [], "the tools hide nothing that has the focus");
  await page.$eval("#log-lines ol", (list) => list.focus());
  const before = await page.evaluate(() => log.active);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => log.active), before + 1, "arrows walk through the lines");
  await page.click(".chart-head button");
  assert.ok((await page.$$(".chart .values tbody tr")).length > 50, "a chart has a table");
  await close(page);
}

/* Events are marks in the curves of their metric, and a list that leads there. */
async function checkEvents(browser) {
  const page = await open(browser, "one");
  /* The column of pixels of the event at a step, and whether it is colored from top to bottom. */
  const isMarked = (name, step) => page.evaluate((name, step) => {
    const { plot } = [...live].find((chart) => chart.name === name);
    const { ctx, bbox } = plot;
    const left = Math.round(plot.valToPos(step, "x", true));
    const { data } = ctx.getImageData(left - 1, bbox.top, 3, bbox.height);
    const rows = Array.from({ length: bbox.height }, (_, row) => [0, 1, 2].some((column) => {
      const at = (row * 3 + column) * 4;
      return data[at + 3] > 100 && data[at] > data[at + 2] + 60;
    }));
    return rows.filter(Boolean).length > bbox.height * 0.55;
  }, name, step);
  const stall = 20_583;
  assert.ok(await isMarked("metrics/spike", 20_500), "a rule's event marks the chart of its metric");
  assert.ok(!(await isMarked("metrics/lr", 20_500 - 300)), "and the columns beside it are free");
  assert.ok(await isMarked("metrics/lr", stall) && await isMarked("throughput/samples_per_sec", stall), "a stall marks all charts");
  await page.evaluate(() => setZoom([20_400, 20_700]));
  await settle(page);
  assert.ok(!(await isMarked("metrics/lr", 20_500)), "other charts have no mark of a rule");
  const ticks = await page.evaluate(() => [...live].map(({ plot }) => {
    const { ctx, axes: [, { _size: room, _values: texts }] } = plot;
    ctx.font = "11px system-ui, sans-serif";
    return { room, texts, needs: Math.max(...texts.map((text) => ctx.measureText(text).width)) + 9 };
  }));
  assert.ok(ticks.some(({ texts }) => texts.some((text) => text.length > 7)), "some ticks are long");
  assert.deepEqual(ticks.filter(({ room, needs }) => room < needs), [], "no tick is cut");
  const box = await page.evaluate(() => {
    const { plot } = [...live].find((chart) => chart.name === "metrics/spike");
    plot.over.scrollIntoView({ block: "center" });
    const { left, top } = plot.over.getBoundingClientRect();
    return { x: left + plot.valToPos(20_500, "x"), y: top + 100 };
  });
  await page.mouse.move(box.x + 2, box.y);
  await settle(page);
  const notes = () => page.$$eval(".note:not([hidden])", (all) => all.map((note) => note.textContent));
  assert.equal((await notes()).length, 1, "the chart below the pointer alone has a note");
  assert.match((await notes())[0], /^step 20,500 · .* spike is 9\.0 at step 20,500/);
  await shoot(page, "one-event");
  await page.mouse.move(box.x + 60, box.y);
  await settle(page);
  assert.deepEqual(await notes(), []);
  await page.evaluate(() => setZoom([0, 1000]));
  assert.deepEqual(await page.$$eval(".events .level", (all) => all.map((level) => level.textContent)), ["INFO", "ERROR", "WARN"], "the newest first");
  await page.$$eval(".events button", (buttons) => buttons[2].click());
  await settle(page);
  assert.deepEqual(await page.evaluate(() => [view.moment.step, view.zoom]), [20_500, null], "a click leads to the step");
  const isInView = await page.evaluate(() => {
    const { top, bottom } = document.querySelector('[aria-label="Curve of metrics/spike"]').getBoundingClientRect();
    return top >= 0 && bottom <= innerHeight;
  });
  assert.ok(isInView, "and to the chart of the metric");
  await page.$eval('[aria-label="Table of metrics/spike"]', (button) => button.click());
  const table = await page.$$eval(".values:not([hidden]) tr", (rows) => rows.slice(0, 3).map((row) => row.textContent));
  assert.match(table[0], /Step.*Value.*Event/);
  assert.match(table[1], /20,500.*warn: spike is 9\.0/);
  await close(page);
}

async function checkRanks(browser) {
  const page = await open(browser, "many");
  await page.evaluate(() => select(new Set([runs.find((run) => run.name === "killed").index])));
  await settle(page);
  const rows = await page.$$eval('[aria-label="Ranks"] tbody tr', (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  assert.deepEqual(rows.map((cells) => cells.slice(0, 5)), [["0", "99", "0.25 s", "5.0 %", "step"], ["1", "98", "0.5 s", "60.0 %", "data"]]);
  await shootWhole(page, "ranks");
  await close(page);
}

/* Each kind of media, and the slider. */
async function checkMedia(browser) {
  const page = await open(browser, "one");
  const strip = (title) => `.strip:has([title="${title}"])`;
  const text = (title) => page.$eval(strip(title), (element) => element.textContent);
  assert.equal((await page.$$(".strip")).length, 6);
  await page.$eval(".strip", (first) => first.scrollIntoView());
  await page.waitForFunction((selector) => document.querySelector(selector).naturalWidth === 16, {}, strip("val/sample") + " img");
  assert.equal(await page.$eval(strip("val/sample") + " img", (image) => image.alt), "epoch 3", "the newest image is shown");
  assert.match(await text("answer"), /Once upon a time, 3 times/);
  assert.match(await text("weights/layer 1"), /-1\.2000 to 1\.2000 · 7,\d+ values/);
  assert.match(await text("errors"), /label.*count.*cat.*dog.*0\.3333333333333333.*null.*\{"row":2\}/s);
  assert.match(await text("notes.bin"), /in the folder of the run/);
  const frame = await (await page.$("iframe")).contentFrame();
  assert.equal(await frame.$eval("h1", (head) => head.textContent), "Attention");
  await page.focus(strip("val/sample") + " input");
  await page.keyboard.press("ArrowLeft");
  await page.waitForFunction((selector) => document.querySelector(selector).alt === "epoch 2", {}, strip("val/sample") + " img");
  assert.match(await text("val/sample"), /step 2,000/);
  await shoot(page, "one-media");
  await close(page);
}

async function checkOdd(browser) {
  const page = await open(browser, "many");
  assert.equal(await page.evaluate(() => document.scripts.length), 2, "names become no scripts");
  const foreign = await page.$$eval("img, iframe", (all) => all.filter((element) => (element.tagName === "IMG" ? !element.src.startsWith("data:image/") : element.getAttribute("sandbox") !== "" || element.src)).map((element) => element.outerHTML));
  assert.deepEqual(foreign, [], "images are data, and pages of programs have neither scripts nor an origin");
  assert.equal(await page.$$eval("a", (links) => links.filter((link) => !/^https?:/.test(link.href)).length), 0);
  await page.click("#runs-none");
  await settle(page);
  assert.match(await page.$eval("#groups", (groups) => groups.textContent), /Check a run/);
  const show = (label) => page.evaluate((label) => [...document.querySelectorAll("#runs-table [type=checkbox]")].find((box) => box.getAttribute("aria-label") === "Show " + label).click(), label);
  await show(HOSTILE);
  await settle(page);
  assert.ok((await page.$$eval(".chart h4", (heads) => heads.map((head) => head.textContent))).includes(HOSTILE));
  assert.ok((await page.$eval("#log-lines", (lines) => lines.textContent)).includes(HOSTILE));
  const texts = await page.$$eval("body *", (all) => all.flatMap((element) => [element.tagName === "SCRIPT" ? "" : element.textContent, element.title, element.ariaLabel]).join("\n"));
  assert.ok(["turned\\u202e", "a\\u202eb\\u001b]0;"].every((text) => texts.includes(text)), "what turns the direction of text is shown as its number");
  assert.ok(!/[\u001b\u202e]/.test(texts));
  await shootWhole(page, "many-hostile");
  const media = await page.$$eval(".strip", (all) => all.map((strip) => strip.textContent));
  assert.equal(media.length, 5, `what can be read is there: ${media}`);
  assert.ok(media.filter((text) => text.includes(HOSTILE)).length >= 3, "markup in media is text");
  assert.equal(await page.$$eval(".strip script, .strip a", (all) => all.length), 0);
  assert.match(await page.$eval("#notes", (notes) => notes.textContent), /2 of \d+ media values are left out/);
  await page.click("#runs-none");
  const long = await page.evaluate(() => runs.find((run) => run.name.startsWith("an-ablation")).name);
  await show(long);
  await settle(page);
  const row = await page.$$eval("#runs-table tbody tr", (rows) => rows.find((row) => row.querySelector(":checked")).querySelector("th").textContent);
  const legend = await page.$eval(".legend .name", (name) => (name.scrollWidth <= name.clientWidth ? name.textContent : "cut"));
  for (const text of [row, legend]) assert.ok(text.startsWith("an-ablation") && text.endsWith("suffix-"), `both ends of a long name are shown: ${text}`);
  await page.click("#runs-none");
  await show("300-metrics");
  await settle(page);
  const count = (selector) => page.$$eval(selector, (all) => all.length);
  assert.equal(await count(".chart"), 60, "a long group begins with its first charts");
  for (let more = 0; more < 4; more++) await page.$$eval(".group .more:not([hidden])", (buttons) => buttons[0].click());
  await settle(page);
  assert.equal(await count(".chart"), 300);
  assert.ok((await count(".chart .u-wrap")) < 40, "charts out of sight are not drawn");
  await close(page);
  const phone = await open(browser, "many", { viewport: PHONE });
  await phone.$$eval("details", (all) => all.forEach((details) => (details.open = true)));
  await settle(phone);
  const [attempts, ledger] = await phone.evaluate(() => ["Attempts", "Ledger"].map((name) => Math.max(...[...document.querySelectorAll(`[aria-label="${name}"] tbody tr`)].map((row) => row.offsetHeight))));
  assert.ok(attempts < 400 && ledger < 50, `words of tables are not torn on a phone: ${attempts}, ${ledger}`);
  await phone.$eval('[aria-label="Attempts"]', (table) => table.scrollIntoView());
  await shoot(phone, "many-phone-attempts");
  await close(phone);
  const empty = await open(browser, "empty");
  assert.match(await empty.$eval("#groups", (groups) => groups.textContent), /no metrics yet/);
  await shoot(empty, "empty");
  await close(empty);
}

/* A person's own colors leave what colors tell. */
async function checkForcedColors(browser) {
  const page = await open(browser, "many");
  const session = await page.createCDPSession();
  await session.send("Emulation.setEmulatedMedia", { features: [{ name: "forced-colors", value: "active" }] });
  await settle(page);
  const seen = await page.evaluate(() => {
    const style = (selector) => getComputedStyle(document.querySelector(selector));
    return [matchMedia("(forced-colors: active)").matches, style(".legend .swatch").backgroundImage.includes("gradient"), style(".dot").backgroundColor, style("[aria-pressed=true]").fontWeight > style("[aria-pressed=false]").fontWeight];
  });
  assert.deepEqual(seen, [true, true, "rgb(0, 114, 178)", true]);
  await shoot(page, "many-forced-colors");
  await close(page);
}

async function checkLooks(browser) {
  for (const name of LOOKS) {
    const kinds = { light: {}, dark: { scheme: "dark" }, phone: { viewport: PHONE } };
    /* The address may choose the theme. */
    if (name === "one") kinds.chosen = { hash: "#theme=dark" };
    for (const [kind, options] of Object.entries(kinds)) {
      const page = await open(browser, name, options);
      const isDark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor === "rgb(18, 22, 26)");
      assert.equal(isDark, kind === "dark" || kind === "chosen", `${name}, ${kind}: the theme`);
      await checkWidth(page, `${name}, ${kind}`);
      await shoot(page, `${name}-${kind}`);
      await shootWhole(page, `${name}-${kind}-whole`);
      await page.$$eval("details", (all) => all.forEach((details) => (details.open = true)));
      await settle(page);
      await checkAccess(page, `${name}, ${kind}`);
      await close(page);
    }
    const page = await open(browser, name, { scheme: "dark" });
    await page.pdf({ path: join(out, `${name}.pdf`), format: "A4" });
    await page.emulateMediaType("print");
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    await settle(page);
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)", `${name}: paper is white`);
    await page.setViewport({ width: 720, height: 1000 });
    await settle(page);
    await checkWidth(page, `${name}, on paper`);
    const torn = await page.$$eval("#runs-table .number:not(th)", (cells) => cells.filter((cell) => {
      const range = document.createRange();
      range.selectNodeContents(cell);
      return /^[\d.,]+$/.test(cell.textContent) && range.getClientRects().length > 1;
    }).map((cell) => cell.textContent));
    assert.deepEqual(torn, [], `${name}, on paper: numbers are whole`);
    await shootWhole(page, `${name}-print`);
    await checkAccess(page, `${name}, on paper`);
    await page.evaluate(() => dispatchEvent(new Event("afterprint")));
    assert.equal(await page.evaluate(() => view.theme), "auto", `${name}: the theme is back`);
    await close(page);
  }
}

const browser = await puppeteer.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
try {
  for (const check of [checkCurves, checkAxes, checkGroups, checkCrowd, checkZoom, checkDoubleClick, checkAddress, checkHostileAddress, checkTouch, checkMoments, checkSearchAndKeys, checkEvents, checkRanks, checkMedia, checkOdd, checkForcedColors, checkLooks]) {
    const start = performance.now();
    await check(browser);
    console.log(`${check.name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
} finally {
  await browser.close();
}
