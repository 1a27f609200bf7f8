/* Media: the values of a key, one at a time, with a slider over the steps. */

/* The places that a person has chosen, by group; the newest value is shown without one. */
const chosenPlaces = new Map();
const FIRST_CELLS = 10;
/* A page has neither scripts nor an origin, and asks no server for anything. */
const POLICY = '<meta http-equiv=Content-Security-Policy content="default-src data:">';
const SVG = "http://www.w3.org/2000/svg";

function createMedia(shown) {
  return [create("div.grid", {}, ...shown.flatMap((run) => run.media.map((group) => findStrip(run, group, nameIfMany(shown, run.label)))))];
}

/* A strip whose values are the same stays what it is, with what it has loaded. */
const strips = new Map();

function findStrip(run, group, names) {
  const id = [run.key ?? run.index, group.kind, group.key, group.logger, group.rank, names].join();
  const text = JSON.stringify(group);
  if (strips.get(id)?.text !== text) strips.set(id, { text, element: createStrip(run, group, names, id) });
  return strips.get(id).element;
}

/* A slider over the values of a group, and the value that it has chosen. */
function createStrip(run, group, names, id) {
  const { key, items } = group;
  const place = create("div.value-place");
  const facts = create("p.facts");
  const hasLoggers = run.media.some((other) => other.logger !== group.logger);
  const title = joinParts(...names, key, hasLoggers && group.logger, group.rank > 0 && "rank " + group.rank);
  const slider = create("input", { type: "range", max: items.length - 1, "aria-label": "Step of " + title, input: () => {
    const at = Number(slider.value);
    if (at < items.length - 1) chosenPlaces.set(id, items[at].step);
    else chosenPlaces.delete(id);
    showItem(at);
  } });
  const showItem = (at) => {
    const item = items[at];
    slider.setAttribute("aria-valuetext", "step " + item.step);
    facts.textContent = unmask(joinParts(`step ${formatCount(item.step)}`, formatTime(item.time), item.caption));
    showValue(place, run, group, item);
  };
  slider.hidden = items.length < 2;
  const at = items.findIndex((item) => item.step === chosenPlaces.get(id));
  slider.value = at < 0 ? items.length - 1 : at;
  showItem(Number(slider.value));
  return create("div.strip", {}, create("h3.name", { text: title, title }), facts, slider, place);
}

/* Shows a value. The page over live runs asks its server for the content; an earlier answer counts no more. */
async function showValue(place, run, { kind, key }, item) {
  const url = item.url || (item.path && "media?" + new URLSearchParams({ key: run.key, path: item.path }));
  place.item = item;
  const show = (...elements) => place.item === item && place.replaceChildren(...elements);
  if (kind === "histogram") return show(...createHistogram(item));
  if (kind === "image") return show(create("img", { src: url, alt: item.caption || key, loading: "lazy" }));
  if (kind === "file") return show(url ? create("a", { href: url, download: key, text: key }) : create("p", { text: key + " is in the folder of the run" }), ` ${formatCount(item.size)} bytes`);
  try {
    const text = item.table || item.text !== undefined ? item.text : await loadText(url);
    if (kind === "table") show(...createCells(key, item.table || JSON.parse(text)));
    else show(kind === "html" ? create("iframe", { sandbox: true, srcdoc: POLICY + text, title: key }) : create("pre", { text, tabindex: 0 }));
  } catch {
    show(createHint("cannot show the file"));
  }
}

async function loadText(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw 0;
  return answer.text();
}

function createCells(caption, { columns, data: rows }) {
  const toCell = (cell) => (isNumber(cell) ? { text: String(cell) } : typeof cell === "string" ? cell : JSON.stringify(cell));
  return createLongTable(caption, columns.map(String), rows.map((row) => row.map(toCell)), FIRST_CELLS);
}

/* Bars of the widths of their ranges. */
function createHistogram({ counts, edges }) {
  const [low, high] = [edges[0], edges[counts.length]];
  const most = Math.max(...counts, 1);
  const at = (edge) => ((edge - low) / (high - low || 1)) * 100;
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", counts.map((count, bar) => `M${at(edges[bar])} 40V${40 - (count / most) * 40}H${at(edges[bar + 1])}V40`).join(""));
  const picture = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": counts.map((count, bar) => `${count} from ${formatValue(edges[bar])}`).join(", ") })) picture.setAttribute(name, value);
  picture.append(shape);
  return [picture, create("p.facts", { text: `${formatValue(low)} to ${formatValue(high)} · ${plural(addUp(counts), "value")}` })];
}
