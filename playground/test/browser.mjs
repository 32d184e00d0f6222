// Does in the playground what somebody does who has just started Kontor: looks round, logs in, orders, and watches the order
// being confirmed. A real server in front of a real browser; GraphiQL's own tabs, editor and buttons.
//
//     make playground-test
//
// KONTOR is the binary, CHROMIUM the browser. DATABASE_URL and REDIS_URL are as scripts/with-servers gives them, with psql on
// the PATH. Nothing here waits for a time to pass: everything waits for what it wants to see.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

/** What nothing needs, however busy the machine: whoever waits so long waits for ever. */
const PATIENCE = 60_000;

const { KONTOR, CHROMIUM, DATABASE_URL, REDIS_URL } = process.env;
for (const [name, value] of Object.entries({ KONTOR, CHROMIUM, DATABASE_URL, REDIS_URL })) {
  assert(value, `${name} is not set: run \`make playground-test\``);
}

// The servers

const database = `playground_${randomUUID().replaceAll("-", "")}`;
const databaseUrl = Object.assign(new URL(DATABASE_URL), { pathname: `/${database}` }).href;
const administer = (sql) => execFileSync("psql", ["-qX", "-v", "ON_ERROR_STOP=1", "-c", sql, DATABASE_URL]);

/** What the server said on standard error: shown if something went wrong. */
let log = "";

async function startKontor() {
  const dist = fileURLToPath(new URL("../dist", import.meta.url));
  const kontor = spawn(KONTOR, ["run", "--listen", "127.0.0.1:0", "--sample-data", "--playground", dist], {
    env: { ...process.env, DATABASE_URL: databaseUrl },
    stdio: ["ignore", "pipe", "pipe"],
  });
  // However this script ends, the server does not outlive it.
  process.on("exit", () => kontor.kill());
  kontor.stderr.on("data", (text) => (log += text));
  const ended = new Promise((resolve, reject) => kontor.on("error", reject).on("exit", resolve));
  const opens = line(kontor.stdout, /^Kontor is open at (http:\S+)$/);
  const origin = await within("Kontor opens", Promise.race([opens, ended.then(() => assert.fail("Kontor ended"))]));
  return { origin, end: () => (kontor.kill(), within("Kontor ends", ended)) };
}

/** Waits until everything that follows the log has caught up with the sample data. */
async function caughtUp(origin) {
  for (;;) {
    const { ready, parts } = await (await fetch(`${origin}/readyz`)).json();
    const lags = Object.values(parts).flatMap(({ lag = {} }) => Object.values(lag));
    if (ready && lags.length > 0 && lags.every((lag) => lag === 0)) return;
    await pause(10);
  }
}

/**
 * Holds up the order process, which takes turns with whoever holds its checkpoint: orders stay PENDING until it is let go. By
 * itself it takes milliseconds, too few for anybody to see.
 */
async function holdOrderProcess() {
  const psql = spawn("psql", ["-qXAt", databaseUrl], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => psql.on("exit", resolve));
  const held = line(psql.stdout, /^(order_process)$/);
  psql.stdin.write("BEGIN; SELECT consumer FROM checkpoints WHERE consumer = 'order_process' FOR UPDATE;\n");
  await within("the order process is held", held);
  return { letGo: () => (psql.stdin.end("ROLLBACK;\n"), within("psql ends", ended)) };
}

/** The part in brackets of the first line that fits. All lines are read, so that nobody waits to be heard. */
function line(stream, wanted) {
  return new Promise((resolve) => {
    createInterface(stream).on("line", (text) => wanted.test(text) && resolve(wanted.exec(text)[1]));
  });
}

async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`never happened within ${PATIENCE / 1000} s: ${what}`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// The browser

/** What must not happen: requests to other hosts, errors in the console, and the like. */
const complaints = [];

async function openBrowser() {
  // With a profile of its own, which it takes away again.
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // What the browser itself might want to know of the world, it does not learn either.
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ],
  });
}

async function openPlayground(browser, origin) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.route("**/*", (route) => {
    const url = new URL(route.request().url());
    if (url.origin === origin || url.protocol === "data:") return route.continue();
    complaints.push(`the page asks another host: ${url}`);
    return route.abort();
  });
  page.on("websocket", (socket) => {
    if (new URL(socket.url()).host !== new URL(origin).host) complaints.push(`another host's socket: ${socket.url()}`);
    socket.on("socketerror", (error) => complaints.push(`socket: ${error}`));
  });
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.stack ?? error}`));
  // GraphiQL's editors know what is in them; the page holds only the lines in sight.
  await page.addInitScript(() => {
    window.editorText = (where) => document.querySelector(`${where} .CodeMirror`)?.CodeMirror.getValue() ?? "";
  });
  await page.goto(origin);
  await page.getByRole("button", { name: /^Execute query/ }).waitFor();
  return page;
}

/** Opens one of the examples, with placeholders filled in as one types them: `change` is given the text in the editor. */
async function openExample(page, name, change) {
  await page.locator(".graphiql-tab-button", { hasText: name }).click();
  await page.waitForFunction((name) => editorText(".graphiql-query-editor").includes(name), name);
  if (change) {
    const text = await page.evaluate(() => editorText(".graphiql-query-editor"));
    await page.locator(".graphiql-query-editor .CodeMirror").click();
    await page.keyboard.press("ControlOrMeta+A");
    await page.keyboard.insertText(change(text));
    await page.keyboard.press("Escape");
  }
}

/** Presses the button; where a tab has several operations, it asks which. */
async function run(page, operation) {
  const button = page.getByRole("button", { name: /^Execute query/ });
  // A moment after a change of tabs GraphiQL still has the operations of the last one. No two neighbours in the story have
  // both one or both several.
  const ready = page.locator(`.graphiql-execute-button${operation ? "[aria-haspopup]" : ":not([aria-haspopup])"}`);
  await button.and(ready).click();
  if (operation) await page.getByRole("menuitem", { name: operation, exact: true }).click();
}

/** Waits until what the playground shows as the answer contains `wanted`; the data in it. */
async function shown(page, wanted) {
  const text = await page.waitForFunction((wanted) => {
    const text = editorText(".result-window");
    return text.includes(wanted) && text;
  }, wanted);
  const { data, errors } = JSON.parse(await text.jsonValue());
  assert.equal(errors, undefined);
  return data;
}

const say = (what) => console.log(`playground-test: ${what}`);

// The story

async function story(page) {
  await openExample(page, "BrowseProducts");
  await run(page);
  const { products } = await shown(page, '"edges"');
  const skus = products.edges.map(({ node }) => node.sku);
  assert.deepEqual(skus, ["INK-BLU-50", "INK-RED-30", "INK-BLK-50"]);
  say("an example query shows what is on the shelves");

  await openExample(page, "LogInAsStaff");
  await run(page, "LogInAsCustomer");
  const { logIn } = await shown(page, '"token"');
  assert.deepEqual(logIn.userErrors, []);
  say("the sample customer logs in");

  const process = await holdOrderProcess();
  const [{ node: ink }] = products.edges;
  await openExample(page, "PlaceOrder", (text) => text.replace("prd_…", ink.id));
  await run(page);
  const { placeOrder } = await shown(page, '"placeOrder"');
  assert.deepEqual(placeOrder.userErrors, []);
  assert.deepEqual(placeOrder.order.total, { amountMinor: 2 * ink.price.amountMinor, currency: "GBP" });

  await openExample(page, "FollowOrder", (text) => text.replace("ord_…", placeOrder.order.id));
  await run(page, "FollowOrder");
  await shown(page, '"PENDING"');
  await process.letGo();
  const { orderUpdates } = await shown(page, '"CONFIRMED"');
  assert.deepEqual(orderUpdates.node.availableActions, ["CANCEL"]);
  assert.deepEqual(orderUpdates.node.payment, { status: "AUTHORISED", nextAction: null });
  say("an order goes from PENDING to CONFIRMED before the eyes of its customer");
}

administer(`CREATE DATABASE ${database}`);
let browser, kontor;
try {
  kontor = await startKontor();
  await within("Kontor catches up", caughtUp(kontor.origin));
  browser = await openBrowser();
  const page = await openPlayground(browser, kontor.origin);
  try {
    await story(page);
  } catch (error) {
    console.error(`${error.stack}\nThe page:\n${await page.locator("body").innerText()}`);
    complaints.push("see above");
  }
  assert.deepEqual(complaints, []);
  await browser.close();
  assert.equal(await kontor.end(), 0, "Kontor's exit code");
} catch (error) {
  console.error(`${error.stack}\nKontor's log:\n${log}`);
  process.exitCode = 1;
} finally {
  await browser?.close();
  await kontor?.end();
  administer(`DROP DATABASE ${database} WITH (FORCE)`);
}
