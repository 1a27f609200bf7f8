/* Elements and texts. Foreign text becomes text nodes only, so it cannot become markup. */

const isNumber = Number.isFinite;
const isKnown = (value) => value !== undefined && value !== null;
const addUp = (numbers) => numbers.reduce((sum, number) => sum + number, 0);
const find = (id) => document.getElementById(id);

const on = (id, kind, call) => find(id).addEventListener(kind, call);

/* Shows the numbers of characters that control, turn the direction of the text around them, or are invisible. */
const unmask = (text) => String(text).replace(/[^\n\t\P{Cc}]|[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu, (sign) => "\\u" + sign.charCodeAt(0).toString(16).padStart(4, "0"));

/* Creates an element, with classes after dots. `text` is its text, functions are listeners, `true` is an attribute without value. Attributes and children that are `false` or unknown are left out. */
function create(kind, properties = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  element.className = classes.join(" ");
  if (tag === "button") element.type = tag;
  for (const [name, value] of Object.entries(properties)) {
    if (!isKnown(value) || value === false) continue;
    if (name === "text") element.textContent = unmask(value);
    else if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : ["title", "aria-label"].includes(name) ? unmask(value) : value);
  }
  element.append(...children.filter(Boolean).map((child) => (typeof child === "string" ? unmask(child) : child)));
  return element;
}

const createHint = (text) => create("p.empty", { text });

/* Parts of a label; those that are absent are left out. */
const joinParts = (...parts) => parts.filter(Boolean).join(" · ");

/* Fills a list of choices from values and their texts. */
function fillChoices(id, choices, chosen) {
  find(id).replaceChildren(...choices.map(([value, text]) => create("option", { value, text: clip(text, 60), selected: value === chosen })));
}

function createTable(caption, heads, body) {
  return create("table", {}, create("caption.sr", { text: caption }), create("thead", {}, create("tr", {}, ...heads)), body);
}

/* Draws a part of the page again; the focus goes to the control that has the name of the one that had it. */
function keepFocus(place, draw) {
  const nameOf = (control) => control.getAttribute("aria-label") || control.title || control.firstChild?.textContent;
  const focused = place.contains(document.activeElement) && nameOf(document.activeElement);
  draw();
  if (focused) [...place.querySelectorAll("button, input, summary, [tabindex]")].find((control) => nameOf(control) === focused)?.focus();
}

/* Values by their keys, in the order in which keys come. */
function groupBy(values, toKey) {
  const groups = new Map();
  for (const value of values) {
    const key = toKey(value);
    if (groups.has(key)) groups.get(key).push(value);
    else groups.set(key, [value]);
  }
  return groups;
}

/* A foreign address becomes a link only if it leads to the web. */
function createLink(address) {
  const isWeb = /^https?:\/\//i.test(address);
  return isWeb ? create("a", { href: address, text: address, rel: "noreferrer noopener" }) : create("span", { text: address });
}

/* Leaves out the middle of a long text: names of runs often differ at their ends. */
function clip(text, length) {
  const end = length >> 2;
  return text.length > length ? text.slice(0, length - end - 1) + "…" + text.slice(-end) : text;
}

/* Calls a function once the person has stopped typing. */
function debounce(milliseconds, call) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), milliseconds);
  };
}

/* Four significant digits. */
function formatValue(value) {
  if (!isNumber(value)) return String(value ?? "–");
  const magnitude = Math.abs(value);
  if (value === 0 || (Number.isInteger(value) && magnitude < 1e6)) return String(value);
  if (magnitude < 1e-3 || magnitude >= 1e6) return value.toExponential(3);
  return value.toFixed(magnitude < 10 ? 4 : magnitude < 100 ? 3 : magnitude < 1000 ? 2 : 1);
}

/* As few digits as tell the value: 0.25, 120k, 1e-7. */
function formatTick(value) {
  if (!isKnown(value)) return "";
  const magnitude = Math.abs(value);
  if (magnitude >= 1e15 || (magnitude > 0 && magnitude < 1e-4)) return Number(value.toPrecision(4)).toExponential();
  for (const [unit, suffix] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (magnitude >= unit) return Number((value / (unit === 1e4 ? 1e3 : unit)).toPrecision(6)) + suffix;
  }
  return String(Number(value.toPrecision(6)));
}

const formatCount = (count) => (isKnown(count) ? count.toLocaleString("en") : "–");

const formatPoint = (point) => (point ? `${formatValue(point.value)} @ ${formatCount(point.step)}` : "–");

function formatDuration(seconds) {
  /* Nothing lasts a thousand years; a file may say so. */
  if (!(Math.abs(seconds) < 3e10)) return "–";
  const sign = seconds < 0 ? "-" : "";
  const whole = Math.abs(seconds);
  if (whole < 60) return sign + (whole < 10 ? Number(whole.toFixed(2)) : Math.round(whole)) + " s";
  const pad = (number) => String(Math.floor(number)).padStart(2, "0");
  const [days, hours] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24];
  const clock = (days || hours ? pad(hours) + ":" : "") + pad((whole / 60) % 60) + ":" + pad(whole % 60);
  return sign + (days ? days + "d " : "") + clock;
}

function formatTime(seconds) {
  if (!isNumber(seconds) || seconds <= 0 || seconds > 8e12) return "–";
  /* Swedish times have the form of ISO 8601. */
  return new Date(seconds * 1000).toLocaleString("sv");
}

function plural(count, noun) {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}
