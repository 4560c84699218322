// node pages.js KAFKA HTTP: the pages of the broker that listens there, in headless Chromium. One line a test, exit code 1 when one failed.
import http from "node:http";
import { existsSync } from "node:fs";
import kafkajs from "kafkajs";
import puppeteer from "puppeteer-core";

const [kafkaAddress, httpAddress] = process.argv.slice(2);
const base = `http://${httpAddress}`;
const PATIENCE = 30_000;
const unique = `${process.pid}-${Date.now()}`;
const topic = `pages-${unique}`;
const group = `readers-${unique}`;
const hostile = `"><script>window.owned=1</script><img src=x onerror="window.owned=1">'</title>\u202e${unique}`;
const kafka = new kafkajs.Kafka({ clientId: hostile, brokers: [kafkaAddress], logLevel: kafkajs.logLevel.NOTHING });

let passed = 0, failed = 0;
async function test(name, f) {
  const began = Date.now();
  try {
    await f();
    passed++;
    console.log(`ok      pages: ${name} (${Date.now() - began} ms)`);
  } catch (e) {
    failed++;
    console.log(`FAILED  pages: ${name}: ${String(e && e.stack || e).slice(0, 1500)}`);
  }
}
function check(good, what) {
  if (!good) throw new Error(what);
}
function equal(found, wanted, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  check(a === b, `${what}: wanted ${b}, found ${a}`);
}

const chromium = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(path => path && existsSync(path));
if (!chromium) throw new Error("no Chromium: set CHROMIUM to its path");
const browser = await puppeteer.launch({
  executablePath: chromium,
  // In a container there is neither a user for the sandbox nor room in /dev/shm. evil.example leads to this machine, as a rebound name would.
  args: [...(process.getuid() === 0 ? ["--no-sandbox"] : []), "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP evil.example 127.0.0.1"],
});

// A tab that writes down whatever a page should not do.
async function tab({ width = 1280, scheme = "light", script = true } = {}) {
  const page = await browser.newPage();
  page.wrong = [];
  page.on("console", message => { if (["error", "warn", "warning"].includes(message.type())) page.wrong.push(`console: ${message.text()}`); });
  page.on("pageerror", error => page.wrong.push(`error: ${error.message}`));
  page.on("dialog", async dialog => { page.wrong.push(`dialog: ${dialog.message()}`); await dialog.dismiss(); });
  await page.setViewport({ width, height: 800 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setJavaScriptEnabled(script);
  page.setDefaultTimeout(PATIENCE);
  return page;
}
async function open(page, path) {
  const response = await page.goto(base + path, { waitUntil: "load" });
  return response.status();
}
async function on(options, f) {
  const page = await tab(options);
  try { return await f(page); } finally { await page.close(); }
}
const live = page => page.waitForSelector('#live[data-state="live"]');

const producer = kafka.producer();
const admin = kafka.admin();
await producer.connect();
await admin.connect();
await admin.createTopics({ topics: [{ topic, numPartitions: 3, configEntries: [{ name: "retention.ms", value: "86400000" }] }] });
const send = (value, partition = 0) => producer.send({ topic, messages: [{ key: "key", value, partition }] });
for (let i = 0; i < 60; i++) await send(JSON.stringify({ n: i, text: "x".repeat(10 * i) }), i % 3);
await producer.send({ topic, messages: [
  { key: hostile, value: `</pre></details>${hostile}`, headers: { [hostile]: hostile }, partition: 1 },
  { key: null, value: Buffer.from([0, 255, 1, 254]), partition: 1 },
  { key: "gone", value: null, partition: 1 },
  { key: "wide", value: "W".repeat(5000), partition: 1 },
] });
for (const groupId of [group, hostile, "..", "a/b?c#d%"]) {
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: "0" }] });
}
// A member that stays, with a name of its own making.
const consumer = kafka.consumer({ groupId: `members-${unique}` });
await consumer.connect();
await consumer.subscribe({ topics: [topic], fromBeginning: true });
const consumed = new Promise(done => { let n = 0; consumer.run({ eachMessage: async () => { if (++n === 60) done(); } }); });
await consumed;

const encoded = encodeURIComponent;
const paths = ["/", "/topics", "/topics?sort=size&down=1&internal=1", `/topics/${topic}`, `/topics/${topic}?from=oldest&partition=1`, `/topics/${topic}?from=offset&at=3&contains=x`,
  "/groups", `/groups/${group}`, `/groups/members-${unique}`, `/groups/${encoded(hostile)}`, `/groups/${encoded("a/b?c#d%")}`, "/group?name=..", "/latency", "/latency?kind=api"];

await test("every page loads, without errors and without a breach of its policy", () => on({}, async page => {
  for (const path of paths) {
    equal(await open(page, path), 200, path);
    await live(page);
    equal(page.wrong, [], path);
    check((await page.title()).endsWith(" · Millstream"), `title of ${path}`);
    equal(await page.$$eval("h1", all => all.length), 1, `headings of ${path}`);
    equal(await page.$$eval("[style], style, script:not([src]), [onclick], [onerror]", all => all.length), 0, `inline script or style of ${path}`);
  }
}));

await test("what is not there is said on a page, with the nearest that is", () => on({}, async page => {
  equal(await open(page, `/topics/${topic.slice(0, -1)}`), 404, "a topic");
  equal(await page.$eval("main a", a => a.textContent), topic, "the nearest topic");
  equal(await open(page, "/latancy"), 404, "a page");
  equal(await page.$eval("main a", a => a.getAttribute("href")), "/latency", "the nearest page");
  equal(await open(page, `/groups/nobody-${unique}`), 404, "a group");
  equal(await open(page, `/topics?page=x`), 400, "a parameter");
  await open(page, `/topics/${topic}?from=offset&at=x`);
  check((await page.$eval("main", main => main.textContent)).includes("whole number"), "a wrong offset is explained");
}));

await test("no page scrolls sideways on a phone", () => on({ width: 360 }, async page => {
  for (const path of paths) {
    await open(page, path);
    await page.$$eval("details", all => all.forEach(one => { one.open = true; }));
    const wide = await page.evaluate(() => {
      const room = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= room) return [];
      return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > room + 1 && !e.closest(".table, pre, svg")).map(e => e.outerHTML.slice(0, 120));
    });
    equal(wide.slice(0, 3), [], path);
    equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, `width of ${path}`);
  }
}));

// Contrast as WCAG 2 measures it, of every text that is shown.
const faint = () => {
  const parse = color => { const n = color.match(/[\d.]+/g).map(Number); return { rgb: n.slice(0, 3), alpha: n[3] ?? 1 }; };
  const luminance = rgb => { const [r, g, b] = rgb.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = element => { for (let e = element; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.alpha === 1) return c.rgb; } return [255, 255, 255]; };
  const out = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement;
    if (!node.data.trim() || !e.checkVisibility() || e.closest("title")) continue;
    const svg = e.closest("svg");
    const [a, b] = [luminance(parse(svg ? getComputedStyle(e).fill : getComputedStyle(e).color).rgb), luminance(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) out.push(`${ratio.toFixed(2)} ${node.data.trim().slice(0, 40)}`);
  }
  return out;
};
await test("light and dark are as the reader has it, and all text stands out", async () => {
  const grounds = [];
  for (const scheme of ["light", "dark"]) {
    await on({ scheme }, async page => {
      for (const path of ["/", `/topics/${topic}`, "/groups", `/groups/${group}`, "/latency"]) {
        await open(page, path);
        await live(page);
        equal((await page.evaluate(faint)).slice(0, 3), [], `${path}, ${scheme}`);
      }
      grounds.push(await page.$eval("body", body => getComputedStyle(body).backgroundColor));
    });
  }
  check(grounds[0] !== grounds[1], `both are ${grounds[0]}`);
});

await test("the keyboard reaches everything, and shows where it is", () => on({}, async page => {
  for (const path of ["/", "/topics", `/topics/${topic}?from=oldest`, "/groups", "/latency"]) {
    await open(page, path);
    const wanted = await page.evaluate(() => {
      const all = [...document.querySelectorAll("a[href], button, input, select, summary")].filter(e => e.checkVisibility() && e.type !== "hidden");
      all.forEach((e, i) => { e.tabStop = i; });
      return all.length;
    });
    const reached = new Set();
    for (let i = 0; i < wanted + 40 && reached.size < wanted; i++) {
      await page.keyboard.press("Tab");
      const at = await page.evaluate(() => {
        const e = document.activeElement, style = getComputedStyle(e);
        return { stop: e.tabStop, seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2, html: e.outerHTML.slice(0, 100) };
      });
      check(at.stop === undefined || at.seen, `${path}: no outline on ${at.html}`);
      if (at.stop !== undefined) reached.add(at.stop);
    }
    equal(reached.size, wanted, `reached on ${path}`);
  }
  // The first stop leads past the navigation.
  await open(page, "/topics");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  equal(await page.evaluate(() => document.activeElement.id), "content", "focus after the skip link");
}));

await test("everything is there without a script", () => on({ script: false }, async page => {
  for (const path of paths) equal(await open(page, path), 200, path);
  await open(page, `/topics/${topic}?from=oldest&partition=0`);
  const shown = async () => page.$$eval("details.message summary", all => all.map(e => e.textContent));
  const first = await shown();
  check(first.length === 20 && first[0].includes('{"n":0'), `oldest first: ${first[0]}`);
  // partition 0 has exactly one page: the next one is reached where there are more.
  await open(page, `/topics/${topic}?from=oldest`);
  const before = await shown();
  await Promise.all([page.waitForNavigation(), page.click('a[rel="next"]')]);
  check((await shown())[0] !== before[0], "the next page shows others");
  await open(page, "/topics");
  await page.type('input[name="q"]', topic.toUpperCase());
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  equal(await page.$$eval("#topics tbody th a", all => all.map(a => a.textContent)), [topic], "found by a part of its name");
}));

await test("a record appears on the open topic, what is unfolded and where the focus is stay", () => on({}, async page => {
  await open(page, `/topics/${topic}`);
  await live(page);
  await page.click("details.message summary");
  const key = await page.$eval("details.message[open]", e => e.dataset.key);
  await page.focus(`details.message[data-key="${key}"] summary`);
  await page.evaluate(() => { window.sameDocument = true; });
  await send(`fresh ${unique}`, 2);
  await page.waitForFunction(text => [...document.querySelectorAll("details.message summary")].some(e => e.textContent.includes(text)), {}, `fresh ${unique}`);
  equal(await page.evaluate(() => window.sameDocument), true, "no reload");
  equal(await page.$$eval("details.message[open]", all => all.map(e => e.dataset.key)), [key], "what is unfolded");
  equal(await page.evaluate(() => document.activeElement.parentElement.dataset.key), key, "focus");
  equal(page.wrong, [], "errors");
}));

await test("a group's lag changes on its open page", () => on({}, async page => {
  await open(page, `/groups/${group}`);
  await live(page);
  const lag = () => page.$eval("#group dl dd", e => e.firstChild.data);
  const before = Number(await lag());
  check(before >= 20, `lag ${before}`);
  await page.evaluate(() => { window.sameDocument = true; });
  await send("one more", 0);
  await page.waitForFunction(wanted => document.querySelector("#group dl dd").firstChild.data === wanted, {}, String(before + 1));
  equal(await page.evaluate(() => window.sameDocument), true, "no reload");
}));

await test("names and payloads from outside run nothing", () => on({}, async page => {
  for (const path of ["/", "/groups", `/groups/${encoded(hostile)}`, `/groups/members-${unique}`, `/topics/${topic}?from=oldest&partition=1&contains=script`, `/topics/${topic}`,
    `/topics?q=${encoded(hostile)}`, `/latency?kind=group&name=${encoded(hostile)}`, `/topics/${encoded(hostile)}`, `/${encoded(hostile)}`]) {
    page.wrong.length = 0;
    const status = await open(page, path);
    if (status === 200) await live(page);
    equal(await page.evaluate(() => window.owned), undefined, `script of ${path}`);
    equal(page.wrong.filter(wrong => !wrong.includes("404")), [], path);
    equal(await page.$$eval("main script, main img", all => all.length), 0, `elements of ${path}`);
    check(!(await page.$eval("body", body => body.textContent)).includes("\u202e"), `turned text on ${path}`);
  }
  // The links of odd names lead to their groups.
  for (const name of ["..", "a/b?c#d%"]) {
    await open(page, `/groups?q=${encoded(name)}`);
    await Promise.all([page.waitForNavigation(), page.click("#groups tbody th a")]);
    check((await page.$eval("h1 bdi", e => e.textContent)) === name, `the page of ${name}`);
  }
}));

await test("a hidden page stops its stream, and goes on when it is seen", () => on({}, async page => {
  await open(page, "/groups");
  await live(page);
  await page.evaluate(() => { Object.defineProperty(document, "hidden", { value: true, configurable: true }); document.dispatchEvent(new Event("visibilitychange")); });
  await page.waitForSelector('#live[data-state="paused"]');
  await page.evaluate(() => { delete document.hidden; document.dispatchEvent(new Event("visibilitychange")); });
  await live(page);
}));

await test("a page from a foreign origin cannot read or change anything", async () => {
  const evil = http.createServer((_, answer) => { answer.setHeader("content-type", "text/html"); answer.end("<!doctype html><title>evil</title><body></body>"); });
  await new Promise(done => evil.listen(0, "127.0.0.1", done));
  const { port } = evil.address();
  const status = path => new Promise((done, wrong) => http.get(base + path, answer => { answer.resume(); done(answer.statusCode); }).on("error", wrong));
  try {
    for (const origin of [`http://127.0.0.1:${port}`, `http://localhost:${port}`, `http://evil.example:${port}`]) {
      await on({}, async page => {
        await page.goto(origin);
        const found = await page.evaluate(async (base, topic, victim) => {
          const out = {};
          const read = async (name, path, options) => {
            try { const answer = await fetch(base + path, options); out[name] = answer.type === "opaque" ? "opaque" : `read ${(await answer.text()).slice(0, 40)}`; } catch { out[name] = "refused"; }
          };
          await read("get", "/v1/topics");
          await read("page", "/");
          await read("opaque", "/v1/topics", { mode: "no-cors" });
          const body = JSON.stringify({ name: victim });
          await read("json", "/v1/topics", { method: "POST", headers: { "content-type": "application/json" }, body });
          await read("text", "/v1/topics", { method: "POST", mode: "no-cors", headers: { "content-type": "text/plain" }, body });
          await read("delete", `/v1/topics/${topic}`, { method: "DELETE" });
          out.stream = await new Promise(done => { const s = new EventSource(`${base}/`); s.onopen = () => done("open"); s.onmessage = () => done("message"); s.onerror = () => { s.close(); done("refused"); }; });
          const load = (tag, name) => new Promise(done => { const e = document.createElement(tag); e.onload = () => done("loaded"); e.onerror = () => done("refused"); e[name] = `${base}/v1/topics`; document.body.append(e); });
          out.script = await load("script", "src");
          out.image = await load("img", "src");
          await new Promise(done => { const frame = document.createElement("iframe"); frame.name = "frame"; frame.onload = done; frame.src = `${base}/`; document.body.append(frame); });
          await new Promise(done => {
            const form = document.createElement("form");
            Object.assign(form, { method: "post", action: `${base}/v1/topics`, enctype: "text/plain", target: "frame" });
            const input = document.createElement("input");
            Object.assign(input, { name: `{"name":"${victim}","x":"`, value: `"}` });
            form.append(input);
            document.body.append(form);
            document.querySelector("iframe").onload = done;
            form.submit();
          });
          return out;
        }, base, topic, `evil-${unique}`);
        equal(found, { get: "refused", page: "refused", opaque: found.opaque, json: "refused", text: found.text, delete: "refused", stream: "refused", script: "refused", image: "refused" }, origin);
        // Opaque answers cannot be read, whatever they are.
        check(["opaque", "refused"].includes(found.opaque) && ["opaque", "refused"].includes(found.text), JSON.stringify(found));
        for (const frame of page.frames().filter(frame => frame !== page.mainFrame())) check(!(await frame.content()).includes("Overview"), `${origin} frames a page`);
      });
    }
    // A name of another site that leads here.
    await on({}, async page => {
      const answer = await page.goto(`http://evil.example:${new URL(base).port}/`);
      equal(answer.status(), 403, "a rebound name");
    });
    equal(await status(`/v1/topics/evil-${unique}`), 404, "nothing was made");
    equal(await status(`/v1/topics/${topic}`), 200, "nothing was deleted");
    // Someone who follows a link gets the page.
    await on({}, async page => {
      await page.goto(`http://evil.example:${port}`);
      await page.evaluate(base => { const a = document.createElement("a"); a.href = `${base}/`; a.textContent = "there"; document.body.append(a); }, base);
      const [answer] = await Promise.all([page.waitForNavigation(), page.click("a")]);
      equal(answer.status(), 200, "a link");
    });
  } finally {
    evil.closeAllConnections();
    evil.close();
  }
});

await browser.close();
await consumer.disconnect();
await producer.disconnect();
await admin.disconnect();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
