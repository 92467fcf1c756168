"use strict";

// Two at a time: the server has as many processes, and other people's pictures wait too.
const AT_ONCE = 2;
const list = document.getElementById("results");
const line = document.getElementById("status");
const input = document.getElementById("files");
const template = document.getElementById("result");
const waiting = [];
let running = 0, total = 0, done = 0;

const WORDS = {
  real: "Probably a photograph", fake: "Probably generated", unsure: "Unsure: it could be either",
};
const CLASSES = { real: "photographs", fake: "generated pictures" };
const percent = (share) => `${Math.round(100 * share)}%`;

async function send(address, field, file) {
  for (;;) {
    const form = new FormData();
    form.append(field, file, file.name);
    const answer = await fetch(address, { method: "POST", body: form });
    if (answer.status !== 503) return answer;
    const seconds = Number(answer.headers.get("Retry-After")) || 2;
    await new Promise((resume) => setTimeout(resume, 1000 * seconds));
  }
}

async function reason(answer) {
  try { return (await answer.json()).error; } catch { return `the server answered ${answer.status}`; }
}

function add(parent, tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;  // never as HTML: names and texts are anybody's
  parent.append(element);
  return element;
}

function begin(file) {
  const item = template.content.cloneNode(true).querySelector("li");
  const at = (name) => item.querySelector(name);
  at(".name").textContent = file.name;
  at(".verdict").textContent = "Waiting";
  at(".preview").src = URL.createObjectURL(file);
  at(".preview").onerror = () => { at(".preview").hidden = true; };
  list.append(item);
  return item;
}

function fail(item, message) {
  item.classList.add("failed");
  item.querySelector(".verdict").textContent = `Not judged: ${message}`;
}

function show(item, file, found) {
  const at = (name) => item.querySelector(name);
  item.classList.add(found.verdict);
  at(".verdict").textContent =
    `${WORDS[found.verdict]} (probability that it was generated: ${percent(found.probability)})`;
  at(".bar span").style.width = percent(found.probability);
  at(".warning").hidden = !found.unlike_training;
  at("details").hidden = false;
  for (const c of found.conditions) {
    add(at(".conditions"), "li", `${c.measure} ${c.value}: ${CLASSES[c.label]} are called right in ` +
      `${percent(c.correct)} of the tests (${percent(c.low)} to ${percent(c.high)})`);
  }
  if (!found.conditions.length) add(at(".conditions"), "li", "Nothing was measured apart for this size and compression.");
  for (const near of found.neighbours) {
    const place = add(at(".neighbours"), "li", "");
    if (near.image) {
      const image = add(place, "img", "");
      image.src = near.image;
      image.alt = `Training picture, ${near.label}`;
    }
    add(place, "span", near.label ? `${near.label}, ${near.method}, distance ${near.distance.toFixed(3)}`
      : `distance ${near.distance.toFixed(3)}; the data are not here`);
  }
  const facts = at(".facts");
  const fact = (name, text) => { add(facts, "dt", name); add(facts, "dd", text); };
  fact("Format", `${found.format}, ${found.width} x ${found.height}` +
    (found.jpeg_quality ? `, quality ${found.jpeg_quality}` : ""));
  for (const [name, text] of Object.entries(found.said)) fact(name, text);
  for (const [name, present] of Object.entries(found.marks)) fact(name, present ? "present (not checked)" : "absent");
  const more = at(".more");
  more.hidden = false;
  more.setAttribute("aria-label", `Show what speaks for the verdict on ${file.name}`);
  more.onclick = async () => {
    more.disabled = true;
    more.textContent = "Painting";
    const answer = await send("/api/heatmap", "image", file);
    if (!answer.ok) { more.textContent = `No heat-map: ${await reason(answer)}`; return; }
    at(".heat").src = URL.createObjectURL(await answer.blob());
    at(".heat").alt = `Heat-map of ${file.name}`;
    at(".heat").hidden = false;
    more.hidden = true;
    add(at(".heatline"), "span", "Orange speaks for generated, teal for a photograph, to this detector.");
  };
}

async function judge(item, file) {
  try {
    const answer = await send("/api/judge", "images", file);
    if (!answer.ok) return fail(item, await reason(answer));
    const [found] = (await answer.json()).images;
    if (found.error) return fail(item, found.error);
    show(item, file, found);
  } catch {
    fail(item, "the server does not answer");
  }
}

async function work() {
  if (running >= AT_ONCE || !waiting.length) return;
  running += 1;
  const [item, file] = waiting.shift();
  await judge(item, file);
  running -= 1;
  done += 1;
  tell();
  work();
}

function tell() {
  line.textContent = done < total ? `${done} of ${total} judged` : `${total} judged: ` +
    ["fake", "real", "unsure", "failed"].map((kind) => [list.querySelectorAll(`li.${kind}`).length, kind])
      .filter(([count]) => count)
      .map(([count, kind]) => `${count} ${{ fake: "generated", real: "photographs", failed: "not judged" }[kind] || kind}`)
      .join(", ");
}

function take(files) {
  for (const file of files) { total += 1; waiting.push([begin(file), file]); }
  tell();
  for (let i = 0; i < AT_ONCE; i += 1) work();
}

fetch("/api/card").then((answer) => answer.json()).then((card) => {
  document.getElementById("limit").textContent =
    `A picture is called generated from a probability of ${percent(card.fake_from)} on` +
    (card.real_below < card.fake_from ? `, a photograph below ${percent(card.real_below)}.` : ".");
});

input.onchange = () => { take(input.files); input.value = ""; };
document.getElementById("form").onsubmit = (event) => event.preventDefault();
document.ondragover = (event) => { event.preventDefault(); document.body.classList.add("over"); };
document.ondragleave = () => document.body.classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  take(event.dataTransfer.files);
};
